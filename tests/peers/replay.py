"""Replays the corpus through real listeners: a resolver and a proxy for each policy, a client for each row.

Run inside a network namespace as a process of its own, because rows have client addresses: `python -m
tests.peers.replay`. Prints one JSON object a row: its name, and what a client was told.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from dnslib import QTYPE, DNSHeader, DNSQuestion, DNSRecord

from gateway.config import load
from gateway.dns import server as dns_server
from gateway.dns.resolver import Resolver
from gateway.ledger import Ledger
from gateway.proxy import server as proxy_server
from gateway.request import DnsQuery
from gateway.runtime import Runtime, State
from tests.corpus import Row, load_rows

UPSTREAM, DNS, PROXY = 5399, 5335, 3128
_LISTEN = {
    "proxy": {"listen": [f"127.0.0.1:{PROXY}", f"[::1]:{PROXY}"]},
    "dns": {
        "listen": [f"udp://127.0.0.1:{DNS}", f"udp://[::1]:{DNS}"],
        "upstreams": [f"udp://127.0.0.1:{UPSTREAM}"],
    },
}


@dataclass(frozen=True)
class Told:
    """What a client was told about its request."""

    denied: bool
    reason: str


def replayable(row: Row) -> bool:
    """Say whether a client could send this row as it stands."""
    if row.written.needs_identities or row.client.user or row.client.certificate:
        return False
    if row.kind == "http":
        ask = row.ask
        # A second Host, a missing one, or CONNECT inside: refused by the reader before any rule, as malformed. Space
        # around a Host is not part of it on the wire.
        hosts = ask.get("authorities", ("",))
        plain = ask["url"].startswith("http://") and not {"scheme", "hello"} & ask.keys()
        return plain and ask.get("method") != "CONNECT" and len(hosts) == 1 and hosts[0] == hosts[0].strip()
    return row.kind in ("dns", "tunnel")


class NoData(asyncio.DatagramProtocol):
    """An upstream that knows every name and has no record for any."""

    _transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer with nothing."""
        self._transport.sendto(DNSRecord.parse(data).reply().pack(), addr)


class Answer(asyncio.DatagramProtocol):
    """A client that waits for one datagram."""

    def __init__(self) -> None:
        self.data: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Take the answer."""
        if not self.data.done():
            self.data.set_result(data)


async def ask_dns(row: Row, server: str) -> Told:
    """Send a question from the row's client address."""
    asked = row.request()
    assert isinstance(asked, DnsQuery)
    question = DNSRecord(DNSHeader(id=77, rd=1), q=DNSQuestion(row.ask["name"], asked.qtype))
    query = bytearray(question.pack())
    query[11] = 1  # one additional record: an OPT, so that the answer may carry an extended error
    query += b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_datagram_endpoint(
        Answer, local_addr=(str(row.client.address), 0), remote_addr=(server, DNS)
    )
    transport.sendto(bytes(query))
    async with asyncio.timeout(10):
        reply = DNSRecord.parse(await answer.data)
    transport.close()
    for record in reply.ar:
        for option in record.rdata if record.rtype == QTYPE.OPT else ():
            if (
                option.code == 15
            ):  # an extended error (RFC 8914): Blocked, Censored, Filtered or Prohibited is a denial
                code = int.from_bytes(option.data[:2])
                return Told(15 <= code <= 18, option.data[2:].decode().split()[0])
    return Told(False, "")


async def ask_proxy(row: Row, server: str) -> Told:
    """Send a request head from the row's client address; read the head of the response."""
    reader, writer = await asyncio.open_connection(server, PROXY, local_addr=(str(row.client.address), 0))
    writer.write(request_head(row).encode())
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    writer.close()
    status = int(head.split(" ", 2)[1])
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    return Told(status in (400, 403), fields.get("x-gateway-reason", ""))


def request_head(row: Row) -> str:
    """Return what the client of a row sends."""
    ask = row.ask
    if row.kind == "tunnel":
        target = f"{ask['host']}:{ask.get('port', 443)}"
        lines, host = [f"CONNECT {target} HTTP/1.1"], target
    else:
        host = ask["url"].removeprefix("http://").split("/", 1)[0].split("?", 1)[0]
        lines = [f"{ask.get('method', 'GET')} {ask['url']} HTTP/1.1"]
        host = ask.get("authorities", (host,))[0]
    lines.append(f"Host: {host}")
    if "user_agent" in ask:
        lines.append(f"User-Agent: {ask['user_agent']}")
    headers = ask.get("headers", {})
    lines += [f"{name}: {value}" for name, value in (headers.items() if isinstance(headers, dict) else headers)]
    if "body_length" in ask:
        length = ask["body_length"]
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""])


async def replay(rows: Iterable[Row], folder: Path) -> list[dict[str, Any]]:
    """Serve the rows' policy and let every row's client ask."""
    rows = list(rows)
    config = load(rows[0].written.write(folder, state_dir="state", **_LISTEN))
    ready = [asyncio.Event(), asyncio.Event()]
    stop = asyncio.Event()
    told: list[dict[str, Any]] = []
    with Ledger(config.state_dir / "ledger", "replay") as ledger:
        runtime = Runtime(State(config, rows[0].policy(), None), ledger)
        resolver = Resolver.from_runtime(runtime)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(dns_server.serve(runtime, stop=stop, ready=ready[0].set, resolver=resolver))
            tasks.create_task(proxy_server.serve(runtime, resolver, stop=stop, ready=ready[1].set))
            for event in ready:
                await event.wait()
            for row in rows:
                server = "127.0.0.1" if row.client.address.version == 4 else "::1"
                found = await (ask_dns(row, server) if row.kind == "dns" else ask_proxy(row, server))
                told.append({"name": row.name, "denied": found.denied, "reason": found.reason})
            stop.set()
        await resolver.close()
    return told


async def main() -> None:
    """Replay everything that can be."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(NoData, local_addr=("127.0.0.1", UPSTREAM))
    rows = sorted(filter(replayable, load_rows()), key=lambda row: row.written.name)
    for _, group in groupby(rows, key=lambda row: row.written.name):
        with tempfile.TemporaryDirectory() as folder:
            for line in await replay(group, Path(folder)):
                sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
