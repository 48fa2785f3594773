"""A full disk under `state_dir`: the resolver goes on, says what it cannot do, and loses no count.

The disk is a small one of its own, mounted where only the gateway sees it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.ledger.query import count_of
from gateway.ledger.store import Store
from tests.peers.namespace import Internet, wait_until

POLICY = """
version: 1
state_dir: state
control: {listen: "127.0.0.1:9353"}
proxy: {listen: []}
dns: {workers: 1, upstreams: ["udp://9.9.9.9"], rate_limit: null}
lists:
  ours: {path: ours.txt, format: domains, categories: [blocked-by-us]}
policy:
  default: {proxy: deny, dns: allow}
  rules:
    - {name: ours, action: deny, to: {categories: [blocked-by-us]}}
    - {name: below, action: deny, to: {domains: ["*.denied.example"]}}
"""
ASK = """
import socket, sys
from dnslib import DNSRecord
first, last = int(sys.argv[1]), int(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(5)
sock.connect(("127.0.0.1", 5335))
for number in range(first, last):
    sock.send(DNSRecord.question(f"n{number}.denied.example").pack())
    reply = DNSRecord.parse(sock.recv(4096))
    assert reply.header.rcode == 3, reply
print("all denied")
"""
"""Asks for names that are denied, each different, so that each is a line; fails unless each is answered NXDOMAIN."""


GATEWAY = str(Path(sys.executable).parent / "gateway")


class Serving:
    """A gateway whose state is on a disk of 48 megabytes, and that disk."""

    def __init__(self, world: Internet) -> None:
        self.world = world
        self.policy = str(world.folder / "gateway.yaml")
        Path(self.policy).write_text(POLICY)
        (world.folder / "state").mkdir()
        (world.folder / "ours.txt").write_text("bad.example.com\n")
        # One process owns the disk, so that it outlives the gateway.
        keeper = f"mount -t tmpfs -o size=48m none {world.folder / 'state'} && echo mounted && exec sleep 600"
        self.keeper = world.start("unshare", "--mount", "sh", "-ec", keeper, log="keeper.log")
        wait_until(lambda: "mounted" in (world.folder / "keeper.log").read_text(), "the disk")
        self.state = Path(f"/proc/{self.keeper.pid}/root{world.folder}/state")
        self.inside = ["nsenter", f"--mount=/proc/{self.keeper.pid}/ns/mnt", f"--wdns={Path.cwd()}", "--"]

    def start(self, log: str) -> "subprocess.Popen[bytes]":
        """Start a gateway there, and wait until it serves."""
        process = self.world.start(*self.inside, GATEWAY, "dns", "--config", self.policy, log=log)
        self.log = self.world.folder / log

        def serves() -> bool:
            assert process.poll() is None, self.log.read_text()
            return "gateway is running" in self.log.read_text()

        wait_until(serves, "the gateway to serve")
        return process

    def fill(self) -> None:
        """Leave not an octet."""
        with (self.state / "filler").open("ab", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    pass  # that is what was wanted

    def free(self) -> None:
        """Give the room back."""
        (self.state / "filler").unlink()

    def deny(self, first: int, last: int) -> None:
        """Ask for names that are denied, and see that they are."""
        done = self.world.run(sys.executable, "-c", ASK, str(first), str(last), timeout=60)
        assert done.stdout == "all denied\n", done.stderr

    def dig(self, name: str) -> str:
        """Return what dig prints."""
        return self.world.run("dig", "@127.0.0.1", "-p", "5335", "+tries=1", "+time=5", name).stdout

    def health(self) -> str:
        """Return what /healthz says."""
        return self.world.run("curl", "-s", "-m", "10", "http://127.0.0.1:9353/healthz").stdout

    def denials(self) -> int:
        """Return how many denials of those names are on record, one by one or as counts."""
        events = Store(self.state / "ledger").read()
        return sum(count_of(event) for event in events if event.get("rule.name") == "below")


@pytest.fixture
def serving(internet: Internet) -> Serving:
    """The gateway's world."""
    return Serving(internet)


@pytest.mark.timeout(120)
def test_the_ledger_finds_no_room(serving: Serving) -> None:
    """Answers and denials go on, the log says so once, and when there is room again every denial is counted."""
    serving.start("gateway.log")
    serving.deny(0, 10)
    wait_until(lambda: serving.denials() == 10, "the first denials on record")
    serving.fill()
    serving.deny(10, 12_010)  # more than wait in memory
    assert "93.184.215.14" in serving.dig("www.example.com")
    assert "EDE: 15 (Blocked): (listed ours ours id=" in serving.dig("bad.example.com")
    log = serving.log.read_text()
    assert log.count("ledger: cannot write") == 1
    assert "No space left on device. Traffic goes on; denials are counted and will be recorded as gaps." in log
    assert serving.denials() < 1000
    wait_until(lambda: serving.health() == "unhealthy\ndns worker 0 cannot write the ledger\n", "health to say so")
    serving.free()
    wait_until(lambda: "works again" in serving.log.read_text(), "the ledger's recovery", 60)
    serving.deny(12_010, 12_020)
    wait_until(lambda: serving.denials() == 12_020, "every denial on record", 30)
    wait_until(lambda: serving.health() == "ok\n", "health")
    assert Store(serving.state / "ledger").unreadable == 0


@pytest.mark.timeout(120)
def test_new_lists_find_no_room(serving: Serving) -> None:
    """A refresh and a reload say why they cannot, and the last good lists stay in force, after a restart too."""
    gateway = serving.start("gateway.log")
    assert "status: NXDOMAIN" in serving.dig("bad.example.com")
    serving.fill()
    (serving.world.folder / "ours.txt").write_text("bad.example.com\nwww.example.com\n")
    refresh = serving.world.run(*serving.inside, GATEWAY, "refresh", "-c", serving.policy)
    assert refresh.returncode == 1
    assert "ours: kept its last good copy: ours: No space left on device" in refresh.stderr
    assert "Traceback" not in refresh.stderr
    os.kill(gateway.pid, signal.SIGHUP)
    wait_until(lambda: "ours: kept its last good copy" in serving.log.read_text(), "the reload's complaint")
    for _ in range(2):
        assert "status: NXDOMAIN" in serving.dig("bad.example.com")
        assert "93.184.215.14" in serving.dig("www.example.com")
        gateway.terminate()
        assert gateway.wait(30) == 0
        gateway = serving.start("again.log")
        assert "Traceback" not in serving.log.read_text()
    serving.free()
    os.kill(gateway.pid, signal.SIGHUP)
    wait_until(lambda: "status: NXDOMAIN" in serving.dig("www.example.com"), "the new list")
