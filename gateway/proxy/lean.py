"""mitmproxy's core with less ado: what it does for every event, task and option, done once or not at all.

What goes through its layers, and in which order, stays the same. Measured, CPU of a plain request: half.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any, cast

from mitmproxy import http
from mitmproxy.connection import Client, Connection
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    HttpClient,
    HttpLayer,
    HttpStream,
    RegisterHttpConnection,
    SendHttp,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.proxy.layers.http._hooks import (
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)
from mitmproxy.proxy.layers.tls import TLSLayer
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.server import ConnectionIO

type Commands[T] = Generator[commands.Command, Any, T]

_AT_ONCE = frozenset((HttpRequestHeadersHook, HttpRequestHook, HttpResponseHeadersHook, HttpResponseHook))
"""Hooks of every request."""
_OF_REQUEST = frozenset((RequestHeaders, RequestData, RequestEndOfMessage))
_OF_RESPONSE = frozenset((ResponseHeaders, ResponseData, ResponseEndOfMessage))


class LeanContext(Context):
    """A context whose forks share its connections; mitmproxy's makes a connection to nowhere for each, first."""

    def __init__(self, client: Client, options: Options) -> None:
        super().__init__(client, options)

    @classmethod
    def of(cls, context: Context) -> "LeanContext":
        """Return a context with the connections of another, and no layers yet."""
        made = cls.__new__(cls)
        made.client, made.options, made.server = context.client, context.options, context.server
        made.layers = []
        return made

    def fork(self) -> "LeanContext":
        """Return a context with a layer stack of its own."""
        made = self.of(self)
        made.layers = self.layers.copy()
        return made


class LeanHandler(ProxyConnectionHandler):
    """mitmproxy's connection handler, with hooks called at once.

    It puts each hook, half a dozen a request, into a task that waits for a turn of the event loop. Here a hook that
    returns without waiting for anything does not wait either.
    """

    stopped = False
    """Something failed: nothing is sent any more, and the layers only learn that their connections are closed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)  # type: ignore[no-untyped-call]  # mitmproxy's
        self.layer.context = LeanContext.of(self.layer.context)
        self._events: deque[events.Event] = deque()
        self._working = False
        self._hooks: set[asyncio.Task[None]] = set()
        self._asking: commands.StartHook | None = None
        """The hook that is being called by the layer that wants it."""
        self._begun: commands.StartHook | None = None
        """The hook that was, and has not returned."""

    async def handle_client(self) -> None:
        """Serve the client's connection to its end, and then end those to origins."""
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self.timeout_watchdog.watch())  # type: ignore[no-untyped-call]  # mitmproxy's
        await self.server_event(events.Start())
        handler = loop.create_task(self.handle_connection(self.client))
        self.transports[self.client].handler = handler
        await asyncio.wait((handler,))
        if not handler.cancelled() and (error := handler.exception()) is not None:
            told = type(error), error, error.__traceback__
            self.log(f"connection handler has crashed: {error}", logging.ERROR, exc_info=told)
        watch.cancel()
        while self.wakeup_timer:
            self.wakeup_timer.pop().cancel()
        self.client.timestamp_end = time.time()
        handlers = [io.handler for io in self.transports.values() if io.handler is not None]
        for each in handlers:
            each.cancel("client disconnected")
        if handlers:
            await asyncio.wait(handlers)

    async def server_event(self, event: events.Event) -> None:
        """Let the layers see an event, and do what they say.

        A hook that is called meanwhile comes back here: what it brings is next. Layers must not be entered twice.
        """
        if self.stopped and not isinstance(event, events.ConnectionClosed):
            return
        self._events.append(event)
        if self._working:
            return
        self._working = True
        try:
            while self._events:
                self._show(self._events.popleft())
        finally:
            self._working = False

    def _show(self, event: events.Event) -> None:
        self.timeout_watchdog.register_activity()  # type: ignore[no-untyped-call]  # mitmproxy's
        try:
            for command in self.layer.handle_event(event):
                self._obey(command)
        except Exception:
            self.log("mitmproxy has crashed!", 40, exc_info=True)  # as an error, as mitmproxy says it

    def _obey(self, command: commands.Command) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(command, commands.OpenConnection):
            assert command.connection not in self.transports
            handler = loop.create_task(self.open_connection(command))
            self.transports[command.connection] = ConnectionIO(handler=handler)
        elif isinstance(command, commands.RequestWakeup):
            self.wakeup_timer.add(loop.create_task(self.wakeup(command)))
        elif isinstance(command, commands.ConnectionCommand):
            if command.connection in self.transports:  # not closed already
                self._obey_for(command, self.transports[command.connection])
        elif isinstance(command, commands.StartHook):
            if command is not self._begun:
                self._begin(command)
            self._begun = None
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise TypeError(f"unexpected command: {command}")

    def _begin(self, hook: commands.StartHook) -> bool:
        """Call a hook. Returns whether it has returned."""
        task = asyncio.Task(self.hook_task(hook), loop=asyncio.get_running_loop(), eager_start=True)
        if task.done():
            task.result()
            return True
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)
        return False

    async def hook_task(self, hook: commands.StartHook) -> None:
        """Go on with a flow once its hook was called; where that failed, the flow stays where it is."""
        await self.handle_hook(hook)
        if hook is not self._asking and hook.blocking and not self.stopped:
            await self.server_event(events.HookCompleted(hook))

    def answered(self, hook: commands.StartHook) -> bool:
        """Call a hook for a layer that is at work. Returns whether the layer may go on.

        If not, the hook waits for something, or has failed: then the layer waits as well, as for any other command.
        """
        self._asking = hook
        try:
            answered = self._begin(hook) and not self.stopped
        finally:
            self._asking = None
        if not answered:
            self._begun = hook
        return answered

    def _obey_for(self, command: commands.ConnectionCommand, io: ConnectionIO) -> None:
        if isinstance(command, commands.SendData):
            assert io.writer is not None
            if not self.stopped and not io.writer.is_closing():
                io.writer.write(command.data)
        elif isinstance(command, commands.CloseTcpConnection):
            self.close_connection(command.connection, command.half_close)
        elif isinstance(command, commands.CloseConnection):
            self.close_connection(command.connection, False)
        else:
            raise TypeError(f"unexpected command: {command}")


def later(_: commands.StartHook) -> bool:
    """Leave a hook to whoever runs the layers."""
    return False


class LeanStream(HttpStream):
    """One request. Its hooks are called where they are asked for, not at the other end of all layers."""

    def __init__(self, context: Context, stream_id: int, answered: Callable[[commands.StartHook], bool]) -> None:
        super().__init__(context, stream_id)
        self._answered = answered
        self._alone = context.client.alpn != b"h2"

    def handle_event(self, event: events.Event) -> Commands[None]:
        """Go on with an event, or keep it until what is waited for has come."""
        if self._paused is None:
            yield from self._run(self._handle_event(event), None)
            return
        if not isinstance(event, events.CommandCompleted) or event.command is not self._paused.command:
            self._paused_event_queue.append(event)
            return
        generator, self._paused = self._paused.generator, None
        yield from self._run(generator, event.reply)
        while self._paused is None and self._paused_event_queue:
            yield from self._run(self._handle_event(self._paused_event_queue.popleft()), None)

    def _run(self, generator: Commands[None], reply: Any) -> Commands[None]:
        while True:
            try:
                command = generator.send(reply)
            except StopIteration:
                return
            reply = None
            if command.blocking is True:
                hook: Any = command
                if type(hook) in _AT_ONCE and self._may_go_on(hook) and self._answered(hook):
                    continue
                command.blocking = self
                self._paused = layer.Paused(command, generator)
                yield command
                return
            yield command

    def _may_go_on(self, hook: Any) -> bool:
        """Whether what comes after a hook may be done now, in the middle of what led to it.

        Not in HTTP/2, where what led to it may be about other streams too; and not before another protocol begins.
        """
        if not self._alone:
            return False
        response = hook.flow.response
        return type(hook) is not HttpResponseHook or response is None or response.status_code != 101

    def _handle_event(self, event: events.Event) -> Commands[None]:
        kind = type(event)
        if kind in _OF_REQUEST:
            steps = self.client_state(event)
        elif kind in _OF_RESPONSE:
            steps = self.server_state(event)
        else:
            steps = super()._handle_event(event)
        return cast(Commands[None], steps)


class LeanHttpLayer(HttpLayer):
    """Passes events and commands between the two sides of HTTP and the requests, the frequent ones first."""

    def handle_event(self, event: events.Event) -> Commands[None]:
        """Go on with an event: this layer itself never waits for anything."""
        return cast(Commands[None], self._handle_event(event))

    def event_to_child(self, child: layer.Layer, event: events.Event) -> Commands[None]:
        """Let a layer see an event, and do what it says."""
        command: Any
        for command in child.handle_event(event):
            kind = type(command)
            if kind is SendHttp:
                yield from self.event_to_child(self.connections[command.connection], command.event)
            elif kind is commands.SendData:
                yield command
            elif kind is ReceiveHttp:
                received = command.event
                if type(received) is RequestHeaders:
                    yield from self.make_stream(received.stream_id)
                # There may be data or errors for a request that is over.
                if (stream := self.streams.get(received.stream_id)) is not None:
                    yield from self.event_to_child(stream, received)
            elif kind is DropStream:
                self.streams.pop(command.stream_id, None)
            else:
                # What is answered later, or comes back, has to find the layer that said it.
                if command.blocking or kind is commands.RequestWakeup:
                    self.command_sources[command] = child
                if kind is GetHttpConnection:
                    yield from self.get_connection(command)
                elif kind is RegisterHttpConnection:
                    yield from self.register_connection(command)
                else:
                    if kind is commands.OpenConnection:
                        self.connections[command.connection] = child
                    yield command

    def register_connection(self, command: Any) -> Commands[None]:
        """Note that a connection is there, or is not: HTTP on it is spoken to without the layer that opened it."""
        found = self.connections.get(command.connection)
        if isinstance(found, HttpClient) and not command.err:
            self.connections[command.connection] = found.child_layer
        elif isinstance(found, TLSLayer) and isinstance(inner := found.child_layer, HttpClient) and not command.err:
            found.child_layer = inner.child_layer
        yield from super().register_connection(command)


def settled(options: Options) -> Options:
    """Return options that change no more: mitmproxy's copy every value whenever somebody looks at it."""
    return cast(Options, SimpleNamespace(**{name: getattr(options, name) for name in options.keys()}))  # type: ignore[no-untyped-call]  # noqa: SIM118


def make_lean() -> None:
    """Spare mitmproxy's messages what costs much and changes nothing: for the whole process, once or more often.

    The types of every message's parts are checked a second time; its authors leave that out as well when Python runs
    with -O. A header is looked up thirty times a request, with six calls for each field that there is: here fields
    are found by their names, until there are others. And connections, of which there is one object each, are
    compared by their ids a hundred times.
    """
    Connection.__eq__, Connection.__hash__ = object.__eq__, object.__hash__  # type: ignore[method-assign]
    http.MessageData.__post_init__ = _unchecked  # type: ignore[method-assign]
    http.Headers.get_all = _get_all  # type: ignore[method-assign,assignment]
    http.Headers.get = _get  # type: ignore[method-assign,assignment]
    http.Headers.__contains__ = _contains  # type: ignore[method-assign,assignment]


_NO_INDEX: tuple[None, dict[bytes, list[str]]] = (None, {})


def _unchecked(_: http.MessageData) -> None:
    pass


def _get_all(headers: http.Headers, name: str | bytes) -> list[str]:
    values: dict[bytes, list[str]]
    fields, values = headers.__dict__.get("lean_index", _NO_INDEX)
    if fields is not headers.fields:  # which are never changed, but replaced
        values = {}
        for key, value in headers.fields:
            values.setdefault(key.lower(), []).append(value.decode("utf-8", "surrogateescape"))
        headers.__dict__["lean_index"] = headers.fields, values
    found = values.get((name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower())
    return found.copy() if found is not None else []


def _get(headers: http.Headers, name: str | bytes, default: Any = None) -> Any:
    found = _get_all(headers, name)
    return ", ".join(found) if found else default


def _contains(headers: http.Headers, name: str | bytes) -> bool:
    return bool(_get_all(headers, name))
