"""Tests of `gateway.selfcheck.session`. A whole run is in tests/integration/test_selfcheck.py."""

import socket
from pathlib import Path

import pytest

from gateway.config import load
from gateway.selfcheck.session import POLICY, Setting, SetupError, check, proxy_place
from tests.peers.ports import free_port


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:3128", "http://127.0.0.1", "https://a:1", "http://a:99999", "http://:1"]
)
def test_no_proxy(url: str) -> None:
    """What is no URL of a proxy is refused, and what would be is said."""
    with pytest.raises(SetupError, match="give http://host:port"):
        proxy_place(url)


def test_a_proxy() -> None:
    """A URL names host and port."""
    assert proxy_place("http://127.0.0.1:3128") == ("127.0.0.1", 3128)


def test_policy(tmp_path: Path) -> None:
    """The policy that a proxy has to enforce is a good one."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(port=3128, dns="127.0.0.1:53", good="127.0.0.1", good_port=443, cap=100_000))
    assert [rule.name for rule in load(path).rules] == ["capped", "seen", "good"]


async def test_a_port_in_use() -> None:
    """Where the name server cannot listen, nothing is tried."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(SetupError, match="cannot listen"):
            await check(Setting("http://127.0.0.1:1", dns=taken.getsockname()))


async def test_a_proxy_that_is_not_there() -> None:
    """Nothing is tried on it: it would seem to resist everything but what is allowed."""
    with pytest.raises(SetupError, match=r"no proxy answers on 127\.0\.0\.1:\d+: Connection refused"):
        await check(Setting(f"http://127.0.0.1:{free_port()}"))
