"""What a newcomer does first, with the programs a newcomer has: curl, dig, and the gateway's own commands.

In a namespace whose addresses are public, so that the policy is the shipped one to the letter.
"""

import json
from urllib.parse import urlsplit

import pytest

from tests.peers.namespace import ROOT, Internet, wait_until

QUICKSTART = (ROOT / "deploy/examples/quickstart.yaml").read_text()


def quickstart(world: Internet) -> str:
    """Return the shipped policy, with its state in the test's own folder."""
    seed = ROOT / "blocklists/seed.yaml"
    return QUICKSTART.replace("../../state", "state").replace("../../blocklists/seed.yaml", str(seed))


@pytest.fixture(scope="module")
def serving(shared_internet: Internet) -> Internet:
    """The namespace with the quick start running in it: one for all, as each test looks for its own traces only."""
    shared_internet.serve(quickstart(shared_internet))
    return shared_internet


def test_the_banner_says_where_and_what_to_try(serving: Internet) -> None:
    """The first screen names both listeners and gives commands to copy."""
    shown = (serving.folder / "gateway.log").read_text()
    assert "udp://127.0.0.1:5335" in shown
    assert "127.0.0.1:3128" in shown
    assert "curl -x http://127.0.0.1:3128 https://example.com/" in shown
    assert "explain" in shown
    assert "ledger" in shown


def test_an_allowed_https_host_is_reached_through_the_proxy(serving: Internet) -> None:
    """curl gets the page, and the tunnel's end is in the ledger with what it moved."""
    result = serving.run(
        *("curl", "-sS", "-x", "http://127.0.0.1:3128", "--cacert", str(serving.ca), "https://www.example.com/page")
    )
    assert result.stdout == "origin 93.184.215.14:443 got GET /page HTTP/1.1\n", result.stderr
    (line,) = wait_until(
        lambda: [
            event
            for event in serving.ledger()
            if (event.get("destination.domain"), event.get("destination.port")) == ("www.example.com", 443)
        ],
        "its end",
    )
    assert line["gateway.verdict"] == "allow"
    assert line["destination.ip"] == "93.184.215.14"
    assert line["source.bytes"] > 0
    assert line["destination.bytes"] > 0


def test_an_allowed_http_host_is_reached_through_the_proxy(serving: Internet) -> None:
    """Plain HTTP works too."""
    result = serving.run("curl", "-sS", "-x", "http://127.0.0.1:3128", "http://www.example.com/page")
    assert result.stdout.startswith("origin 93.184.215.14:80 got GET /page"), result.stderr


def test_a_listed_host_is_refused_with_a_reason_people_understand(serving: Internet) -> None:
    """curl says 403; with -v the reason is a header, and nothing was looked up or reached."""
    result = serving.run("curl", "-sSv", "-x", "http://127.0.0.1:3128", "https://pastebin.com/raw/x")
    assert result.returncode == 56
    assert "403" in result.stderr
    assert "X-Gateway-Reason: listed" in result.stderr
    assert "Proxy-Status: egress-gateway" in result.stderr
    assert not [
        seen for seen in serving.seen() if "pastebin" in json.dumps(seen) or seen.get("address") == "93.184.215.30"
    ]


def test_a_listed_plain_http_host_gets_a_page_that_says_why(serving: Internet) -> None:
    """The body of a denied plain request names the host, the list and the decision's id."""
    result = serving.run("curl", "-sS", "-w", "%{http_code}", "-x", "http://127.0.0.1:3128", "http://pastebin.com/")
    assert result.stdout.endswith("403")
    assert "pastebin.com" in result.stdout
    assert "seed-paste-and-file-drop" in result.stdout


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "metadata-address"),
        ("http://127.0.0.1:9353/", "private-address"),
        ("https://internal.example.net/", "dns-rebinding"),
        ("https://rebind.example.net/", "dns-rebinding"),
        ("https://mixed.example.net/", None),
        ("https://93.184.215.14/", "direct-address"),
        ("https://www.example.com:8443/", "port"),
    ],
)
def test_the_built_in_protections_stand_behind_default_allow(serving: Internet, url: str, reason: str | None) -> None:
    """Everything else is allowed by the quick start, but never these."""
    before = len(serving.seen())
    result = serving.run("curl", "-ksSv", "--max-time", "20", "-x", "http://127.0.0.1:3128", url)
    connections = [seen["address"] for seen in serving.seen()[before:] if seen["event"] == "connection"]
    if reason is None:  # one of its two addresses is public: that one, and only that one, may be dialled
        assert set(connections) <= {"93.184.215.40"}
        return
    assert not connections
    target = urlsplit(url)
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    reasons = wait_until(
        lambda: [
            event["event.reason"]
            for event in serving.ledger()
            if event.get("destination.port") == port
            and event.get("destination.domain", event.get("destination.ip")) == target.hostname
        ],
        "a decision in the ledger",
    )
    assert reasons == [reason], result.stderr


def test_a_listed_name_is_nxdomain_with_the_reason_as_extended_error(serving: Internet) -> None:
    """dig shows NXDOMAIN, EDE 15 and the id that finds the line in the ledger."""
    answer = serving.run("dig", "@127.0.0.1", "-p", "5335", "dns.google").stdout
    assert "status: NXDOMAIN" in answer
    assert "EDE: 15 (Blocked)" in answer
    assert "listed" in answer
    decision = answer.partition("id=")[2].partition(")")[0]
    found = wait_until(
        lambda: json.loads(
            serving.gateway("ledger", "-c", str(serving.folder / "gateway.yaml"), "--id", decision, "--json").stdout
            or "null"
        ),
        "the line in the ledger",
    )
    assert found["dns.question.name"] == "dns.google"
    assert found["gateway.list.name"] == "seed-doh-dot-resolvers"


def test_an_allowed_name_is_answered(serving: Internet) -> None:
    """dig gets the address, over UDP and over TCP."""
    for transport in ("+notcp", "+tcp"):
        answer = serving.run("dig", "@127.0.0.1", "-p", "5335", transport, "+short", "www.example.com").stdout
        assert answer.split() == ["93.184.215.14"]


def test_explain_shows_stages_and_the_line_that_matched(serving: Internet) -> None:
    """`gateway explain` exits 1 for what would be denied and quotes the list."""
    policy = str(serving.folder / "gateway.yaml")
    denied = serving.gateway("explain", "-c", policy, "https://pastebin.com/raw/x")
    assert denied.returncode == 1
    assert "seed-paste-and-file-drop" in denied.stdout
    assert "line" in denied.stdout
    allowed = serving.gateway("explain", "-c", policy, "https://www.example.com/", "--address", "93.184.215.14")
    assert allowed.returncode == 0
    assert "dial 93.184.215.14" in allowed.stdout


def test_the_ledger_can_be_followed(serving: Internet) -> None:
    """`gateway ledger --tail` shows a decision while it runs."""
    policy = str(serving.folder / "gateway.yaml")
    gateway = str(ROOT / ".venv/bin/gateway")
    serving.start(gateway, "ledger", "-c", policy, "--tail", log="tail.log", env={"PYTHONUNBUFFERED": "1"})
    tail = serving.folder / "tail.log"
    wait_until(tail.read_text, "what was recorded before")
    serving.run("dig", "@127.0.0.1", "-p", "5335", "dns.quad9.net")
    wait_until(lambda: "dns.quad9.net" in tail.read_text(), "the tail to show it")
