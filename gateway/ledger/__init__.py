"""The decision ledger: one line of JSON for everything denied, for what allowed traffic moved, and every change."""

from gateway.ledger.event import Event, Outcome
from gateway.ledger.recorder import Ledger, LedgerStatus, Receipt, Written

__all__ = ["Event", "Ledger", "LedgerStatus", "Outcome", "Receipt", "Written"]
