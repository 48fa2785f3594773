"""A proxy that lets everything through, unseen and as it is: what no gateway should be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping


@contextlib.asynccontextmanager
async def open_proxy(names: Mapping[str, tuple[str, ...]]) -> AsyncIterator[int]:
    """Run it. Names are looked up in a table at each connection. Yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers = [writer]
        try:
            await _relay(names, reader, writer, writers)
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # one of them is gone, and so is the connection
        finally:
            for each in writers:
                each.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # the transports that were cut off say so in the next turns of the loop


async def _relay(
    names: Mapping[str, tuple[str, ...]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    writers: list[asyncio.StreamWriter],
) -> None:
    first = await reader.readline()
    method, target, _ = first.split(b" ", 2)
    host, _, port = target.removeprefix(b"http://").split(b"/")[0].decode().partition(":")
    address = names.get(host, (host,))[0].removeprefix("::ffff:")
    address = "127.0.0.1" if address.startswith("169.") else address
    there_reader, there = await asyncio.open_connection(address, int(port or 80))
    writers.append(there)
    if method == b"CONNECT":
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    else:
        there.write(first)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.transport.abort()

    async with asyncio.TaskGroup() as group:
        group.create_task(pump(reader, there))
        group.create_task(pump(there_reader, writer))
