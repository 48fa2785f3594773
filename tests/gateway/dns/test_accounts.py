"""Tests for gateway.dns.accounts: accounts that several workers share, and that outlive them."""

import multiprocessing
from pathlib import Path

import pytest

from gateway.dns.accounts import open_table
from gateway.tunnelling.accounts import size
from gateway.tunnelling.data import character_model, popular
from gateway.tunnelling.detector import Detector, windows
from gateway.tunnelling.priors import Priors
from gateway.tunnelling.window import DEFAULT_BUDGET, Limit

SECONDS = windows(DEFAULT_BUDGET)
FILE = "accounts-3600-86400-3600"


def a_worker(state_dir: Path, budget: tuple[Limit, ...] = DEFAULT_BUDGET) -> Detector:
    """Return a worker's detector."""
    table = open_table(state_dir, windows(budget), 1000)
    assert table is not None
    return Detector(character_model(), Priors(popular()), budget=budget, table=table)


def test_workers_find_the_same_table(tmp_path: Path) -> None:
    """What one worker has allowed counts for another, also when the first is gone."""
    one, two = a_worker(tmp_path), a_worker(tmp_path)
    assert one.query(1000, "c", "first.evilzone.com", 1).octets > 0
    assert two.query(1001, "c", "first.evilzone.com", 1).octets == 0
    del one, two
    assert a_worker(tmp_path).query(1002, "c", "first.evilzone.com", 1).octets == 0


def _ask(state_dir: Path, number: int, told: "multiprocessing.Queue[float]") -> None:
    detector = a_worker(state_dir)
    total = 0.0
    for index in range(300):
        found = detector.query(1000 + index / 100, "c", f"{number}x{index:04d}.orders.shopfloor.biz", 1)
        total += 0 if found.denied else found.octets
    told.put(total)


def test_the_bound_holds_for_all_workers_together(tmp_path: Path) -> None:
    """Four processes at once let a client tell a zone no more than its budget, all in all."""
    spawn = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[float] = spawn.Queue()
    processes = [spawn.Process(target=_ask, args=(tmp_path, number, told)) for number in range(4)]
    for process in processes:
        process.start()
    totals = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert 60 < sum(totals) <= 120


@pytest.mark.parametrize("junk", [b"", b"x" * 100, b"\xff" * size(3)], ids=["empty", "torn", "foreign"])
def test_a_file_that_cannot_be_right_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, junk: bytes
) -> None:
    """It is replaced by an empty table, with one line that says so; a restart then goes on with that one."""
    (tmp_path / "tunnelling").mkdir()
    (tmp_path / "tunnelling" / FILE).write_bytes(junk)
    for octets in (True, False):
        assert (a_worker(tmp_path).query(1000, "c", "first.evilzone.com", 1).octets > 0) is octets
    assert (tmp_path / "tunnelling" / FILE).stat().st_size == size(3)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ([f"{tmp_path}/tunnelling/{FILE} is torn, or of another version: accounts of what names tell "
                      "begin anew"] if junk else [])  # fmt: skip


def test_a_torn_file_of_other_windows_is_not_taken_over(tmp_path: Path) -> None:
    """Whatever is called like a table: it goes."""
    (tmp_path / "tunnelling").mkdir()
    for name in ("accounts-60-3600", "accounts-x"):
        (tmp_path / "tunnelling" / name).write_bytes(b"x")
    a_worker(tmp_path)
    assert [path.name for path in sorted((tmp_path / "tunnelling").iterdir())] == [FILE, "key"]


def test_other_windows_take_over_what_there_is(tmp_path: Path) -> None:
    """A reload or a restart with another `leak_budget` opens no zone, and leaves one file."""
    data = "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com"
    assert a_worker(tmp_path).query(1000, "c", data, 16).denied
    other = a_worker(tmp_path, (Limit(200, 7200),))
    assert other.query(1001, "c", "www.evilzone.com", 1).denied
    assert not other.query(1001, "d", "www.evilzone.com", 1).denied
    assert [path.name for path in sorted((tmp_path / "tunnelling").iterdir())] == ["accounts-7200-3600", "key"]


def test_without_a_place_to_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no file can be made, workers go on by themselves, and say so."""
    (tmp_path / "tunnelling").write_text("in the way")
    assert open_table(tmp_path, SECONDS, 1000) is None
    assert "not shared between workers" in caplog.text
