"""The thread that writes: batches, trouble, recovery."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.ledger.backlog import Backlog
from gateway.ledger.event import Event
from gateway.ledger.file import LedgerFile
from gateway.ledger.losses import Loss, Span
from gateway.ledger.writer import Writer
from tests.gateway.ledger.samples import wait_for

LOSS = Loss(verdict="deny", enforced=True, reason="listed", rule="", client="", span=Span(count=3, first=1, last=2))


def _describe(loss: Loss) -> Event:
    return {"lost": loss.span.count}


def _writer(directory: Path, backlog: Backlog) -> Writer:
    file = LedgerFile(directory, "dns", 0, rotate=1 << 20, keep=1e9)
    return Writer(file, backlog, clock=lambda: 1e9, prepare=lambda _: False, describe=_describe)


def _lines(directory: Path) -> list[Event]:
    return [json.loads(line) for line in (directory / "dns-0.jsonl").read_bytes().splitlines()]


def test_lines_and_counts_are_written(tmp_path: Path) -> None:
    """Lines are written in order, then the counts of what found no room; all of it once."""
    backlog = Backlog()
    writer = _writer(tmp_path, backlog)
    for number in range(2000):
        backlog.put({"n": number})
    assert writer.flush(20.0)
    backlog.fold(LOSS)
    assert writer.flush(20.0)
    assert _lines(tmp_path) == [*({"n": number} for number in range(2000)), {"lost": 3}]
    assert writer.written == 2001
    assert writer.close(20.0)
    assert not writer.flush(0.0)


def test_trouble_is_told_and_got_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the folder cannot be made the writer tries on, says what and where once, and writes all when it can."""
    (tmp_path / "state").write_text("in the way")
    backlog = Backlog()
    with caplog.at_level(logging.WARNING):
        writer = _writer(tmp_path / "state" / "ledger", backlog)
        backlog.put({"n": 1})
        wait_for(lambda: writer.trouble != "")
        assert not writer.flush(0.3)
        (tmp_path / "state").unlink()
        wait_for(lambda: writer.written == 1)
        wait_for(lambda: writer.trouble == "")
    assert writer.close(20.0)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert str(tmp_path) in told[0]
    assert "nothing needs restarting" in told[0]
    assert "works again" in told[1]


def test_closing_in_trouble_ends_and_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When writing is impossible to the end, closing ends in time and the log has the number of records lost."""
    (tmp_path / "state").write_text("in the way")
    backlog = Backlog()
    writer = _writer(tmp_path / "state" / "ledger", backlog)
    backlog.put({"n": 1})
    backlog.fold(LOSS)
    assert not writer.close(0.2)
    assert "4 records" in caplog.text


def test_an_odd_value_does_not_cost_the_batch(tmp_path: Path) -> None:
    """A line that JSON cannot hold is written as text, and those around it as they are."""
    backlog = Backlog()
    writer = _writer(tmp_path, backlog)
    values: tuple[object, ...] = (1, {1}, 3)
    for value in values:
        backlog.put({"n": value})
    assert writer.close(20.0)
    assert _lines(tmp_path) == [{"n": 1}, {"n": "{1}"}, {"n": 3}]


def test_a_stumble_does_not_end_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen exception in a round is logged, and the next round writes."""
    backlog = Backlog()
    stumbles = iter((True, False, False, False))

    def prepare(_: bool) -> bool:
        if next(stumbles, False):
            raise RuntimeError("unforeseen")
        return False

    file = LedgerFile(tmp_path, "dns", 0, rotate=1 << 20, keep=1e9)
    writer = Writer(file, backlog, clock=lambda: 1e9, prepare=prepare, describe=_describe)
    backlog.put({"n": 1})
    wait_for(lambda: writer.written == 1)
    assert writer.close(20.0)
    assert "stumbled" in caplog.text


_FULL = """
import json, os, resource, subprocess, sys
from pathlib import Path
from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Ledger
from gateway.ledger.query import count_of
from gateway.ledger.store import Store
from gateway.request import Tunnel
from tests.gateway.ledger.samples import CLIENT, wait_for

how, folder = sys.argv[1], Path(sys.argv[2])
filler = folder / "filler"
if how == "tmpfs":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=True)
    def fill():
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
    def free():
        filler.unlink()
else:
    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    def free():
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

denied = Decision(Verdict.DENY, Reason.PORT, rule="r")
def record(ledger, first, last):
    for number in range(first, last):
        ledger.record(Tunnel(client=CLIENT, host="h%d.example" % number, port=1), denied)

ledger = Ledger(folder / "ledger", "proxy", backlog=20, clock=lambda: 1e9)
record(ledger, 0, 5)
assert ledger.flush()
fill()
record(ledger, 5, 15)
wait_for(lambda: ledger.status().trouble != "")
record(ledger, 15, 1000)
assert ledger.status().folded > 0
free()
wait_for(lambda: ledger.status().trouble == "")
record(ledger, 1000, 1003)
assert ledger.close()
store = Store(folder / "ledger")
events = list(store.read())
assert store.unreadable == 0, store.unreadable
assert (folder / "ledger" / "proxy-0.jsonl").read_bytes().endswith(b"}\\n")
assert sum(map(count_of, events)) == 1003, sum(map(count_of, events))
names = [event["destination.domain"] for event in events if "destination.domain" in event]
assert len(set(names)) == len(names)
assert names[:15] == ["h%d.example" % number for number in range(15)], names
assert names[-3:] == ["h%d.example" % number for number in range(1000, 1003)]
gaps = [event for event in events if event["event.action"] == "ledger-gap"]
assert gaps and all(gap["rule.name"] == "r" and gap["source.ip"] == "10.2.0.7" for gap in gaps)
"""


@pytest.mark.parametrize("how", ["tmpfs", "limit"])
def test_a_full_disk_loses_no_count(tmp_path: Path, how: str) -> None:
    """On a disk that fills up, lines stay whole, traffic goes on, and afterwards every denial is counted exactly."""
    command = [sys.executable, "-c", _FULL, how, str(tmp_path)]
    if how == "tmpfs":
        private = ["unshare", "--user", "--map-root-user", "--mount"]
        mount = "mount -t tmpfs -o size=64k none /mnt"
        if subprocess.run([*private, "sh", "-c", mount], capture_output=True, check=False).returncode:
            command[3] = "limit"  # a container without mounts: the limit gives the same error, at the same place
        else:
            command = [*private, *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
