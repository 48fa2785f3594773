"""Compiled lists for other programs: what is in force here, in the formats of resolvers, proxies and packet filters.

Reads the stored copies that a snapshot was made of, because the snapshot itself holds only hashes; what the guards
left out here is left out there. Nothing is widened: what a format cannot say is counted, not approximated.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from pathlib import Path
from typing import Literal, get_args

from gateway.addresses import IPAddress, IPNetwork
from gateway.feeds.catalog import Feed
from gateway.feeds.compile import Source, admitted, never_block_of
from gateway.feeds.entry import Entry, NameEntry, RangeEntry, Scope
from gateway.feeds.snapshot import Snapshot
from gateway.feeds.store import FeedState, Store

type ExportFormat = Literal["rpz", "hosts", "domains", "nft", "squid", "unbound"]
FORMATS: tuple[str, ...] = get_args(ExportFormat.__value__)

_EXACT, _BELOW, _TREE = int(Scope.EXACT), int(Scope.BELOW), int(Scope.TREE)
_LONGEST_OWNER = 253
TTL = 60


class ExportError(ValueError):
    """There is nothing to export; the text says what to do."""


@dataclass(slots=True)
class Exported:
    """What some lists deny together."""

    created: float = 0.0
    """When the snapshot was compiled."""
    names: dict[str, int] = field(default_factory=dict)
    """Names, and which part of their tree (a `Scope` as a number)."""
    holes: dict[str, int] = field(default_factory=dict)
    """Names below those that the lists let through."""
    networks: tuple[IPNetwork, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    """What the format cannot say, and how often."""


def collect(
    snapshot: Snapshot, feeds: dict[str, Feed], store: Store, wanted: Callable[[str, Feed], bool] = lambda *_: True
) -> Exported:
    """Return what the wanted lists of a snapshot deny.

    Raises:
        ExportError: a stored copy is gone, because the lists were refreshed just now.
    """
    found = Exported(created=snapshot.created)
    ranges: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
    mask = 0
    with ExitStack() as stack:
        sources = []
        try:
            never = [
                _never_block_source(name, feed, store, stack) for name, feed in feeds.items() if feed.never_block
            ]
            protected = never_block_of([source for source in never if source is not None], snapshot.created)
            for bit, info in enumerate(snapshot.lists):
                feed = feeds.get(info.name)
                if feed is not None and wanted(info.name, feed):
                    mask |= 1 << bit
                    sources.append(_source(info.name, info.version, feed, store, stack))
        except OSError as error:
            raise ExportError(f"{error.filename}: the lists were refreshed just now; try again") from None
        for source in sources:
            for entry in admitted(source, protected, snapshot.created):
                _add(entry, found, ranges)
    _settle(found, snapshot, mask)
    found.networks = (
        *_networks(4, ranges[4], snapshot, mask),
        *_networks(6, ranges[6], snapshot, mask),
    )
    return found


def _source(name: str, version: str, feed: Feed, store: Store, stack: ExitStack) -> Source:
    state = FeedState(version=version, format=feed.format, column=feed.column)
    data = stack.enter_context(store.open(name, state))
    return Source(name=name, version=version, format=feed.format, column=feed.column, data=data)


def _never_block_source(name: str, feed: Feed, store: Store, stack: ExitStack) -> Source | None:
    state = store.state(name, feed.format, feed.column)
    if state is None:
        return None
    data = stack.enter_context(store.open(name, state))
    return Source(
        name=name, version=state.version, format=feed.format, column=feed.column, data=data, never_block=True
    )


def _add(entry: Entry, found: Exported, ranges: dict[int, list[tuple[int, int]]]) -> None:
    if isinstance(entry, NameEntry):
        names = found.holes if entry.exception else found.names
        names[entry.name] = names.get(entry.name, 0) | int(entry.scope)
    elif isinstance(entry, RangeEntry):
        if not entry.exception:
            ranges[entry.version].append((entry.first, entry.last))
    elif not entry.exception:
        found.left_out["URLs"] += 1


def _settle(found: Exported, snapshot: Snapshot, mask: int) -> None:
    """Leave out what an exception of its own list takes back, and holes that another list fills again."""
    if not found.holes:
        return
    for name, scope in list(found.names.items()):
        kept = scope
        if scope & _EXACT and not snapshot.lookup_name(name)[0] & mask:
            kept &= ~_EXACT
        if scope & _BELOW and not snapshot.lookup_name(f"x--probe.{name}")[0] & mask:
            kept &= ~_BELOW
        if kept:
            found.names[name] = kept
        else:
            del found.names[name]
    for name, scope in list(found.holes.items()):
        open_scope = 0
        if scope & _EXACT and _is_below(name, found.names) and not snapshot.lookup_name(name)[0] & mask:
            open_scope |= _EXACT
        if scope & _BELOW and _is_below(name, found.names) and not snapshot.lookup_name(f"x--probe.{name}")[0] & mask:
            open_scope |= _BELOW
        if open_scope:
            found.holes[name] = open_scope
        else:
            del found.holes[name]


def _is_below(name: str, names: dict[str, int]) -> bool:
    at = name.find(".") + 1
    while at:
        if names.get(name[at:], 0) & _BELOW:
            return True
        at = name.find(".", at) + 1
    return False


def _networks(version: int, ranges: list[tuple[int, int]], snapshot: Snapshot, mask: int) -> Iterator[IPNetwork]:
    make: Callable[[int], IPAddress] = IPv4Address if version == 4 else IPv6Address
    merged: list[list[int]] = []
    for first, last in sorted(ranges):
        if not snapshot.lookup_address(make(first)) & mask:
            continue  # an exception takes it back; those for a part of a range are rare, and deny rather more
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    for first, last in merged:
        yield from summarize_address_range(make(first), make(last))


# -- formats -------------------------------------------------------------------------------------------------------


def render(found: Exported, format: ExportFormat, *, title: str) -> Iterator[str]:
    """Yield the lines of an export; what cannot be said is counted in `left_out` as it is met."""
    return _RENDERERS[format](found, title)


def owners(found: Exported) -> Iterator[tuple[str, bool]]:
    """Yield the owner names of a response policy zone, relative to it, and whether each lets through; unordered."""
    for name, scope in found.names.items():
        if scope & _EXACT:
            yield name, False
        if scope & _BELOW:
            yield f"*.{name}", False
    for name, scope in found.holes.items():
        if scope & _EXACT:
            yield name, True
        if scope & _BELOW:
            yield f"*.{name}", True
    for network in found.networks:
        yield rpz_ip(network), False


def rpz_ip(network: IPNetwork) -> str:
    """Return the owner name of an address trigger: prefix length, then the address back to front.

    >>> from ipaddress import ip_network
    >>> rpz_ip(ip_network("192.0.2.0/24")), rpz_ip(ip_network("2001:db8::/32"))
    ('24.0.2.0.192.rpz-ip', '32.zz.db8.2001.rpz-ip')
    """
    address = network.network_address
    if address.version == 4:
        words = str(address).split(".")
    else:
        text = str(address)
        if address.ipv4_mapped is not None:  # whose text ends with dots, and a trigger has 16 bits in each label
            text = f"::ffff:{int(address) >> 16 & 0xFFFF:x}:{int(address) & 0xFFFF:x}"
        words = [word for word in text.replace("::", ":zz:").split(":") if word]
    return ".".join((str(network.prefixlen), *reversed(words), "rpz-ip"))


def _head(found: Exported, title: str, mark: str) -> Iterator[str]:
    when = datetime.fromtimestamp(found.created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield f"{mark} {title}; compiled {when}; {len(found.names)} names, {len(found.networks)} networks"


def _rpz(found: Exported, title: str) -> Iterator[str]:
    yield from _head(found, title, ";")
    yield f"$TTL {TTL}"
    yield f"@ IN SOA localhost. hostmaster.localhost. {int(found.created)} 3600 600 604800 {TTL}"
    yield "@ IN NS localhost."
    for owner, passes in sorted(owners(found)):
        if len(owner) > _LONGEST_OWNER:
            found.left_out["names too long for a zone"] += 1
        else:
            yield f"{owner} CNAME {'rpz-passthru.' if passes else '.'}"


def _hosts(found: Exported, title: str) -> Iterator[str]:
    yield from _head(found, title, "#")
    _only_names(found, "networks")
    for name, scope in sorted(found.names.items()):
        if scope & _EXACT:
            yield f"0.0.0.0 {name}"
        if scope & _BELOW:
            found.left_out["names below a name"] += 1


def _domains(found: Exported, title: str) -> Iterator[str]:
    yield from _head(found, title, "#")
    _only_names(found, "networks", "exceptions")
    for name, scope in sorted(found.names.items()):
        if scope == _TREE:
            yield name
        else:
            # Who reads such a list takes a name for all of its tree.
            found.left_out["names without those below, or the other way round"] += 1


def _squid(found: Exported, title: str) -> Iterator[str]:
    """A file for `acl listed dstdomain "file"`: a name below another one would be an error there."""
    yield from _head(found, title, "#")
    _only_names(found, "networks", "exceptions")
    for name, scope in sorted(found.names.items()):
        if _is_below(name, found.names):
            continue
        if scope == _TREE:
            yield f".{name}"
        elif scope == _EXACT:
            yield name
        else:
            found.left_out["names below a name, without it"] += 1


def _unbound(found: Exported, title: str) -> Iterator[str]:
    yield from _head(found, title, "#")
    _only_names(found, "networks")
    yield "server:"
    for name, scope in sorted(found.names.items()):
        if _is_below(name, found.names):
            continue  # a zone of its own would take it, and what is below, out of the one above
        if scope == _TREE:
            yield f'local-zone: "{name}." always_nxdomain'
        elif scope == _EXACT:
            # A zone of that name would cover what is below.
            yield f'local-zone: "{name}." transparent'
            yield f'local-data: "{name}. {TTL} IN A 0.0.0.0"'
        else:
            found.left_out["names below a name, without it"] += 1
    for name in sorted(found.holes):
        if found.names.get(name) != _TREE:
            yield f'local-zone: "{name}." always_transparent'


def _nft(found: Exported, title: str) -> Iterator[str]:
    """Two sets, to be loaded with `nft -f` and used as `ip daddr @gateway_listed4 drop`."""
    yield from _head(found, title, "#")
    if found.names:
        found.left_out["names"] += len(found.names)
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        networks = [str(network) for network in found.networks if network.version == version]
        yield "add table inet gateway"
        yield f"add set inet gateway listed{version} {{ type {kind}; flags interval; auto-merge; }}"
        yield f"flush set inet gateway listed{version}"
        for at in range(0, len(networks), 500):
            yield f"add element inet gateway listed{version} {{ {', '.join(networks[at : at + 500])} }}"


def _only_names(found: Exported, *kinds: str) -> None:
    counts = {"networks": len(found.networks), "exceptions": len(found.holes)}
    for kind in kinds:
        if counts[kind]:
            found.left_out[kind] += counts[kind]


_RENDERERS: dict[str, Callable[[Exported, str], Iterator[str]]] = {
    "rpz": _rpz,
    "hosts": _hosts,
    "domains": _domains,
    "nft": _nft,
    "squid": _squid,
    "unbound": _unbound,
}


def write_export(path: Path | None, lines: Iterable[str], put: Callable[[str], None]) -> None:
    """Write lines into a file, whole or not at all, or give them to `put` one by one. Raises OSError.

    What is there and no ordinary file (/dev/stdout, a pipe) is written to: renaming would put a file in its place. A
    link is followed if nobody else could have laid it: this may run as root, in a folder that others write to.
    """
    if path is None:
        for line in lines:
            put(line)
        return
    if path.is_symlink() and path.lstat().st_uid not in (0, os.geteuid()):
        raise OSError(errno.ELOOP, "is a link that belongs to another user", str(path))
    if str(path.absolute()).startswith(_DESCRIPTORS) or (path.exists() and not path.is_file()):
        with path.open("a", encoding="ascii") as file:  # after what a shell has in there already
            file.writelines(f"{line}\n" for line in lines)
        return
    if not path.parent.is_dir():
        raise NotADirectoryError(errno.ENOENT, "there is no such folder", str(path.parent))
    path = path.resolve()  # a link goes on pointing where it does
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("x", encoding="ascii") as file:  # not what somebody else put there meanwhile
            file.writelines(f"{line}\n" for line in lines)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


_DESCRIPTORS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
"""What is open already, and may be an ordinary file of which this is only a part."""
