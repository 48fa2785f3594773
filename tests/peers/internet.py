"""A small internet for one network namespace: a name server and web origins on public addresses.

Run inside the namespace as a process of its own: `python internet.py SPEC`, where SPEC is a JSON file:
`{"zone": {"name": ["address", ...]}, "cert": "file.pem", "log": "file.jsonl", "resolver": "9.9.9.9"}`. Every DNS
question and every connection is a line in the log, so that a test can prove what was never asked or reached.
"""

import asyncio
import json
import ssl
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TextIO

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord


class NameServer(asyncio.DatagramProtocol):
    """Answers A and AAAA from the zone; everything else is NXDOMAIN."""

    def __init__(self, zone: dict[str, list[str]], log: TextIO) -> None:
        self._zone = zone
        self._log = log
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer one question."""
        query = DNSRecord.parse(data)
        name = str(query.q.qname).rstrip(".").lower()
        record(self._log, event="question", name=name, qtype=QTYPE[query.q.qtype])
        reply = query.reply()
        if name not in self._zone:
            reply.header.rcode = RCODE.NXDOMAIN
        for text in self._zone.get(name, []):
            address = ip_address(text)
            kind = QTYPE.A if address.version == 4 else QTYPE.AAAA
            if query.q.qtype == kind:
                data_type = A if address.version == 4 else AAAA
                reply.add_answer(RR(query.q.qname, kind, rdata=data_type(text), ttl=60))
        assert self._transport is not None
        self._transport.sendto(reply.pack(), addr)


def record(log: TextIO, **fields: object) -> None:
    """Write one line to the log at once."""
    log.write(json.dumps(fields) + "\n")
    log.flush()


async def serve_web(host: str, port: int, log: TextIO, context: ssl.SSLContext | None) -> asyncio.Server:
    """Serve HTTP on one address: every request is answered with its own first line."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        record(log, event="connection", address=host, port=port)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line = head.split(b"\r\n", 1)[0].decode("latin-1")
                record(log, event="request", address=host, port=port, line=line)
                body = f"origin {host}:{port} got {line}\n".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the peer has gone: that is how its requests end
        finally:
            writer.close()

    return await asyncio.start_server(handle, host, port, ssl=context)


async def serve(spec: dict[str, Any], log: TextIO) -> None:
    """Serve until killed; says `ready` when everything listens."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(spec["cert"])
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: NameServer(spec["zone"], log), local_addr=(spec["resolver"], 53))
    servers = []
    for address in sorted({address for addresses in spec["zone"].values() for address in addresses}):
        servers.append(await serve_web(address, 80, log, None))
        servers.append(await serve_web(address, 443, log, context))
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main(spec_file: str) -> None:
    """Read the specification and serve it."""
    spec = json.loads(Path(spec_file).read_text())
    with Path(spec["log"]).open("a") as log:
        asyncio.run(serve(spec, log))


if __name__ == "__main__":
    main(sys.argv[1])
