"""mitmproxy inside the gateway: for plain HTTP, and for TLS that a rule wants to see into.

A slim master in the gateway's own process and event loop. mitmproxy's listener, its choice of layers, its logging and
its way of opening connections are left out: the layers are chosen here, hooks go straight to our addons, and a
connection is opened only to an address that was judged for the request it is for.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from mitmproxy import options
from mitmproxy.addons.core import Core
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.connection import ConnectionState
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events, mode_specs
from mitmproxy.proxy.layers.tls import TLSLayer
from mitmproxy.proxy.server import ConnectionIO

from addons.gate import Gate
from addons.visit import Visit
from gateway.addresses import parse_address
from gateway.decision import Reason
from gateway.names import parse_host
from gateway.proxy.authentication import Authenticator
from gateway.proxy.ca import BASENAME, ensure_ca
from gateway.proxy.case import Case
from gateway.proxy.clienttls import ClientContexts, ClientTls
from gateway.proxy.dial import Dialer
from gateway.proxy.head import INSIDE, PLAIN
from gateway.proxy.layers import CutOff, GatedHttpLayer
from gateway.proxy.lean import LeanHandler, make_lean, settled
from gateway.proxy.leaves import Leaves
from gateway.proxy.newcomers import Newcomers, TooManyError
from gateway.proxy.origintls import OriginContexts
from gateway.proxy.pipes import Pipe
from gateway.proxy.responses import ALERT_ACCESS_DENIED
from gateway.proxy.roles import Judge, Settings
from gateway.proxy.sweeper import Sweeper
from gateway.proxy.turns import Turns
from gateway.proxy.uploads import Uploads
from gateway.request import Client, TlsHello

_LOG = logging.getLogger(__name__)
_UNUSED = 2048  # bits of an RSA key that would be made if there were none

_HOOKS_TAKE = 3
"""How many times as long as connecting may take a hook has: it may check a password, and look a name up."""


class Inspector:
    """Serves connections with mitmproxy's layers."""

    def __init__(
        self,
        judge: Judge,
        settings: Settings,
        dialer: Dialer,
        sweeper: Sweeper,
        authenticator: Authenticator,
        uploads: Uploads,
        folder: Path,
        trust: Path | None = None,
    ) -> None:
        self.settings = settings
        self.dialer = dialer
        self.sweeper = sweeper
        self.certificate = ensure_ca(folder)
        """What clients have to trust."""
        self.judge = judge
        self.authenticator = authenticator
        self.gate = Gate(judge, settings, dialer, uploads, authenticator)
        tls = TlsConfig()
        self.master = _master(folder, trust, Core(), Proxyserver(), tls)  # type: ignore[no-untyped-call]  # mitmproxy's
        leaves = Leaves.from_store(folder, BASENAME, _UNUSED)
        assert isinstance(leaves, Leaves)
        self.leaves = tls.certstore = leaves
        self.options = settled(self.master.options)
        self.hooks = _hooks(OriginContexts(self.options), ClientContexts(tls, self.options), self.gate)
        self.waiting = frozenset(
            name for name, called in self.hooks.items() if any(map(asyncio.iscoroutinefunction, called))
        )
        """Hooks that may wait for something."""
        make_lean()
        self.mode = mode_specs.ProxyMode.parse("regular")
        self.handlers: dict[asyncio.Task[None], Handler] = {}
        self._loop = asyncio.get_running_loop()
        self.turns = Turns(self._loop)
        self.newcomers = Newcomers(self._loop)

    def take(
        self,
        transport: asyncio.Transport,
        received: bytes,
        client: Client,
        standing: str | None,
        hello: TlsHello | None,
        done: Callable[[], None],
    ) -> None:
        """Go on with what was received: a plain HTTP request, or the ClientHello of an allowed tunnel."""
        pipe = Pipe(partial(self.turns.take, client.address.packed))
        pipe.take(transport, received)
        handler = Handler(self, pipe, Visit(client, hello, standing))
        task = self._loop.create_task(handler.serve())
        self.handlers[task] = handler

        def ended(task: asyncio.Task[None]) -> None:
            del self.handlers[task]
            done()
            pipe.close()
            if not task.cancelled() and (error := task.exception()) is not None:
                _LOG.error("an inspected connection crashed", exc_info=error)
                self.gate.endings.broke(handler.visit, error)

        task.add_done_callback(ended)

    def close_idle(self) -> None:
        """Close connections that carry no request: for draining."""
        for handler in tuple(self.handlers.values()):
            if not handler.visit.passages:
                handler.hang_up("the gateway stops")

    def abort(self) -> None:
        """Close everything."""
        for handler in tuple(self.handlers.values()):
            handler.hang_up("the gateway stops")


class Handler(LeanHandler):
    """One client connection in mitmproxy's core."""

    def __init__(self, inspector: Inspector, pipe: Pipe, visit: Visit) -> None:
        # mitmproxy asks for asyncio's streams, and uses of them what a pipe has.
        super().__init__(inspector.master, pipe, pipe, inspector.options, inspector.mode)
        self.visit = visit
        self._payer = visit.client.address.packed  # an address would be hashed anew each time
        self._inspector = inspector
        self._gate = inspector.gate
        self._pipes = [pipe]
        self._waiting: list[float] = []
        """Since when hooks are running."""
        self._generation = inspector.judge.generation
        timeouts = inspector.settings().timeouts
        self._ends = asyncio.get_running_loop().time() + timeouts.lifetime
        self.timeout_watchdog.timeout = max(1, int(timeouts.idle))
        context = self.layer.context
        self._moved = asyncio.Event()
        self._over = False
        self._new = visit.hello is not None and not inspector.leaves.knows(str(visit.hello.host))
        """Whether it is for a new name, and has not done anything with it."""
        self._clock = time.thread_time if self._new else _no_time
        self._entering = self._earned = False
        if visit.hello is None:
            self.layer = self._http = GatedHttpLayer(context, PLAIN, self._gate, self.answered)
            return
        host = visit.hello.host
        context.server.address = (str(host), visit.hello.port)
        # Not left to the ClientHello: what it names has been compared, and this is what it was compared with.
        context.server.sni = str(host)
        context.server.tls = True  # though nobody connects to it: connections to origins are made for requests
        outer = ClientTls(context, visit.hello)
        outer.child_layer = self._http = GatedHttpLayer(context, INSIDE, self._gate, self.answered)
        self.layer = outer

    async def serve(self) -> None:
        """Serve the connection to its end."""
        self.visit.hang_up, self.visit.cut_off = self.hang_up, self.cut_off
        self._gate.visits[self.client.id] = self.visit
        self._inspector.sweeper.alive.add(self)
        try:
            if not self._new or await self._is_let_in():
                await self.handle_client()
        except Exception as error:
            self._gate.endings.broke(self.visit, error)
            raise
        finally:
            self._inspector.sweeper.alive.discard(self)
            self._entered()
            for pipe in self._pipes:
                pipe.close()
            self._gate.leave(self.client.id)
            self._let_go()

    async def _is_let_in(self) -> bool:
        """Wait until a new name may be asked for. Returns whether it may; if not, that was recorded and said."""
        pipe, task, hello = self._pipes[0], asyncio.current_task(), self.visit.hello
        assert task is not None
        assert hello is not None
        if pipe.ended:  # before it was its task's turn
            return False
        limit = self._inspector.settings().timeouts.connect
        pipe.lost = task.cancel
        try:
            async with asyncio.timeout(limit):
                await self._inspector.newcomers.enter(self._payer)
            self._entering = True
            return True
        except TooManyError:
            detail = "too many connections to new names wait to be looked into"
        except TimeoutError:
            detail = f"new names come so fast that there was no turn within {limit:g} s"
        except asyncio.CancelledError:
            if not _was_asked_for():
                raise RuntimeError("nobody has cancelled the wait for a turn") from None
            raise
        finally:
            pipe.lost = None
        Case(self._inspector.judge).refuse(hello, Reason.RATE_LIMIT, detail)
        pipe.write(ALERT_ACCESS_DENIED)
        return False

    def _entered(self) -> None:
        """Let the next one in: what this one cost is known."""
        if self._entering:
            self._entering = False
            self._inspector.newcomers.entered()

    def _let_go(self) -> None:
        """Free what is large now: mitmproxy's layers refer to each other, and wait for the garbage collector.

        OpenSSL's part of a connection is some 70 KB, which the collector does not see.
        """
        self._over = True
        for end in (self.layer, *self._http.connections.values()):
            for each in end.context.layers:
                if isinstance(each, TLSLayer):
                    each.__dict__.pop("tls", None)

    def check(self, now: float) -> None:
        """Enforce the lifetime, and the policy when another one is in force than before."""
        if now >= self._ends:
            self.hang_up("open for too long")
        # Whatever a hook waits for has a limit of its own; this is for what goes wrong with those.
        if self._waiting and not self.stopped:
            limit = _HOOKS_TAKE * self._inspector.settings().timeouts.connect
            if now - self._waiting[0] >= limit:
                _LOG.error("a hook has not returned within %g s: its connection is closed", limit)
                self._break(TimeoutError(f"no decision within {limit:g} s"))
        if self._inspector.judge.generation != self._generation:
            self._generation = self._inspector.judge.generation
            try:
                self._gate.endings.rejudge(self.visit)
            except Exception as error:
                _LOG.exception("a connection could not be judged anew")
                self._break(error)

    def abort(self) -> None:
        """Cut the connection off."""
        self.hang_up("the gateway stops")

    def hang_up(self, why: str) -> None:
        """End the connection."""
        io = self.transports.get(self.client)
        if io is not None and io.handler is not None:
            io.handler.cancel(why)
        else:
            self._pipes[0].abort()

    def cut_off(self, flow_id: str) -> None:
        """End one request of many, now: neither side need send anything for that."""
        # Eager: it never waits, and what goes wrong with it is heard of here.
        loop = asyncio.get_running_loop()
        asyncio.Task(self.server_event(CutOff(flow_id)), loop=loop, eager_start=True).result()

    def _begin(self, hook: commands.StartHook) -> bool:
        """Call a hook: most never wait, and need no task to do it in."""
        if hook.name in self._inspector.waiting:
            return super()._begin(hook)
        called = self._inspector.hooks.get(hook.name, ())
        if not self._over:
            try:
                for function in called:
                    function(*hook.args())
            except (Exception, asyncio.CancelledError) as error:
                self._failed(hook, error)
        if hook is not self._asking and not self.stopped:
            self._events.append(events.HookCompleted(hook))
        return True

    def _failed(self, hook: commands.StartHook, error: BaseException) -> None:
        _LOG.exception("the hook %s failed: its connection is closed", hook.name)
        self._break(error)

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Call our addons, without the detour through mitmproxy's addon manager.

        What a hook raises ends the connection: mitmproxy would log it and let the flow go on.
        """
        called = self._inspector.hooks.get(hook.name)
        if called is None or self._over:  # begun before the client left, and nothing of it goes anywhere
            return
        waiting = asyncio.get_running_loop().time()
        self._waiting.append(waiting)
        with self.timeout_watchdog.disarm():
            try:
                for function in called:
                    began, worked = time.perf_counter(), self._clock()
                    result = function(*hook.args())
                    if not self._working:  # else it is counted with the event that led to it
                        self._charge(time.perf_counter() - began, self._clock() - worked)
                    if result is not None:
                        await result
            except (Exception, asyncio.CancelledError) as error:
                self._failed(hook, error)
            finally:
                self._waiting.remove(waiting)

    def _break(self, error: BaseException) -> None:
        """End the connection because something broke, and record that."""
        self.stopped = True
        try:
            self._gate.endings.broke(self.visit, error)
        except Exception:
            _LOG.exception("nor could that be recorded")
        self.hang_up("something broke")

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Connect to an address that was approved for the request, and to nothing else."""
        try:
            await self._open(command)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _was_asked_for():
                raise
            _LOG.exception("a connection to an origin failed: its client's is closed")
            self._break(error)

    async def _open(self, command: commands.OpenConnection) -> None:
        server = command.connection
        gate = self._gate
        address = server.address
        approved = gate.approved(self.client.id, *address) if address is not None else ()
        if address is None or not approved:
            await self._not_opened(command, "no approved address to connect to")
            return
        async with self.max_conns[address]:
            limit = self._inspector.settings().timeouts.connect
            server.timestamp_start = time.time()
            try:
                async with asyncio.timeout(limit):
                    transport, pipe, peer = await self._inspector.dialer.connect(approved, address[1], self._pipe)
            except TimeoutError:
                await self._not_opened(command, f"connecting timed out after {limit:g} s")
                return
            except OSError as error:
                await self._not_opened(command, f"cannot connect: {error.strerror or error}")
                return
            except asyncio.CancelledError:
                await self._not_opened(command, "connection cancelled")
                raise
            self._pipes.append(pipe)
            server.timestamp_tcp_setup = time.time()
            server.state = ConnectionState.OPEN
            server.peername = transport.get_extra_info("peername")
            server.sockname = transport.get_extra_info("sockname")
            io: Any = pipe  # as in __init__
            self.transports[server] = ConnectionIO(handler=asyncio.current_task(), reader=io, writer=io)
            place = (parse_address(address[0]) or parse_host(address[0]), address[1])
            gate.opened(self.client.id, server.id, place, peer)
            try:
                await self.server_event(events.OpenConnectionCompleted(command, None))
                await self.handle_connection(server)
            finally:
                server.timestamp_end = time.time()
                gate.closed(self.client.id, server.id)
                pipe.close()
                self._pipes.remove(pipe)

    def _pipe(self) -> Pipe:
        return Pipe(partial(self._inspector.turns.take, self._payer))

    async def server_event(self, event: events.Event) -> None:
        """Have the layers work on something, and take note how long that takes."""
        if self._over:  # a hook that came to its end late
            return
        began, worked = time.perf_counter(), self._clock()
        try:
            await super().server_event(event)
        except asyncio.CancelledError as error:
            if not _was_asked_for():
                _LOG.exception("a layer failed: its connection is closed")
                self._break(error)
            raise
        took = time.perf_counter() - began
        self._charge(took, self._clock() - worked)
        self._moved.set()
        if isinstance(event, events.DataReceived):
            self._entered()
        if isinstance(event, events.DataReceived) and (io := self.transports.get(event.connection)) is not None:
            cast(Pipe, io.reader).took(took)

    def _charge(self, took: float, worked: float) -> None:
        """Count work. All that is done for a new name counts as such, until there is an answer."""
        client = self._payer
        self._inspector.turns.charge(client, took)
        if self._new:
            self._inspector.newcomers.charge(client, took, worked)
        if self.visit.answered and not self._earned:
            self._earned, self._new, self._clock = True, False, _no_time
            self._inspector.newcomers.earn(client)

    async def drain_writers(self) -> None:
        """Wait until both sides have taken what there is, before the connection that asks is read again."""
        if any(io.writer is not None and cast(Pipe, io.writer).is_full for io in self.transports.values()):
            await super().drain_writers()  # type: ignore[no-untyped-call]  # mitmproxy's
        if self.client.alpn != b"h2":
            return
        task = asyncio.current_task()
        connection = next((each for each, io in self.transports.items() if io.handler is task), None)
        while connection is not None and self._http.is_full(connection):
            self._moved.clear()
            await self._moved.wait()

    async def _not_opened(self, command: commands.OpenConnection, error: str) -> None:
        command.connection.error = error
        await self.server_event(events.OpenConnectionCompleted(command, error))
        self.transports.pop(command.connection, None)

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        """Log what went wrong; what goes right is in the ledger. A crash in the layers ends the connection."""
        if level >= logging.ERROR:
            _LOG.log(level, "%s", message, exc_info=exc_info)
            error = sys.exception()
            self._break(error if error is not None else RuntimeError(message))
        else:
            _LOG.debug("%s", message)


def _no_time() -> float:
    return 0.0


def _was_asked_for() -> bool:
    """Say whether somebody cancelled this task: else a `CancelledError` is a fault like any other."""
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())


def _master(folder: Path, trust: Path | None, *addons: object) -> Master:
    master = Master(options.Options(), event_loop=asyncio.get_running_loop())
    master._legacy_log_events.uninstall()  # it would see every log record of the process, and make a hook of each
    change: Callable[..., None] = master.options.update
    change(server=False, mode=[])
    master.addons.add(*addons)  # type: ignore[no-untyped-call]  # mitmproxy's
    change(
        confdir=str(folder),
        connection_strategy="lazy",
        upstream_cert=False,
        rawtcp=False,
        http3=False,
        ssl_insecure=False,
        ssl_verify_upstream_trusted_ca=str(trust) if trust is not None else None,
        validate_inbound_headers=True,
    )
    return master


def _hooks(origins: OriginContexts, clients: ClientContexts, gate: Gate) -> dict[str, list[Callable[..., Any]]]:
    """Return who is called at which hook. What is not here calls nobody."""
    return {
        "tls_start_client": [clients.tls_start_client],
        "tls_start_server": [origins.tls_start_server],
        "tls_established_server": [gate.tls_established_server],
        "requestheaders": [gate.requestheaders],
        "request": [gate.request],
        "responseheaders": [gate.responseheaders],
        "response": [gate.response],
        "error": [gate.error],
        "websocket_message": [gate.websocket_message],
        "websocket_end": [gate.websocket_end],
    }
