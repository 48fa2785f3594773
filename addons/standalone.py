"""The gateway as a script of mitmdump: the same policy file and decisions, for development.

In production mitmproxy is embedded (`gateway proxy`): a script that mitmproxy fails to reload is a gate that is gone.
Here the gateway's own choice of layers takes the place of mitmproxy's, so that without this addon nothing is served
at all. Not here: limits on time and connections, upload budgets of
spliced tunnels (which are refused), and the sharing of connections to origins.
"""

import logging
import time
from pathlib import Path

from mitmproxy import connection, ctx, exceptions, http, tcp
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from addons.asked import host_of
from addons.gate import Gate
from addons.refusals import refuse
from addons.visit import Visit
from gateway.decision import Decision, Reason, Tls
from gateway.dns.resolver import Resolver
from gateway.document import ConfigError
from gateway.ledger import Outcome
from gateway.proxy.asked import hello_request, host_flaw, own_authorities
from gateway.proxy.case import Case, Refusal
from gateway.proxy.clienthello import Hello, HelloReader
from gateway.proxy.desk import client_at
from gateway.proxy.dial import Dialer
from gateway.proxy.head import INSIDE, TO_PROXY
from gateway.proxy.layers import GatedHttpLayer, GatedStream
from gateway.proxy.responses import ALERT_ACCESS_DENIED
from gateway.proxy.uploads import Uploads
from gateway.request import TlsHello, Tunnel
from gateway.runtime import Runtime, load_state, open_ledger

_LOG = logging.getLogger(__name__)
_NOT_READY = "egress gateway: no policy is loaded (set egress_config)"


class Standalone:
    """Loads the policy, and decides what the gateway's own listener decides in production."""

    name = "egress"

    def __init__(self) -> None:
        self.gate: Gate | None = None
        self.addons: list[object] = []
        """Called for their hooks by mitmproxy."""
        self._runtime: Runtime | None = None
        self._dialer: Dialer | None = None
        self._tunnels: dict[str, Tunnel] = {}
        self._spliced: dict[str, tuple[TlsHello, Decision, float, list[int]]] = {}

    # -- set-up ------------------------------------------------------------------------------------------------

    def load(self, loader: Loader) -> None:
        """Declare the options."""
        loader.add_option("egress_config", str, "", "Policy file of the egress gateway.")

    def configure(self, updated: set[str]) -> None:
        """Load the policy file. Without a good one nothing is let through."""
        if "egress_config" not in updated or not ctx.options.egress_config:
            return
        try:
            state = load_state(Path(ctx.options.egress_config), 1)
        except (ConfigError, OSError, ValueError) as error:
            raise exceptions.OptionsError(f"egress_config: {error}") from error  # type: ignore[no-untyped-call]
        proxy = state.config.file.proxy
        if proxy.auth or proxy.parent or proxy.proxy_protocol_from:
            raise exceptions.OptionsError(  # type: ignore[no-untyped-call]  # mitmproxy's
                "egress_config: proxy.auth, proxy.parent and proxy.proxy_protocol_from need 'gateway proxy'"
            )
        self.use(Runtime(state, open_ledger(state.config, "proxy")))

    def use(self, runtime: Runtime, dialer: Dialer | None = None) -> None:
        """Decide by a runtime."""
        self._runtime = runtime
        self._dialer = dialer or Dialer(Resolver.from_runtime(runtime))
        self.gate = Gate(runtime, lambda: runtime.state.config.file.proxy, self._dialer, Uploads())
        self.addons = [self.gate]

    def running(self) -> None:
        """Take the choice of layers away from mitmproxy, and switch off what would go round the policy."""
        if (chooser := ctx.master.addons.get("nextlayer")) is not None:  # type: ignore[no-untyped-call]  # mitmproxy's
            ctx.master.addons.remove(chooser)  # type: ignore[no-untyped-call]  # mitmproxy's
        ctx.options.update(  # type: ignore[no-untyped-call]  # mitmproxy's
            connection_strategy="lazy", upstream_cert=False, rawtcp=False, ssl_insecure=False, onboarding=False
        )

    def done(self) -> None:
        """Write the rest of the ledger."""
        if self._runtime is not None:
            self._runtime.ledger.close()

    # -- hooks -------------------------------------------------------------------------------------------------

    def client_connected(self, client: connection.Client) -> None:
        """Learn who asks."""
        if self.gate is None:
            client.error = _NOT_READY
            return
        try:
            self.gate.visits[client.id] = Visit(client_at(client.peername[0]))
        except Exception as error:
            _LOG.error("a client could not be told", exc_info=error)
            client.error = "egress gateway: internal error"

    def client_disconnected(self, client: connection.Client) -> None:
        """Forget a client."""
        self._tunnels.pop(client.id, None)
        if self.gate is not None:
            self.gate.leave(client.id)

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Decide a CONNECT."""
        try:
            refusal = self._judge_connect(flow)
            if refusal is not None:
                refuse(flow, refusal)
        except Exception as error:
            _LOG.error("a CONNECT could not be decided", exc_info=error)
            self._fail(flow, error)

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Choose what reads a connection on: strict HTTP, the TLS that was judged, or nothing."""
        try:
            nextlayer.layer = self._choose(nextlayer)
        except Exception as error:
            _LOG.error("a connection could not be judged", exc_info=error)
            nextlayer.layer = Denied(nextlayer.context)

    async def server_connect(self, data: ServerConnectionHookData) -> None:
        """Put the address that was judged in the place of the name; without one, do not connect."""
        try:
            await self._approve(data)
        except Exception as error:
            _LOG.error("an address could not be judged", exc_info=error)
            data.server.error = "egress gateway: internal error"

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        """Count what a tunnel moves, and forget it."""
        spliced = self._spliced.get(flow.client_conn.id)
        for message in flow.messages:
            if spliced is not None:
                spliced[3][0 if message.from_client else 1] += len(message.content)
        # mitmproxy still sends the last one.
        del flow.messages[:-1]

    def tcp_end(self, flow: tcp.TCPFlow) -> None:
        """Record how a tunnel ended."""
        self._end(flow, "")

    def tcp_error(self, flow: tcp.TCPFlow) -> None:
        """Record how a tunnel ended."""
        self._end(flow, flow.error.msg if flow.error else "error")

    # -- deciding ----------------------------------------------------------------------------------------------

    def _judge_connect(self, flow: http.HTTPFlow) -> Refusal | None:
        assert self.gate is not None
        assert self._runtime is not None
        visit = self.gate.visits[flow.client_conn.id]
        request = flow.request
        place = flow.client_conn.sockname
        own = own_authorities(client_at(place[0]).address, place[1])
        tunnel = Tunnel(
            client=visit.client,
            host=host_of(request.host),
            port=request.port,
            user_agent=" ".join(request.headers.get_all("user-agent")),
            flaw=host_flaw(request.authority, request.headers.get_all("host"), own),
        )
        decision = Case(self._runtime).decide(tunnel)
        if isinstance(decision, Refusal):
            return decision
        self._tunnels[flow.client_conn.id] = tunnel
        return None

    def _fail(self, flow: http.HTTPFlow, error: Exception) -> None:
        """Deny a CONNECT because something broke."""
        flow.response = http.Response.make(403, b"", {"X-Gateway-Reason": Reason.INTERNAL_ERROR.value})
        try:
            visit = self.gate.visits.get(flow.client_conn.id) if self.gate is not None else None
            if visit is not None and self._runtime is not None:
                tunnel = Tunnel(client=visit.client, host="", port=0)
                detail = f"{type(error).__name__}: {error}"
                refuse(flow, Case(self._runtime).refuse(tunnel, Reason.INTERNAL_ERROR, detail))
        except Exception as worse:
            _LOG.error("nor could that be recorded", exc_info=worse)

    def _choose(self, nextlayer: layer.NextLayer) -> layer.Layer | None:
        context = nextlayer.context
        assert self.gate is not None
        last = context.layers[-1] if context.layers else None
        if isinstance(last, layers.modes.HttpProxy):
            return GatedHttpLayer(context, TO_PROXY, self.gate)
        if isinstance(last, layers.ClientTLSLayer):
            return GatedHttpLayer(context, INSIDE, self.gate)
        if isinstance(last, GatedStream):
            return self._choose_in_tunnel(nextlayer)
        return Denied(context)

    def _choose_in_tunnel(self, nextlayer: layer.NextLayer) -> layer.Layer | None:
        context = nextlayer.context
        assert self.gate is not None
        assert self._runtime is not None
        found = HelloReader().feed(nextlayer.data_client())  # type: ignore[no-untyped-call]  # mitmproxy's
        if found is None:
            return None  # mitmproxy asks again when more has come
        case, tunnel = Case(self._runtime), self._tunnels[context.client.id]
        if not isinstance(found, Hello):
            case.refuse(TlsHello(tunnel=tunnel), Reason.NOT_TLS, found.detail)
            return Denied(context)
        hello = hello_request(tunnel, found)
        decision = case.decide(hello)
        if isinstance(decision, Refusal):
            return Denied(context)
        if decision.tls is Tls.INSPECT:
            self.gate.visits[context.client.id].hello = hello
            outer = layers.ServerTLSLayer(context)
            outer.child_layer = layers.ClientTLSLayer(context)
            return outer
        self._spliced[context.client.id] = hello, decision, time.monotonic(), [0, 0]
        return layers.TCPLayer(context)

    async def _approve(self, data: ServerConnectionHookData) -> None:
        assert self.gate is not None
        assert self._runtime is not None
        assert self._dialer is not None
        server, client = data.server, data.client
        if server.address is None:
            raise LookupError("a connection to nowhere")
        host, port = server.address[0], server.address[1]
        addresses = self.gate.approved(client.id, host, port)
        if (spliced := self._spliced.get(client.id)) is not None:
            approved = await self._dialer.approve(Case(self._runtime), spliced[0])
            if isinstance(approved, Refusal):
                addresses = ()
            elif any(decision.budget for decision in approved.decisions):
                # mitmproxy cannot stop a tunnel in the middle, so one that would have to be is not begun.
                _LOG.error("upload budgets of spliced tunnels need `gateway proxy`")
            else:
                addresses = approved.addresses
                self._spliced[client.id] = spliced[0], approved.decisions[0], *spliced[2:]
        if not addresses:
            server.error = "egress gateway: denied"
            return
        server.sni = server.sni or host
        server.address = (str(addresses[0]), port)

    def _end(self, flow: tcp.TCPFlow, error: str) -> None:
        spliced = self._spliced.pop(flow.client_conn.id, None)
        if spliced is None or self._runtime is None:
            return
        hello, decision, began, moved = spliced
        outcome = Outcome(
            octets_out=moved[0], octets_in=moved[1], seconds=round(time.monotonic() - began, 6), error=error
        )
        self._runtime.ledger.record(hello, decision, outcome)


class Denied(layer.Layer):
    """Ends a tunnel with a TLS alert."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.SendData(self.context.client, ALERT_ACCESS_DENIED)
            yield commands.CloseConnection(self.context.client)
