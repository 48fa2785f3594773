"""One flow before the policy: every stage is judged, and each verdict is recorded once.

Pure: no I/O, no clock. A rule on trial (report mode) speaks up at every stage of a flow that it concerns; the ledger
wants to hear it once.
"""

from dataclasses import dataclass, replace

from gateway.decision import Decision, Reason
from gateway.proxy.roles import Judge
from gateway.request import Dial, Flaw, HttpRequest, TlsHello, Tunnel

type Origin = Tunnel | TlsHello | HttpRequest
"""A request that a connection is made for."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A denial, recorded: what is left to do is to say so."""

    request: Origin
    decision: Decision
    ledger_id: str
    status: int | None = None
    """HTTP status, where the reason alone does not tell."""


class Case:
    """Judges the stages of one flow."""

    __slots__ = ("_heard", "judge")

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._heard: tuple[str, ...] = ()

    def decide(self, request: Origin) -> Decision | Refusal:
        """Return the decision to go on, or the refusal."""
        decision = self.judge.decide(request)
        if decision.denied or not decision.enforced or decision.reported:
            return self._record(request, request, decision)
        return decision

    def decide_dial(self, request: Dial) -> Decision:
        """Return the verdict on an address. A denial is not recorded: which of several counts, the caller knows."""
        return self.judge.decide(request)

    def refuse(self, request: Origin, reason: Reason, detail: str, *, status: int | None = None) -> Refusal:
        """Refuse a request for what a shell found out about it. The policy says the words, as always."""
        flaw = Flaw(reason, detail)
        flawed = replace(request, flaw=flaw)
        decision, ledger_id = self.judge.judge(flawed)
        return Refusal(flawed, decision, ledger_id, status)

    def flawed(self, request: Origin, reason: Reason, detail: str) -> Decision:
        """Return what the policy says to something that was found out about a flow. Not recorded: its end will be."""
        return self.judge.decide(replace(request, flaw=Flaw(reason, detail)))

    def refuse_dial(self, request: Dial) -> Refusal:
        """Record a denied address, and refuse the request that it was for."""
        decision, ledger_id = self.judge.judge(request)
        return Refusal(request.origin, decision, ledger_id)

    def report_dial(self, request: Dial, decision: Decision) -> None:
        """Record what rules on trial say about an address that is being connected to."""
        if not decision.enforced or decision.reported:
            self._record(request, request.origin, decision)

    def _record(self, request: Origin | Dial, origin: Origin, decision: Decision) -> Decision | Refusal:
        said = {report.rule for report in decision.reported}
        if not decision.enforced:
            said.add(decision.rule or decision.reason.value)
        news = said.difference(self._heard)
        if decision.denied or news:
            self._heard += tuple(news)
            decision, ledger_id = self.judge.judge(request)
            if decision.denied:
                return Refusal(origin, decision, ledger_id)
        return decision
