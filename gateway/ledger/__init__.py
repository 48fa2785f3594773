"""The decision ledger: one line of JSON for everything denied, for what allowed traffic moved, and every change."""

from gateway.ledger.event import Event, Outcome
from gateway.ledger.recorder import Ledger, LedgerStatus
from gateway.ledger.rollup import Repeats

__all__ = ["Event", "Ledger", "LedgerStatus", "Outcome", "Repeats"]
