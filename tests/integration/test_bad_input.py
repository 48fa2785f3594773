"""Bad input gets one clear line (what, where, what to do), exit code 2, and nothing lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.namespace import Internet, wait_until

GATEWAY = str(Path(sys.executable).parent / "gateway")
GOOD = "version: 1\nstate_dir: state\n"


def gateway(folder: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the policy file of a folder."""
    return subprocess.run(
        [GATEWAY, *argv, "-c", str(folder / "gateway.yaml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **more},
    )


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("version: 1\npolicy: [\n", "gateway.yaml:3: is not valid YAML"),
        ("", "gateway.yaml:1: is empty or no mapping; it begins with 'version: 1'"),
        ("version: 2\n", "gateway.yaml:1: version: expected 1"),
        (GOOD + "prxy: {}\n", "gateway.yaml:3: prxy: unknown key"),
        (GOOD + "control: {listen: x}\n", "gateway.yaml:3: control.listen[0]: 'x' is no place to listen"),
        (GOOD + "dns: {}\ndns: {}\n", "gateway.yaml:4: dns: is given twice"),
        (GOOD + "feeds: [nowhere.yaml]\n", "gateway.yaml:3: feeds[0]: cannot be read: No such file or directory"),
        (
            GOOD + "policy:\n  rules:\n    - {name: a, action: deny, to: {categories: [malware]}}\n",
            "gateway.yaml:5: policy.rules[0].to.categories: no enabled feed or list has category 'malware'",
        ),
    ],
)
@pytest.mark.parametrize("command", ["check", "run", "refresh"])
def test_a_bad_policy_file_is_one_line_with_its_place(
    tmp_path: Path, command: str, policy: str, expected: str
) -> None:
    """Every command names file, line and path, and exits 2."""
    (tmp_path / "gateway.yaml").write_text(policy)
    result = gateway(tmp_path, command)
    assert result.returncode == 2
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "state").exists()


def test_all_problems_are_shown_at_once(tmp_path: Path) -> None:
    """Three mistakes are three lines, in the order of the file."""
    (tmp_path / "gateway.yaml").write_text(GOOD + "a: 1\nproxy: {listen: [x]}\ndns: {workers: 0}\n")
    lines = gateway(tmp_path, "check").stderr.splitlines()
    assert [line.partition("gateway.yaml:")[2].partition(":")[0] for line in lines] == ["3", "4", "5"]


def test_no_policy_file_says_where_one_is_looked_for(tmp_path: Path) -> None:
    """Without --config and without a file in the usual places, the message says what to do."""
    result = subprocess.run(
        [GATEWAY, "check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
    )
    assert result.returncode == 2
    assert "give --config FILE, set GATEWAY_CONFIG, or create ./gateway.yaml" in result.stderr


def test_an_unreadable_list_is_named(tmp_path: Path) -> None:
    """A list that does not exist stops a first start: there is nothing to filter with."""
    (tmp_path / "gateway.yaml").write_text(
        GOOD + "lists: {ours: {path: ours.txt, format: domains, categories: [bad]}}\n"
    )
    result = gateway(tmp_path, "run")
    assert result.returncode == 2
    assert "ours.txt: cannot be read: No such file or directory" in result.stderr


def test_an_unreadable_list_keeps_its_last_good_copy(tmp_path: Path) -> None:
    """Once compiled, a list that has gone stays in force, and the exit code says to look."""
    (tmp_path / "gateway.yaml").write_text(
        GOOD + "lists: {ours: {path: ours.txt, format: domains, categories: [bad]}}\n"
    )
    (tmp_path / "ours.txt").write_text("bad.example.com\n")
    assert gateway(tmp_path, "refresh").returncode == 0
    (tmp_path / "ours.txt").unlink()
    result = gateway(tmp_path, "refresh")
    assert result.returncode == 1
    assert "ours: kept its last good copy" in result.stderr


def test_a_foreign_file_in_place_of_the_snapshot_is_refused(tmp_path: Path) -> None:
    """Something that is no snapshot is not read as one."""
    (tmp_path / "gateway.yaml").write_text(
        GOOD + "lists: {ours: {path: ours.txt, format: domains, categories: [bad]}}\n"
    )
    (tmp_path / "state").mkdir()
    (tmp_path / "state/snapshot.egs").write_bytes(b"PK\3\4" + bytes(1000))
    result = gateway(tmp_path, "explain", "--dns", "bad.example.com")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "snapshot.egs" in result.stderr


def test_a_privileged_port_says_what_it_needs(internet: Internet) -> None:
    """Without the capability, binding port 53 names the capability."""
    (internet.folder / "gateway.yaml").write_text(GOOD + 'dns: {workers: 1, listen: ["udp://127.0.0.1:53"]}\n')
    internet.folder.chmod(0o777)
    for parent in internet.folder.parents:
        if str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    drop = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    result = internet.run(*drop, GATEWAY, "dns", "-c", str(internet.folder / "gateway.yaml"))
    assert result.returncode == 2
    assert "cannot listen on udp 127.0.0.1:53: ports below 1024 need CAP_NET_BIND_SERVICE" in result.stderr


def test_a_state_dir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where the state directory should be is one line."""
    (tmp_path / "gateway.yaml").write_text(GOOD)
    (tmp_path / "state").write_text("not a directory")
    result = gateway(tmp_path, "run")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "state_dir" in result.stderr


def test_a_full_disk_fails_a_refresh_and_keeps_the_snapshot(internet: Internet) -> None:
    """A refresh that cannot write says so, exits 2, and the lists that were in force still are."""
    small = internet.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=True)
    try:
        policy = internet.folder / "gateway.yaml"
        policy.write_text(
            GOOD.replace("state_dir: state", "state_dir: small/state")
            + "lists: {ours: {path: ours.txt, format: domains, categories: [bad]}}\n"
            + "policy:\n  default: {dns: allow}\n  rules:\n    - {name: ours, action: deny, to: {lists: [ours]}}\n"
        )
        (internet.folder / "ours.txt").write_text("bad.example.com\n")
        assert internet.gateway("refresh", "-c", str(policy)).returncode == 0
        (internet.folder / "ours.txt").write_text(
            "bad.example.com\n" + "".join(f"host{number}.example.net\n" for number in range(40_000))
        )
        result = internet.gateway("refresh", "-c", str(policy))
        assert result.returncode in (1, 2)
        assert "No space left on device" in result.stderr
        assert internet.gateway("explain", "-c", str(policy), "--dns", "bad.example.com").returncode == 1
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_no_upstream_is_said_and_denials_still_work(internet: Internet) -> None:
    """With nobody to ask, allowed names are SERVFAIL with the cause as extended error; denied names are denied."""
    (internet.folder / "ours.txt").write_text("bad.example.com\n")
    internet.serve(
        GOOD
        + 'proxy: {workers: 1}\ndns: {workers: 1, upstreams: ["udp://93.184.215.99"]}\n'
        + "lists: {ours: {path: ours.txt, format: domains, categories: [bad]}}\n"
        + "policy:\n  default: {dns: allow}\n  rules:\n    - {name: ours, action: deny, to: {lists: [ours]}}\n"
    )
    dig = ("dig", "@127.0.0.1", "-p", "5335", "+time=15", "+tries=1")
    answer = internet.run(*dig, "www.example.com").stdout
    assert "status: SERVFAIL" in answer
    assert "EDE: 2" in answer  # 22 No Reachable Authority, 23 Network Error
    assert "status: NXDOMAIN" in internet.run(*dig, "bad.example.com").stdout
    wait_until(
        lambda: "upstream-failure" in [event.get("event.reason") for event in internet.ledger()],
        "the failure in the ledger",
    )
