"""What is told to whoever starts a gateway."""

from pathlib import Path

import pytest

from gateway.config import load
from gateway.reports.serving import welcome


@pytest.mark.parametrize(
    ("closed", "said", "silent"),
    [("dns", "curl -x http://127.0.0.1:3128", "dig"), ("proxy", "dig @127.0.0.1 -p 5335", "curl")],
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
