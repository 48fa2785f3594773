"""Tests of `gateway.selfcheck.world`."""

import asyncio
from typing import Any

from dnslib import QTYPE, RCODE, DNSRecord

from gateway.selfcheck.world import NameServer, a_world, zone


class Wire:
    """Keeps what a name server sends."""

    def __init__(self) -> None:
        self.sent: list[DNSRecord] = []

    def sendto(self, data: bytes, _: Any) -> None:
        """Keep an answer."""
        self.sent.append(DNSRecord.parse(data))


def ask(names: NameServer, name: str, kind: str = "A") -> DNSRecord | None:
    """Ask, and return the answer if there is one."""
    wire = Wire()
    names.connection_made(wire)
    names.datagram_received(DNSRecord.question(name, kind).pack(), ("127.0.0.1", 1))
    return wire.sent[0] if wire.sent else None


def test_names() -> None:
    """Names are at their addresses, others do not exist, slow ones never answer, and every question is noted."""
    names = NameServer(zone("192.0.2.1"))
    answer = ask(names, "good.test")
    assert answer is not None
    assert [str(record.rdata) for record in answer.rr] == ["192.0.2.1"]
    mapped = ask(names, "mapped.good.test", "AAAA")
    assert mapped is not None
    assert mapped.rr[0].rtype == QTYPE.AAAA
    missing = ask(names, "nobody.test")
    assert missing is not None
    assert missing.header.rcode == RCODE.NXDOMAIN
    assert ask(names, "n1.slow.good.test") is None
    assert names.asked == ["good.test", "mapped.good.test", "nobody.test", "n1.slow.good.test"]


def test_flip() -> None:
    """A name may lead elsewhere from the second question on."""
    names = NameServer(zone("192.0.2.1"))
    names.flips["flip.good.test"] = ("127.0.0.2",)
    found = [ask(names, "flip.good.test") for _ in range(2)]
    assert [str(answer.rr[0].rdata) for answer in found if answer] == ["192.0.2.1", "127.0.0.2"]


def test_garbage() -> None:
    """What is no question gets no answer."""
    names = NameServer({})
    names.datagram_received(b"\0", ("127.0.0.1", 1))
    assert names.asked == []


async def test_origins() -> None:
    """Both origins answer requests and count octets; the forbidden one listens on every address."""
    async with a_world(dns=("127.0.0.1", 0)) as world:
        for host, origin in (("127.0.0.1", world.good), ("127.0.0.9", world.evil)):
            reader, writer = await asyncio.open_connection(host, origin.port)
            writer.write(b"GET /alt-svc HTTP/1.1\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Alt-Svc: h3" in head
            writer.close()
            await writer.wait_closed()
        assert world.touched() == (25, 1, 25)
