"""Flows for the tests of the addons, and a gate to pass them through."""

from typing import Any

from mitmproxy import http
from mitmproxy.test import tflow, tutils

from addons.gate import Gate
from addons.visit import Visit
from gateway.decision import Decision
from gateway.policy import Policy
from gateway.proxy.dial import Dialer
from gateway.proxy.uploads import Uploads
from gateway.proxysection import ProxySection
from gateway.request import Request
from tests.builders import a_client, an_address
from tests.integration.proxy_rig import Bench, Names, allow


class Moody(Bench):
    """A bench that can be told to break."""

    broken: bool = False

    def decide(self, request: Request) -> Decision:
        """Decide, or break."""
        if self.broken and not getattr(request, "flaw", None):
            raise RuntimeError("injected")
        return super().decide(request)


def a_gate(*names: str) -> tuple[Gate, Moody]:
    """Return a gate for a policy that allows names at loopback addresses."""
    judge = Moody(Policy(rules=[allow(*names or ("good.test",))]))
    resolver = Names({name: (an_address("127.0.0.1"),) for name in names or ("good.test",)})
    return Gate(judge, ProxySection, Dialer(resolver), Uploads()), judge


def a_flow(host: str = "good.test", port: int = 80, **changes: Any) -> http.HTTPFlow:
    """Return a plain request."""
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "scheme": b"http",
        "authority": b"",
        "path": b"/a?b",
        "headers": http.Headers([(b"Host", host.encode()), (b"User-Agent", b"curl/8")]),
        **changes,
    }
    return tflow.tflow(req=tutils.treq(**given))


def visited(gate: Gate, flow: http.HTTPFlow, **changes: Any) -> Visit:
    """Announce the client of a flow."""
    visit = gate.visits[flow.client_conn.id] = Visit(a_client(), **changes)
    return visit
