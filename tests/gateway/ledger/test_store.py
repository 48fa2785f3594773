"""Reading while others write, rotate and crash."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import Event
from gateway.ledger.event import encode
from gateway.ledger.store import Store, parse
from gateway.ledger.text import timestamp
from tests.gateway.ledger.samples import wait_for

ROOT = Path(__file__).parents[3]
_WRITE = """
import sys
from pathlib import Path
from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Ledger
from gateway.request import Tunnel
from tests.gateway.ledger.samples import CLIENT
folder, worker, total, rotate = Path(sys.argv[1]), *map(int, sys.argv[2:])
denied = Decision(Verdict.DENY, Reason.PORT)
ledger = Ledger(folder, "proxy", worker, rotate=rotate)
for number in range(total):
    ledger.record(Tunnel(client=CLIENT, host="h%d.w%d.example" % (number, worker), port=1), denied)
    if number % 100 == 99:
        assert ledger.flush(30)
assert ledger.close(30)
"""


def _write(folder: Path, worker: int, total: int, rotate: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _WRITE, str(folder), str(worker), str(total), str(rotate)]
    return subprocess.Popen(command, cwd=ROOT)


def _line(now: float, number: int = 0) -> bytes:
    return encode({"@timestamp": timestamp(now), "n": number})


def _numbers(events: list[Event]) -> list[object]:
    return [event["n"] for event in events]


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    """Rotated and current files of all roles come out as one stream in the order of time."""
    (tmp_path / "dns-0.20010101T000000000000Z.jsonl").write_bytes(_line(1, 1) + _line(4, 4))
    (tmp_path / "dns-0.20010102T000000000000Z.jsonl").write_bytes(_line(5, 5))
    (tmp_path / "dns-0.jsonl").write_bytes(_line(8, 8))
    (tmp_path / "proxy-1.jsonl").write_bytes(_line(2, 2) + _line(3, 3) + _line(6, 6) + _line(9, 9))
    (tmp_path / "notes.txt").write_text("not ours")
    store = Store(tmp_path)
    assert _numbers(list(store.read())) == [1, 2, 3, 4, 5, 6, 8, 9]
    assert _numbers(list(store.read(since=3, until=8))) == [3, 4, 5, 6]
    assert store.unreadable == 0


def test_a_clock_set_back_hides_nothing(tmp_path: Path) -> None:
    """Lines out of order in one file are all read, and asked for by their own time."""
    (tmp_path / "dns-0.jsonl").write_bytes(_line(100, 1) + _line(10, 2) + _line(101, 3))
    assert sorted(map(str, _numbers(list(Store(tmp_path).read())))) == ["1", "2", "3"]
    assert _numbers(list(Store(tmp_path).read(until=50))) == [2]


def test_a_missing_folder_is_an_empty_ledger(tmp_path: Path) -> None:
    """There is nothing to read, and that is no error."""
    assert list(Store(tmp_path / "none").read()) == []


def test_unreadable_lines_are_counted(tmp_path: Path) -> None:
    """Torn, foreign and oversized lines are counted; blank ones and an unfinished last one are not."""
    bad = [b'{"@timest', b"\x00\x00", b"[1]", b'{"a":1}', b'{"@timestamp":1}', b"x" * (3 << 20), b"[" * 100_000]
    (tmp_path / "dns-0.jsonl").write_bytes(b"\n".join([*bad, b"", _line(5, 5)]) + b'{"@timestamp":"20')
    (tmp_path / "dns-1.20010102T000000000000Z.jsonl").write_bytes(_line(1, 1) + b'{"@times')
    store = Store(tmp_path)
    assert _numbers(list(store.read())) == [1, 5]
    assert store.unreadable == len(bad) + 1


@given(st.binary())
def test_any_bytes_can_be_parsed(line: bytes) -> None:
    """Whatever is in a file is an event or nothing."""
    found = parse(line)
    assert found is None or isinstance(found["@timestamp"], str)


def test_following_sees_what_is_added(tmp_path: Path) -> None:
    """Following goes on with lines, halves of lines, rotated, new, removed and replaced files; none twice."""
    current = tmp_path / "dns-0.jsonl"
    current.write_bytes(_line(1, 1))

    def append(path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    def rotate(stamp: int) -> None:
        current.rename(tmp_path / f"dns-0.2001010{stamp}T000000000000Z.jsonl")

    def move_twice() -> None:
        append(current, _line(3, 3))
        rotate(1)
        append(current, _line(4, 4))
        rotate(2)

    def move_and_begin() -> None:
        rotate(3)
        append(tmp_path / "proxy-0.jsonl", _line(7, 7))
        append(current, _line(6, 6))

    def replace() -> None:
        for path in tmp_path.iterdir():
            path.unlink()
        append(current, _line(9, 9))

    half = _line(5, 5)
    steps: Iterator[Callable[[], None]] = iter(
        (
            lambda: append(current, _line(2, 2)),
            move_twice,
            lambda: append(current, half[:9]),
            lambda: append(current, half[9:]),
            move_and_begin,
            lambda: append(tmp_path / "proxy-0.jsonl", _line(8, 8)),
            replace,
            lambda: None,
        )
    )
    over = False

    def pause(_: float) -> None:
        nonlocal over
        step = next(steps, None)
        if step is None:
            over = True
        else:
            step()

    store = Store(tmp_path)
    assert _numbers(list(store.follow(stop=lambda: over, pause=pause))) == list(range(1, 10))
    assert store.unreadable == 0


def test_following_survives_rotation_under_load(tmp_path: Path) -> None:
    """Two processes write and rotate while one reader follows: every line comes once; reading agrees."""
    total = 3000
    seen: list[object] = []
    store = Store(tmp_path)

    def follow() -> None:
        seen.extend(
            event["destination.domain"]
            for event in store.follow(stop=lambda: len(seen) >= 2 * total or stopped.is_set(), poll=0.001)
        )

    stopped = threading.Event()
    reader = threading.Thread(target=follow)
    writers = [_write(tmp_path, worker, total, 20_000) for worker in range(2)]
    reader.start()
    assert [writer.wait(50) for writer in writers] == [0, 0]
    expected = {f"h{number}.w{worker}.example" for worker in range(2) for number in range(total)}
    again = [event["destination.domain"] for event in Store(tmp_path).read()]
    assert len(again) == 2 * total
    assert set(again) == expected
    assert len(list(tmp_path.iterdir())) > 20
    # `seen` grows only when the generator is advanced, so the reader stops by itself once it has everything.
    reader.join(10)
    stopped.set()
    reader.join(10)
    assert len(seen) == 2 * total
    assert set(seen) == expected
    assert store.unreadable == 0


def test_a_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
    """After kill -9 every whole line is readable, and the next process with that name goes on after it."""
    writer = _write(tmp_path, 0, 10_000_000, 1 << 30)
    path = tmp_path / "proxy-0.jsonl"
    wait_for(lambda: path.exists() and path.stat().st_size > 200_000)
    writer.send_signal(signal.SIGKILL)
    writer.wait(20)
    whole = path.read_bytes().count(b"\n")
    names = [event["destination.domain"] for event in Store(tmp_path).read()]
    assert names == [f"h{number}.w0.example" for number in range(whole)]
    assert _write(tmp_path, 0, 5, 1 << 30).wait(30) == 0
    store = Store(tmp_path)
    assert len(list(store.read())) == whole + 5
    assert store.unreadable <= 1
