"""What is told to whoever starts a gateway."""

import json
from pathlib import Path

import pytest

from gateway.config import load
from gateway.reports.serving import welcome


@pytest.mark.parametrize(
    ("closed", "said", "silent"),
    [
        ("dns", "curl -x http://127.0.0.1:3128", "dig"),
        ("proxy", "dig @127.0.0.1 -p 5335", "curl"),
        ("proxy", "gateway explain -c gateway.yaml --dns dns.google", "https://"),
    ],
)
def test_the_welcome_speaks_of_what_listens(tmp_path: Path, closed: str, said: str, silent: str) -> None:
    """A part that listens nowhere is left out, and so is what to try there."""
    policy = tmp_path / "gateway.yaml"
    policy.write_text(f"version: 1\n{closed}: {{listen: []}}\n")
    told = "\n".join(welcome(load(policy), ("dns", "proxy"), "gateway", "gateway.yaml"))
    assert said in told
    assert silent not in told


def test_the_welcome_says_where_health_is(tmp_path: Path) -> None:
    """Only when somebody wanted to know it."""
    policy = tmp_path / "gateway.yaml"
    for key, there in (("", False), ("control: {}\n", True)):
        policy.write_text(f"version: 1\n{key}")
        told = "\n".join(welcome(load(policy), ("dns",), "gateway", "gateway.yaml"))
        assert ("http://127.0.0.1:9353/healthz" in told) == there


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        (["tls://127.0.0.1:8853", "udp://0.0.0.0:53"], "dig @127.0.0.1 -p 53 dns.google"),
        (["tcp://[::]:5335"], "dig +tcp @::1 -p 5335 dns.google"),
        (["tls://127.0.0.1:8853"], "dig +tls @127.0.0.1 -p 8853 dns.google"),
        (["https://127.0.0.1:8443/q"], "dig +https=/q @127.0.0.1 -p 8443 dns.google"),
    ],
)
def test_the_welcome_asks_as_the_listener_understands(tmp_path: Path, listen: list[str], said: str) -> None:
    """A plain listener first; an encrypted one by its protocol, and everywhere on loopback."""
    policy = tmp_path / "gateway.yaml"
    policy.write_text(
        f"version: 1\ndns: {{listen: {json.dumps(listen)}, certificate: {{cert: c, key: k}}}}\n"
        'proxy: {listen: ["0.0.0.0:3128"]}\n'
    )
    told = [line.strip() for line in welcome(load(policy), ("dns", "proxy"), "gateway", "gateway.yaml")]
    assert said in told
    assert "curl -x http://127.0.0.1:3128 https://example.com/" in told
