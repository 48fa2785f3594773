"""Tests of `gateway.proxy.uploads`."""

import subprocess
import sys
from pathlib import Path

from gateway.decision import Budget
from gateway.proxy.uploads import Uploads
from tests.builders import an_address

CLIENT = an_address("10.1.0.5")
MEBI = 1 << 20


def test_one_budget_for_several_flows() -> None:
    """Flows of one client to one domain share a budget, and together reach it to the octet."""
    uploads = Uploads()
    first = uploads.open(CLIENT, "a.example.com", Budget(MEBI, 3600))
    second = uploads.open(CLIENT, "b.example.com", Budget(MEBI, 3600))
    assert first.spend(MEBI // 2)
    assert second.spend(MEBI // 2)
    assert not first.spend(1)
    assert not second.has(1)
    assert uploads.open(CLIENT, "example.org", Budget(MEBI, 3600)).spend(MEBI)


def test_closed() -> None:
    """A closed meter charges nothing and lets nothing through, and closing twice is closing once."""
    uploads = Uploads()
    kept = uploads.open(CLIENT, "example.com", Budget(MEBI, 3600))
    meter = uploads.open(CLIENT, "example.com", Budget(MEBI, 3600))
    meter.close()
    meter.close()
    assert not meter.spend(1)
    assert kept.spend(MEBI)


def test_two_workers(tmp_path: Path) -> None:
    """Two workers together do not pass the cap, and what one has drawn and not used the other gets in the end."""
    path = tmp_path / "uploads"
    first, second = Uploads(path), Uploads(path)
    one = first.open(CLIENT, "example.com", Budget(MEBI, 3600))
    two = second.open(CLIENT, "example.com", Budget(MEBI, 3600))
    sent = 0
    while one.spend(1000):
        sent += 1000
        if two.spend(1000):
            sent += 1000
    assert sent <= MEBI
    one.close()
    while two.spend(100):
        sent += 100
    assert MEBI - 200 < sent <= MEBI
    first.close()
    second.close()


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """A gateway that was restarted goes on where it stopped."""
    uploads = Uploads(tmp_path / "uploads")
    assert uploads.open(CLIENT, "example.com", Budget(MEBI, 3600)).spend(MEBI)
    uploads.close()
    again = Uploads(tmp_path / "uploads")
    assert not again.open(CLIENT, "example.com", Budget(MEBI, 3600)).spend(1)
    again.close()


_DIES = """
import os, sys
from ipaddress import ip_address
from pathlib import Path
from gateway.decision import Budget
from gateway.proxy.uploads import Uploads
uploads = Uploads(Path(sys.argv[1]))
assert uploads.open(ip_address("10.1.0.5"), "example.com", Budget(1 << 20, 3600)).spend(1 << 19)
with uploads._locked():
    os.kill(os.getpid(), 9)
"""


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    """A worker that dies while it holds the table lets go of it, and what it had drawn stays charged."""
    path = tmp_path / "uploads"
    died = subprocess.run([sys.executable, "-c", _DIES, str(path)], check=False)
    assert died.returncode == -9
    uploads = Uploads(path)
    meter = uploads.open(CLIENT, "example.com", Budget(MEBI, 3600))
    assert not meter.spend(MEBI // 2)
    assert meter.spend(MEBI // 4)
    uploads.close()


def test_the_window_slides() -> None:
    """What was uploaded long enough ago counts no more."""
    now = [1e9]
    uploads = Uploads(clock=lambda: now[0])
    meter = uploads.open(CLIENT, "example.com", Budget(MEBI, 3600))
    assert meter.spend(MEBI)
    now[0] += 3500
    assert not meter.spend(1)
    now[0] += 1000
    assert meter.spend(MEBI)
