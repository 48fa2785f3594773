"""What the gateway knows about one client connection while mitmproxy serves it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from OpenSSL import SSL

from gateway.addresses import IPAddress
from gateway.decision import Decision
from gateway.filetypes import Look
from gateway.proxy.case import Case, Refusal
from gateway.proxy.uploads import Meter
from gateway.request import Client, Host, HttpRequest, HttpResponse, TlsHello

type Place = tuple[Host, int]
"""A destination: host and port."""


@dataclass(slots=True)
class Passage:
    """One allowed request that has not ended."""

    request: HttpRequest
    decision: Decision
    began: float
    case: Case
    chain: tuple[str, ...] = ()
    """Names met while resolving."""
    look: Look | None = None
    """The first octets of the answer, where a rule wants to know them."""
    response: HttpResponse | None = None
    """The answer, where a rule had to judge it."""
    octets_out: int = 0
    octets_in: int = 0
    status: int | None = None
    address: IPAddress | None = None
    """Where it was sent to."""
    meter: Meter | None = None
    """Counts what it uploads, where the rule has a budget."""
    multiplexed: bool = False
    """Whether others share its connection (HTTP/2)."""
    standing: str | None = None
    """What its client's identity rested on then."""
    server: str = ""
    """The connection to the origin that it uses, by mitmproxy's id."""
    ended_by: Decision | None = None
    """The denial that cut it off."""

    @property
    def place(self) -> Place:
        """Where it goes."""
        return self.request.host, self.request.port


@dataclass(slots=True)
class Visit:
    """One client connection."""

    client: Client
    hello: TlsHello | None = None
    """The tunnel it came through, for inspected TLS."""
    standing: str | None = None
    """What the identity of who opened the tunnel rested on then."""
    passages: dict[str, Passage] = field(default_factory=dict)
    """Requests under way, by flow id."""
    approved: dict[Place, tuple[IPAddress, ...]] = field(default_factory=dict)
    """Addresses that every request under way to that place may be sent to."""
    chains: dict[Place, tuple[str, ...]] = field(default_factory=dict)
    """Names met while resolving those places."""
    connected: dict[str, tuple[Place, IPAddress]] = field(default_factory=dict)
    """Open connections to origins, by mitmproxy's connection id."""

    proofs: dict[str, SSL.Connection] = field(default_factory=dict)
    """The TLS of connections to origins, by mitmproxy's connection id."""
    hang_up: Callable[[str], None] = lambda _: None
    """Ends the connection."""
    cut_off: Callable[[str], None] = lambda _: None
    """Ends one request of a connection with many, by flow id."""
    answered: bool = False
    """Whether an origin has answered."""
    broken: bool = False
    """Whether it ends because something broke, or because it is no HTTP any more."""
    failed: Refusal | None = None
    """The last request that was allowed and could not be carried out."""

    def under_way(self, place: Place) -> bool:
        """Whether an allowed request to that place has not ended."""
        return any(passage.place == place for passage in self.passages.values())

    def peers(self, place: Place) -> tuple[IPAddress, ...]:
        """Return the addresses of open connections to that place: the next request may be sent over any of them."""
        found = [address for at, address in self.connected.values() if at == place]
        return tuple(dict.fromkeys(found)) if len(found) > 1 else tuple(found)
