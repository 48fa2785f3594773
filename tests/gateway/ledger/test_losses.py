"""Exact counts in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.losses import Loss, Losses, Span

losses = st.builds(
    Loss,
    verdict=st.sampled_from(("allow", "deny")),
    enforced=st.booleans(),
    reason=st.sampled_from(("listed", "port", "rule")),
    rule=st.text(max_size=2),
    client=st.text(max_size=2),
    span=st.builds(Span, count=st.integers(1, 9), first=st.floats(0, 10), last=st.floats(10, 20)),
)


@given(st.lists(losses), st.integers(0, 5))
def test_counts_add_up_and_memory_is_bounded(added: list[Loss], limit: int) -> None:
    """Each verdict and reason keeps its exact count, however few kinds are held apart, and every time is covered."""
    counts = Losses(limit)
    for loss in added:
        counts.add(loss)
    drained = counts.drain()
    assert len(drained) <= limit + 2 * 2 * 3
    for verdict in ("allow", "deny"):
        for reason in ("listed", "port", "rule"):
            kind = (verdict, reason)
            before = [each.span for each in added if (each.verdict, each.reason) == kind]
            after = [each.span for each in drained if (each.verdict, each.reason) == kind]
            assert sum(span.count for span in before) == sum(span.count for span in after)
            if before:
                assert min(span.first for span in before) == min(span.first for span in after)
                assert max(span.last for span in before) == max(span.last for span in after)
    assert not counts
    assert not counts.drain()
