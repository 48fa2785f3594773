"""mitmproxy's core with less ado: what it does for every event, task and option, done once or not at all.

What goes through its layers, and in which order, stays the same. Measured, CPU of a plain request: half.
"""

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.server import ConnectionIO


class LeanContext(Context):
    """A context whose forks share its connections; mitmproxy's makes a connection to nowhere for each, first."""

    def __init__(self, client: Client, options: Options) -> None:
        super().__init__(client, options)

    def fork(self) -> "LeanContext":
        """Return a context with a layer stack of its own."""
        made = LeanContext.__new__(LeanContext)
        made.client, made.options, made.server = self.client, self.options, self.server
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
        context = self.layer.context
        self.layer.context = LeanContext(context.client, context.options)
        self._events: deque[events.Event] = deque()
        self._working = False
        self._hooks: set[asyncio.Task[None]] = set()

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
            task = asyncio.Task(self.hook_task(command), loop=loop, eager_start=True)
            if not task.done():
                self._hooks.add(task)
                task.add_done_callback(self._hooks.discard)
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise TypeError(f"unexpected command: {command}")

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


def settled(options: Options) -> Options:
    """Return options that change no more: mitmproxy's copy every value whenever somebody looks at it."""
    return cast(Options, SimpleNamespace(**{name: getattr(options, name) for name in options.keys()}))  # type: ignore[no-untyped-call]  # noqa: SIM118


def make_lean() -> None:
    """Spare mitmproxy's messages what costs much and changes nothing: for the whole process, once or more often.

    The types of every message's parts are checked a second time; its authors leave that out as well when Python runs
    with -O. And a header is looked up thirty times a request, with six calls for each field that there is.
    """
    http.MessageData.__post_init__ = _unchecked  # type: ignore[method-assign]
    http.Headers.get_all = _get_all  # type: ignore[method-assign,assignment]
    http.Headers.get = _get  # type: ignore[method-assign,assignment]
    http.Headers.__contains__ = _contains  # type: ignore[method-assign,assignment]


def _unchecked(_: http.MessageData) -> None:
    pass


def _get_all(headers: http.Headers, name: str | bytes) -> list[str]:
    wanted = (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()
    return [value.decode("utf-8", "surrogateescape") for key, value in headers.fields if key.lower() == wanted]


def _get(headers: http.Headers, name: str | bytes, default: Any = None) -> Any:
    found = _get_all(headers, name)
    return ", ".join(found) if found else default


def _contains(headers: http.Headers, name: str | bytes) -> bool:
    return bool(_get_all(headers, name))
