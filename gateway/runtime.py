"""The one runtime object of a process: the policy in force and the ledger, swapped whole and never half.

Every request is decided here, so that an enforcement point cannot use a policy of its own, and cannot forget to
record what was denied.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config import Config, load
from gateway.decision import Decision
from gateway.feeds.snapshot import Snapshot
from gateway.ledger import Ledger, Repeats
from gateway.policy import Policy
from gateway.request import DnsQuery, Request

_LOG = logging.getLogger(__name__)
_NOTHING = Repeats("", {}, 0.0, open=False)


@dataclass(frozen=True, slots=True)
class State:
    """What is in force: configuration, lists and the policy compiled from both. Immutable."""

    config: Config
    policy: Policy
    snapshot: Snapshot | None
    generation: int = 1
    """Counts the states of this process."""
    stamp: tuple[int, int] | None = None
    """Identity of the snapshot file, to see when another has taken its place."""


def open_ledger(config: Config, role: str, worker: int = 0) -> Ledger:
    """Open the ledger of an installation, for one process to write to."""
    settings = config.file.ledger
    return Ledger(
        config.ledger_folder,
        role,
        worker,
        rotate=settings.rotate,
        keep=settings.keep,
        allowed_dns=settings.allowed_dns,
    )


def snapshot_stamp(config: Config) -> tuple[int, int] | None:
    """Return what identifies the snapshot file on disk now; None when there is none."""
    try:
        found = config.snapshot_path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def load_state(path: Path, generation: int) -> State:
    """Load the policy file and the snapshot it goes with.

    Raises:
        ConfigError: the policy file is not good.
        SnapshotError: the snapshot is damaged, or does not exist though the policy has feeds.
    """
    config = load(path)
    stamp = snapshot_stamp(config)
    snapshot = Snapshot.open(config.snapshot_path) if config.active_feeds else None
    return State(config, config.policy(snapshot), snapshot, generation, stamp)


@dataclass(slots=True)
class Reloads:
    """What became of reloads in this process."""

    done: int = 0
    refused: int = 0


@dataclass(slots=True)
class Runtime:
    """Holds the current state of a process."""

    state: State
    ledger: Ledger = field(repr=False)
    reloads: Reloads = field(default_factory=Reloads)

    @property
    def generation(self) -> int:
        """Counts the states that were in force."""
        return self.state.generation

    def decide(self, request: Request) -> Decision:
        """Return the verdict of the policy in force."""
        return self.state.policy.decide(request)

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Decide, and record what is denied or would be. Returns the decision and its id in the ledger.

        The id is empty when nothing was recorded: an allowed request is recorded at its end, with what it moved.
        """
        decision = self.state.policy.decide(request)
        if decision.denied or not decision.enforced or decision.reported:
            return decision, self.ledger.record(request, decision)
        return decision, ""

    def judge_query(self, request: DnsQuery) -> tuple[Decision, Repeats]:
        """Decide and record as `judge` does. The decision may have a blank for the list entry, which is in the record
        (see `Policy.decide_query`). Repeats may be counted where that is open; nothing recorded has no id.
        """
        decision, matched = self.state.policy.decide_query(request)
        if decision.denied or not decision.enforced or decision.reported:
            return decision, self.ledger.enter_query(request, decision, matched)
        return decision, _NOTHING

    def swap(self, state: State) -> None:
        """Put a new state in force. One assignment: every decision sees the old state whole or the new one whole."""
        self.state = state
        self.ledger.generation = state.generation
        self.reloads.done += 1
        self.ledger.change("policy-loaded", f"policy generation {state.generation} is in force")
        _LOG.info("policy generation %s is in force", state.generation)
