"""The runtime object: what is recorded, and how a policy is swapped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import load
from gateway.decision import Decision, Reason, Verdict
from gateway.document import ConfigError
from gateway.feeds.snapshot import SnapshotError
from gateway.ledger import Ledger
from gateway.ledger.store import Store
from gateway.runtime import Runtime, load_state, open_ledger, snapshot_stamp
from tests.builders import a_query, a_tunnel

ALLOW_ONE = """
version: 1
state_dir: state
policy:
  default: {proxy: deny}
  rules:
    - {name: watched, action: deny, mode: report, tools: [curl]}
    - {name: one, action: allow, to: {domains: [www.example.com]}}
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """A runtime with one allowed host."""
    (tmp_path / "gateway.yaml").write_text(ALLOW_ONE)
    with Ledger(tmp_path / "state" / "ledger", "proxy") as ledger:
        yield Runtime(load_state(tmp_path / "gateway.yaml", 1), ledger)


def recorded(runtime: Runtime) -> list[tuple[object, object]]:
    """Return id and reason of every line in the ledger."""
    assert runtime.ledger.flush()
    store = Store(runtime.state.config.state_dir / "ledger")
    return [(event["event.id"], event.get("event.reason")) for event in store.read()]


def test_a_denial_is_recorded_once_and_its_id_returned(runtime: Runtime) -> None:
    """The id that a client is shown finds the line."""
    decision, decision_id = runtime.judge(a_tunnel("other.example.com"))
    assert decision.denied
    assert recorded(runtime) == [(decision_id, "default-deny")]


def test_an_allowed_request_is_not_recorded_before_its_end(runtime: Runtime) -> None:
    """What it moved is known only then."""
    decision, decision_id = runtime.judge(a_tunnel())
    assert (decision.denied, decision_id) == (False, "")
    assert recorded(runtime) == []


def test_what_a_rule_on_trial_would_deny_is_recorded(runtime: Runtime) -> None:
    """Report mode lets pass and leaves a line."""
    decision, decision_id = runtime.judge(a_tunnel(user_agent="curl/8"))
    assert not decision.denied
    assert [line for line, _ in recorded(runtime)] == [decision_id]


def test_a_swap_is_whole_and_recorded(runtime: Runtime, tmp_path: Path) -> None:
    """The next decision is the new policy's, and the ledger says since when."""
    (tmp_path / "gateway.yaml").write_text(ALLOW_ONE.replace("www.example.com", "other.example.com"))
    runtime.swap(load_state(tmp_path / "gateway.yaml", 2))
    assert not runtime.decide(a_tunnel("other.example.com")).denied
    assert runtime.decide(a_tunnel()).denied
    assert len(recorded(runtime)) == 1
    assert runtime.reloads.done == 1


def test_a_policy_that_raises_denies(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault injection: whatever breaks inside a decision, the answer is no, and it is recorded."""

    def broken(*_: object) -> Decision:
        raise RuntimeError("injected")

    monkeypatch.setattr(type(runtime.state.policy), "_decide", broken)
    decision, decision_id = runtime.judge(a_tunnel())
    assert decision.denied
    assert decision.reason is Reason.INTERNAL_ERROR
    assert recorded(runtime) == [(decision_id, "internal-error")]


def test_a_bad_policy_file_is_no_state(tmp_path: Path) -> None:
    """Loading raises what the worker reports; nothing is put in force."""
    (tmp_path / "gateway.yaml").write_text("version: 1\nbogus: 1\n")
    with pytest.raises(ConfigError, match="bogus"):
        load_state(tmp_path / "gateway.yaml", 1)


def test_lists_without_a_snapshot_are_no_state(tmp_path: Path) -> None:
    """A policy with lists is not loaded without them: its denials would be missing."""
    (tmp_path / "ours.txt").write_text("bad.example.com\n")
    (tmp_path / "gateway.yaml").write_text("version: 1\nlists: {ours: {path: ours.txt, format: domains}}\n")
    with pytest.raises(SnapshotError, match="gateway refresh"):
        load_state(tmp_path / "gateway.yaml", 1)


def test_the_stamp_follows_the_file(runtime: Runtime) -> None:
    """Another file in the snapshot's place has another stamp, and none has none."""
    path = runtime.state.config.snapshot_path
    path.parent.mkdir(exist_ok=True)  # the ledger makes it too, in its own time
    assert snapshot_stamp(runtime.state.config) is None
    path.write_bytes(b"one")
    first = snapshot_stamp(runtime.state.config)
    path.with_name("new").write_bytes(b"two")
    path.with_name("new").replace(path)
    assert snapshot_stamp(runtime.state.config) not in (None, first)


@pytest.mark.parametrize("allowed_dns", [True, False])
def test_the_ledger_is_kept_as_the_policy_file_says(tmp_path: Path, allowed_dns: bool) -> None:
    """Allowed queries are recorded where that is asked for, in the file of this process."""
    text = f"version: 1\nstate_dir: state\nledger: {{allowed_dns: {str(allowed_dns).lower()}}}\n"
    (tmp_path / "gateway.yaml").write_text(text)
    with open_ledger(load(tmp_path / "gateway.yaml"), "dns", 3) as ledger:
        ledger.record(a_query("www.example.com"), Decision(Verdict.ALLOW, Reason.DEFAULT_ALLOW))
    assert bool((tmp_path / "state/ledger/dns-3.jsonl").read_text()) is allowed_dns
