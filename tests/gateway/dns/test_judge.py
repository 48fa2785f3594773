"""Tests for gateway.dns.judge."""

import errno
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.config import load
from gateway.decision import Reason
from gateway.dns import judge as judging
from gateway.dns.judge import RuntimeJudge
from gateway.ledger import Ledger
from gateway.request import Client, DnsQuery
from gateway.runtime import Runtime, State
from tests.peers.tls_origin import make_certificate

POLICY = """
version: 1
clients: {{web: {{addresses: [10.1.0.0/16]}}, batch: {{addresses: [10.2.0.0/16]}}}}
dns: {{upstreams: {upstreams}, block: {{ttl: {ttl}}}}}
ledger: {{allowed_dns: true}}
policy:
  default: {{dns: allow}}
  rules:
    - {{name: forbidden, action: deny, to: {{domains: [bad.example]}}}}
"""


def state(folder: Path, *, ttl: str = "60s", upstreams: str = "[system]") -> State:
    """Return a state from a policy file."""
    path = folder / "gateway.yaml"
    path.write_text(POLICY.format(ttl=ttl, upstreams=upstreams))
    config = load(path)
    return State(config, config.policy(None), None)


def test_the_runtime_as_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions, records, views and settings come from the state in force, and change with it."""
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 192.0.2.1\n")
    monkeypatch.setattr(judging, "_RESOLV_CONF", resolv_conf)
    with Ledger(tmp_path / "ledger", "dns") as ledger:
        runtime = Runtime(state(tmp_path), ledger)
        judge = RuntimeJudge(runtime)
        web, other, batch = (Client(address=ip_address(text)) for text in ("10.1.0.1", "10.1.0.2", "10.2.0.1"))
        decision, record_id = judge.judge(DnsQuery(client=web, name="bad.example", qtype=1))
        assert (decision.denied, decision.reason) == (True, Reason.RULE)
        assert record_id
        assert judge.record(DnsQuery(client=batch, name="bad.example", qtype=1), decision) != record_id
        assert judge.view(web) == judge.view(other) != judge.view(batch)
        settings, generation = judge.settings, judge.generation
        assert [str(server) for server in settings.upstreams] == ["udp://192.0.2.1:53"]
        assert (settings.record_allowed, settings.block_ttl) == (True, 60)
        assert judge.settings is settings
        runtime.swap(state(tmp_path, ttl="5s"))
        assert judge.generation is not generation
        assert judge.settings.block_ttl == 5


def test_new_authorities_are_new_settings(tmp_path: Path) -> None:
    """What the file of authorities holds is read again with the policy, as SIGHUP does."""
    policy = tmp_path / "gateway.yaml"
    policy.write_text('version: 1\ndns: {upstream_ca: ca.pem, upstreams: ["tls://192.0.2.1"]}\n')
    seen = []
    with Ledger(tmp_path / "ledger", "dns") as ledger:
        for name in ("one.test", "two.test"):
            text = make_certificate(tmp_path / "ca.pem", name).read_text()
            config = load(policy)
            settings = RuntimeJudge(Runtime(State(config, config.policy(None), None), ledger)).settings
            assert settings.upstream_ca == text
            seen.append(settings)
    assert seen[0] != seen[1]


def test_nobody_to_ask_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a usable upstream the log says so, and the resolver still answers what it can."""
    monkeypatch.setattr(judging, "_RESOLV_CONF", tmp_path / "missing")
    with Ledger(tmp_path / "ledger", "dns") as ledger:
        judge = RuntimeJudge(Runtime(state(tmp_path), ledger))
        assert judge.settings.upstreams == ()
    assert "cannot be read" in caplog.text
    assert "nobody to ask" in caplog.text


def test_which_addresses_are_ours() -> None:
    """Loopback is ours, documentation addresses are not."""
    assert judging._is_local(ip_address("127.0.0.1"))
    assert not judging._is_local(ip_address("192.0.2.1"))


def test_a_host_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with an IPv6 address is none of ours where the system knows no such addresses: no cause to fail."""
    real = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    assert not judging._is_local(ip_address("::1"))
    assert judging._is_local(ip_address("127.0.0.1"))
