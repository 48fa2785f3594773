"""Commands about tunnels."""

import hashlib
import json
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config import load
from gateway.dns.leakage import Leakage
from gateway.dns.settings import Tunnelling
from gateway.ledger import Ledger
from gateway.request import Client, DnsQuery

CLIENT = Client(address=ip_address("10.0.0.7"))
POLICY = "version: 1\nstate_dir: state\n"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file without a ledger yet."""
    path = tmp_path / "gateway.yaml"
    path.write_text(POLICY)
    return path


def data(index: int) -> str:
    """Return a name with twelve octets of data."""
    return f"{hashlib.sha256(bytes([index])).hexdigest()[:24]}.evilzone.com"


def run(policy: Path, *argv: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, ["tunnels", "-c", str(policy), *argv])


def a_tunnel(policy: Path) -> None:
    """Fill the ledger with what a resolver records of a tunnel."""
    leakage = Leakage(Tunnelling("deny"), lambda: 5.0)
    with Ledger(policy.parent / "state/ledger", role="dns") as ledger:
        for index in range(20):
            name = data(index)
            if decision := leakage.query(CLIENT.address, (), name, 1):
                ledger.record(DnsQuery(client=CLIENT, name=name, qtype=1), decision)


def test_without_suspects(policy: Path) -> None:
    """An empty ledger is no news."""
    assert run(policy).exit_code == 0
    assert json.loads(run(policy, "--json").stdout) == []


def test_a_suspect(policy: Path) -> None:
    """The table and the JSON say who told whom how much, and that the zone is closed."""
    a_tunnel(policy)
    result = run(policy)
    assert result.exit_code == 1
    assert "10.0.0.7  evilzone.com  closed" in result.stdout
    (found,) = json.loads(run(policy, "--json").stdout)
    assert found["state"] == "closed"
    assert 0 < found["told"] <= found["budget"] == 120
    assert found["curve"]
    assert run(policy, "--since", "2026-99-01").exit_code == 2


def test_release_prints_what_the_policy_file_takes(policy: Path) -> None:
    """What it prints, put into the file, makes the suspect a released one; earlier entries stay."""
    a_tunnel(policy)
    result = run(policy, "release", "10.0.0.7", "www.evilzone.com")
    assert result.exit_code == 0
    assert "SIGHUP" in result.stdout
    policy.write_text(POLICY + result.stdout)
    (entry,) = load(policy).file.tunnelling.released
    assert (str(entry.client), entry.zone) == ("10.0.0.7", "evilzone.com")
    both = yaml.safe_load(run(policy, "release", "10.0.0.8", "evilzone.com").stdout)
    assert len(both["tunnelling"]["released"]) == 2
    entries = result.stdout.replace("at: '2", "at: '9")
    policy.write_text(POLICY + entries)
    assert "released" in run(policy).stdout
    assert run(policy).exit_code == 0


def test_release_at_once(policy: Path) -> None:
    """`--now` opens the zone in the accounts of the gateway, for the network of an IPv6 client, and says so."""
    state = policy.parent / "state"
    result = run(policy, "release", "--now", "2001:db8::/64", "evilzone.com")
    assert result.exit_code == 2
    assert "no gateway has counted here" in result.stderr
    address, data_name = ip_address("2001:db8::7"), "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com"
    leakage = Leakage(Tunnelling("deny"), time.time, state)
    assert leakage.query(address, (), data_name, 16)
    for expected, says in ((0, "2001:db8::/64 may ask about evilzone.com again"), (1, "was not closed")):
        result = run(policy, "release", "--now", "2001:db8::/64", "www.evilzone.com")
        assert result.exit_code == expected
        assert says in result.stdout
    assert leakage.query(address, (), "www.evilzone.com", 1) is None


def test_clients_of_one_network_are_one_suspect(policy: Path) -> None:
    """Whatever address of its network an IPv6 client takes, it is one line, and what releases one releases it."""
    leakage = Leakage(Tunnelling("deny"), time.time)
    with Ledger(policy.parent / "state/ledger", role="dns") as ledger:
        for index in range(9):
            client = Client(address=ip_address(f"2001:db8::{index}"))
            if decision := leakage.query(client.address, (), data(index), 1):
                ledger.record(DnsQuery(client=client, name=data(index), qtype=1), decision)
    (found,) = json.loads(run(policy, "--json").stdout)
    assert (found["client"], found["state"]) == ("2001:db8::/64", "closed")
    assert found["denials"] > 1
    policy.write_text(POLICY + run(policy, "release", "2001:db8::/64", "evilzone.com").stdout)
    assert [each["state"] for each in json.loads(run(policy, "--json").stdout)] == ["released"]


def test_exempt_prints_what_the_policy_file_takes(policy: Path) -> None:
    """The pattern is added to those there are; `*.` keeps its meaning."""
    policy.write_text(POLICY + "tunnelling: {exempt: ['.old.example']}\n")
    result = run(policy, "exempt", "evilzone.com")
    assert result.exit_code == 0
    policy.write_text(POLICY + result.stdout)
    assert load(policy).file.tunnelling.exempt == (".old.example", ".evilzone.com")
    assert "'*.evilzone.com'" in run(policy, "exempt", "*.evilzone.com").stdout


@pytest.mark.parametrize("suffix", ["com", "*.co.uk", ".github.io"])
def test_to_exempt_a_public_suffix_is_warned_of(policy: Path, suffix: str) -> None:
    """Whoever wants a tunnel registers a name there."""
    result = run(policy, "exempt", suffix)
    assert result.exit_code == 0
    name = suffix.lstrip("*.")
    assert result.stderr == f"warning: anybody may have a name below {name}: none of them would be accounted for\n"
    assert run(policy, "exempt", "a.example.com").stderr == ""


@pytest.mark.parametrize("argv", [("release", "x", "a.com"), ("release", "10.0.0.7", "a b"), ("exempt", "*")])
def test_bad_arguments(policy: Path, argv: tuple[str, ...]) -> None:
    """What is no address or no name is refused."""
    assert run(policy, *argv).exit_code == 2


def lines(count: int) -> str:
    """Return a recording of a tunnel."""
    return "".join(
        json.dumps({"t": index, "client": "c", "qname": data(index), "qtype": "A"}) + "\n" for index in range(count)
    )


def test_analyse(policy: Path, tmp_path: Path) -> None:
    """A recording of a tunnel gets a verdict, and what had left; one without is good; an exempt zone too."""
    log = tmp_path / "log.jsonl"
    log.write_text(lines(40) + "torn\n")
    result = run(policy, "analyse", str(log))
    assert result.exit_code == 1
    assert "evilzone.com" in result.stdout
    assert "1 line or packet could not be read; the first is line 41: neither JSON nor" in result.stdout
    assert "40 queries of 1 client for 1 zone:" in result.stdout
    assert "of 1 pair of client and zone" in result.stdout
    data = json.loads(run(policy, "analyse", "--json", str(log)).stdout)
    assert (data["queries"], data["unreadable"]) == (40, 1)
    assert 0 < data["findings"][0]["told"] <= 120
    policy.write_text(POLICY + "tunnelling: {exempt: ['.evilzone.com']}\n")
    assert run(policy, "analyse", str(log)).exit_code == 0


def test_analyse_needs_no_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever evaluates has none yet: the defaults hold."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log").write_text(lines(40))
    assert CliRunner().invoke(main, ["tunnels", "analyse", "log"]).exit_code == 1


def test_analyse_the_own_ledger(policy: Path) -> None:
    """The ledger of a tunnel, analysed, names the tunnel."""
    a_tunnel(policy)
    (log,) = (policy.parent / "state/ledger").glob("*.jsonl")
    assert "evilzone.com" in run(policy, "analyse", str(log)).stdout


@pytest.mark.parametrize("content", [b"", b"\x0a\x0d\x0d\x0a", b"no log\n"], ids=["empty", "pcapng", "text"])
def test_analyse_what_is_no_recording(policy: Path, tmp_path: Path, content: bytes) -> None:
    """A file without queries is an error in one line."""
    log = tmp_path / "log"
    log.write_bytes(content)
    result = run(policy, "analyse", str(log))
    assert result.exit_code == 2
    assert str(log) in result.stderr
