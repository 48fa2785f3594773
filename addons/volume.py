"""How much passes, and may: a request is charged to the budget of its rule, and answers have a size.

What is charged or limited is what the ledger tells, in octets: heads as HTTP/1.1 writes them, whichever version they
came in; bodies and trailers; of a WebSocket its messages, and what its frames are besides.
"""

import logging
from dataclasses import replace

from addons.visit import Passage, Visit
from gateway.decision import Decision, Reason
from gateway.proxy.case import Case, Refusal
from gateway.proxy.roles import Judge
from gateway.proxy.uploads import Meter, Uploads
from gateway.units import render_size

_LOG = logging.getLogger(__name__)

FRAME = 6
"""Octets of a WebSocket's frame besides what it holds (RFC 6455 section 5.2). Frames without any content, of which
there may be as many as one likes, say something too; so this counts, as heads do."""


class Volume:
    """Counts what passes, and cuts off what is over its limit."""

    def __init__(self, judge: Judge, uploads: Uploads) -> None:
        self._judge = judge
        self._uploads = uploads

    def open(self, visit: Visit, passage: Passage, head: int) -> Refusal | None:
        """Count the head of a request, and charge it to its budget, if it has one; refuse what is over it already."""
        passage.octets_out = head
        if passage.decision.budget is None:
            return None
        passage.meter = self._uploads.open(visit.client.address, passage.request.host, passage.decision.budget)
        refusal = self._charge_head(passage.case, passage, passage.meter, head)
        if refusal is not None:
            passage.meter.close()
        return refusal

    def _charge_head(self, case: Case, passage: Passage, meter: Meter, head: int) -> Refusal | None:
        """Charge a request's head; refuse it if head and announced body are more than the budget still holds."""
        request = passage.request
        if meter.has(head + (request.body_length or 0)) and meter.spend(head):
            return None
        if case.flawed(request, Reason.UPLOAD_BUDGET, str(meter)).denied:
            return case.refuse(request, Reason.UPLOAD_BUDGET, str(meter))
        case.refuse(request, Reason.UPLOAD_BUDGET, str(meter))  # report mode: recorded, and counted no more
        meter.close()
        passage.meter = None
        return None

    def follow(self, visit: Visit, passage: Passage, decision: Decision) -> None:
        """Go on under another decision: with its budget."""
        if decision.budget != passage.decision.budget:
            close_meter(passage)
            budget, host = decision.budget, passage.request.host
            passage.meter = None if budget is None else self._uploads.open(visit.client.address, host, budget)
        passage.decision = decision

    def send(self, visit: Visit, passage: Passage, octets: int) -> bool:
        """Count octets of a client before they are passed on; when the budget holds less, end the request."""
        if passage.ended_by is not None:
            return False
        try:
            meter = passage.meter
            if meter is None or meter.spend(octets):
                passage.octets_out += octets
                return True
            reason, detail = Reason.UPLOAD_BUDGET, str(meter)
        except Exception as error:
            _LOG.error("an upload could not be counted", exc_info=error)
            reason, detail = Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"
        decision = Case(self._judge).flawed(passage.request, reason, detail)
        if not decision.denied:
            self._judge.ledger.record(passage.request, decision)
            close_meter(passage)
            passage.meter = None
            passage.octets_out += octets
            return True
        cut_off(visit, passage, decision, detail)
        return False

    def open_answer(self, passage: Passage, head: int, announced: int) -> Refusal | None:
        """Count the head of an answer; refuse what with the body that it announces is larger than its rule allows."""
        passage.octets_in = head
        most = passage.decision.max_response
        if most is None or head + announced <= most:
            return None
        detail = f"the answer has {render_size(head + announced)}, and {render_size(most)} are allowed"
        if passage.case.flawed(passage.request, Reason.BODY_SIZE, detail).denied:
            return passage.case.refuse(passage.request, Reason.BODY_SIZE, detail)
        passage.case.refuse(passage.request, Reason.BODY_SIZE, detail)  # report mode: recorded, and measured no more
        passage.decision = replace(passage.decision, max_response=None)
        return None

    def receive(self, visit: Visit, passage: Passage, octets: int) -> bool:
        """Count octets of an answer before they are passed on; when they are too many, end the request."""
        if passage.ended_by is not None:
            return False
        most = passage.decision.max_response
        if most is not None and passage.octets_in + octets > most:
            detail = f"the answer is larger than the {render_size(most)} that are allowed"
            decision = passage.case.flawed(passage.request, Reason.BODY_SIZE, detail)
            if decision.denied:
                cut_off(visit, passage, decision, detail)
                return False
            self._judge.ledger.record(passage.request, decision)
            passage.decision = replace(passage.decision, max_response=None)
        passage.octets_in += octets
        return True


def cut_off(visit: Visit, passage: Passage, decision: Decision, why: str) -> None:
    """End a request while it is counted: in HTTP/2 alone (the layers reset its stream), else with its connection."""
    if passage.multiplexed:
        passage.ended_by = decision
    else:
        end_by(visit, passage, decision, why)


def end_by(visit: Visit, passage: Passage, decision: Decision, why: str) -> None:
    """Cut a request off in its middle: all that is left to do is to close its connection."""
    passage.ended_by = decision
    visit.hang_up(why)


def close_meter(passage: Passage | None) -> None:
    """Account no more for a request that is gone."""
    if passage is not None and passage.meter is not None:
        passage.meter.close()
