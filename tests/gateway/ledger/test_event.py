"""The schema of the ledger."""

import json
from dataclasses import replace
from ipaddress import ip_address
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Event, Outcome
from gateway.ledger.event import encode, event
from gateway.request import Client, Dial, DnsAnswer, HttpResponse, Request
from tests.gateway.ledger.samples import (
    ALLOWED,
    CLIENT,
    DENIED,
    HELLO,
    HTTP,
    TUNNEL,
    decisions,
    outcomes,
    query,
    requests,
)


def _event(request: Request, decision: Decision = DENIED, outcome: Outcome | None = None) -> Event:
    return event(request, decision, id="7x", now=1e9, role="proxy", outcome=outcome, generation=3)


@given(requests, decisions, st.none() | outcomes)
def test_any_request_is_one_line_that_parses_back(
    request: Request, decision: Decision, outcome: Outcome | None
) -> None:
    """Whatever was sent, its record is one line of bounded ASCII JSON with the same content, and it all prints."""
    made = _event(request, decision, outcome)
    line = encode(made)
    assert line.isascii()
    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1
    assert len(line) < 400_000
    assert json.loads(line) == made
    for value in made.values():
        for item in value if isinstance(value, list) else [value]:
            assert not isinstance(item, str) or (item.isprintable() and len(item) <= 1024)


@given(requests, decisions, st.none() | outcomes)
def test_no_key_is_a_prefix_of_another(request: Request, decision: Decision, outcome: Outcome | None) -> None:
    """A store may expand the dots: no key is both a value and a folder of values."""
    for one, other in combinations(sorted(_event(request, decision, outcome)), 2):
        assert not other.startswith(one + ".")


def test_a_blocked_query_carries_its_evidence() -> None:
    """A listed name is recorded with client, question, rule, list entry, version, line and technique."""
    assert _event(query(qtype=65280)) == {
        "@timestamp": "2001-09-09T01:46:40.000Z",
        "event.id": "7x",
        "ecs.version": "8.11.0",
        "event.kind": "alert",
        "event.category": ["network"],
        "event.type": ["protocol", "denied"],
        "event.action": "dns-query",
        "event.outcome": "failure",
        "event.reason": "listed",
        "gateway.verdict": "deny",
        "gateway.enforced": True,
        "gateway.role": "proxy",
        "gateway.stage": "dns-query",
        "gateway.policy.generation": 3,
        "source.ip": "10.2.0.7",
        "network.protocol": "dns",
        "dns.question.name": "evil.example",
        "dns.question.type": "TYPE65280",
        "rule.name": "threat-feeds",
        "gateway.detail": "evil.example is on the list urlhaus",
        "threat.technique.id": ["T1105"],
        "gateway.list.name": "urlhaus",
        "gateway.list.version": "5f2c9a",
        "gateway.list.line": 120,
        "gateway.list.entry": "evil.example",
        "gateway.categories": ["malware"],
    }


def test_an_answer_carries_chain_and_addresses() -> None:
    """The names and addresses of an answer are recorded, the root as a dot."""
    address = ip_address("10.0.0.1")
    made = _event(DnsAnswer(client=CLIENT, name="", qtype=28, chain=("b.example",), addresses=(address,)))
    assert (made["dns.question.name"], made["dns.question.type"]) == (".", "AAAA")
    assert (made["gateway.chain"], made["dns.resolved_ip"]) == (["b.example"], ["10.0.0.1"])


def test_secrets_are_not_recorded() -> None:
    """Neither headers nor query values nor userinfo reach the ledger."""
    quoted = replace(DENIED, detail="Host 'me:s3cret@deb.example' in a request to deb.example:443")
    request = replace(HTTP, authorities=("me:s3cret@deb.example",))
    line = encode(_event(request, quoted, Outcome(error="cannot reach http://me:s3cret@deb.example")))
    assert b"s3cret" not in line
    assert json.loads(line)["url.query"] == "token=*&page=*"


def test_an_inspected_request_carries_tunnel_and_tools() -> None:
    """A request inside a tunnel has method, path, server name, fingerprint and every tool that was named."""
    made = _event(HTTP)
    assert made["http.request.method"] == "POST"
    assert (made["url.scheme"], made["url.domain"], made["url.path"]) == ("https", "deb.example", "/a/b")
    assert (made["tls.client.server_name"], made["gateway.ja4"]) == ("deb.example", "t13d")
    assert made["gateway.tools"] == ["python-requests", "curl"]
    assert made["user_agent.original"] == "python-requests/2"


def test_a_dial_carries_name_and_address() -> None:
    """What is dialled is recorded with the name that it was resolved from."""
    made = _event(Dial(origin=HELLO, address=ip_address("192.0.2.7"), chain=("c.example",)))
    assert (made["destination.domain"], made["destination.ip"], made["destination.port"]) == (
        "deb.example",
        "192.0.2.7",
        443,
    )
    assert made["event.action"] == "dial"


def test_a_denied_answer_carries_request_and_types() -> None:
    """An answer is recorded with the request that it was for, and what was seen of it."""
    dial = Dial(origin=HTTP, address=ip_address("192.0.2.7"))
    made = _event(HttpResponse(dial=dial, media_types=("text/html",), file_types=frozenset(["zip", "pe"])))
    assert (made["url.path"], made["destination.ip"]) == ("/a/b", "192.0.2.7")
    assert (made["http.response.mime_type"], made["gateway.file_types"]) == ("text/html", ["pe", "zip"])
    assert made["event.action"] == "http-response"


def test_an_ended_tunnel_carries_what_it_moved() -> None:
    """Octets, duration and address of an allowed tunnel are recorded at its end."""
    ended = Outcome(octets_out=10, octets_in=20, seconds=1.5, address=ip_address("192.0.2.7"), status=200)
    made = _event(TUNNEL, ALLOWED, ended)
    assert made["event.type"] == ["connection", "allowed", "end"]
    assert (made["source.bytes"], made["destination.bytes"], made["event.duration"]) == (10, 20, 1_500_000_000)
    assert (made["destination.ip"], made["event.outcome"], made["gateway.tls"]) == ("192.0.2.7", "success", "splice")
    assert _event(TUNNEL, ALLOWED, Outcome(error="reset"))["event.outcome"] == "failure"


def test_a_record_of_several_decisions_says_how_many() -> None:
    """And when the first and the last was made; nothing was moved by any of them."""
    made = _event(TUNNEL, DENIED, Outcome(seconds=2.0, count=7))
    assert made["gateway.count"] == 7
    assert made["gateway.first"] == "2001-09-09T01:46:38.000Z"
    assert made["gateway.last"] == made["@timestamp"]
    assert "source.bytes" not in made
    assert "gateway.count" not in _event(TUNNEL, DENIED, Outcome())


def test_a_denial_in_report_mode_is_no_stop() -> None:
    """What is only reported has verdict deny and the type allowed."""
    made = _event(TUNNEL, replace(DENIED, enforced=False))
    assert (made["gateway.verdict"], made["gateway.enforced"]) == ("deny", False)
    assert made["event.type"] == ["connection", "allowed"]


def test_rules_on_trial_are_named() -> None:
    """The rules in report mode that would have denied are recorded by name."""
    trial = Decision(Verdict.DENY, Reason.TOOL, rule="no-curl", enforced=False)
    assert _event(TUNNEL, replace(ALLOWED, reported=(trial,)))["gateway.reported"] == ["no-curl"]


def test_proven_identities_are_recorded() -> None:
    """User and certificate stand in their own fields."""
    made = _event(replace(TUNNEL, client=Client(address=CLIENT.address, user="batch", certificate="CN=batch")))
    assert (made["user.name"], made["tls.client.subject"]) == ("batch", "CN=batch")
