"""Tests for gateway.dns.accounts: accounts that several workers share, and that outlive them."""

import multiprocessing
from pathlib import Path

import pytest

from gateway.dns.accounts import open_table
from gateway.tunnelling.data import character_model, popular
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.priors import Priors

SECONDS = (3600.0, 86400.0)


def a_worker(state_dir: Path) -> Detector:
    """Return a worker's detector."""
    table = open_table(state_dir, SECONDS)
    assert table is not None
    detector = Detector(character_model(), Priors(popular()), key=table.key)
    detector.share(table)
    return detector


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


@pytest.mark.parametrize("junk", [b"", b"x" * 100, b"\xff" * 9_000_000], ids=["empty", "cut short", "too long"])
def test_a_file_of_another_size_is_made_anew(tmp_path: Path, junk: bytes) -> None:
    """A file that cannot be right is replaced by an empty table."""
    (tmp_path / "tunnelling").mkdir()
    (tmp_path / "tunnelling" / "accounts-3600-86400").write_bytes(junk)
    assert a_worker(tmp_path).query(0, "c", "first.evilzone.com", 1).octets > 0
    assert (tmp_path / "tunnelling" / "accounts-3600-86400").stat().st_size < 8_000_000


def test_without_a_place_to_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no file can be made, workers go on by themselves, and say so."""
    (tmp_path / "tunnelling").write_text("in the way")
    assert open_table(tmp_path, SECONDS) is None
    assert "not shared between workers" in caplog.text
