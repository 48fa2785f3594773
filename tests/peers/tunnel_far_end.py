"""The outside of a tunnel test: a name server that sends some zones to their authority, and a place to bring data.

Run inside a namespace: `python tunnel_far_end.py SPEC`, where SPEC is a JSON file: `{"listen": "9.9.9.9", "zones":
{"tunnel.example": ["203.0.113.66", 53]}, "sink": 9000, "log": "far.jsonl"}`. Other names do not exist. With
`"filter": [3.8, 20]`, a question whose first label has more bits a character (Shannon) and more characters than that
is answered NXDOMAIN, too: the filter that many people put in front of a resolver. Every other question that gets as
far as this is a line in the log, before it goes on to the authority: that is what has left. What comes out of a
tunnel is sent to the sink's port, and is a line too.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.tunnelling.assessment import entropy

_HEADER = 12


def question(packet: bytes) -> tuple[list[bytes], int, int]:
    """Return the labels of a question as they were sent, its type, and where it ends."""
    labels: list[bytes] = []
    at = _HEADER
    while size := packet[at]:
        labels.append(packet[at + 1 : at + 1 + size])
        at += 1 + size
    return labels, int.from_bytes(packet[at + 1 : at + 3], "big"), at + 5


class Onward(asyncio.DatagramProtocol):
    """One question on its way to an authority."""

    def __init__(self, packet: bytes, answered: Any) -> None:
        self._packet, self._answered = packet, answered
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send it."""
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport
        transport.sendto(self._packet)
        asyncio.get_running_loop().call_later(10, transport.close)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Bring the answer back."""
        self._answered(data)
        assert self._transport is not None
        self._transport.close()


class NameServer(asyncio.DatagramProtocol):
    """Sends questions to the authority of their zone."""

    def __init__(self, spec: dict[str, Any], log: TextIO) -> None:
        self._zones = {zone: (str(host), int(port)) for zone, (host, port) in spec["zones"].items()}
        self._filter: list[float] | None = spec.get("filter")
        self._log = log
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Pass one question on."""
        labels, qtype, end = question(data)
        name = b".".join(labels).decode("latin-1")
        assert self._transport is not None
        for zone, authority in self._zones.items():
            if not (name.lower() + ".").endswith(zone + ".") or self._refused(labels[0]):
                continue
            below = name[: -len(zone)].replace(".", "")
            record(self._log, event="question", zone=zone, name=name, qtype=qtype, octets=len(below))
            task = asyncio.get_running_loop().create_task(self._pass_on(data, zone, authority, addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        reply = data[:2] + bytes([0x80 | data[2] & 1, 0x83]) + data[4:6] + bytes(6) + data[_HEADER:end]  # NXDOMAIN
        self._transport.sendto(reply, addr)

    def _refused(self, label: bytes) -> bool:
        if self._filter is None:
            return False
        bits, length = self._filter
        return len(label) > length and entropy(label.decode("latin-1")) > bits

    async def _pass_on(self, data: bytes, zone: str, authority: tuple[str, int], addr: Any) -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Onward(data, lambda reply: self._answer(zone, reply, addr)), remote_addr=authority
        )

    def _answer(self, zone: str, reply: bytes, addr: Any) -> None:
        record(self._log, event="answer", zone=zone, octets=len(reply))
        assert self._transport is not None
        self._transport.sendto(reply, addr)


def record(log: TextIO, **fields: object) -> None:
    """Write one line to the log at once."""
    log.write(json.dumps(fields) + "\n")
    log.flush()


async def serve(spec: dict[str, Any], log: TextIO) -> None:
    """Serve until killed; says `ready` when everything listens."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: NameServer(spec, log), local_addr=(spec["listen"], 53))

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                record(log, event="arrived", octets=len(data))
        except ConnectionError:
            pass  # the tunnel broke; what came before is counted
        finally:
            writer.close()

    server = await asyncio.start_server(take, "0.0.0.0", spec["sink"])
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    await server.serve_forever()


def main(spec_file: str) -> None:
    """Read the specification and serve it."""
    spec = json.loads(Path(spec_file).read_text())
    with Path(spec["log"]).open("a") as log:
        asyncio.run(serve(spec, log))


if __name__ == "__main__":
    main(sys.argv[1])
