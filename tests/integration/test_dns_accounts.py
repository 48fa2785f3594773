"""What clients told the outside outlives the gateway, however it ends."""

import hashlib
import json
import os
import signal
import subprocess

import pytest

from tests.peers.namespace import Internet, wait_until

POLICY = """
version: 1
state_dir: state
dns: {workers: 2, upstreams: ["udp://9.9.9.9"]}
proxy: {listen: []}
tunnelling: {action: deny, controls: {min_ttl: 0s}}
policy: {default: {proxy: deny, dns: allow}}
"""
ZONE = "evilzone.net"


def closed(world: Internet, name: str = f"www.{ZONE}") -> bool:
    """Ask from a new port, so that either worker may get it. Say whether it is denied as a tunnel."""
    return "dns-tunnel" in world.run("dig", "@127.0.0.1", "-p", "5335", "+tries=1", name).stdout


def suspects(world: Internet) -> list[dict[str, object]]:
    """Return what `gateway tunnels` says."""
    shown = world.gateway("tunnels", "--json", "-c", str(world.folder / "gateway.yaml"))
    assert shown.returncode == 1, shown.stderr
    found: list[dict[str, object]] = json.loads(shown.stdout)
    return found


def end(gateway: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    """End the gateway and its workers."""
    found = subprocess.run(["pgrep", "-P", str(gateway.pid)], capture_output=True, text=True, check=False)
    workers = [int(line) for line in found.stdout.split()]
    gateway.send_signal(how)
    if how is signal.SIGKILL:
        for worker in workers:
            os.kill(worker, how)
    gateway.wait(40)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
def test_what_was_told_is_known_after_a_restart(internet: Internet, how: signal.Signals) -> None:
    """A closed zone stays closed in every worker, other zones stay open, and the leak curve is still shown; what a
    client had told a zone before counts on."""
    gateway = internet.serve(POLICY)
    for index in range(6):
        assert not closed(internet, f"www.site{index}.net")
        denied = closed(internet, f"{hashlib.sha256(bytes([index])).hexdigest()[:32]}.{ZONE}")
    assert denied
    wait_until(lambda: len(suspects(internet)) == 1, "the ledger")
    (before,) = suspects(internet)
    assert before["curve"]
    end(gateway, how)
    internet.serve(POLICY, log="again.log")
    assert [closed(internet) for _ in range(6)] == [True] * 6
    assert not closed(internet, "www.site3.net")
    (after,) = suspects(internet)
    assert after["state"] == "closed"
    assert (after["curve"], after["told"]) == (before["curve"], before["told"])
    assert internet.gateway("tunnels", "release", "--now", "-c", str(internet.folder / "gateway.yaml"), "127.0.0.1",
                            ZONE).returncode == 0  # fmt: skip
    assert [closed(internet) for _ in range(6)] == [False] * 6
