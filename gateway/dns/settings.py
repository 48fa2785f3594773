"""What the configuration says to the resolver, in the terms of the resolver.

Pure: no I/O, no clock. Reading resolv.conf and asking which addresses are our own is done by `gateway.dns.judge`.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple

from gateway.addresses import IPAddress, parse_address
from gateway.dns.answers import BlockAnswer
from gateway.dns.bailiwick import Limits
from gateway.dns.records import LocalData, parse_data
from gateway.dnssection import DnsSection, RecordSection
from gateway.tunnelling.structure import Controls
from gateway.tunnelling.window import DEFAULT_BUDGET, Limit
from gateway.tunnellingsection import TunnellingSection

MAX_SYSTEM = 3
"""Name servers read from resolv.conf: as many as the C library reads (resolv.h, MAXNS)."""


class Endpoint(NamedTuple):
    """An address to listen on or to ask."""

    scheme: str
    """`udp`, `tcp`, `tls` or `https`."""
    address: IPAddress
    port: int
    name: str = ""
    """Whom an upstream's certificate has to be for; without it, for the address."""
    path: str = ""
    """Of DNS over HTTPS."""

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        name = f"#{self.name}" if self.name else ""
        return f"{self.scheme}://{host}:{self.port}{self.path}{name}"


class Timing(NamedTuple):
    """How patient the resolver is, in seconds."""

    attempt: float = 1.5
    """With one upstream that it knows nothing of; known ones get four times their usual, from 0.4 s to 2 s."""
    total: float = 4.5
    """With all of them: clients give up after 5 s."""
    stale: float = 1.8
    """Until an expired answer has to do (RFC 8767 section 5)."""


type Action = Literal["deny", "report", "off"]


class Release(NamedTuple):
    """A denial that an operator lifts."""

    client: IPAddress
    zone: str
    at: str
    """Tells two releases of the same client apart."""


class Tunnelling(NamedTuple):
    """The `tunnelling` section, in the terms of the resolver."""

    action: Action = "off"
    groups: tuple[tuple[str, Action], ...] = ()
    """What is done for client groups instead."""
    budget: tuple[Limit, ...] = DEFAULT_BUDGET
    exempt: tuple[str, ...] = ()
    """Patterns: those of the configuration, forward zones and local records."""
    controls: Controls = Controls()
    released: tuple[Release, ...] = ()

    def action_for(self, groups: tuple[str, ...]) -> Action:
        """Return what is done for a client of these groups; the first one that is named counts."""
        if not self.groups:
            return self.action
        return next((action for name, action in self.groups if name in groups), self.action)


class Settings(NamedTuple):
    """Everything that the resolving core and its listeners need to know."""

    upstreams: tuple[Endpoint, ...]
    listen: tuple[Endpoint, ...] = ()
    strategy: Literal["fastest", "parallel", "ordered"] = "fastest"
    forward: dict[str, tuple[Endpoint, ...]] = {}  # noqa: RUF012 -- a default of a named tuple, never changed
    records: dict[str, tuple[IPAddress | LocalData, ...]] = {}  # noqa: RUF012
    upstream_ca: str = ""
    """Authorities that certificates of upstreams have to come from, in PEM form; without any, those of the system."""
    cache_entries: int = 200_000
    cache_memory: int = 256 << 20
    """In octets."""
    serve_stale: float = 0
    """Seconds for which expired answers help out; 0: not at all."""
    prefetch: bool = False
    limits: Limits = Limits()
    block_answer: BlockAnswer = "nxdomain"
    block_ttl: int = 60
    record_allowed: bool = False
    """Allowed queries go to the ledger too."""
    rate_limit: tuple[float, int] | None = None
    """Queries a second for one client, and how many at once."""
    strip_ech: bool = True
    trust_ad: bool = False
    timing: Timing = Timing()
    tunnelling: Tunnelling = Tunnelling()

    @property
    def for_answers(self) -> "Settings":
        """What answers depend on, and the rest as it is by default: where this is equal, answers may be kept."""
        return self._replace(
            listen=(),
            block_answer="nxdomain",
            block_ttl=0,
            record_allowed=False,
            rate_limit=None,
            tunnelling=Tunnelling(),
        )


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


def parse_place(text: str) -> Endpoint:
    """Read an address to listen on: as `parse_endpoint`, and `tls://address:port`, `https://address:port/path`.

    Raises:
        ValueError: it is none of those.

    >>> str(parse_place("https://[::1]:8443/dns-query"))
    'https://[::1]:8443/dns-query'
    """
    scheme, _, rest = text.partition("://")
    if scheme not in ("tls", "https"):
        return parse_endpoint(text)
    authority, slash, path = rest.partition("/")
    host, _, digits = authority.rpartition(":")
    address = parse_address(host.strip("[]"))
    port = int(digits) if digits.isdecimal() else -1
    if address is None or not 0 <= port < 65536 or bool(slash) is (scheme == "tls"):
        raise ValueError(f"expected tls://address:port or https://address:port/path, not {text!r}")
    return Endpoint(scheme, address, port, path=slash + path)


def parse_upstream(text: str) -> Endpoint:
    """Read a resolver to ask: as `parse_endpoint`, and `tls://address[:port][#name]`,
    `https://address[:port]/path[#name]`, where the name is whom the certificate has to be for.

    Raises:
        ValueError: it is none of those.

    >>> str(parse_upstream("tls://9.9.9.9#dns.quad9.net"))
    'tls://9.9.9.9:853#dns.quad9.net'
    """
    scheme, _, rest = text.partition("://")
    if scheme not in ("tls", "https"):
        return parse_endpoint(text)
    rest, _, name = rest.partition("#")
    authority, slash, path = rest.partition("/")
    if bool(slash) is (scheme == "tls"):
        raise ValueError(f"expected tls://address:port#name or https://address:port/path#name, not {text!r}")
    plain = parse_endpoint(f"tcp://{authority}", 853 if scheme == "tls" else 443)
    return Endpoint(scheme, plain.address, plain.port, name, slash + path)


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
    section: DnsSection,
    *,
    record_allowed: bool,
    system: tuple[Endpoint, ...],
    is_local: Callable[[IPAddress], bool],
    upstream_ca: str = "",
    tunnelling: TunnellingSection | None = None,
) -> Settings:
    """Translate the `dns` section. `system` are the name servers of this host, `upstream_ca` is what that file
    holds.
    """
    listen = tuple(parse_place(place) for place in section.listen)

    def servers(texts: Iterable[str]) -> tuple[Endpoint, ...]:
        found: list[Endpoint] = []
        for text in texts:
            found += system if text == "system" else [parse_upstream(text)]
        return without_self(dict.fromkeys(found), listen, is_local)

    answer = section.block.answer
    cache = section.cache
    rate = section.rate_limit
    return Settings(
        upstreams=servers(section.upstreams),
        listen=listen,
        strategy=section.strategy,
        forward={zone: servers(texts) for zone, texts in section.forward.items()},
        records={
            name: tuple(
                parse_data(*entry.content) if isinstance(entry, RecordSection) else entry for entry in entries
            )
            for name, entries in section.records.items()
        },
        upstream_ca=upstream_ca,
        cache_entries=cache.entries,
        cache_memory=int(cache.memory),
        serve_stale=cache.serve_stale,
        prefetch=cache.prefetch,
        limits=Limits(int(cache.min_ttl), int(cache.max_ttl), int(cache.negative_ttl)),
        block_answer=answer if isinstance(answer, str) else answer.sinkhole,
        block_ttl=int(section.block.ttl),
        record_allowed=record_allowed,
        rate_limit=(rate.queries_per_second, rate.burst) if rate else None,
        strip_ech=section.strip.ech,
        trust_ad=section.trust_ad,
        tunnelling=make_tunnelling(tunnelling, section) if tunnelling is not None else Tunnelling(),
    )


def make_tunnelling(section: TunnellingSection, dns: DnsSection) -> Tunnelling:
    """Translate the `tunnelling` section; forward zones and local records are exempt."""
    controls = section.controls
    own = (*(f".{zone}" for zone in dns.forward), *dns.records)
    return Tunnelling(
        action=section.action,
        groups=tuple(section.clients.items()),
        budget=tuple(Limit(*limit) for limit in section.leak_budget),
        exempt=(*section.exempt, *own),
        controls=Controls(controls.types, controls.octets, controls.tlds, int(controls.min_ttl)),
        released=tuple(Release(entry.client, entry.zone, entry.at) for entry in section.released),
    )
