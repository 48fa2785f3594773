"""The `dns` section of the policy file."""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from gateway.addresses import parse_address
from gateway.names import normalize
from gateway.section import (
    Address,
    CertificateSection,
    FileName,
    Identifier,
    Name,
    Network,
    Section,
    Workers,
    check_listener,
)
from gateway.units import Duration, Size

_plain_path = re.compile(r"[A-Za-z0-9._~/-]*").fullmatch
_BLOCK_ANSWERS = ("nxdomain", "nodata", "zero-ip", "refused", "drop")


def _dns_listener(value: str) -> str:
    scheme, sep, rest = value.partition("://")
    if not sep or scheme not in ("udp", "tcp", "tls", "https"):
        raise ValueError(
            f"{value!r} is no listener: give udp://, tcp:// or tls:// with address:port, or https://address:port/path"
        )
    authority, slash, path = rest.partition("/")
    if scheme == "https" and (not slash or not _plain_path(path)):
        raise ValueError(f"{value!r} needs a path, as in https://{authority}/dns-query")
    check_listener(authority if scheme == "https" else rest)
    return value


def _upstream(value: str) -> str:
    if value == "system":
        return value
    scheme, sep, rest = value.partition("://")
    if not sep or scheme not in ("udp", "tcp", "tls", "https"):
        raise ValueError(
            f"{value!r} is no upstream: give 'system', udp://address, tcp://address, tls://address#name or "
            "https://address/path#name, with :port if not the usual one"
        )
    authority, slash, path = rest.partition("/")
    if scheme in ("tls", "https"):
        rest, mark, name = rest.partition("#")
        authority, slash, path = rest.partition("/")
        if mark and parse_address(name) is None:
            normalize(name)
    if bool(slash) is not (scheme == "https") or not _plain_path(path):
        raise ValueError(f"{value!r}: https:// alone has a path, as in https://1.1.1.1/dns-query, and a plain one")
    if parse_address(authority.strip("[]")) is None:
        host, _, port = authority.rpartition(":")
        if parse_address(host.strip("[]")) is None:
            raise ValueError(
                f"{value!r} is no upstream: write its address, and its name behind that, as in "
                "tls://9.9.9.9#dns.quad9.net; to look the name up, an upstream would be needed"
            )
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{value!r}: {port!r} is no port")
    return value


def _block_answer(value: Any) -> Any:
    if isinstance(value, dict):
        try:
            return Sinkhole.model_validate(value)
        except ValidationError as error:
            raise ValueError(f"expected {{sinkhole: [address, ...]}}: {error.errors()[0]['msg']}") from None
    if not isinstance(value, Sinkhole) and value not in _BLOCK_ANSWERS:
        raise ValueError(
            f"expected one of {', '.join(_BLOCK_ANSWERS)}, or {{sinkhole: [address, ...]}}; not {value!r}"
        )
    return value


type DnsListener = Annotated[str, AfterValidator(_dns_listener)]
type Upstream = Annotated[str, AfterValidator(_upstream)]


class CacheSection(Section):
    """The resolver's cache."""

    entries: Annotated[int, Field(ge=0, le=50_000_000)] = 200_000
    """Answers kept, per worker process."""
    memory: Size = 256 * 1024 * 1024
    """Octets that they may take, per worker process."""
    min_ttl: Duration = 0
    """Shorter TTLs are raised to this."""
    max_ttl: Duration = 86400
    """Longer TTLs are cut to this."""
    negative_ttl: Duration = 300
    """The longest time that NXDOMAIN and NODATA are kept (RFC 2308)."""
    serve_stale: Duration = 3600
    """How long expired answers help out when no upstream answers (RFC 8767); 0: not at all."""
    prefetch: bool = True
    """Renew hot names before they expire."""


class Sinkhole(Section):
    """Answer denied names with these addresses."""

    sinkhole: Annotated[tuple[Address, ...], Field(min_length=1)]
    """Addresses to answer with, A or AAAA as asked."""


class BlockSection(Section):
    """How a denied name is answered."""

    answer: Annotated[
        Literal["nxdomain", "nodata", "zero-ip", "refused", "drop"] | Sinkhole, BeforeValidator(_block_answer)
    ] = "nxdomain"
    ttl: Duration = 60
    """How long clients may remember the denial."""


class StripSection(Section):
    """What is removed from messages on the way."""

    ech: bool = True
    """Encrypted ClientHello keys in SVCB and HTTPS records, and the signatures over them."""
    ecs: Literal[True] = True
    """EDNS Client Subnet: never sent upstream."""


class RateLimitSection(Section):
    """A token bucket for each client."""

    queries_per_second: Annotated[float, Field(gt=0, le=1_000_000)] = 500
    burst: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Queries at once after a pause."""


def _numbers_and_name(count: int, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        *numbers, name = value.split() or [""]
        if len(numbers) != count or not all(_is_uint16(number) for number in numbers):
            raise ValueError(f"expected {expected}, not {value!r}")
        # The root says that there is no such service (RFC 2782, RFC 7505).
        return " ".join((*(str(int(number)) for number in numbers), name if name == "." else normalize(name)))

    return AfterValidator(check)


def _is_uint16(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 65536


class RecordSection(Section):
    """A record that is not an address; one key."""

    cname: Name | None = None
    """Another name for that one; followed here, and upstream where it leads out of here."""
    txt: Annotated[str, Field(max_length=4096)] | None = None
    ptr: Name | None = None
    srv: Annotated[str, _numbers_and_name(3, "'priority weight port target'")] | None = None
    mx: Annotated[str, _numbers_and_name(1, "'preference name'")] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len([key for key in _RECORD_KINDS if getattr(self, key) is not None]) != 1:
            raise ValueError(f"expected one of {', '.join(_RECORD_KINDS)}")
        return self

    @property
    def content(self) -> tuple[str, str]:
        """The kind of record, and its text."""
        return next((key, value) for key in _RECORD_KINDS if (value := getattr(self, key)) is not None)


_RECORD_KINDS = ("cname", "txt", "ptr", "srv", "mx")
_MAX_ALIASES = 16


def _local_record(value: Any) -> Any:
    if isinstance(value, RecordSection | IPv4Address | IPv6Address):
        return value
    if isinstance(value, dict):
        try:
            return RecordSection.model_validate(value)
        except ValidationError as error:
            found = error.errors()[0]
            where = "".join(f"{part}: " for part in found["loc"])
            raise ValueError(where + found["msg"].removeprefix("Value error, ")) from None
    address = parse_address(value) if isinstance(value, str) else None
    if address is None:
        kinds = ", ".join(f"{{{kind}: ...}}" for kind in _RECORD_KINDS)
        raise ValueError(f"expected an address or one of {kinds}; not {value!r}")
    return address


type LocalRecord = Annotated[Address | RecordSection, BeforeValidator(_local_record)]


class RpzZoneSection(Section):
    """The lists in force as a response policy zone for other resolvers, by AXFR and IXFR."""

    categories: tuple[Identifier, ...] = ()
    """Categories of lists that are in it; with `lists`, what fits either. Without both: all lists."""
    lists: tuple[Identifier, ...] = ()
    """Lists and feeds that are in it, by name."""
    allow: tuple[Network, ...] = ()
    """Networks that may have it."""
    key: FileName | None = None
    """A file with TSIG keys, as tsig-keygen writes it: one of them has to sign every query."""

    @model_validator(mode="after")
    def _is_for_somebody(self) -> Self:
        if not self.allow and self.key is None:
            raise ValueError("says nobody who may have it: give allow, key, or both")
        return self


class DnsSection(Section):
    """The resolver."""

    listen: tuple[DnsListener, ...] = ("udp://127.0.0.1:5335", "tcp://127.0.0.1:5335")
    """Where to answer: `udp://address:port`, `tcp://`, `tls://` (DoT), `https://address:port/path` (DoH)."""
    certificate: CertificateSection | None = None
    """For tls:// and https:// listeners."""
    workers: Workers = "auto"
    """Processes that share the ports; `auto` is one a core."""
    upstreams: Annotated[tuple[Upstream, ...], Field(min_length=1)] = ("system",)
    """Resolvers to ask: `system` (those of resolv.conf), `udp://address[:port]`, `tcp://address[:port]`,
    `tls://address[:port][#name]`, `https://address[:port]/path[#name]`. The name is whom the certificate is for."""
    upstream_ca: FileName | None = None
    """Authorities, in a PEM file, that certificates of upstreams have to come from, in place of the system's; read
    again on SIGHUP."""
    strategy: Literal["fastest", "parallel", "ordered"] = "fastest"
    """Which upstream is asked first: the fastest of late, all at once, or in the order given."""
    forward: dict[Name, Annotated[tuple[Upstream, ...], Field(min_length=1)]] = {}
    """Zones that have upstreams of their own; private addresses are expected from there."""
    records: dict[Name, Annotated[tuple[LocalRecord, ...], Field(min_length=1)]] = {}
    """Names answered here: addresses, or mappings such as `{cname: name}`."""
    cache: CacheSection = CacheSection()
    block: BlockSection = BlockSection()
    rate_limit: RateLimitSection | None = RateLimitSection()
    """What one client may ask; null: as much as it likes."""
    strip: StripSection = StripSection()
    rpz_zones: dict[Name, RpzZoneSection] = {}
    """Zones of the lists in force, for other resolvers to transfer."""
    trust_ad: bool = False
    """Pass on the upstreams' word that they have validated an answer (AD). Only for upstreams reached safely."""

    @model_validator(mode="after")
    def _aliases_end(self) -> Self:
        """Say which local CNAME leads round in a circle, or stands beside other records."""
        targets = {
            name: entry.cname
            for name, entries in self.records.items()
            for entry in entries
            if isinstance(entry, RecordSection) and entry.cname is not None
        }
        for name in targets:
            if len(self.records[name]) > 1:
                raise ValueError(f"records: {name} has a CNAME and other records: a CNAME stands alone (RFC 1034)")
            seen, at = {name}, targets[name]
            while at in targets and at not in seen:
                seen.add(at)
                at = targets[at]
            if at in seen or len(seen) > _MAX_ALIASES:
                raise ValueError(f"records: the CNAME of {name} leads round in a circle, or over too many others")
        return self
