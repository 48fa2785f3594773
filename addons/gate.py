"""The policy gate: every HTTP request that mitmproxy sees is decided here, before anything of it leaves.

A thin adapter: flow -> `HttpRequest` -> decision -> flow. Every hook fails closed: mitmproxy logs what a hook raises
and lets the flow go on, so nothing may raise.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mitmproxy import http
from mitmproxy.net.http.http1 import expected_http_body_size

from addons.visit import Passage, Place, Visit
from gateway.addresses import IPAddress, parse_address
from gateway.decision import Decision, Fact, Reason
from gateway.filetypes import UNREADABLE, Look, readable_codings
from gateway.ledger import Outcome
from gateway.names import parse_host
from gateway.proxy.authentication import Authenticator, status_of
from gateway.proxy.case import Case, Refusal
from gateway.proxy.dial import Dialer
from gateway.proxy.head import HeadError, Limits
from gateway.proxy.layers import CUT, EMPTY, ENDED, REFUSED
from gateway.proxy.responses import Answer, answer, clean, render
from gateway.proxy.roles import Judge, Settings
from gateway.proxy.uploads import Meter, Uploads
from gateway.request import Dial, Flaw, Host, HttpRequest, HttpResponse
from gateway.tenants import OWN

_LOG = logging.getLogger(__name__)
# RFC 9110 section 7.6.1: meant for the gateway, not for the origin. Credentials for the one are not for the other.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_HOP_BY_HOP = ("proxy-authorization", "proxy-connection", "keep-alive")


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
        self._uploads = uploads
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

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Let the answer stream through, counted."""
        try:
            self._pass_response(flow)
        except Exception as error:
            self._kill(flow, error)

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
            if not message.from_client:
                passage.octets_in += len(message.content)
            elif self._spend(visit, passage, len(message.content)):
                passage.octets_out += len(message.content)
            else:
                message.drop()  # type: ignore[no-untyped-call]  # mitmproxy's
            # The one under way is still needed: mitmproxy sends the last of the list.
            del flow.websocket.messages[:-1]
        except Exception as error:
            self._kill(flow, error)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Record how a WebSocket ended."""
        try:
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
        request = self._blank(visit)
        refusal = Case(self._judge).refuse(request, Reason.MALFORMED, str(error), status=error.status)
        return render(_answer(refusal))

    def refuse_body(self, client_id: str, error: str) -> None:
        """Record that a connection ends because what its client sent is no HTTP, whatever is under way on it."""
        visit = self.visits.get(client_id)
        if visit is None or visit.broken:
            return
        visit.broken = True
        for passage in tuple(visit.passages.values()) or (None,):
            self._blame(visit, passage, Reason.MALFORMED, error)

    def unreachable(self, flow: http.HTTPFlow, error: str) -> None:
        """Answer for a server that could not be connected to."""
        passage = self._passage(flow)
        if passage is None:
            self._fail(flow, RuntimeError(error))
            return
        status = 504 if "timed out" in error else None
        refusal = Case(self._judge).refuse(passage.request, Reason.UPSTREAM_FAILURE, error, status=status)
        self._respond(flow, refusal)
        self._forget(flow)

    def look(self, flow: http.HTTPFlow, response: http.Response) -> Look | None:
        """Return what has to see the first octets of an answer, if a rule wants to know them."""
        try:
            passage = self._passage(flow)
            if passage is None or Fact.RESPONSE not in passage.decision.pending:
                return None
            undecided = self._judge.decide(self._response(flow, passage, response))
            if Fact.RESPONSE not in undecided.pending:
                return None
            codings = response.headers.get_all("content-encoding")
            passage.look = Look(codings, partial=response.status_code == 206)
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
            return render(_answer(visit.failed))
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

    def broke(self, visit: Visit, error: BaseException) -> None:
        """Record that a connection ends because something broke: as the end of what is under way, or by itself."""
        if visit.broken:
            return
        visit.broken = True
        for passage in tuple(visit.passages.values()) or (None,):
            self._blame(visit, passage, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

    def _blame(self, visit: Visit, passage: Passage | None, reason: Reason, detail: str) -> None:
        if passage is None:
            Case(self._judge).refuse(self._blank(visit), reason, detail)
        elif passage.ended_by is None:  # recorded when it is gone
            passage.ended_by = Case(self._judge).flawed(passage.request, reason, detail)

    def rejudge(self, visit: Visit) -> None:
        """End a connection if a request under way on it is denied by the policy that is now in force."""
        for passage in tuple(visit.passages.values()):
            address = passage.address or next(iter(visit.approved.get(passage.place, ())), None)
            if address is None:
                continue
            dial = Dial(origin=passage.request, address=address, chain=passage.chain)
            decision = self._judge.decide(dial)
            if passage.status is None:
                passage.decision = decision  # by which its answer will be judged
            elif Fact.RESPONSE in decision.pending:
                # Of an answer that no rule wanted to see before, nothing is known any more.
                unseen = HttpResponse(dial=dial, file_types=frozenset((UNREADABLE,)))
                decision = self._judge.decide(passage.response or unseen)
            if decision.denied:
                self._end_by(visit, passage, decision, "the policy that is now in force denies it")

    # -- deciding ----------------------------------------------------------------------------------------------

    async def _decide(self, flow: http.HTTPFlow) -> None:
        visit = self.visits[flow.client_conn.id]
        case = Case(self._judge)
        if flow.error is not None:  # mitmproxy itself refuses it, and shows it first
            self._respond(flow, case.refuse(self._blank(visit), Reason.MALFORMED, flow.error.msg))
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
                self._respond(flow, case.refuse(request, found.reason, found.detail, status=status_of(found)))
                return
            request = replace(request, client=found)
        limits = self.limits()
        size = sum(len(name) + len(value) + 4 for name, value in request.headers)
        if len(request.headers) > limits.fields or size > limits.octets:
            self._respond(flow, case.refuse(request, Reason.MALFORMED, "request head is too large", status=431))
            return
        decision = case.decide(request)
        if isinstance(decision, Refusal):
            self._respond(flow, decision)
            return
        limit = self._settings().timeouts.connect
        settled: Decision | Refusal
        try:
            async with asyncio.timeout(limit):
                settled = await self._settle_address(visit, case, request)
        except TimeoutError:
            detail = f"{request.host} was not resolved within {limit:g} s"
            settled = case.refuse(request, Reason.NAME_UNRESOLVABLE, detail, status=504)
        if isinstance(settled, Refusal):
            self._respond(flow, settled)
            return
        place = (request.host, request.port)
        passage = Passage(request, settled, self._clock(), case, visit.chains.get(place, ()))
        if settled.budget is not None:
            passage.meter = self._uploads.open(visit.client.address, request.host, settled.budget)
            refusal = self._refuse_upload(case, passage, passage.meter)
            if refusal is not None:
                passage.meter.close()
                self._respond(flow, refusal)
                return
        if visit.broken:  # meanwhile, and recorded: nothing goes on here any more
            self._close_meter(passage)
            set_response(flow, Answer(400, (("X-Gateway-Reason", Reason.MALFORMED.value),), b""))
            return
        visit.passages[flow.id] = passage
        self._prepare(flow, visit, passage)

    def _prepare(self, flow: http.HTTPFlow, visit: Visit, passage: Passage) -> None:
        """Let an allowed request stream through, counted, without what is not meant for the origin."""
        request = flow.request
        for name in _HOP_BY_HOP:
            request.headers.pop(name, None)
        if request.headers.get("upgrade", "").lower() != "websocket":
            # Any other protocol, h2c above all, would go on unseen. An intermediary may leave the offer out (RFC 9110
            # section 7.8); the server then answers in HTTP/1.1.
            request.headers.pop("upgrade", None)
            request.headers.pop("http2-settings", None)
        tenants = self._settings().tenants
        if tenants is not None and (said := tenants.restrictions.fields(str(passage.request.host))):
            for name in OWN:
                request.headers.pop(name, None)
            for name, value in said:
                request.headers[name] = value
        if Fact.RESPONSE in passage.decision.pending:
            # A server may ignore a range (RFC 9110 section 14.2), and a type can be told by a beginning alone.
            for name in ("range", "if-range"):
                request.headers.pop(name, None)
            if offered := request.headers.get_all("accept-encoding"):
                request.headers["accept-encoding"] = readable_codings(offered)
        if not flow.metadata.get(ENDED):

            def count(data: bytes) -> bytes | list[bytes]:
                if data and not self._spend(visit, passage, len(data)):
                    flow.metadata[CUT] = True
                    return []  # an empty chunk would look like the end of the body
                passage.octets_out += len(data)
                return data

            request.stream = count

    def _refuse_upload(self, case: Case, passage: Passage, meter: Meter) -> Refusal | None:
        """Charge a request's head; refuse it if head and announced body are more than the budget still holds."""
        request = passage.request
        head = len(request.method) + len(request.path) + 14
        head += sum(len(name) + len(value) + 4 for name, value in request.headers)
        if meter.has(head + (request.body_length or 0)) and meter.spend(head):
            passage.octets_head = head
            return None
        if case.flawed(request, Reason.UPLOAD_BUDGET, str(meter)).denied:
            return case.refuse(request, Reason.UPLOAD_BUDGET, str(meter))
        case.refuse(request, Reason.UPLOAD_BUDGET, str(meter))  # report mode: recorded, and counted no more
        meter.close()
        passage.meter = None
        return None

    def _spend(self, visit: Visit, passage: Passage, octets: int) -> bool:
        """Charge octets before they are passed on; when there are not enough left, end the connection."""
        if passage.ended_by is not None:
            return False
        try:
            meter = passage.meter
            if meter is None or meter.spend(octets):
                return True
            reason, detail = Reason.UPLOAD_BUDGET, str(meter)
        except Exception as error:
            _LOG.error("an upload could not be counted", exc_info=error)
            reason, detail = Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"
        decision = Case(self._judge).flawed(passage.request, reason, detail)
        if not decision.denied:
            self._judge.ledger.record(passage.request, decision)
            passage.meter = None
            return True
        self._end_by(visit, passage, decision, detail)
        return False

    def _end_by(self, visit: Visit, passage: Passage, decision: Decision, why: str) -> None:
        """Cut a request off in its middle: all that is left to do is to close its connection."""
        passage.ended_by = decision
        visit.hang_up(why)

    async def _settle_address(self, visit: Visit, case: Case, request: HttpRequest) -> Decision | Refusal:
        """Judge where the request will be sent: over an open connection, or to an address yet to be found.

        Returns the last word on the request, with every fact known.
        """
        place = (request.host, request.port)
        peers = visit.peers(place)
        if peers:
            # mitmproxy may use any of them, so all have to be allowed.
            approved = self._dialer.judge(case, request, peers, visit.chains.get(place, ()))
            if isinstance(approved, Refusal):
                return approved
            if len(approved.addresses) == len(peers):
                return _most_careful(approved.decisions)
            return case.refuse(request, Reason.INTERNAL_ERROR, "an open connection to another address is in the way")
        found = await self._dialer.approve(case, request)
        if isinstance(found, Refusal):
            return found
        addresses = found.addresses
        if visit.under_way(place):
            # Whichever request opens the connection, the others will use it too.
            both = visit.approved.get(place, ())
            addresses = tuple(address for address in addresses if address in both)
            if not addresses:
                return case.refuse(request, Reason.INTERNAL_ERROR, "no address that all requests to it may use")
        visit.approved[place] = addresses
        visit.chains[place] = found.chain
        return _most_careful([found.decision(address) for address in addresses])

    def _blank(self, visit: Visit) -> HttpRequest:
        """Return the request that could not be read: its tunnel is all that is known."""
        host: Host = visit.hello.host if visit.hello else ""
        port = visit.hello.port if visit.hello else 0
        scheme = "https" if visit.hello else "http"
        return HttpRequest(
            client=visit.client, host=host, port=port, scheme=scheme, method="", path="", hello=visit.hello
        )

    # -- answering and recording -------------------------------------------------------------------------------

    def _respond(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        accept = ",".join(flow.request.headers.get_all("accept"))
        set_response(flow, _answer(refusal, accept))

    def _pass_response(self, flow: http.HTTPFlow) -> None:
        passage, response = self._passage(flow), flow.response
        if passage is None or response is None:
            return
        passage.status = response.status_code
        if (strange := _strange_field(response)) is not None:
            # What one reader skips ends the line for another, and the client sees fields that were smuggled in.
            detail = f"the answer's field {strange!r} holds control characters"
            refusal = Case(self._judge).refuse(passage.request, Reason.UPSTREAM_FAILURE, detail)
            self._respond(flow, refusal)
            self._close_meter(self._forget(flow))
            return
        if response.status_code == 101 and flow.request.headers.get("upgrade", "").lower() != "websocket":
            refusal = Case(self._judge).refuse(
                passage.request, Reason.UPSTREAM_FAILURE, "it switched protocols unasked"
            )
            self._respond(flow, refusal)
            self._close_meter(self._forget(flow))
            return
        visit = self.visits[flow.client_conn.id]
        passage.address = _server_address(flow, visit, passage)
        if Fact.RESPONSE in passage.decision.pending:
            answer = self._response(flow, passage, response)
            if answer.file_types is None:  # and none was wanted; if it was, it is too late now
                answer = replace(answer, file_types=frozenset((UNREADABLE,)))
            passage.response = answer
            judged = passage.case.decide_response(answer)
            if isinstance(judged, Refusal):
                self._respond(flow, judged)
                self._close_meter(self._forget(flow))
                return
            passage.decision = judged
        # An offer to go on over QUIC, past every proxy (RFC 7838).
        response.headers.pop("alt-svc", None)
        if response.status_code != 101:

            def count(data: bytes) -> bytes:
                passage.octets_in += len(data)
                return data

            response.stream = count

    def _response(self, flow: http.HTTPFlow, passage: Passage, response: http.Response) -> HttpResponse:
        """Return an answer as the policy sees it, as far as it is known."""
        address = _server_address(flow, self.visits[flow.client_conn.id], passage)
        if address is None:
            raise LookupError("an answer from nowhere")
        if response.status_code == 101:  # whatever comes now, it is no file that could be looked at
            found: frozenset[str] | None = frozenset((UNREADABLE,))
        else:
            found = passage.look.formats() if passage.look is not None else None
        return HttpResponse(
            dial=Dial(origin=passage.request, address=address, chain=passage.chain),
            content=response.status_code == 101 or not flow.metadata.get(EMPTY),
            media_types=tuple(response.headers.get_all("content-type")),
            file_types=found,
        )

    def _conclude(self, flow: http.HTTPFlow, error: str) -> None:
        visit, passage = self.visits.get(flow.client_conn.id), self._forget(flow)
        if visit is None or passage is None:
            return
        left = not flow.client_conn.connected or error.endswith(("Client disconnected.", "by client"))
        if error and passage.status is None and not left and passage.ended_by is None:
            visit.failed = Case(self._judge).refuse(passage.request, Reason.UPSTREAM_FAILURE, error)
            self._close_meter(passage)
        else:
            self._record(visit, passage, error)

    @staticmethod
    def _close_meter(passage: Passage | None) -> None:
        if passage is not None and passage.meter is not None:
            passage.meter.close()

    def _record(self, visit: Visit, passage: Passage, error: str) -> None:
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
        self._judge.ledger.record(passage.request, passage.ended_by or passage.decision, outcome)
        self._close_meter(passage)

    def _fail(self, flow: http.HTTPFlow, error: Exception) -> None:
        """Deny a request because something broke."""
        _LOG.error("a request could not be decided", exc_info=error)
        try:
            visit = self.visits.get(flow.client_conn.id)
            self._forget(flow)
            if visit is None:
                raise LookupError("a client connection that nobody announced")
            detail = f"{type(error).__name__}: {error}"
            self._respond(flow, Case(self._judge).refuse(self._blank(visit), Reason.INTERNAL_ERROR, detail))
        except Exception as worse:
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
                self._blame(visit, visit.passages.get(flow.id), Reason.INTERNAL_ERROR, detail)
        except Exception as worse:
            _LOG.error("nor could that be recorded", exc_info=worse)

    def _passage(self, flow: http.HTTPFlow) -> Passage | None:
        visit = self.visits.get(flow.client_conn.id)
        return visit.passages.get(flow.id) if visit is not None else None

    def _forget(self, flow: http.HTTPFlow) -> Passage | None:
        visit = self.visits.get(flow.client_conn.id)
        return visit.passages.pop(flow.id, None) if visit is not None else None


def to_request(flow: http.HTTPFlow, visit: Visit) -> HttpRequest:
    """Return the request of a flow as the policy sees it.

    Raises:
        ValueError: mitmproxy made something of it that is no host.
    """
    request = flow.request
    headers = tuple(
        (name.decode("ascii", "backslashreplace").lower(), value.decode("ascii", "backslashreplace"))
        for name, value in request.headers.fields
    )
    authorities = [value for name, value in headers if name == "host"]
    if request.authority:
        authorities.insert(0, request.authority)
    return HttpRequest(
        client=visit.client,
        host=host_of(request.host),
        port=request.port,
        scheme=request.scheme,
        method=request.method,
        path=request.path,
        authorities=tuple(authorities),
        headers=headers,
        user_agent=" ".join(value for name, value in headers if name == "user-agent"),
        body_length=_body_length(flow),
        hello=visit.hello,
    )


def _body_length(flow: http.HTTPFlow) -> int | None:
    if flow.metadata.get(ENDED):
        return 0
    size = expected_http_body_size(flow.request)
    return size if size is not None and size >= 0 else None


def host_of(text: str) -> Host:
    """Read the host of a flow: mitmproxy leaves out the brackets of IPv6."""
    return parse_address(text) or parse_host(text)


def _most_careful(decisions: Sequence[Decision]) -> Decision:
    """Return the first decision; one that waits for the answer comes before the others."""
    return next((decision for decision in decisions if Fact.RESPONSE in decision.pending), decisions[0])


def _server_address(flow: http.HTTPFlow, visit: Visit, passage: Passage) -> IPAddress | None:
    """Return where a request was sent."""
    connected = visit.connected.get(flow.server_conn.id)
    return connected[1] if connected is not None else next(iter(visit.peers(passage.place)), None)


def _strange_field(response: http.Response) -> str | None:
    """Return the name of a field that RFC 9110 section 5.5 does not allow, or None."""
    for name, value in response.headers.fields:
        if _CONTROL(value) or _CONTROL(name):
            return name.decode("ascii", "backslashreplace")
    return None


def _answer(refusal: Refusal, accept: str = "") -> Answer:
    return answer(refusal.decision, refusal.ledger_id, refusal.request, status=refusal.status, accept=accept)


def set_response(flow: http.HTTPFlow, reply: Answer) -> None:
    """Answer a flow in the gateway's words, and let nothing of it go on."""
    fields = list(reply.fields)
    if not flow.request.is_http2:
        fields.append(("Connection", "close"))
    headers = http.Headers([(name.encode("ascii"), value.encode("ascii")) for name, value in fields])
    response = http.Response.make(reply.status, reply.body)
    response.reason = reply.phrase
    response.headers = headers
    if "content-length" not in headers:
        headers["Content-Length"] = str(len(reply.body))
    flow.request.stream = False
    flow.response = response
    flow.metadata[REFUSED] = True
