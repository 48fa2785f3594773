"""What a client meets first: reads the request head, asks the policy, reads the ClientHello, asks again, hands over.

One protocol object a connection and no tasks before there is somebody to wait for. Everything is bounded: octets and
time of the head, of the hello and of the dialling, connections of one client.
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import cast

from gateway.decision import Decision, Reason, Tls
from gateway.ledger import Outcome
from gateway.proxy.asked import hello_request, own_authorities, plain_request, tunnel_request, tunnel_request_to
from gateway.proxy.attempt import Attempt
from gateway.proxy.authentication import status_of
from gateway.proxy.case import Case, Origin, Refusal
from gateway.proxy.clienthello import Hello, HelloReader, Malformed, NotTls
from gateway.proxy.desk import NOBODY, Desk, client_at
from gateway.proxy.dial import Approved, Connected
from gateway.proxy.farewell import Farewell
from gateway.proxy.head import Form, Head, HeadError, limits_of, read_head
from gateway.proxy.live import LiveTunnel
from gateway.proxy.responses import (
    ALERT_ACCESS_DENIED,
    ALERT_INTERNAL_ERROR,
    ALERT_UNRECOGNIZED_NAME,
    ESTABLISHED,
    UNREACHED,
    answer,
    render,
)
from gateway.proxy.secondhello import SecondHello
from gateway.proxy.splice import Half, Splice
from gateway.proxy.tls import proven
from gateway.request import Client, Flaw, HttpRequest, TlsHello, Tunnel

_LOG = logging.getLogger(__name__)
_EARLY = 64 * 1024
"""Octets that a client may send ahead while its origin is being dialled."""


_FAULTS = (Exception, asyncio.CancelledError)
"""What may go wrong. Where nobody can have cancelled anything, a `CancelledError` is a fault like any other."""


class ClientConnection(asyncio.Protocol):
    """A connection until it is spliced, inspected or denied."""

    __slots__ = (
        "_accept", "_bodiless", "_buffer", "_case", "_client", "_counted", "_deadline", "_desk", "_ended",
        "_generation", "_hello", "_reader", "_seat", "_second", "_section", "_stage", "_standing", "_task",
        "_transport", "_tunnel",
    )  # fmt: skip

    def __init__(self, desk: Desk, entered: Client | None = None) -> None:
        self._desk = desk
        self._seat = entered
        self._client = entered or NOBODY
        self._section = desk.settings()
        self._case = Case(desk.judge)
        self._buffer = bytearray()
        self._reader: HelloReader | None = None
        self._second: SecondHello | None = None
        self._tunnel: Tunnel | None = None
        self._hello: TlsHello | None = None
        self._task: asyncio.Task[None] | Attempt[Connected[Half]] | None = None
        self._ended = False
        self._counted = False
        self._accept = ""
        self._bodiless = False
        self._stage: Callable[[bytes], None] = self._read_head

    # -- events ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client in, or turn it away."""
        self._transport = cast(asyncio.Transport, transport)
        self._counted = self._seat is not None
        try:
            if self._seat is not None:
                self._take_over(self._seat)
            else:
                self._enter()
        except _FAULTS as error:
            self._crashed(error)

    def _enter(self) -> None:
        desk, transport = self._desk, self._transport
        peer = transport.get_extra_info("peername")
        if not peer:  # gone already
            self._transport.abort()
            return
        self._client = self._seat = client = client_at(peer[0])
        self._deadline = desk.loop.time() + self._section.timeouts.head
        open_now = desk.enter(client)
        self._counted = True
        desk.sweeper.alive.add(self)
        if detail := desk.too_many(client, open_now):
            refusal = self._case.refuse(self._nowhere(), Reason.RATE_LIMIT, detail)
            if desk.has_room_for_words:
                self._refuse(refusal)
            else:
                self._transport.abort()

    def _take_over(self, client: Client) -> None:
        """Go on with a client that the door has counted in, and who may have shown a certificate."""
        self._deadline = self._desk.loop.time() + self._section.timeouts.head
        self._desk.sweeper.alive.add(self)
        self._client = proven(client, self._transport.get_extra_info("ssl_object"))

    def data_received(self, data: bytes) -> None:
        """Go on with what the stage waits for."""
        try:
            self._stage(data)
        except _FAULTS as error:
            self._crashed(error)

    def eof_received(self) -> bool:
        """A client that stops in the middle of a head or hello will not be served."""
        try:
            return self._heard_all()
        except _FAULTS as error:
            self._crashed(error)
            return False

    def _heard_all(self) -> bool:
        if self._task is not None:
            self._ended = True
            return self._transport.can_write_eof()  # TLS has no half of a connection
        if self._reader is not None and self._reader.received:
            self._refuse_hello(Reason.NOT_TLS, "the client ended before its ClientHello was complete")
            return self._transport.can_write_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the client out; whoever took the transport over counts it out itself."""
        try:
            if self._task is not None:
                self._task.cancel()
                self._task = None
            elif self._tunnel is not None and self._hello is None:
                self._end_unused()
        except _FAULTS as error:
            _LOG.error("the end of a connection could not be recorded", exc_info=error)
            detail = f"{type(error).__name__}: {error}"
            self._case.refuse(self._tunnel or self._nowhere(), Reason.INTERNAL_ERROR, detail)
        finally:
            self._hand_over()()

    def check(self, now: float) -> None:
        """Enforce the deadline of the stage."""
        if self._desk.draining and self._tunnel is None and not self._buffer:
            self._transport.close()  # nothing has been asked yet
            return
        if (task := self._task) is not None:
            try:
                over = _is_over(task)  # it takes itself away when it has done what it was to do
            except _FAULTS as error:
                _LOG.error("whether a connection still waits cannot be told", exc_info=error)
                task.cancel()  # its end says no, and records it
                return
            if over:
                task.cancel()
                self._task = None
                self._crashed(RuntimeError("what was waited for has ended, and nobody said how"))
        if now < self._deadline:
            return
        self._deadline = float("inf")
        try:
            self._expired()
        except _FAULTS as error:
            self._crashed(error)

    def abort(self) -> None:
        """Cut the connection off."""
        self._transport.abort()

    # -- the request head --------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        buffer = self._buffer
        seen = len(buffer)
        buffer += data
        limits = self._section.limits
        try:
            head = read_head(buffer, limits_of(limits.head, limits.headers), seen=seen)
        except HeadError as error:
            self._refuse(self._case.refuse(self._nowhere(), Reason.MALFORMED, str(error), status=error.status))
            return
        if head is None:
            return
        if self._desk.authenticator.wanted:
            self._identify(head)
        else:
            self._go_on(head, self._client)

    def _go_on(self, head: Head, client: Client) -> None:
        if head.form is Form.AUTHORITY:
            self._open_tunnel(head, client)
        else:
            self._pass_request(head, client)

    def _identify(self, head: Head) -> None:
        """Go on with a head once it is known whose it is; a password that has to be checked takes a while."""
        values = head.values("proxy-authorization")
        match self._desk.authenticator.recall(self._client, values):
            case Flaw() as flaw:
                self._refuse_identity(head, flaw)
            case Client() as client:
                self._go_on(head, client)
            case None:
                self._deadline = self._desk.loop.time() + self._section.timeouts.connect  # no longer the client's
                self._stage = self._read_early
                self._task = asyncio.Task(self._prove(head, values), loop=self._desk.loop)

    async def _prove(self, head: Head, values: list[str]) -> None:
        try:
            found = await self._desk.authenticator.prove(self._client, values)
            self._task = None
            ended, self._ended = self._ended, False
            self._transport.resume_reading()
            if isinstance(found, Flaw):
                self._refuse_identity(head, found)
            else:
                self._go_on(head, found)
            if ended:  # while nobody listened
                protocol = cast(asyncio.Protocol, self._transport.get_protocol())
                if not protocol.eof_received():
                    self._transport.close()
        except asyncio.CancelledError as error:
            if self._transport.is_closing():  # the client is gone
                raise
            self._task = None
            late = self._deadline == float("inf")
            self._crashed(TimeoutError("the password was not checked in time") if late else error)
        except Exception as error:
            self._task = None
            self._crashed(error)

    def _refuse_identity(self, head: Head, flaw: Flaw) -> None:
        request: Tunnel | HttpRequest
        if head.form is Form.AUTHORITY:
            request = tunnel_request(self._client, head)
        else:
            request = plain_request(self._client, head)
        self._accept, self._bodiless = ",".join(head.values("accept")), head.method == "HEAD"
        self._refuse(self._case.refuse(request, flaw.reason, flaw.detail, status=status_of(flaw)))

    def _open_tunnel(self, head: Head, client: Client) -> None:
        tunnel = tunnel_request(client, head)
        if tunnel.flaw is not None and (place := self._transport.get_extra_info("sockname")):
            tunnel = tunnel_request_to(client, head, own_authorities(client_at(place[0]).address, place[1]))
        decision = self._case.decide(tunnel)
        if isinstance(decision, Refusal):
            self._refuse(decision)
            return
        self._standing = self._desk.authenticator.standing(client)
        self._tunnel = tunnel
        self._deadline = self._desk.loop.time() + self._section.timeouts.hello
        self._transport.write(ESTABLISHED)
        self._reader = HelloReader()
        self._stage = self._read_hello
        rest = bytes(self._buffer[head.length :])
        self._buffer = bytearray()
        if rest:  # a client may send its hello without waiting for the answer
            self._read_hello(rest)

    def _pass_request(self, head: Head, client: Client) -> None:
        """Deny a plain request, or hand it to the inspector, which judges it and all that follow."""
        request = plain_request(client, head)
        self._accept, self._bodiless = ",".join(head.values("accept")), head.method == "HEAD"
        if self._desk.judge.decide(request).denied:
            refusal = self._case.decide(request)
            if isinstance(refusal, Refusal):
                self._refuse(refusal)
                return
        self._leave_to_inspector(bytes(self._buffer), None)

    # -- the ClientHello ---------------------------------------------------------------------------------------

    def _read_hello(self, data: bytes) -> None:
        assert self._reader is not None
        match self._reader.feed(data):
            case None:
                return
            case Hello() as hello:
                self._judge_hello(hello)
            case NotTls(detail):
                self._refuse_hello(Reason.NOT_TLS, detail)
            case Malformed(detail):
                self._refuse_hello(Reason.MALFORMED, detail)

    def _judge_hello(self, hello: Hello) -> None:
        assert self._tunnel is not None
        assert self._reader is not None
        self._hello = request = hello_request(self._tunnel, hello)
        if (doubt := self._desk.authenticator.doubt(request.client, self._standing)) is not None:
            self._refuse(self._case.refuse(request, doubt.reason, doubt.detail))
            return
        self._generation = self._desk.judge.generation
        decision = self._case.decide(request)
        if isinstance(decision, Refusal):
            self._refuse(decision)
        elif decision.tls is Tls.INSPECT:
            self._leave_to_inspector(bytes(self._reader.received), request)
        else:
            self._deadline = self._desk.loop.time() + self._section.timeouts.connect
            self._stage = self._read_early
            self._buffer = self._reader.received
            self._second = SecondHello(hello.server_names, self._reader.length, early=hello.early_data)
            self._reader = None
            self._begin_dialling(request, decision)

    def _refuse_hello(self, reason: Reason, detail: str) -> None:
        assert self._tunnel is not None
        self._hello = TlsHello(tunnel=self._tunnel)
        self._refuse(self._case.refuse(self._hello, reason, detail))

    # -- splicing ----------------------------------------------------------------------------------------------

    def _read_early(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _EARLY:
            self._transport.pause_reading()

    def _begin_dialling(self, request: TlsHello, decision: Decision) -> None:
        desk = self._desk
        started = desk.loop.time()
        approved = desk.dialer.recall(self._case, request)
        if isinstance(approved, Refusal):
            self._refuse(approved)
        elif approved is not None and desk.dialer.leads_straight(approved.addresses):
            connecting = desk.dialer.connect(approved.addresses, request.port, self._origin)
            ended = partial(self._dialled, request, decision, approved, started)
            self._task = attempt = Attempt(connecting, ended, _cut_off)
            attempt.start()
        else:
            # Eager: with the name in the cache it gets as far as connecting without a turn of the event loop.
            dialling = self._dial(request, decision, approved, started)
            task = asyncio.Task(dialling, loop=desk.loop, eager_start=True)
            if task.done():
                task.result()
            else:
                self._task = task

    def _origin(self) -> Half:
        """Return the far side of a tunnel to be."""
        timeouts = self._section.timeouts
        return Splice(now=self._desk.loop.time(), idle=timeouts.idle, lifetime=timeouts.lifetime).origin

    async def _dial(self, request: TlsHello, decision: Decision, approved: Approved | None, started: float) -> None:
        """Dial where somebody has to be asked first, or several addresses are tried."""
        made: Connected[Half] | None = None
        error: BaseException | None = None
        try:
            found = approved or await self._desk.dialer.approve(self._case, request)
            if isinstance(found, Refusal):
                self._task = None
                self._refuse(found)
                return
            approved = found
            made = await self._desk.dialer.connect(approved.addresses, request.port, self._origin)
        except _FAULTS as fault:
            error = fault
        try:
            self._dialled(request, decision, approved, started, made, error)
        except BaseException:
            if made is not None:
                _cut_off(made)
            raise

    def _dialled(
        self,
        request: TlsHello,
        decision: Decision,
        approved: Approved | None,
        started: float,
        made: Connected[Half] | None,
        error: BaseException | None,
    ) -> None:
        """Go on with a connection to the origin, or without."""
        self._task = None
        try:
            if made is not None and approved is not None:
                self._splice(request, approved, made, started)
            else:
                self._not_dialled(request, decision, error)
        except _FAULTS as fault:
            if made is not None:
                _cut_off(made)
            if isinstance(fault, OSError):
                self._not_dialled(request, decision, fault)
            else:
                self._crashed(fault)

    def _not_dialled(self, request: TlsHello, decision: Decision, error: BaseException | None) -> None:
        """Say why there is no connection, and to whom it matters."""
        if isinstance(error, asyncio.CancelledError) and self._deadline == float("inf"):
            detail = f"{request.host} did not answer within {self._section.timeouts.connect:g} s"
            refusal = self._case.refuse(request, Reason.UPSTREAM_FAILURE, detail, status=504)
        elif isinstance(error, asyncio.CancelledError) and self._transport.is_closing():
            self._desk.judge.ledger.record(request, decision, Outcome(error="the client left"))
            return
        elif isinstance(error, OSError):
            detail = f"cannot connect: {error.strerror or error}"
            refusal = self._case.refuse(request, Reason.UPSTREAM_FAILURE, detail)
        else:
            self._crashed(error or RuntimeError("neither a connection nor a reason"))
            return
        self._refuse(refusal)

    def _splice(self, request: TlsHello, approved: Approved, made: Connected[Half], started: float) -> None:
        """Join the client and its origin."""
        desk, seat = self._desk, self._seat
        _, half, address = made
        splice = half.splice
        if half.transport is None:
            raise ConnectionResetError(errno.ECONNRESET, "the origin is gone again")
        try:
            assert seat is not None
            decision = approved.decision(address)
            live = LiveTunnel(
                desk.judge,
                desk.uploads,
                desk.authenticator,
                self._standing,
                splice,
                request,
                decision,
                address,
                approved.chain,
                self._generation,
            )
        except BaseException:
            splice.abort()
            raise
        splice.finished = partial(_count_out, desk, seat, live, started)
        self._counted = False  # the splice counts the client out
        self._stage = _ignore  # or this would refer to itself, and be left to the garbage collector
        desk.sweeper.alive.discard(self)
        desk.sweeper.alive.add(live)
        desk.tally.splice(splice)
        try:
            if live.begin(self._buffer, self._second):
                splice.join(self._transport, self._buffer, ended=self._ended)
                self._transport.resume_reading()
                return
        except _FAULTS as error:
            _LOG.exception("a tunnel could not begin")
            live.broke(error)
        Farewell(self._transport, ALERT_ACCESS_DENIED, desk.sweeper, _nothing)

    # -- the ways out ------------------------------------------------------------------------------------------

    def _leave_to_inspector(self, received: bytes, hello: TlsHello | None) -> None:
        counted, tunnel = self._counted, self._tunnel
        leave, over = self._hand_over(), _nothing
        # Of a tunnel, who opened it; plain requests each say anew whose they are.
        client, standing = (self._client, None) if hello is None else (hello.client, self._standing)

        def gone() -> None:
            leave()
            over()

        try:
            if hello is not None:
                over = self._desk.tally.inspect()
            self._desk.inspector.take(self._transport, received, client, standing, hello, gone)
        except BaseException:
            over()
            self._counted, self._tunnel = counted, tunnel
            raise

    def _hand_over(self) -> Callable[[], None]:
        """Let go of the transport. Returns what its new owner calls when the connection is gone."""
        self._desk.sweeper.alive.discard(self)
        self._stage = _ignore
        self._tunnel = None
        counted, self._counted = self._counted, False
        return partial(self._desk.leave, self._seat) if counted and self._seat is not None else _nothing

    def _refuse(self, refusal: Refusal) -> None:
        """Say no: as HTTP before the tunnel stands, as a TLS alert inside it."""
        if self._tunnel is None:
            reply = answer(
                refusal.decision, refusal.ledger_id, refusal.request, status=refusal.status, accept=self._accept
            )
            words = render(reply, head_only=self._bodiless)
        elif refusal.decision.reason is Reason.NAME_UNRESOLVABLE:
            words = ALERT_UNRECOGNIZED_NAME
        elif refusal.decision.reason in UNREACHED:
            words = ALERT_INTERNAL_ERROR
        else:
            words = ALERT_ACCESS_DENIED
        self._say(words)

    def _say(self, words: bytes) -> None:
        counted = self._counted
        done = self._hand_over()
        try:
            Farewell(self._transport, words, self._desk.sweeper, done)
        except BaseException:
            self._counted = counted
            raise

    def _expired(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif self._reader is not None:
            detail = f"no complete ClientHello within {self._section.timeouts.hello:g} s"
            self._refuse_hello(Reason.NOT_TLS, detail)
        elif self._buffer:
            detail = f"no complete request head within {self._section.timeouts.head:g} s"
            self._refuse(self._case.refuse(self._nowhere(), Reason.MALFORMED, detail, status=408))
        else:
            self._transport.close()

    def _crashed(self, error: BaseException) -> None:
        """Fail closed: whatever went wrong, the answer is no, and the ledger says what it was."""
        _LOG.error("a connection could not be judged", exc_info=error)
        try:
            request: Origin = self._hello or self._tunnel or self._nowhere()
            detail = f"{type(error).__name__}: {error}"
            self._refuse(self._case.refuse(request, Reason.INTERNAL_ERROR, detail))
        except _FAULTS:
            _LOG.exception("nor could it be refused politely")
            self._transport.abort()

    def _nowhere(self) -> Tunnel:
        """Return a request that names no destination, for what could not be read."""
        return Tunnel(client=self._client, host="", port=0)

    def _end_unused(self) -> None:
        """Record a tunnel that was allowed and never used."""
        assert self._tunnel is not None
        decision = self._desk.judge.decide(self._tunnel)
        self._desk.judge.ledger.record(self._tunnel, decision, Outcome(error="closed before a ClientHello came"))


class TurnedAway(asyncio.Protocol):
    """A connection that nobody can serve."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Cut it off."""
        cast(asyncio.Transport, transport).abort()


def _is_over(task: asyncio.Task[None] | Attempt[Connected[Half]]) -> bool:
    return task.is_over() if isinstance(task, Attempt) else task.done()


def _cut_off(made: Connected[Half]) -> None:
    """End a connection to an origin that nobody will use."""
    made[0].abort()


def _count_out(desk: Desk, seat: Client, live: LiveTunnel, started: float, splice: Splice) -> None:
    """Record the end of a tunnel, and count its client out."""
    desk.sweeper.alive.discard(live)
    desk.leave(seat)
    live.end(desk.loop.time() - started)
    desk.tally.unsplice(splice)


def _ignore(_: bytes) -> None:
    pass


def _nothing() -> None:
    pass
