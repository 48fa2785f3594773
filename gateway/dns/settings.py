"""What the configuration says to the resolver, in the terms of the resolver.

Pure: no I/O, no clock. Reading resolv.conf and asking which addresses are our own is done by `gateway.dns.judge`.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Literal, NamedTuple

from gateway.addresses import IPAddress, parse_address
from gateway.dns.answers import BlockAnswer
from gateway.dns.bailiwick import Limits

if TYPE_CHECKING:
    from gateway.schema import DnsSection

MAX_SYSTEM = 3
"""Name servers read from resolv.conf: as many as the C library reads (resolv.h, MAXNS)."""


class Endpoint(NamedTuple):
    """An address to listen on or to ask."""

    scheme: str
    """`udp` or `tcp`."""
    address: IPAddress
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.scheme}://{host}:{self.port}"


class Timing(NamedTuple):
    """How patient the resolver is, in seconds."""

    attempt: float = 1.5
    """With one upstream that it knows nothing of; known ones get four times their usual, from 0.4 s to 2 s."""
    total: float = 4.5
    """With all of them: clients give up after 5 s."""


class Settings(NamedTuple):
    """Everything that the resolving core and its listeners need to know."""

    upstreams: tuple[Endpoint, ...]
    listen: tuple[Endpoint, ...] = ()
    strategy: Literal["fastest", "parallel", "ordered"] = "fastest"
    forward: dict[str, tuple[Endpoint, ...]] = {}  # noqa: RUF012 -- a default of a named tuple, never changed
    records: dict[str, tuple[IPAddress, ...]] = {}  # noqa: RUF012
    cache_entries: int = 200_000
    limits: Limits = Limits()
    block_answer: BlockAnswer = "nxdomain"
    block_ttl: int = 60
    record_allowed: bool = False
    """Allowed queries go to the ledger too."""
    timing: Timing = Timing()


def parse_endpoint(text: str, default_port: int = 53) -> Endpoint:
    """Read `udp://address[:port]` or `tcp://address[:port]`, IPv6 addresses in brackets (without a port, also bare).

    Raises:
        ValueError: it is neither.

    >>> str(parse_endpoint("udp://192.0.2.53"))
    'udp://192.0.2.53:53'
    """
    scheme, _, rest = text.partition("://")
    address = parse_address(rest.strip("[]"))
    port = default_port
    if address is None:
        host, _, digits = rest.rpartition(":")
        address = parse_address(host.strip("[]"))
        port = int(digits) if digits.isdecimal() else -1
    if scheme not in ("udp", "tcp") or address is None or not 0 <= port < 65536:
        raise ValueError(f"expected udp://address:port or tcp://address:port, not {text!r}")
    return Endpoint(scheme, address, port)


def parse_resolv_conf(text: str) -> tuple[Endpoint, ...]:
    """Return the name servers of a resolv.conf (resolv.conf(5)); lines that cannot be read are passed over.

    >>> [str(server) for server in parse_resolv_conf("nameserver 192.0.2.1 # first\\nsearch example.com")]
    ['udp://192.0.2.1:53']
    """
    found: list[Endpoint] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            address = parse_address(words[1])
            if address is not None and len(found) < MAX_SYSTEM:
                found.append(Endpoint("udp", address, 53))
    return tuple(found)


def without_self(
    servers: Iterable[Endpoint], listen: Iterable[Endpoint], is_local: Callable[[IPAddress], bool]
) -> tuple[Endpoint, ...]:
    """Leave out the servers that are this resolver: it would ask itself for ever."""
    own = {(place.address, place.port) for place in listen}
    wildcards = {
        place.port for place in listen if place.address in (IPv4Address(0), IPv6Address(0))
    }  # there every local address is ours
    return tuple(
        server
        for server in servers
        if (server.address, server.port) not in own and not (server.port in wildcards and is_local(server.address))
    )


def make_settings(
    section: "DnsSection",
    *,
    record_allowed: bool,
    system: tuple[Endpoint, ...],
    is_local: Callable[[IPAddress], bool],
) -> Settings:
    """Translate the `dns` section. `system` are the name servers of this host."""
    listen = tuple(parse_endpoint(place) for place in section.listen)

    def servers(texts: Iterable[str]) -> tuple[Endpoint, ...]:
        found: list[Endpoint] = []
        for text in texts:
            found += system if text == "system" else [parse_endpoint(text)]
        return without_self(dict.fromkeys(found), listen, is_local)

    answer = section.block.answer
    cache = section.cache
    return Settings(
        upstreams=servers(section.upstreams),
        listen=listen,
        strategy=section.strategy,
        forward={zone: servers(texts) for zone, texts in section.forward.items()},
        records=dict(section.records),
        cache_entries=cache.entries,
        limits=Limits(int(cache.min_ttl), int(cache.max_ttl), int(cache.negative_ttl)),
        block_answer=answer if isinstance(answer, str) else answer.sinkhole,
        block_ttl=int(section.block.ttl),
        record_allowed=record_allowed,
    )
