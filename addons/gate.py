"""The policy gate: every HTTP request that mitmproxy sees is decided here, before anything of it leaves.

A thin adapter: flow -> `HttpRequest` -> decision -> flow. Every hook fails closed: mitmproxy logs what a hook raises
and lets the flow go on, so nothing may raise.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from mitmproxy import http
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from addons.asked import (
    announced_length,
    answer_head,
    blank_request,
    codings_of,
    fields_length,
    host_of,
    request_head,
    server_address,
    strange_field,
    to_request,
    to_response,
)
from addons.endings import Endings, unproven
from addons.refusals import answer_of, refuse, set_response
from addons.rewriting import rewrite_request, rewrite_response
from addons.routing import settle_address
from addons.visit import Passage, Place, Visit
from addons.volume import FRAME, Volume, close_meter
from gateway.addresses import IPAddress
from gateway.decision import Decision, Fact, Reason
from gateway.filetypes import UNREADABLE, Look
from gateway.ledger import Outcome
from gateway.proxy.authentication import Authenticator, status_of
from gateway.proxy.case import Case, Refusal
from gateway.proxy.dial import Dialer
from gateway.proxy.head import HeadError, Limits
from gateway.proxy.layers import CUT, ENDED, REFUSED
from gateway.proxy.responses import Answer, clean, render
from gateway.proxy.roles import Judge, Settings
from gateway.proxy.uploads import Uploads
from gateway.proxy.websocket import BROKEN, METER
from gateway.request import Flaw

_LOG = logging.getLogger(__name__)


class Gate:
    """Decides requests, and records how the allowed ones ended."""

    name = "egress_gate"

    def __init__(
        self,
        judge: Judge,
        settings: Settings,
        dialer: Dialer,
        uploads: Uploads,
        authenticator: Authenticator | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticator = authenticator
        self._judge = judge
        self._settings = settings
        self._dialer = dialer
        self._volume = Volume(judge, uploads)
        self.endings = Endings(judge, self._volume, authenticator)
        self._clock = clock
        self.visits: dict[str, Visit] = {}
        """Client connections by mitmproxy's id."""

    # -- hooks -------------------------------------------------------------------------------------------------

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Decide a request as soon as its head is known."""
        try:
            await self._decide(flow)
        except Exception as error:
            self._fail(flow, error)

    def request(self, flow: http.HTTPFlow) -> None:
        """Make sure that no request goes on that was not decided."""
        try:
            if not flow.metadata.get(REFUSED) and self._passage(flow) is None:
                raise LookupError("a request that nobody decided")
        except Exception as error:
            self._fail(flow, error)

    def tls_established_server(self, data: TlsData) -> None:
        """Remember what an origin has proven, for rules that want to know."""
        visit = self.visits.get(data.context.client.id)
        if visit is not None and isinstance(data.ssl_conn, SSL.Connection):
            visit.proofs[data.conn.id] = data.ssl_conn

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Let the answer stream through, counted."""
        try:
            self._pass_response(flow)
        except Exception as error:
            self._kill(flow, error)

    def trailers(self, flow: http.HTTPFlow, trailers: http.Headers) -> bool:
        """Say whether the trailers of an answer may pass, counted; if not, the request is cut off."""
        try:
            passage, visit = self._passage(flow), self.visits[flow.client_conn.id]
            if passage is None:
                raise LookupError("trailers of a request that nobody decided")
            return self._volume.receive(visit, passage, fields_length(trailers))
        except Exception as error:
            self._kill(flow, error)
            return False

    def response(self, flow: http.HTTPFlow) -> None:
        """Record how a request ended. A WebSocket goes on."""
        try:
            if flow.websocket is None:
                self._conclude(flow, "")
        except Exception as error:
            self._kill(flow, error)

    def error(self, flow: http.HTTPFlow) -> None:
        """Record a request that ended badly."""
        try:
            self._conclude(flow, flow.error.msg if flow.error else "error")
        except Exception as error:
            self._kill(flow, error)

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Count a message and forget it: mitmproxy would keep all of them until the end."""
        try:
            assert flow.websocket is not None
            passage = self._passage(flow)
            visit = self.visits[flow.client_conn.id]
            message = flow.websocket.messages[-1]
            if passage is None:
                raise LookupError("a message of a WebSocket that nobody allowed")
            size = len(message.content)
            count = self._volume.send if message.from_client else self._volume.receive
            if not count(visit, passage, size):
                message.drop()  # type: ignore[no-untyped-call]  # mitmproxy's
            # The one under way is still needed: mitmproxy sends the last of the list.
            del flow.websocket.messages[:-1]
        except Exception as error:
            self._kill(flow, error)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Record how a WebSocket ended."""
        try:
            self.malformed(flow.client_conn.id, flow.metadata.get(BROKEN, ""))
            self._conclude(flow, "")
        except Exception as error:
            self._kill(flow, error)

    # -- for the layers and whoever opens connections ----------------------------------------------------------

    def limits(self) -> Limits:
        """Return how large a head may be."""
        limits = self._settings().limits
        return Limits(octets=limits.head, fields=limits.headers)

    def refuse_head(self, client_id: str, error: HeadError) -> bytes:
        """Judge a head that could not be read, and return the answer."""
        visit = self.visits.get(client_id)
        if visit is None:
            return b""
        request = blank_request(visit)
        refusal = Case(self._judge).refuse(request, Reason.MALFORMED, str(error), status=error.status)
        return render(answer_of(refusal))

    def malformed(self, client_id: str, detail: str) -> None:
        """Record that a connection ends for how its client behaves, whatever is under way on it."""
        if detail and (visit := self.visits.get(client_id)) is not None:
            self.endings.end_all(visit, Reason.MALFORMED, detail)

    def unreachable(self, flow: http.HTTPFlow, error: str) -> None:
        """Answer for a server that could not be connected to."""
        passage = self._passage(flow)
        if passage is None:
            self._fail(flow, RuntimeError(error))
            return
        if passage.ended_by is not None:  # that was why
            self._conclude(flow, error)
            set_response(flow, Answer(400, (("X-Gateway-Reason", passage.ended_by.reason.value),), b""))
            return
        status = 504 if "timed out" in error else None
        refuse(flow, Case(self._judge).refuse(passage.request, Reason.UPSTREAM_FAILURE, error, status=status))
        self._forget(flow)

    def proven(self, flow: http.HTTPFlow, server_id: str) -> bool:
        """Say whether a request may be sent over a connection; if not, set its response.

        Asked for every request: one that has no pins may have opened the connection.
        """
        passage = self._passage(flow)
        if passage is None:
            self._fail(flow, LookupError("a request that nobody decided"))
            return False
        passage.server = server_id
        try:
            if self.withdraw(flow):
                return False
            detail = unproven(self.visits[flow.client_conn.id], passage, passage.decision)
            if detail is None:
                return True
            if not passage.case.flawed(passage.request, Reason.CERTIFICATE_PIN, detail).denied:
                passage.case.refuse(passage.request, Reason.CERTIFICATE_PIN, detail)  # report mode: recorded
                return True
            refusal = passage.case.refuse(passage.request, Reason.CERTIFICATE_PIN, detail)
        except Exception as error:
            self._fail(flow, error)
            return False
        refuse(flow, refusal)
        close_meter(self._forget(flow))
        return False

    def withdraw(self, flow: http.HTTPFlow) -> bool:
        """Set the response of a request that was denied since it was sent. Returns whether it was."""
        passage = self._passage(flow)
        if passage is None or passage.ended_by is None:
            return False
        ledger_id = self._record(self.visits[flow.client_conn.id], passage, "")
        refuse(flow, Refusal(passage.request, passage.ended_by, ledger_id))
        self._forget(flow)
        return True

    def look(self, flow: http.HTTPFlow, response: http.Response) -> Look | None:
        """Return what has to see the first octets of an answer, if a rule wants to know them."""
        try:
            passage = self._passage(flow)
            if passage is None or Fact.RESPONSE not in passage.decision.pending:
                return None
            undecided = self._judge.decide(to_response(flow, self.visits[flow.client_conn.id], passage, response))
            if Fact.RESPONSE not in undecided.pending:
                return None
            passage.look = Look(codings_of(response), partial=response.status_code == 206)
        except Exception as error:
            self._kill(flow, error)
            return None
        return passage.look

    def failure(self, client_id: str, error: str) -> bytes:
        """Return the answer for a server that failed before it answered; `error` has recorded it."""
        visit = self.visits.get(client_id)
        if visit is None:
            return b""
        if visit.failed is not None:
            return render(answer_of(visit.failed))
        cut_off = ("Proxy-Status", "egress-gateway; error=connection_terminated")
        return render(Answer(502, (("Content-Length", "0"), cut_off), b""))

    def approved(self, client_id: str, host: str, port: int) -> tuple[IPAddress, ...]:
        """Return the addresses that a connection of this client may be made to; none when nothing was decided."""
        visit = self.visits.get(client_id)
        return visit.approved.get((host_of(host), port), ()) if visit is not None else ()

    def opened(self, client_id: str, server_id: str, place: Place, address: IPAddress) -> None:
        """Remember an open connection to an origin."""
        if (visit := self.visits.get(client_id)) is not None:
            visit.connected[server_id] = place, address

    def closed(self, client_id: str, server_id: str) -> None:
        """Forget a connection to an origin."""
        if (visit := self.visits.get(client_id)) is not None:
            visit.connected.pop(server_id, None)
            visit.proofs.pop(server_id, None)

    def leave(self, client_id: str) -> None:
        """Forget a client connection; what was under way ends here."""
        visit = self.visits.pop(client_id, None)
        if visit is None:
            return
        for passage in visit.passages.values():
            try:
                self._record(visit, passage, "the client left")
            except Exception as error:  # one after the other: what is wrong with one says nothing of the next
                _LOG.error("the end of a request could not be recorded", exc_info=error)
        visit.passages.clear()

    # -- deciding ----------------------------------------------------------------------------------------------

    async def _decide(self, flow: http.HTTPFlow) -> None:
        visit = self.visits[flow.client_conn.id]
        case = Case(self._judge)
        if flow.error is not None:  # mitmproxy itself refuses it, and shows it first
            refuse(flow, case.refuse(blank_request(visit), Reason.MALFORMED, flow.error.msg))
            return
        if flow.response is not None:  # another addon has answered
            flow.metadata[REFUSED] = True
            return
        request = to_request(flow, visit)
        if self._authenticator is not None and visit.hello is None and self._authenticator.wanted:
            # Each request is whoever's it says, on a connection that carried somebody else's too. Of a tunnel, who
            # opened it was proven then.
            values = flow.request.headers.get_all("proxy-authorization")
            async with asyncio.timeout(self._settings().timeouts.connect):
                found = await self._authenticator.prove(visit.client, values)
            if isinstance(found, Flaw):
                refuse(flow, case.refuse(request, found.reason, found.detail, status=status_of(found)))
                return
            request = replace(request, client=found)
        standing = self._authenticator.standing(request.client) if self._authenticator is not None else None
        limits = self.limits()
        head = request_head(request)
        if len(request.headers) > limits.fields or head > limits.octets:
            refuse(flow, case.refuse(request, Reason.MALFORMED, "request head is too large", status=431))
            return
        decision = case.decide(request)
        if isinstance(decision, Refusal):
            refuse(flow, decision)
            return
        limit = self._settings().timeouts.connect
        settled: Decision | Refusal
        try:
            # Over a connection that is open it does not wait, and needs no limit.
            async with asyncio.timeout(limit) if not visit.peers((request.host, request.port)) else nullcontext():
                settled = await settle_address(self._dialer, visit, case, request)
        except TimeoutError:
            detail = f"{request.host} was not resolved within {limit:g} s"
            settled = case.refuse(request, Reason.NAME_UNRESOLVABLE, detail, status=504)
        if isinstance(settled, Refusal):
            refuse(flow, settled)
            return
        if visit.hello is None and (doubt := self.endings.doubt(request.client, standing)) is not None:  # by now
            refuse(flow, case.refuse(request, doubt.reason, doubt.detail))
            return
        place = (request.host, request.port)
        passage = Passage(request, settled, self._clock(), case, visit.chains.get(place, ()))
        passage.multiplexed = flow.request.is_http2
        passage.standing = standing
        if (refusal := self._volume.open(visit, passage, head)) is not None:
            refuse(flow, refusal)
            return
        if visit.broken:  # meanwhile, and recorded: nothing goes on here any more
            close_meter(passage)
            set_response(flow, Answer(400, (("X-Gateway-Reason", Reason.MALFORMED.value),), b""))
            return
        visit.passages[flow.id] = passage
        self._prepare(flow, visit, passage)

    def _prepare(self, flow: http.HTTPFlow, visit: Visit, passage: Passage) -> None:
        """Let an allowed request stream through, counted, without what is not meant for the origin."""
        tenants = self._settings().tenants
        rewrite_request(
            flow.request,
            str(passage.request.host),
            tenants.restrictions if tenants is not None else None,
            looked_at=Fact.RESPONSE in passage.decision.pending,
        )
        if not flow.metadata.get(ENDED):

            def count(data: bytes) -> bytes | list[bytes]:
                if data and not self._volume.send(visit, passage, len(data)):
                    flow.metadata[CUT] = True
                    return []  # an empty chunk would look like the end of the body
                return data

            flow.request.stream = count

    # -- answering and recording -------------------------------------------------------------------------------

    def _pass_response(self, flow: http.HTTPFlow) -> None:
        passage, response = self._passage(flow), flow.response
        if passage is None or response is None:
            return
        if self.withdraw(flow):
            return
        passage.status = response.status_code
        if (strange := strange_field(response.headers)) is not None:
            # What one reader skips ends the line for another, and the client sees fields that were smuggled in.
            detail = f"the answer's field {strange!r} holds control characters"
            refusal = Case(self._judge).refuse(passage.request, Reason.UPSTREAM_FAILURE, detail)
            refuse(flow, refusal)
            close_meter(self._forget(flow))
            return
        if response.status_code == 101 and flow.request.headers.get("upgrade", "").lower() != "websocket":
            refusal = Case(self._judge).refuse(
                passage.request, Reason.UPSTREAM_FAILURE, "it switched protocols unasked"
            )
            refuse(flow, refusal)
            close_meter(self._forget(flow))
            return
        visit = self.visits[flow.client_conn.id]
        visit.answered = True
        passage.address = server_address(flow, visit, passage)
        if Fact.RESPONSE in passage.decision.pending:
            answer = to_response(flow, visit, passage, response)
            if answer.file_types is None:  # and none was wanted; if it was, it is too late now
                answer = replace(answer, file_types=frozenset((UNREADABLE,)))
            passage.response = answer
            judged = passage.case.decide_response(answer)
            if isinstance(judged, Refusal):
                refuse(flow, judged)
                close_meter(self._forget(flow))
                return
            passage.decision = judged
        announced = announced_length(flow, response)
        if (oversized := self._volume.open_answer(passage, answer_head(response), announced)) is not None:
            refuse(flow, oversized)
            close_meter(self._forget(flow))
            return
        rewrite_response(response)
        if response.status_code == 101:

            def frame(from_client: bool, held: int) -> bool:
                pass_on = self._volume.send if from_client else self._volume.receive
                return pass_on(visit, passage, FRAME + held)

            flow.metadata[METER] = frame
        else:

            def count(data: bytes) -> bytes | list[bytes]:
                if self._volume.receive(visit, passage, len(data)):
                    return data
                flow.metadata[CUT] = True
                return []

            response.stream = count

    def _conclude(self, flow: http.HTTPFlow, error: str) -> None:
        visit, passage = self.visits.get(flow.client_conn.id), self._forget(flow)
        if visit is None or passage is None:
            return
        left = not flow.client_conn.connected or error.endswith(("Client disconnected.", "by client"))
        if error and passage.status is None and not left and passage.ended_by is None:
            visit.failed = Case(self._judge).refuse(passage.request, Reason.UPSTREAM_FAILURE, error)
            close_meter(passage)
        else:
            self._record(visit, passage, error)

    def _record(self, visit: Visit, passage: Passage, error: str) -> str:
        place = passage.place
        where = (passage.address,) if passage.address else visit.peers(place) or visit.approved.get(place, ())
        outcome = Outcome(
            octets_out=passage.octets_out,
            octets_in=passage.octets_in,
            seconds=round(self._clock() - passage.began, 6),
            address=next(iter(where), None),
            status=passage.status,
            error=clean(error),
        )
        ident = self._judge.ledger.record(passage.request, passage.ended_by or passage.decision, outcome)
        close_meter(passage)
        return ident

    def _fail(self, flow: http.HTTPFlow, error: Exception) -> None:
        """Deny a request because something broke."""
        _LOG.error("a request could not be decided", exc_info=error)
        try:
            visit = self.visits.get(flow.client_conn.id)
            self._forget(flow)
            if visit is None:
                raise LookupError("a client connection that nobody announced")
            detail = f"{type(error).__name__}: {error}"
            refusal = Case(self._judge).refuse(blank_request(visit), Reason.INTERNAL_ERROR, detail)
        except Exception as worse:
            self._kill(flow, worse)
            return
        try:
            refuse(flow, refusal)
        except Exception as worse:
            visit.broken = True  # and recorded
            self._kill(flow, worse)

    def _kill(self, flow: http.HTTPFlow, error: Exception) -> None:
        """End a flow that can neither be decided nor answered."""
        _LOG.error("a flow is ended", exc_info=error)
        flow.metadata[REFUSED] = True
        set_response(flow, Answer(403, (("X-Gateway-Reason", Reason.INTERNAL_ERROR.value),), b""))
        if flow.killable:
            flow.kill()  # type: ignore[no-untyped-call]  # mitmproxy's
        try:
            if (visit := self.visits.get(flow.client_conn.id)) is not None:
                visit.hang_up("something broke")
                detail = f"{type(error).__name__}: {error}"
                passage = visit.passages.get(flow.id)
                if passage is not None or not visit.broken:
                    self.endings.blame(visit, passage, Reason.INTERNAL_ERROR, detail)
        except Exception as worse:
            _LOG.error("nor could that be recorded", exc_info=worse)

    def _passage(self, flow: http.HTTPFlow) -> Passage | None:
        visit = self.visits.get(flow.client_conn.id)
        return visit.passages.get(flow.id) if visit is not None else None

    def _forget(self, flow: http.HTTPFlow) -> Passage | None:
        visit = self.visits.get(flow.client_conn.id)
        return visit.passages.pop(flow.id, None) if visit is not None else None
