"""`gateway selfcheck`: the battery against a gateway in a process of its own."""

import subprocess
import sys
from pathlib import Path

GATEWAY = str(Path(sys.executable).parent / "gateway")


def test_this_gateway() -> None:
    """Everything is resisted, and the exit code says so."""
    ran = subprocess.run([GATEWAY, "selfcheck"], capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.rstrip().endswith("pass")
    assert "FAIL" not in ran.stdout
