"""The commands, run in this process; as processes they are in tests/integration."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Ledger
from tests.builders import a_query, a_tunnel

POLICY = """
version: 1
state_dir: state
lists:
  ours: {path: ours.txt, format: domains, categories: [blocked-by-us]}
policy:
  default: {proxy: deny, dns: allow}
  rules:
    - {name: ours, action: deny, to: {lists: [ours]}, technique: [T1105]}
    - {name: web, action: allow, to: {domains: [.example.com]}}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy with one compiled list."""
    (tmp_path / "ours.txt").write_text("# ours\nbad.example.com\n")
    path = tmp_path / "gateway.yaml"
    path.write_text(POLICY)
    assert run("refresh", "-c", str(path), "--quiet").exit_code == 0
    return path


def run(*argv: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, argv)


def test_check_counts_what_is_good(policy: Path) -> None:
    """A good file says so on standard output, and exits 0."""
    result = run("check", "-c", str(policy))
    assert (result.exit_code, result.stdout) == (0, f"{policy}: good: 2 rules, 1 list\n")


def test_check_exits_1_for_a_rule_that_can_never_match(policy: Path) -> None:
    """A warning is something to look at, not an error."""
    policy.write_text(POLICY + "    - {name: late, action: deny, to: {domains: [www.example.com]}}\n")
    result = run("check", "-c", str(policy))
    assert result.exit_code == 1
    assert "rule 'late' can never match: 'web' before it covers all of it" in result.stderr


def test_check_as_json_has_file_line_and_path(policy: Path) -> None:
    """For editors and CI."""
    policy.write_text(POLICY + "bogus: 1\n")
    result = run("check", "-c", str(policy), "--json")
    (problem,) = json.loads(result.stdout)
    assert (result.exit_code, problem["line"], problem["path"]) == (2, 11, "bogus")


def test_the_schema_accepts_what_check_accepts(policy: Path) -> None:
    """The examples in the repository and the schema agree."""
    schema = json.loads(run("schema").stdout)
    validator = jsonschema.Draft202012Validator(schema)
    for path in (policy, *(Path(__file__).parents[2] / "deploy/examples").glob("*.yaml")):
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text()))), path
    assert list(validator.iter_errors({"version": 1, "bogus": 1}))
    assert list(validator.iter_errors({"version": 1, "control": {}}))


def test_refresh_shows_a_row_for_each_list(policy: Path) -> None:
    """State, entries and version, and nothing to complain of."""
    result = run("refresh", "-c", str(policy))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[:3] == ["ours", "unchanged", "1"]


def test_refresh_reports_rejected_lines(policy: Path) -> None:
    """A line that could not be read is counted with its reason and shown."""
    (policy.parent / "ours.txt").write_text("bad.example.com\nno name!\n")
    result = run("refresh", "-c", str(policy), "--quiet")
    assert result.stdout == ""
    assert "ours: rejected 1" in result.stderr
    assert "line 2" in result.stderr


def test_explain_names_the_list_line_and_exits_1(policy: Path) -> None:
    """The line that matched is quoted from the copy that was compiled."""
    result = run("explain", "-c", str(policy), "https://www.bad.example.com/")
    assert result.exit_code == 1
    assert "list ours (blocked-by-us)" in result.stdout
    assert "line 2:" in result.stdout
    assert "T1105" in result.stdout


def test_explain_as_json(policy: Path) -> None:
    """Stages with verdicts, for scripts."""
    result = run("explain", "-c", str(policy), "--json", "--dns", "www.example.com", "--address", "10.0.0.1")
    stages = json.loads(result.stdout)
    assert [(stage["stage"], stage["reason"]) for stage in stages] == [
        ("dns query", "rule"),
        ("dns answer", "dns-rebinding"),
    ]


_USERS = """
version: 1
clients: {batch: {addresses: [10.2.0.0/16], users: [batch]}, machines: {certificates: ["DNS:batch.example"]}}
proxy:
  auth: {htpasswd: users, required: %s}
  listen: ["tls://127.0.0.1:3129"]
  certificate: {cert: c.pem, key: k.pem}
  client_ca: ca.pem
policy:
  rules:
    - {name: for-batch, action: allow, clients: [batch], to: {domains: [a.example]}}
    - {name: for-machines, action: allow, clients: [machines], to: {domains: [b.example]}}
"""


@pytest.mark.parametrize(
    ("required", "argv", "reason"),
    [
        ("false", ("--user", "batch", "--client", "10.2.0.7", "https://a.example/"), "rule"),
        ("false", ("--user", "batch", "--client", "10.3.0.7", "https://a.example/"), "client-unknown"),
        ("false", ("--client", "10.2.0.7", "https://a.example/"), "client-unknown"),
        ("false", ("--user", "nobody", "https://a.example/"), "auth-failed"),
        ("true", ("--client", "10.2.0.7", "http://a.example/"), "auth-required"),
        ("true", ("--user", "batch", "--client", "10.2.0.7", "http://a.example/"), "rule"),
        ("false", ("--certificate", "CN=x", "--certificate", "DNS:batch.example", "https://b.example/"), "rule"),
        ("false", ("--certificate", "CN=x", "https://b.example/"), "client-unknown"),
        # The resolver knows addresses alone: a group that has them is judged by them.
        ("true", ("--client", "10.2.0.7", "--dns", "a.example"), "rule"),
    ],
)
def test_explain_says_who_is_asked(tmp_path: Path, required: str, argv: tuple[str, ...], reason: str) -> None:
    """User, address and certificate each count as they would for the proxy and the resolver."""
    (tmp_path / "users").write_text("batch:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    (tmp_path / "gateway.yaml").write_text(_USERS % required)
    result = run("explain", "-c", str(tmp_path / "gateway.yaml"), "--json", *argv)
    assert json.loads(result.stdout)[-1]["reason"] == reason, result.stderr


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("https://a.example/", "--dns", "a.example"),
        ("ftp://a.example/",),
        ("--dns", "a.example", "--type", "BOGUS"),
        ("https://a.example/", "--client", "nobody"),
    ],
)
def test_explain_refuses_what_it_cannot_explain(policy: Path, argv: tuple[str, ...]) -> None:
    """Usage errors exit 2 and say what was expected."""
    result = run("explain", "-c", str(policy), *argv)
    assert result.exit_code == 2
    assert "Error" in result.stderr


def test_the_ledger_is_queried_by_condition(policy: Path) -> None:
    """Lines that match every condition, newest last; counts by group."""
    denied = Decision(Verdict.DENY, Reason.LISTED, rule="ours", technique=("T1105",))
    with Ledger(policy.parent / "state/ledger", "dns") as ledger:
        ledger.record(a_query("bad.example.com"), denied)
        ledger.record(a_tunnel("other.example.com"), Decision(Verdict.DENY, Reason.DEFAULT_DENY))
    only = run("ledger", "-c", str(policy), "--name", ".example.com", "--rule", "ours")
    assert len(only.stdout.splitlines()) == 1
    assert "bad.example.com" in only.stdout
    assert len(run("ledger", "-c", str(policy), "--last", "1").stdout.splitlines()) == 1
    counted = json.loads(run("ledger", "-c", str(policy), "--count", "reason", "--json").stdout)
    assert counted == [{"reason": "default-deny", "count": 1}, {"reason": "listed", "count": 1}]


def test_a_bad_time_is_a_usage_error(policy: Path) -> None:
    """The message gives the forms that are understood."""
    result = run("ledger", "-c", str(policy), "--since", "yesterday")
    assert result.exit_code == 2
    assert "expected a duration such as 1h" in result.stderr


def test_proxy_ca(tmp_path: Path) -> None:
    """The inspection CA is made where there is none, shown with its fingerprint, and exported as it is."""
    (tmp_path / "policy.yaml").write_text("version: 1\nstate_dir: ./state\n")
    config = ["--config", str(tmp_path / "policy.yaml")]
    shown = CliRunner().invoke(main, ["proxy", "ca", *config])
    assert shown.exit_code == 0, shown.output
    for program in ("Debian", "Java", "Node", "pip", "git"):
        assert f"  {program} " in shown.output
    exported = CliRunner().invoke(main, ["proxy", *config, "ca", "--export"])
    certificate = tmp_path / "state" / "ca" / "mitmproxy-ca-cert.pem"
    assert exported.output == certificate.read_text()
    assert str(certificate) in shown.output
