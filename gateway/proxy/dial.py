"""From an allowed request to a connection: resolve, judge every address, connect to those and nothing else.

The only place of the proxy that opens connections. It connects to addresses, never to names, so that what was judged
is what is dialled: a second look-up in between is what DNS rebinding lives on. A parent proxy is given the same.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.addresses import IPAddress
from gateway.decision import Decision, Reason
from gateway.dns.forwarder import ResolutionError
from gateway.memo import Memo
from gateway.proxy.case import Case, Origin, Refusal
from gateway.proxy.parent import Asking, ParentError, parse_parent
from gateway.proxy.roles import Resolver
from gateway.request import Dial, TlsHello

_HEAD_START = 0.25
"""Seconds an address has before the next is tried beside it (RFC 8305 section 5: connection attempt delay)."""
_MOST = 16
"""Addresses of one name that are judged and tried. More help nobody, and each costs a decision."""
_KEPT = 1024
"""Requests whose addresses are remembered, and texts of addresses."""
_LONG = 256


type Connected[P] = tuple[asyncio.Transport, P, IPAddress]
"""A connection, its protocol, and the address it leads to."""


@dataclass(frozen=True, slots=True)
class Approved:
    """Addresses that may be dialled for a request, in the order to try."""

    addresses: tuple[IPAddress, ...]
    decisions: tuple[Decision, ...]
    """For each address the decision that allowed it: the last word on the request, with every fact known."""
    chain: tuple[str, ...] = ()
    """Names met while resolving."""

    def decision(self, address: IPAddress) -> Decision:
        """Return the decision that allowed an address."""
        return self.decisions[self.addresses.index(address)]


@dataclass(frozen=True, slots=True)
class _Known:
    """What was asked for a request before, and approved."""

    origin: Origin
    addresses: tuple[IPAddress, ...]
    chain: tuple[str, ...]
    dials: tuple[Dial, ...]
    approved: Approved


class Dialer:
    """Approves addresses and connects to them. `own` are the sockets that this gateway listens on.

    `parent` returns the URL of the proxy to go through, and is asked anew for every connection; None: straight there.
    """

    def __init__(
        self,
        resolver: Resolver,
        own: Iterable[tuple[IPAddress, int]] = (),
        parent: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._resolver = resolver
        self._parent = parent
        self._own: dict[int, list[IPAddress]] = {}
        for address, port in own:
            self._own.setdefault(port, []).append(address)
        self._known = Memo[int, _Known](_KEPT)
        """By the id of the request: programs that connect again ask with the same objects."""

    def recall(self, case: Case, origin: Origin) -> Approved | Refusal | None:
        """Do what `approve` does, where nobody has to be asked for the addresses; None elsewhere."""
        host = origin.host
        if not isinstance(host, str):
            return None
        resolution = self._resolver.recall(host, origin.client)
        if resolution is None or not resolution.addresses:
            return None
        return self.judge(case, origin, resolution.addresses[:_MOST], resolution.chain)

    def leads_straight(self, addresses: tuple[IPAddress, ...]) -> bool:
        """Say whether `connect` only connects: to one address, with no parent proxy to be asked."""
        return len(addresses) == 1 and self._parent() is None

    async def approve(self, case: Case, origin: Origin) -> Approved | Refusal:
        """Resolve the host of a request and judge each address.

        With every address denied, the refusal is that of the first one. With some denied, the first of them is
        recorded, and the connection goes to the others.
        """
        host = origin.host
        chain: tuple[str, ...] = ()
        if isinstance(host, str):
            try:
                resolution = await self._resolver.lookup(host, origin.client)
            except ResolutionError as error:
                return case.refuse(origin, error.reason, str(error))
            addresses, chain = resolution.addresses[:_MOST], resolution.chain
            if not addresses:
                return case.refuse(origin, Reason.NAME_UNRESOLVABLE, f"{host} has no address")
        else:
            addresses = (host,)
        return self.judge(case, origin, addresses, chain)

    def judge(
        self, case: Case, origin: Origin, addresses: tuple[IPAddress, ...], chain: tuple[str, ...] = ()
    ) -> Approved | Refusal:
        """Judge addresses for a request."""
        known = self._known.get(id(origin))
        if (
            known is not None
            and known.origin is origin
            and known.addresses is addresses
            and known.chain is chain
            and _still(case, known)
        ):
            return known.approved
        allowed: list[IPAddress] = []
        decisions: list[Decision] = []
        dials: list[Dial] = []
        heard = False
        denied: Dial | None = None
        itself = False
        for address in addresses:
            dial = Dial(origin=origin, address=address, chain=chain)
            decision = case.decide_dial(dial)
            if decision.denied:
                denied = denied or dial
            elif self._is_own(address, origin.port):
                itself = True
            else:
                case.report_dial(dial, decision)
                heard = heard or not decision.enforced or bool(decision.reported)
                allowed.append(address)
                decisions.append(decision)
                dials.append(dial)
        if not allowed and denied is None and itself:
            return case.refuse(origin, Reason.PRIVATE_ADDRESS, f"port {origin.port} there is the gateway itself")
        if denied is not None:
            refusal = case.refuse_dial(denied)
            if not allowed:
                return refusal
        approved = Approved(tuple(allowed), tuple(decisions), chain)
        if len(allowed) == len(addresses) and not heard and _is_short(origin):
            self._known.keep(id(origin), _Known(origin, addresses, chain, tuple(dials), approved))
        return approved

    def _is_own(self, address: IPAddress, port: int) -> bool:
        """Whether connecting there would connect to this gateway, which would then ask itself, for ever."""
        listening = self._own.get(port)
        if listening is None:
            return False
        return address in listening or (any(own.is_unspecified for own in listening) and is_local(address))

    def connect[P: asyncio.Protocol](
        self, addresses: tuple[IPAddress, ...], port: int, protocol: Callable[[], P]
    ) -> Coroutine[Any, Any, Connected[P]]:
        """Connect to the first of the addresses that answers, giving each a head start over the next.

        Raises:
            OSError: none of them can be reached; the last failure.
        """
        url = self._parent()
        if url is None:
            return _connect_any(addresses, port, protocol)
        through = partial(self._through, url)
        if len(addresses) == 1:
            return through(addresses[0], port, protocol)
        return _race(addresses, port, protocol, through)

    async def _through[P: asyncio.Protocol](
        self, url: str, address: IPAddress, port: int, protocol: Callable[[], P]
    ) -> Connected[P]:
        """Connect to an address by way of the parent."""
        transport: asyncio.Transport | None = None
        made: P | None = None
        try:
            host, at = parse_parent(url)
            places = (await self._resolver.lookup(host)).addresses[:_MOST] if isinstance(host, str) else (host,)
            if any(self._is_own(place, at) for place in places):
                raise ParentError("is this gateway itself")
            transport, asking, _ = await _connect_any(places, at, Asking)
            made = await asking.tunnel(address, port, protocol)
        except (OSError, ResolutionError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ParentError(f"the parent proxy {url}: {why}") from error
        finally:
            if transport is not None and made is None:
                transport.abort()
        return transport, made, address


def _still(case: Case, known: _Known) -> bool:
    """Say whether the policy decides on each address as it did: each is asked about anew."""
    return tuple(map(case.decide_dial, known.dials)) == known.approved.decisions


def _is_short(origin: Origin) -> bool:
    """Say whether a request may be kept: what clients make up is only so long. An allowed name is a name's length."""
    return isinstance(origin, TlsHello) and len(origin.tunnel.user_agent) <= _LONG and len(origin.alpn) <= 4


def _connect_any[P: asyncio.Protocol](
    addresses: tuple[IPAddress, ...], port: int, protocol: Callable[[], P]
) -> Coroutine[Any, Any, Connected[P]]:
    if len(addresses) == 1:
        return _connect(addresses[0], port, protocol)
    return _race(addresses, port, protocol, _connect)


async def _connect[P: asyncio.Protocol](address: IPAddress, port: int, protocol: Callable[[], P]) -> Connected[P]:
    # A literal address with its family: event loops take it as it is, and no resolver is ever asked.
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    transport, made = await asyncio.get_running_loop().create_connection(
        protocol, _text(address), port, family=family, flags=socket.AI_NUMERICHOST
    )
    return transport, made, address


_texts = Memo[int, tuple[IPAddress, str]](_KEPT)


def _text(address: IPAddress) -> str:
    """Return an address as text. Those of a name that is in the cache are the same objects each time."""
    known = _texts.get(id(address))
    if known is None or known[0] is not address:
        known = _texts.keep(id(address), (address, str(address)))
    return known[1]


async def _race[P: asyncio.Protocol](
    addresses: tuple[IPAddress, ...],
    port: int,
    protocol: Callable[[], P],
    connect: Callable[[IPAddress, int, Callable[[], P]], Coroutine[Any, Any, Connected[P]]],
) -> Connected[P]:
    """Try addresses one after the other, not waiting for a silent one: RFC 8305 without its sorting."""
    running: set[asyncio.Task[Connected[P]]] = set()
    failure: OSError = OSError(errno.EHOSTUNREACH, "no address to connect to")
    waiting = list(addresses)
    loop = asyncio.get_running_loop()
    try:
        while waiting or running:
            if waiting:
                running.add(loop.create_task(connect(waiting.pop(0), port, protocol)))
            done, running = await asyncio.wait(
                running, timeout=_HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner = None
            for task in done:
                error = task.exception()
                if isinstance(error, OSError):
                    failure = error
                elif error is not None:
                    raise error
                elif winner is None:
                    winner = task.result()
                else:
                    task.result()[0].abort()
            if winner is not None:
                return winner
        raise failure
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_discard)


def _discard[P](task: "asyncio.Task[Connected[P]]") -> None:
    """Close a connection that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result()[0].abort()


def is_local(address: IPAddress) -> bool:
    """Whether an address is one of this host's own: only those can be bound."""
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
        return True
