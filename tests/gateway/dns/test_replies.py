"""Tests for gateway.dns.replies."""

from ipaddress import IPv4Address

import pytest
from dnslib import RCODE

from gateway.decision import Decision, Reason, Verdict
from gateway.dns.hot import View
from gateway.dns.message import STREAM_SIZE, UDP_SIZE, address_record, encode_name, make_answer
from gateway.dns.misses import key_of
from gateway.dns.replies import Known, Miss, Replies
from gateway.dns.wire import read_query
from gateway.request import Flaw, Request
from tests.gateway.dns.support import PolicyJudge, a_judge, addresses, ask, client, ede, parse

NAME = "www.example.com"


def replies(judge: PolicyJudge) -> Replies:
    """Return what renders for a judge."""
    return Replies(judge, judge.settings)


@pytest.mark.parametrize(("address", "expected"), [("93.184.215.14", ["93.184.215.14"]), ("10.0.0.1", [])])
def test_no_answer_is_rendered_that_was_not_decided(address: str, expected: list[str]) -> None:
    """An answer is decided on for the client that gets it, and replaced where it is denied."""
    judge, wire = a_judge(), encode_name(NAME)
    found = IPv4Address(address)
    answer = make_answer(wire, [address_record(wire, found, 60)], ttl=60, addresses=(found,))
    reply, plain = replies(judge).finish(client(), read_query(ask(NAME)), answer, 0, STREAM_SIZE)
    assert addresses(reply) == expected
    assert plain is bool(expected)
    assert judge.reasons == ([] if expected else [Reason.DNS_REBINDING])


def test_a_failure_of_ours_is_recorded_and_told() -> None:
    """What failed here is SERVFAIL with its reason and the id of its record."""
    judge = a_judge()
    flaw = Flaw(Reason.UPSTREAM_FAILURE, "nobody answered")
    reply = replies(judge).refuse(client(), read_query(ask(NAME)), flaw)
    assert (parse(reply).header.rcode, ede(reply)) == (RCODE.SERVFAIL, (22, "upstream-failure id=r1"))


def test_even_a_ledger_that_fails_leaves_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """If a failure cannot be recorded, the client is told SERVFAIL all the same."""

    class Broken(PolicyJudge):
        def record(self, request: Request, decision: Decision) -> str:
            raise RuntimeError("boom")

    judge = a_judge()
    broken = Broken(judge.policy, judge.settings)
    reply = replies(broken).refuse(client(), read_query(ask(NAME)), Flaw(Reason.INTERNAL_ERROR, "x"))
    assert parse(reply).header.rcode == RCODE.SERVFAIL
    assert "boom" in caplog.text


def test_another_configuration_makes_other_blocks() -> None:
    """What blocks look like is taken from the configuration in force, not from the one they were first made under."""
    judge = a_judge()
    made, query = replies(judge), read_query(ask(NAME))
    decision = Decision(Verdict.DENY, Reason.RULE)
    assert parse(made.block(query, decision, "")).header.rcode == RCODE.NXDOMAIN
    made.use(judge.settings._replace(block_answer="refused"))
    assert parse(made.block(query, decision, "")).header.rcode == RCODE.REFUSED


@pytest.mark.parametrize(
    ("packet", "stream", "expected"),
    [
        (ask(NAME, edns=False), False, 512),
        (ask(NAME, size=4096), False, UDP_SIZE),
        (ask(NAME, size=700), False, 700),
        (ask(NAME), True, STREAM_SIZE),
    ],
)
def test_a_reply_is_as_long_as_its_way_allows(packet: bytes, stream: bool, expected: int) -> None:
    """Over a stream there is no limit but the format's; over UDP it is the client's and ours."""
    known = Known(client(), (), View(), View(), "", 1)
    query = read_query(packet)
    assert Miss(known, query, key_of(query), stream).limit == expected
