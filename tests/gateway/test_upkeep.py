"""The refresh job of an installation, with its ledger."""

import time
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Event, Ledger, Outcome
from gateway.ledger.store import Store
from gateway.upkeep import bootstrap, run_refresh
from tests.builders import a_query, a_tunnel

POLICY = """
version: 1
state_dir: state
ledger: {allowed_dns: true}
dns: {upstreams: ["udp://192.0.2.53"], listen: ["udp://127.0.0.1:5335"]}
lists:
  ours: {path: ours.txt, format: domains, categories: [malware]}
policy:
  default: {proxy: allow, dns: allow}
  rules:
    - {name: threats, action: deny, to: {categories: [malware]}}
"""
ALLOWED = Decision(Verdict.ALLOW, Reason.DEFAULT_ALLOW)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A policy with one list, compiled, and a ledger in which two names were used."""
    (tmp_path / "gateway.yaml").write_text(POLICY)
    (tmp_path / "ours.txt").write_text("bad.example\n")
    made = load(tmp_path / "gateway.yaml")
    run_refresh(made, now=time.time())
    with Ledger(made.state_dir / "ledger", role="dns", allowed_dns=True) as ledger:
        ledger.record(a_query("www.used.example"), ALLOWED)
        ledger.record(a_tunnel("fine.example"), ALLOWED, Outcome())
    return made


def changes(config: Config, action: str) -> list[Event]:
    """Return the lines of the ledger about changes of one kind."""
    return [event for event in Store(config.ledger_folder).read() if event["event.action"] == action]


def test_a_refresh_looks_before_and_after(config: Config) -> None:
    """A name that was used and is newly listed is told before the swap as impact, and after it as a sighting."""
    (config.path.parent / "ours.txt").write_text("bad.example\nused.example\n")
    preview, steward = run_refresh(config, now=time.time(), preview=True)
    assert preview.impact is not None
    assert [(denial.target, denial.feed, denial.rule) for denial in preview.impact.denials] == [
        ("www.used.example", "ours", "threats")
    ]
    assert (preview.impact.destinations, preview.swapped, steward.sightings) == (2, False, ())
    report, steward = run_refresh(config, now=time.time())
    assert report.swapped
    assert [(found.client, found.indicator) for found in steward.sightings] == [("10.1.0.5", "www.used.example")]
    (line,) = changes(config, "feed-hunt")
    assert line["gateway.change.indicator"] == "www.used.example"
    assert line["message"] == "10.1.0.5 resolved www.used.example, which feed ours now lists (.used.example)"
    assert [event["gateway.change.feed"] for event in changes(config, "feed-changed")] == ["ours", "ours"]
    assert len(changes(config, "lists-swapped")) == 2


def test_nothing_new_writes_nothing(config: Config) -> None:
    """A refresh that changes nothing leaves no line in the ledger."""
    before = len(list(Store(config.state_dir / "ledger").read()))
    run_refresh(config, now=time.time())
    assert len(list(Store(config.state_dir / "ledger").read())) == before


def test_a_list_that_cannot_be_had_is_recorded(config: Config) -> None:
    """What kept its last good copy is in the ledger, with the reason."""
    (config.path.parent / "ours.txt").unlink()
    run_refresh(config, now=time.time())
    (line,) = changes(config, "feed-kept")
    assert "cannot be read" in str(line["message"])


async def test_publishers_are_found_without_ourselves(config: Config) -> None:
    """The refresh asks the upstreams of the policy file itself."""
    resolver = bootstrap(config)
    await resolver.close()
