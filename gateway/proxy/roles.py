"""What the proxy needs from the rest of the gateway: only what a test stands in for.

Pure: types only.
"""

from typing import Protocol

from gateway.addresses import IPAddress
from gateway.decision import Decision
from gateway.ledger.event import Outcome
from gateway.proxysection import ProxySection
from gateway.request import Client, Request


class Ledger(Protocol):
    """Where decisions are recorded."""

    def record(self, request: Request, decision: Decision, outcome: Outcome | None = None) -> str:
        """Record a decision, with what an allowed flow moved until its end. Returns the id of the entry."""


class Judge(Protocol):
    """Decides, by the policy in force, and records what is denied."""

    @property
    def ledger(self) -> Ledger:
        """Where decisions are recorded."""

    @property
    def generation(self) -> int:
        """Counts the policies that were in force: another number is another policy."""

    def decide(self, request: Request) -> Decision:
        """Return the verdict of the policy in force."""

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Decide, and record what is denied or would be. Returns the decision and its id in the ledger."""


class Settings(Protocol):
    """Returns the proxy's section of the configuration in force: asked anew for every connection."""

    def __call__(self) -> ProxySection:
        """Return it."""


class Resolution(Protocol):
    """What a name resolved to."""

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """All of them, in the order to try."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Names met on the way (CNAME)."""


class Resolver(Protocol):
    """The gateway's own resolver: the only way from a name to addresses."""

    def recall(self, host: str, client: Client) -> Resolution | None:
        """Return what `lookup` would return, where that is known without waiting; None where it has to be asked."""

    async def lookup(self, host: str, client: Client | None = None) -> Resolution:
        """Resolve a name in normal form, for a client, whose names tell the outside only so much; or for ourselves.

        Raises:
            ResolutionError: it has no address, no server told, or the client may not ask.
        """
