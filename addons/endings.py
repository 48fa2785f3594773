"""When what is under way has to end: something broke, the client misbehaves, or another policy is in force.

The same for inspected requests as `gateway.proxy.live` for spliced tunnels: what ends is recorded by its own line.
"""

from addons.asked import blank_request
from addons.pinning import pin_problem
from addons.visit import Passage, Visit
from addons.volume import Volume, cut_off, end_by
from gateway.decision import Decision, Fact, Reason
from gateway.filetypes import UNREADABLE
from gateway.proxy.authentication import Authenticator
from gateway.proxy.case import Case
from gateway.proxy.roles import Judge
from gateway.request import Client, Dial, Flaw, HttpResponse


class Endings:
    """Ends what is under way on a connection."""

    def __init__(self, judge: Judge, volume: Volume, authenticator: Authenticator | None) -> None:
        self._judge = judge
        self._volume = volume
        self._authenticator = authenticator

    def broke(self, visit: Visit, error: BaseException) -> None:
        """Record that a connection ends because something broke: as the end of what is under way, or by itself."""
        self.end_all(visit, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

    def end_all(self, visit: Visit, reason: Reason, detail: str) -> None:
        """Blame all that is under way, or the connection itself where nothing is: once."""
        if visit.broken:
            return
        for passage in tuple(visit.passages.values()) or (None,):
            self.blame(visit, passage, reason, detail)
        visit.broken = True  # now: what could not be recorded is tried once more as what broke

    def blame(self, visit: Visit, passage: Passage | None, reason: Reason, detail: str) -> None:
        """Have a request, or what could not be read of one, recorded as denied for a reason."""
        if passage is None:
            Case(self._judge).refuse(blank_request(visit), reason, detail)
        elif passage.ended_by is None:  # recorded when it is gone
            passage.ended_by = Case(self._judge).flawed(passage.request, reason, detail)

    def rejudge(self, visit: Visit) -> None:
        """End a connection whose client is no longer who it was, and what is under way on it and now denied.

        Of HTTP/2, a stream: nothing of it is passed on any more, and it is ended at once.
        """
        if visit.hello is not None and (doubt := self.doubt(visit.client, visit.standing)) is not None:
            for passage in visit.passages.values():
                end_by(visit, passage, passage.case.flawed(passage.request, doubt.reason, doubt.detail), doubt.detail)
            if not visit.passages:  # which would have told of it
                Case(self._judge).refuse(visit.hello, doubt.reason, doubt.detail)
                visit.hang_up(doubt.detail)
            return
        for flow_id, passage in tuple(visit.passages.items()):
            found = visit.peers(passage.place) or visit.approved.get(passage.place, ())
            address = passage.address or next(iter(found), None)
            if address is None:
                continue
            dial = Dial(origin=passage.request, address=address, chain=passage.chain)
            decision = self._judge.decide(dial)
            if passage.status is not None and Fact.RESPONSE in decision.pending:
                # Of an answer that no rule wanted to see before, nothing is known any more.
                unseen = HttpResponse(dial=dial, file_types=frozenset((UNREADABLE,)))
                decision = self._judge.decide(passage.response or unseen)
            if not decision.denied and passage.server and (detail := unproven(visit, passage, decision)):
                decision = passage.case.flawed(passage.request, Reason.CERTIFICATE_PIN, detail)
            if (doubt := self.doubt(passage.request.client, passage.standing)) is not None and visit.hello is None:
                decision = passage.case.flawed(passage.request, doubt.reason, doubt.detail)
            if decision.denied:
                cut_off(visit, passage, decision, "the policy that is now in force denies it")
                if passage.multiplexed:
                    visit.cut_off(flow_id)
            else:  # by which its answer will be judged, and what still comes of either counted
                self._volume.follow(visit, passage, decision)

    def doubt(self, client: Client, standing: str | None) -> Flaw | None:
        """Return why a client is no longer who it was, or None."""
        return self._authenticator.doubt(client, standing) if self._authenticator is not None else None


def unproven(visit: Visit, passage: Passage, decision: Decision) -> str | None:
    """Return what the connection of a request would have to prove and does not, or None."""
    return pin_problem(decision.pins, visit.proofs.get(passage.server)) if decision.pins else None
