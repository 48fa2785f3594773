"""A spliced tunnel in the eyes of the policy: counted against its budget, judged anew when the policy changes.

The octets are passed on by `gateway.proxy.splice`, which knows nothing of all this. However a tunnel ends, that is
one line in the ledger: as allowed, or denied for what ended it.
"""

import logging

from gateway.addresses import IPAddress
from gateway.decision import Decision, Reason, Tls
from gateway.ledger.event import Outcome
from gateway.proxy.authentication import Authenticator
from gateway.proxy.case import Case
from gateway.proxy.roles import Judge
from gateway.proxy.secondhello import SecondHello
from gateway.proxy.splice import Splice
from gateway.proxy.uploads import Meter, Uploads
from gateway.request import Dial, Flaw, TlsHello

_LOG = logging.getLogger(__name__)


class LiveTunnel:
    """One tunnel from its connection to its end."""

    __slots__ = (
        "_address", "_authenticator", "_chain", "_decision", "_ended_by", "_generation", "_judge", "_meter",
        "_request", "_second", "_standing", "_uploads", "splice",
    )  # fmt: skip

    def __init__(
        self,
        judge: Judge,
        uploads: Uploads,
        authenticator: Authenticator,
        standing: str | None,
        splice: Splice,
        request: TlsHello,
        decision: Decision,
        address: IPAddress,
        chain: tuple[str, ...],
        generation: int,
    ) -> None:
        """Begin. `standing` is what its client's identity rested on when the tunnel was asked for, `generation` that
        of the policy by which its hello was judged: to resolve and connect takes time, in which others may have come.
        """
        self.splice = splice
        self._judge = judge
        self._uploads = uploads
        self._authenticator = authenticator
        self._standing = standing
        self._request = request
        self._address = address
        self._chain = chain
        self._generation = generation
        self._meter: Meter | None = None
        self._second: SecondHello | None = None
        self._ended_by: Decision | None = None
        self._follow(decision)

    def begin(self, first: bytes | bytearray, second: SecondHello | None = None) -> bool:
        """Judge it anew where another policy came meanwhile; charge what was read before the origin was there, and
        look at what follows on the hello in it.

        Returns False where that ends the tunnel: it is denied now, more than the budget holds, or another hello.
        """
        self._keep_up()
        if self._ended_by is not None:
            return False
        if self._meter is not None and not self._spend(len(first)):
            return False
        self._second = second
        if second is None:
            return True
        self.splice.origin.meter = self._heard
        self._measure()
        behind = bytes(first[second.octets :]) if second.watches else b""
        return not behind or self._follows(second, second.read(behind))

    def check(self, now: float) -> None:
        """Enforce the limits, and the policy when another one is in force than before."""
        self.splice.check(now)
        self._keep_up()

    def _keep_up(self) -> None:
        """Judge the tunnel by the policy in force."""
        if self._judge.generation != self._generation:
            self._generation = self._judge.generation
            try:
                self._rejudge()
            except Exception as error:
                _LOG.exception("a tunnel could not be judged anew")
                self.broke(error)

    def broke(self, error: BaseException) -> None:
        """Cut the tunnel off because something about it broke."""
        try:
            self._over(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        finally:
            self.abort()

    def abort(self) -> None:
        """Cut the tunnel off."""
        self.splice.abort()

    def end(self, seconds: float) -> None:
        """Record how the tunnel ended."""
        if self._meter is not None:
            self._meter.close()
        splice = self.splice
        outcome = Outcome(
            octets_out=splice.octets_out,
            octets_in=splice.octets_in,
            seconds=round(seconds * 1e6) / 1e6,
            address=self._address,
            error=splice.error,
        )
        self._judge.ledger.record(self._request, self._ended_by or self._decision, outcome)

    def _follow(self, decision: Decision) -> None:
        """Go on under a decision: with its budget."""
        self._decision = decision
        old, self._meter = self._meter, None
        if decision.budget is not None:
            self._meter = self._uploads.open(self._request.client.address, self._request.host, decision.budget)
        if old is not None:
            old.close()
        self._measure()

    def _measure(self) -> None:
        """Have the client's octets shown before they are passed on, while anybody wants to see or to count them."""
        watched = self._second is not None and self._second.watches
        self.splice.meter(self._count if watched or self._meter is not None else None)

    def _count(self, data: bytes) -> bool:
        """Look at octets of the client before they are passed on, and charge them."""
        try:
            second = self._second
            if second is not None and second.watches and not self._follows(second, second.read(data)):
                return False
        except Exception as error:
            _LOG.exception("a second ClientHello could not be judged")
            return not self._over(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        return self._meter is None or self._spend(len(data))

    def _heard(self, data: bytes) -> bool:
        """Look at the first octets of the origin."""
        try:
            second = self._second
            return second is None or self._follows(second, second.hear(data, self.splice.client.octets))
        except Exception as error:
            _LOG.exception("an origin's first octets could not be judged")
            return not self._over(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

    def _follows(self, second: SecondHello, flaw: Flaw | None) -> bool:
        """Go on, unless there was something wrong with what followed on the hello. Returns whether there was not."""
        if flaw is not None:
            return not self._over(flaw.reason, flaw.detail)
        if not second.awaited:
            self.splice.origin.meter = None
        self._measure()
        return True

    def _spend(self, octets: int) -> bool:
        """Charge octets before they are passed on; when there are not enough left, end the tunnel."""
        try:
            meter = self._meter
            if meter is None or meter.spend(octets):
                return True
            return not self._over(Reason.UPLOAD_BUDGET, str(meter))
        except Exception as error:
            _LOG.exception("an upload could not be counted")
            return not self._over(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

    def _over(self, reason: Reason, detail: str) -> bool:
        """Ask the policy what to do about something that was found. Returns whether the tunnel has ended."""
        decision = Case(self._judge).flawed(self._request, reason, detail)
        if not decision.denied:  # report mode: told once, and counted no more
            self._judge.ledger.record(self._request, decision)
            meter, self._meter = self._meter, None
            if meter is not None:
                meter.close()
            self._measure()
            return False
        self._end_by(decision, detail)
        return True

    def _rejudge(self) -> None:
        if (doubt := self._authenticator.doubt(self._request.client, self._standing)) is not None:
            self._end_by(Case(self._judge).flawed(self._request, doubt.reason, doubt.detail), doubt.detail)
            return
        hello = self._judge.decide(self._request)
        dial = self._judge.decide(Dial(origin=self._request, address=self._address, chain=self._chain))
        for decision in (hello, dial):
            if decision.denied:
                self._end_by(decision, "the policy that is now in force denies it")
                return
        if hello.tls is Tls.INSPECT:
            detail = "the policy that is now in force wants to look inside"
            self._end_by(Case(self._judge).flawed(self._request, Reason.PROTOCOL, detail), detail)
            return
        if dial.budget != self._decision.budget:
            self._follow(dial)
        else:
            self._decision = dial

    def _end_by(self, decision: Decision, error: str) -> None:
        self._ended_by = self._ended_by or decision
        self.splice.abort(error)
