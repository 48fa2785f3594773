"""Commands about the policy file, run in this process; as processes they are in tests/integration."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main

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
    for path in (policy, *(Path(__file__).parents[3] / "deploy/examples").glob("*.yaml")):
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text()))), path
    assert list(validator.iter_errors({"version": 1, "bogus": 1}))
    assert list(validator.iter_errors({"version": 1, "control": {"listen": []}}))


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


USERS = """
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
    (tmp_path / "gateway.yaml").write_text(USERS % required)
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


@pytest.mark.parametrize(
    "asked",
    [
        ("https://bad.example.com/x",),
        ("http://bad.example.com:8080/",),
        ("https://other.example/",),
        ("https://www.example.com:8443/", "--address", "10.0.0.5"),
        ("http://169.254.169.254/latest/",),
        ("--dns", "bad.example.com"),
        ("--dns", "nas.other.example", "--address", "192.168.0.1"),
        ("http://bad.example.com/a/../b%20c",),
        ("https://other.example/", "--address", "10.0.0.5", "--address", "93.184.215.14"),
        ("--dns", "10-0-0-5.nip.io"),
        ("--dns", "bad.example.com", "--type", "TXT"),
    ],
    ids=[
        "listed",
        "listed, and a port",
        "default",
        "port and address",
        "metadata",
        "listed name",
        "rebinding",
        "path of many readings",
        "two addresses",
        "address in a name",
        "type",
    ],
)
def test_the_rule_that_is_shown_allows_what_was_denied(policy: Path, asked: tuple[str, ...]) -> None:
    """Put where it is said to be put, it is a good rule, and the same question is answered with yes."""
    result = run("explain", "-c", str(policy), *asked)
    assert result.exit_code == 1
    (rule,) = (line for line in result.stdout.splitlines() if line.startswith("    - {"))
    policy.write_text(POLICY.replace("  rules:\n", f"  rules:\n{rule}\n"))
    assert run("check", "-c", str(policy)).exit_code == 0
    result = run("explain", "-c", str(policy), *asked)
    assert result.exit_code == 0, result.output
    assert "to allow it" not in result.stdout


def test_what_no_rule_can_allow_is_said(policy: Path) -> None:
    """In JSON, the rule is beside the stage that denies; there is none for what is malformed."""
    result = run("explain", "-c", str(policy), "http://a.example:99999/")
    assert result.exit_code == 1
    assert result.stdout.endswith("no rule can allow just this\n")
    assert (
        json.loads(run("explain", "-c", str(policy), "--json", "http://a.example:99999/").stdout)[-1]["remedy"]
        is None
    )
    found = json.loads(run("explain", "-c", str(policy), "--json", "--dns", "bad.example.com").stdout)
    assert found[-1]["remedy"]["to"] == {"domains": ["bad.example.com"]}


def test_that_a_protection_is_lifted_is_said(policy: Path) -> None:
    """Whoever pastes a rule for a metadata server does not do so unaware."""
    result = run("explain", "-c", str(policy), "http://169.254.169.254:8080/")
    assert result.stdout.splitlines()[-2:] == [
        "it lifts a built-in protection: 169.254.169.254 is a metadata address",
        "it lifts a built-in protection: port 8080 is closed unless a rule names it",
    ]


def test_a_method_that_no_rule_can_name_is_no_error(policy: Path) -> None:
    """M-SEARCH is a method, but not one of the file."""
    result = run("explain", "-c", str(policy), "--method", "M-SEARCH", "http://other.example/")
    assert result.exit_code == 1
    assert result.stdout.endswith("no rule can allow just this\n")


def test_check_looks_for_files_that_are_read_later(policy: Path) -> None:
    """A certificate or list that is not there is told before the gateway is to start, and only warned of."""
    (policy.parent / "ours.txt").unlink()
    places = 'listen: ["tls://127.0.0.1:8853"], certificate: {cert: gone.pem, key: gone.key}'
    policy.write_text(f"{POLICY}dns: {{{places}}}\nproxy: {{{places}}}\n")
    result = run("check", "-c", str(policy))
    assert result.exit_code == 1
    folder = policy.parent
    missing = f"{folder}/gone.pem: No such file or directory; give a PEM file that this user may read"
    assert result.stdout == f"{policy}: good: 2 rules, 1 list\n"
    assert result.stderr.splitlines() == [
        f"{policy}:11: warning: dns.certificate.cert: {missing}",
        f"{policy}:12: warning: proxy.certificate.cert: {missing}",
        f"{policy}:5: warning: lists.ours.path: {folder}/ours.txt: cannot be read: No such file or directory",
    ]


def test_a_client_of_no_group_is_told_about_groups(policy: Path) -> None:
    """The rule that would allow it is there already; one for everybody is not offered."""
    clients = "clients: {web: {addresses: [10.1.0.0/16]}}\n"
    policy.write_text(clients + POLICY.replace("name: web,", "name: web, clients: [web],"))
    result = run("explain", "-c", str(policy), "--client", "10.9.0.1", "https://www.example.com/")
    assert result.exit_code == 1
    assert result.stdout.endswith(
        "to allow it, put the client into a group of that rule, under clients, and SIGHUP\n"
    )
    result = run("explain", "-c", str(policy), "--client", "10.1.0.1", "https://www.example.org/")
    assert "clients: [web]" in result.stdout
