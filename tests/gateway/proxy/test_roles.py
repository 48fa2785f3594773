"""Tests of `gateway.proxy.roles`: the real parts fit where tests put stand-ins.

The assignments are checked by mypy; running them shows that what is promised is there.
"""

from pathlib import Path

import pytest

from gateway.dns.forwarder import ResolutionError
from gateway.dns.resolver import Resolver as DnsResolver
from gateway.ledger import Ledger
from gateway.proxy import roles
from gateway.runtime import Runtime, load_state
from tests.builders import a_tunnel


async def test_the_runtime_and_its_resolver_play_the_roles(tmp_path: Path) -> None:
    """A runtime judges, its ledger records, its resolver resolves, its configuration has the proxy's section."""
    (tmp_path / "gateway.yaml").write_text(
        "version: 1\nstate_dir: state\ndns: {records: {good.test: [192.0.2.1]}, upstreams: ['udp://127.0.0.1:9']}\n"
    )
    with Ledger(tmp_path / "state" / "ledger", "proxy") as ledger:
        runtime = Runtime(load_state(tmp_path / "gateway.yaml", 1), ledger)
        judge: roles.Judge = runtime
        recorder: roles.Ledger = judge.ledger
        settings: roles.Settings = lambda: runtime.state.config.file.proxy  # noqa: E731 - as the server makes it
        core = DnsResolver.from_runtime(runtime)
        resolver: roles.Resolver = core
        try:
            decision, decision_id = judge.judge(a_tunnel())
            assert decision.denied
            assert decision_id
            assert decision == judge.decide(a_tunnel())
            assert recorder.record(a_tunnel(), decision) != decision_id
            assert settings().limits.headers == 100
            resolution: roles.Resolution = await resolver.lookup("good.test", a_tunnel().client)
            assert [str(address) for address in resolution.addresses] == ["192.0.2.1"]
            assert resolution.chain == ()
            with pytest.raises(ResolutionError):
                await resolver.lookup("single", a_tunnel().client)
        finally:
            await core.close()
