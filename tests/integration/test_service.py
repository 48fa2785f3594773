"""`gateway run` as a service: workers die and come back, policies are reloaded, shutdown drains."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.namespace import Internet, wait_until

POLICY = """
version: 1
state_dir: state
proxy: {workers: 1}
dns: {workers: 2}
lists:
  ours: {path: ours.txt, format: domains, categories: [blocked-by-us]}
policy:
  default: {proxy: allow, dns: allow}
  rules:
    - name: ours
      action: deny
      to: {categories: [blocked-by-us]}
"""


@pytest.fixture
def serving(internet: Internet) -> Internet:
    """A gateway with one small local list."""
    (internet.folder / "ours.txt").write_text("bad.example.com\n")
    internet.serve(POLICY)
    return internet


@pytest.fixture(scope="module")
def steady(shared_internet: Internet) -> Internet:
    """The same for all tests that leave policy, lists and workers as they were."""
    (shared_internet.folder / "ours.txt").write_text("bad.example.com\n")
    shared_internet.serve(POLICY)
    return shared_internet


def status(world: Internet, name: str) -> str:
    """Return the response code for a name, as dig prints it."""
    answer = world.run("dig", "@127.0.0.1", "-p", "5335", "+time=1", "+tries=3", name).stdout
    return answer.partition("status: ")[2].partition(",")[0]


def workers(parent: int, role: str) -> list[int]:
    """Return the process ids of a supervisor's workers."""
    found = subprocess.run(
        ["pgrep", "-P", str(parent), "-f", "--", f"--role {role}"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def supervisor(world: Internet) -> int:
    """Return the process id of the running gateway (`ip netns exec` becomes the program it starts)."""
    return world.processes[-1].pid


def log_has(world: Internet, text: str) -> Callable[[], bool]:
    """Return a condition on the gateway's output."""
    return lambda: text in (world.folder / "gateway.log").read_text()


def test_a_worker_that_is_killed_comes_back(serving: Internet) -> None:
    """kill -9 of a resolver worker: the other goes on answering, and a new one takes its place."""
    before = workers(supervisor(serving), "dns")
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    assert status(serving, "bad.example.com") == "NXDOMAIN"
    wait_until(lambda: len(set(workers(supervisor(serving), "dns")) - {before[0]}) == 2, "a new worker")
    assert "died (signal SIGKILL)" in (serving.folder / "gateway.log").read_text()


def test_sighup_puts_a_new_policy_in_force(serving: Internet) -> None:
    """A name added to a local list is denied after SIGHUP, without a restart."""
    assert status(serving, "www.example.com") == "NOERROR"
    (serving.folder / "ours.txt").write_text("bad.example.com\nwww.example.com\n")
    os.kill(supervisor(serving), signal.SIGHUP)
    wait_until(lambda: status(serving, "www.example.com") == "NXDOMAIN", "the new list")


def test_a_broken_policy_keeps_the_old_one_and_says_so(serving: Internet) -> None:
    """SIGHUP with a bad file: one line for each problem, and the old policy stays in force."""
    (serving.folder / "gateway.yaml").write_text(POLICY + "\nbogus: 1\n")
    os.kill(supervisor(serving), signal.SIGHUP)
    wait_until(log_has(serving, "reload refused: the old policy stays in force"), "the refusal")
    assert "bogus: unknown key" in (serving.folder / "gateway.log").read_text()
    assert status(serving, "bad.example.com") == "NXDOMAIN"


def test_a_refresh_reaches_workers_by_itself(serving: Internet) -> None:
    """After `gateway refresh` from cron, workers pick up the new snapshot with no signal."""
    (serving.folder / "ours.txt").write_text("www.example.com\n")
    policy = str(serving.folder / "gateway.yaml")
    result = serving.gateway("refresh", "-c", policy, "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    wait_until(lambda: status(serving, "www.example.com") == "NXDOMAIN", "the new snapshot")


def test_a_second_gateway_on_the_same_ports_is_told_so(steady: Internet) -> None:
    """Workers share ports among themselves; a stranger must not join them silently."""
    second = steady.gateway("run", "-c", str(steady.folder / "gateway.yaml"))
    assert second.returncode == 2
    assert "cannot listen on udp 127.0.0.1:5335: the port is in use" in second.stderr
    assert "cannot listen on tcp 127.0.0.1:3128: the port is in use" in second.stderr


def test_sigterm_ends_workers_too(serving: Internet) -> None:
    """After SIGTERM the supervisor exits 0 and no worker is left."""
    process = serving.processes[-1]
    children = workers(process.pid, "dns") + workers(process.pid, "proxy")
    assert len(children) == 3
    process.terminate()
    assert process.wait(15) == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_workers_end_when_their_supervisor_is_killed(serving: Internet) -> None:
    """kill -9 of the supervisor leaves no orphan that holds the ports."""
    process = serving.processes[-1]
    children = workers(process.pid, "dns") + workers(process.pid, "proxy")
    process.kill()
    process.wait()
    wait_until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], "the workers to end")


def test_a_feed_that_was_never_fetched_is_said_and_the_rest_serves(internet: Internet) -> None:
    """A cold start with no network comes up on what is there, and names what is missing."""
    (internet.folder / "ours.txt").write_text("bad.example.com\n")
    (internet.folder / "feeds.yaml").write_text(
        "remote: {url: https://feeds.example.net/list.txt, format: domains, categories: [malware], license: MIT}\n"
    )
    internet.serve(POLICY + "feeds: [feeds.yaml]\n")
    assert "remote: not in force: has never been fetched" in (internet.folder / "gateway.log").read_text()
    assert status(internet, "bad.example.com") == "NXDOMAIN"


def test_code_in_the_folder_it_is_started_in_is_not_run(internet: Internet) -> None:
    """Whoever may write to that folder cannot put a worker of his own in the place of the gateway's."""
    decoy = internet.folder / "gateway"
    decoy.mkdir()
    (decoy / "__init__.py").touch()
    (decoy / "worker.py").write_text("raise SystemExit('the decoy was run')\n")
    policy = internet.folder / "gateway.yaml"
    policy.write_text(POLICY)
    (internet.folder / "ours.txt").write_text("bad.example.com\n")
    program = str(Path(sys.executable).parent / "gateway")
    internet.start("env", "-C", str(internet.folder), program, "run", "-c", str(policy), log="gateway.log")
    wait_until(log_has(internet, "gateway is running"), "the gateway to serve", 40)
    assert "decoy" not in (internet.folder / "gateway.log").read_text()
    assert status(internet, "bad.example.com") == "NXDOMAIN"


def test_a_damaged_snapshot_is_made_anew_at_start(internet: Internet) -> None:
    """Half a snapshot is never used: it is compiled again from the lists at hand."""
    (internet.folder / "ours.txt").write_text("bad.example.com\n")
    (internet.folder / "gateway.yaml").write_text(POLICY)
    assert internet.gateway("refresh", "-c", str(internet.folder / "gateway.yaml")).returncode == 0
    snapshot = internet.folder / "state/snapshot.egs"
    snapshot.write_bytes(snapshot.read_bytes()[:-100])
    refused = internet.gateway("explain", "-c", str(internet.folder / "gateway.yaml"), "--dns", "bad.example.com")
    assert refused.returncode == 2
    assert "snapshot.egs" in refused.stderr
    assert "gateway refresh" in refused.stderr
    internet.serve(POLICY)
    assert status(internet, "bad.example.com") == "NXDOMAIN"


def test_changes_of_policy_are_in_the_ledger(steady: Internet) -> None:
    """A reload leaves a line for each worker."""

    def changes() -> list[str]:
        return [event["event.action"] for event in steady.ledger() if event.get("event.action") == "policy-loaded"]

    before = len(changes())
    os.kill(supervisor(steady), signal.SIGHUP)
    wait_until(lambda: len(changes()) == before + 3, "a line of each of the three workers")


def test_workers_know_each_others_cookies(steady: Internet) -> None:
    """A DNS cookie is good at every worker: from whichever port a client asks, it gets the same one back."""
    ask = ["dig", "@127.0.0.1", "-p", "5335", "+time=1", "+tries=3", "bad.example.com"]
    first = steady.run(*ask, "+cookie=0123456789abcdef").stdout.partition("COOKIE: ")[2].split()[0]
    assert len(first) == 48
    answers = [steady.run(*ask, f"+cookie={first}").stdout.partition("COOKIE: ")[2].split()[0] for _ in range(16)]
    assert set(answers) == {first}
