"""What is remembered of a refresh."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.feeds.status import FILE, FeedStatus, Status, load_status, metrics, save_status

FEED = FeedStatus(
    name="a", outcome="kept", reason="HTTP 404", version="abc", categories=("malware",), entries=100, rejected=2,
    dropped=1, last_attempt=5000.0, last_success=1000.0, last_change=900.0, failures=3, max_age=3000.0,
)  # fmt: skip


def test_it_comes_back(tmp_path: Path) -> None:
    """What was stored is read back."""
    status = Status(refreshed=5000.0, swapped=1000.0, exit_code=1, seconds=2.5, octets=1400, feeds={"a": FEED})
    save_status(tmp_path, status)
    assert load_status(tmp_path) == status


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"feeds": []}', '{"feeds": {"a": {"name": "a", "x": 1}}}', '{"feeds": {}, "x": 1}']
)
def test_a_damaged_file_is_nothing(tmp_path: Path, text: str) -> None:
    """A file that is missing, half, or of another release says nothing."""
    assert load_status(tmp_path) == Status()
    (tmp_path / FILE).write_text(text)
    assert load_status(tmp_path) == Status()


@pytest.mark.parametrize(
    ("failures", "retry_after", "wait"),
    [(0, 0.0, 0), (1, 0.0, 300), (2, 0.0, 600), (4, 0.0, 2400), (6, 0.0, 3600), (99, 0.0, 3600), (1, 5000.0, 5000),
     (1, 1e9, 86400)],
)  # fmt: skip
def test_who_fails_is_asked_later_and_later(failures: int, retry_after: float, wait: int) -> None:
    """The pause doubles up to the feed's interval, and is never shorter than the publisher asks for, up to a day."""
    status = replace(FEED, failures=failures, retry_after=retry_after)
    assert status.wait(3600.0, 5000.0) == wait
    assert status.wait(3600.0, 5000.0 + wait / 2) == wait / 2
    assert status.wait(3600.0, 5000.0 + wait) == 0
    assert status.wait(3600.0, 4000.0) == 0, "a clock that was set back"


def test_age() -> None:
    """A copy is stale once it is older than it may be; without a copy there is no age."""
    assert (FEED.age(4000.0), FEED.is_stale(4000.0), FEED.is_stale(4001.0)) == (3000.0, False, True)
    assert (replace(FEED, version="").age(4000.0), replace(FEED, version="").is_stale(9e9)) == (None, False)
    assert not replace(FEED, max_age=None).is_stale(9e9)


def test_metrics() -> None:
    """Every number has a name of its own, and samples of one name come together."""
    status = Status(refreshed=5000.0, feeds={"a": FEED, "b": replace(FEED, name="b", version="")})
    found = list(metrics(status, 4500.0))
    assert [each.value for each in found if each.name == "feed_age_seconds"] == [3500.0]
    assert [each.labels for each in found if each.name == "feed_stale"] == [{"feed": "a"}, {"feed": "b"}]
    assert {each.name: each.value for each in found}["refresh_timestamp_seconds"] == 5000.0
    names = [each.name for each in found]
    assert names == sorted(names), "one block for each name"
    assert all(each.help for each in found)
