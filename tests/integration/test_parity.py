"""Parity: the corpus through the real resolver and proxy gives what `decide` gives."""

import json
import sys

import pytest

from tests.corpus import load_rows
from tests.peers.namespace import Internet
from tests.peers.replay import replayable


@pytest.mark.timeout(300)
def test_listeners_say_what_the_policy_decides(internet: Internet) -> None:
    """Every row that a client can send: denied or not, and the reason, are those of the corpus."""
    for route in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.51.100.0/24", "fd00::/8", "2001:db8::/32"):
        internet.run("ip", *(["-6"] if ":" in route else []), "route", "add", "local", route, "dev", "lo")
    internet.run("sysctl", "-w", "net.ipv6.ip_nonlocal_bind=1", "net.ipv4.ip_nonlocal_bind=1")
    result = internet.run(sys.executable, "-m", "tests.peers.replay", timeout=280)
    assert result.returncode == 0, result.stderr[-4000:]
    told = {line["name"]: line for line in map(json.loads, result.stdout.splitlines())}
    rows = [row for row in load_rows() if replayable(row)]
    assert len(rows) > 150
    assert {row.name for row in rows} == told.keys()
    wrong = []
    for row in rows:
        denied = row.expect.verdict == "deny" and row.expect.enforced
        answer = told[row.name]
        if answer["denied"] != denied or (denied and answer["reason"] != row.expect.reason):
            wrong.append((row.name, row.kind, f"expected {denied} {row.expect.reason}", answer))
    assert not wrong, "\n".join(map(str, wrong))
