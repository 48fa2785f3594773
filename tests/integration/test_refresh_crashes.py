"""Refreshes that are killed, that meet, and that have no room: never a broken snapshot, never a mixed one."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gateway.feeds.snapshot import Snapshot
from tests.peers.namespace import ROOT, wait_until
from tests.peers.refresh_loop import LISTS, SIZE

GATEWAY = str(Path(sys.executable).parent / "gateway")
KILLS = 50
POLICY = """
version: 1
state_dir: state
lists:
  ours: {path: ours.txt, format: domains, categories: [malware]}
"""


def generation_of(path: Path) -> int:
    """Return the generation that a snapshot holds whole, and nothing else."""
    with Snapshot.open(path) as snapshot:
        assert snapshot.counts == dict.fromkeys(LISTS, SIZE)
        found = set()
        for name in LISTS:
            # The stored copy says which generation; the snapshot has to hold all of it.
            copy = path.parent / "feeds" / name / snapshot.sources[name]
            lines = copy.read_text().splitlines()
            assert all(snapshot.lookup_name(line)[0] for line in lines)
            found |= {int(generation) for generation in re.findall(r"\.g(\d+)\.", copy.read_text())}
    (generation,) = found
    return generation


@pytest.mark.timeout(240)
def test_killed_at_any_instant(tmp_path: Path) -> None:
    """kill -9 at fifty random instants: each time the snapshot is a whole one of one generation, and time goes on."""
    chance = random.Random(5)
    snapshot = tmp_path / "state" / "snapshot.egs"
    command = [sys.executable, "-m", "tests.peers.refresh_loop", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as loop:
        assert loop.stdin is not None
        assert loop.stdout is not None
        seen: list[int] = []
        usual = 0.0
        for kill in range(KILLS):
            print(1000 * kill, file=loop.stdin, flush=True)
            child = int(loop.stdout.readline())
            if not kill:
                begun = time.monotonic()
                wait_until(snapshot.exists, "the first snapshot")
                usual = time.monotonic() - begun
            time.sleep(chance.uniform(0, 3 * usual))  # until the instant of the accident
            os.kill(child, signal.SIGKILL)
            assert int(loop.stdout.readline()) == signal.SIGKILL, "it was still at work"
            seen.append(generation_of(snapshot))
        loop.stdin.close()
    assert seen == sorted(seen)
    assert len(set(seen)) > KILLS / 10, "some got through, and were in the middle of the next"


def prepared(folder: Path, count: int = 200) -> Path:
    """Return a policy with a list, not compiled yet."""
    (folder / "ours.txt").write_text("".join(f"old{number}.example\n" for number in range(count)))
    (folder / "gateway.yaml").write_text(POLICY)
    return folder / "gateway.yaml"


def test_several_at_once(tmp_path: Path) -> None:
    """Refreshes that meet wait for each other; all succeed, and the result is whole."""
    policy = prepared(tmp_path, 5000)
    command = [GATEWAY, "refresh", "-c", str(policy), "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    reports = [json.loads(process.communicate(timeout=50)[0]) for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sum(report["swapped"] for report in reports) == 1, "one compiled, the others found nothing new"
    with Snapshot.open(tmp_path / "state/snapshot.egs") as snapshot:
        assert snapshot.counts == {"ours": 5000}
    assert not list((tmp_path / "state").rglob(".tmp-*"))


SCRIPT = """
import asyncio, subprocess, sys, time
from pathlib import Path
from gateway.feeds.catalog import Feed
from gateway.feeds.refresh import refresh
from gateway.feeds.snapshot import Snapshot

folder = Path(sys.argv[1])
state = folder / "state"
feeds = {"ours": Feed.model_validate({"path": str(folder / "ours.txt"), "format": "domains"})}

def publish(prefix):
    (folder / "ours.txt").write_text("".join(f"{prefix}{number}.example\\n" for number in range(300)))

def step():
    report = asyncio.run(refresh(feeds, state, now=time.time()))
    with Snapshot.open(state / "snapshot.egs") as snapshot:
        listed = [prefix for prefix in ("old", "new") if snapshot.lookup_name(f"{prefix}299.example")[0]]
    print(report.exit_code, *listed, report.problem, *(feed.reason for feed in report.feeds))

def run(*command):
    subprocess.run(command, check=True)
"""


def inside(folder: Path, script: str) -> list[str]:
    """Run a script where mounts are its own; return what it prints: exit code, what is listed, and why."""
    result = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", SCRIPT + textwrap.dedent(script), str(folder)],
        capture_output=True, text=True, timeout=50, check=False, cwd=ROOT,
    )  # fmt: skip
    if "unshare" in result.stderr and not os.environ.get("CI"):
        pytest.skip("mounting needs root")
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_a_full_disk(tmp_path: Path) -> None:
    """On a disk without room nothing is lost: the report says so, and the lists in use stay."""
    first, full, free = inside(tmp_path, """
    state.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(state))
    publish("old")
    step()
    publish("new")
    with (state / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    step()
    (state / "filler").unlink()
    step()
    """)  # fmt: skip
    assert first.split()[:2] == ["0", "old"]
    assert full.split()[:2] in (["1", "old"], ["2", "old"])
    assert "No space left on device" in full
    assert free.split()[:2] == ["0", "new"]


def test_a_read_only_state_directory(tmp_path: Path) -> None:
    """Where nothing can be written, a refresh says so with exit code 2, and the lists in use stay."""
    first, second = inside(tmp_path, """
    publish("old")
    step()
    publish("new")
    run("mount", "--bind", str(state), str(state))
    run("mount", "-o", "remount,ro,bind", str(state))
    step()
    """)  # fmt: skip
    assert first.split()[:2] == ["0", "old"]
    assert second.split()[:2] == ["2", "old"]
    assert "Read-only file system" in second
