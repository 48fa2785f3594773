"""Tests of `addons.standalone`: every hook fails closed."""

from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy.proxy import layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import taddons, tflow

from addons.standalone import Denied, Standalone


class Broken:
    """Stands in for the gate, and breaks whatever asks."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("injected")


def a_broken_addon() -> Standalone:
    """Return an addon whose gate breaks."""
    addon = Standalone()
    addon.gate = Broken()  # type: ignore[assignment]  # broken on purpose
    return addon


@pytest.mark.parametrize("addon", [Standalone(), a_broken_addon()], ids=["no policy", "broken"])
async def test_fails_closed(addon: Standalone) -> None:
    """Without a policy, and with one that breaks, no client, tunnel, layer or connection is let through."""
    client = tflow.tclient_conn()
    addon.client_connected(client)
    assert client.error

    flow = tflow.tflow()
    addon.http_connect(flow)
    assert flow.response is not None
    assert flow.response.status_code == 403

    with taddons.context() as context:  # type: ignore[no-untyped-call]  # mitmproxy's
        chosen = layer.NextLayer(Context(client, context.options))
        addon.next_layer(chosen)
        assert isinstance(chosen.layer, Denied)

    data = ServerConnectionHookData(server=tflow.tserver_conn(), client=client)
    data.server.error = None
    await addon.server_connect(data)
    assert data.server.error


@pytest.mark.parametrize(
    "key", ["auth: {htpasswd: users}", "parent: http://192.0.2.1:3128", 'proxy_protocol_from: ["::/0"]']
)
async def test_what_it_cannot_do_is_refused(tmp_path: Path, key: str) -> None:
    """A policy that asks who the client is, or for a parent, is not one to enforce without that."""
    (tmp_path / "users").write_text("")
    (tmp_path / "policy.yaml").write_text(f"version: 1\nproxy: {{{key}}}\n")
    addon = Standalone()
    with taddons.context(addon) as context:  # type: ignore[no-untyped-call]  # mitmproxy's
        with pytest.raises(exceptions.OptionsError, match="need 'gateway proxy'"):
            context.configure(addon, egress_config=str(tmp_path / "policy.yaml"))
        assert addon.gate is None
