"""The specification: every row of the corpus, through `Policy.decide`."""

from collections import Counter

import pytest

from gateway.decision import Reason
from tests.corpus import Row, load_rows

ROWS = load_rows()

ELSEWHERE = {
    Reason.NAME_UNRESOLVABLE,
    Reason.UPSTREAM_FAILURE,
    Reason.UPLOAD_BUDGET,
    Reason.DNS_TUNNEL,
    Reason.LEAK_BUDGET,
    Reason.RATE_LIMIT,
    Reason.AUTH_REQUIRED,
    Reason.AUTH_FAILED,
}
"""Reasons that shells and accounts give; the core only passes them on."""


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_decision(row: Row) -> None:
    """The decision is the one that the row says, for the reason that it says."""
    decision = row.policy().decide(row.request())
    assert not row.expect.differences(decision), decision


def test_names_are_sentences_of_their_own() -> None:
    """No two rows have the same name, and none has a name that is only a label."""
    counts = Counter(row.name for row in ROWS)
    assert not [name for name, count in counts.items() if count > 1]
    assert not [name for name in counts if len(name.split()) < 3]


def test_every_reason_of_the_core_has_a_row() -> None:
    """Each reason that the core can give is given in some row."""
    assert {row.expect.reason for row in ROWS} >= set(Reason) - ELSEWHERE


def test_there_are_enough_rows_of_each_kind() -> None:
    """Every stage has its rows, and the corpus does not shrink."""
    kinds = Counter(row.kind for row in ROWS)
    assert kinds.keys() == {"dns", "answer", "tunnel", "hello", "http", "dial", "response"}
    assert min(kinds.values()) >= 10
    assert kinds.total() >= 400
