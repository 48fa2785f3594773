"""A gateway with lists, for commands about lists."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Ledger
from tests.builders import a_query

POLICY = """
version: 1
state_dir: state
ledger: {allowed_dns: true}
lists:
  ours: {path: ours.txt, format: domains, categories: [malware]}
  nets: {path: nets.txt, format: addresses, categories: [c2]}
policy:
  default: {proxy: deny, dns: allow}
  rules:
    - {name: threats, action: deny, to: {categories: [malware, c2]}}
"""


@pytest.fixture
def with_lists(tmp_path: Path) -> Path:
    """A policy with two compiled lists, and one name that was resolved."""
    (tmp_path / "ours.txt").write_text("bad.example\nnot a name\n")
    (tmp_path / "nets.txt").write_text("192.0.2.0/24\n")
    path = tmp_path / "gateway.yaml"
    path.write_text(POLICY)
    CliRunner().invoke(main, ["refresh", "-c", str(path), "--quiet"])
    with Ledger(tmp_path / "state/ledger", role="dns", allowed_dns=True) as ledger:
        ledger.record(a_query("www.used.example"), Decision(Verdict.ALLOW, Reason.DEFAULT_ALLOW))
    return path
