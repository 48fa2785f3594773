"""One event as one line for people."""

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Decision, Reason, Verdict
from gateway.ledger import Event, Outcome
from gateway.ledger.event import event
from gateway.ledger.line import render
from gateway.ledger.losses import Loss, Span
from gateway.ledger.notice import change_event, gap_event, rolled_up
from gateway.request import Client, DnsAnswer, Request, Tunnel
from tests.gateway.ledger.samples import (
    ALLOWED,
    CLIENT,
    DENIED,
    HTTP,
    TUNNEL,
    decisions,
    hostile,
    outcomes,
    query,
    requests,
)


def _render(request: Request, decision: Decision = DENIED, outcome: Outcome | None = None) -> str:
    return render(event(request, decision, id="7x", now=1e9, role="proxy", outcome=outcome))


@given(requests, decisions, st.none() | outcomes)
def test_no_request_can_write_to_a_terminal(request: Request, decision: Decision, outcome: Outcome | None) -> None:
    """Whatever was sent, its line has printable characters alone."""
    assert _render(request, decision, outcome).isprintable()


_KEYS = sorted(
    {**event(HTTP, DENIED, id="7x", now=1e9, role="dns"), "gateway.count": 1, "gateway.first": 1, "message": 1}
)
_VALUES = st.none() | st.booleans() | st.integers() | hostile | st.lists(hostile, max_size=2)


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES))
def test_no_file_can_write_to_a_terminal(found: Event) -> None:
    """Whatever stands in a file, its line has printable characters alone."""
    assert render(found).isprintable()
    assert render(found, date=True).isprintable()


def test_a_blocked_query() -> None:
    """Time, verdict, stage, client, question, reason and evidence, in this order."""
    assert _render(query()) == (
        "01:46:40  deny    dns     10.2.0.7  evil.example A  listed  "
        "rule=threat-feeds list=urlhaus:120 technique=T1105 id=7x"
    )


def test_a_denial_without_a_list_says_why() -> None:
    """The detail of the block page is the last column; an entry of a list stands for itself."""
    private = Decision(Verdict.DENY, Reason.DNS_REBINDING, detail="10.0.0.5 is a private address")
    assert _render(TUNNEL, private).endswith("dns-rebinding  tools=curl id=7x  10.0.0.5 is a private address")
    assert _render(query()).endswith("id=7x")


def test_a_tunnel_is_told_without_its_figures() -> None:
    """How much left of what budget is enough for a line."""
    said = Verdict.DENY, Reason.DNS_TUNNEL
    closed = Decision(
        *said, detail="zone t.example (unknown), 7 octets after 72 of 120 in 3600 s; told 72, got 0, closed"
    )
    assert _render(query(), closed).endswith("id=7x  zone t.example (unknown), 7 octets after 72 of 120 in 3600 s")


def test_a_request_that_could_not_be_read_has_no_destination() -> None:
    """There is a dash in its place, and why it could not be read."""
    broken = Tunnel(client=CLIENT, host="", port=0)
    malformed = Decision(Verdict.DENY, Reason.MALFORMED, detail="no method")
    assert _render(broken, malformed) == "01:46:40  deny    tunnel  10.2.0.7  -  malformed  id=7x  no method"


def test_a_judged_answer() -> None:
    """An answer shows the addresses that it held."""
    answer = DnsAnswer(client=CLIENT, name="r.example", qtype=1, addresses=(ip_address("10.0.0.1"),))
    assert "  r.example A -> 10.0.0.1  " in _render(answer)


def test_an_ended_tunnel() -> None:
    """A tunnel shows host, port and address, what it moved and how long it took."""
    ended = Outcome(octets_out=10, octets_in=20, seconds=1.5, address=ip_address("192.0.2.7"))
    assert _render(TUNNEL, ALLOWED, ended) == (
        "01:46:40  allow   tunnel  10.2.0.7  deb.example:443 (192.0.2.7)  rule  "
        "rule=mirrors tools=curl tls=splice out=10 in=20 seconds=1.500 id=7x"
    )


def test_a_request_by_a_user() -> None:
    """A request shows user, method and URL without the values of its query."""
    request = replace(HTTP, client=Client(address=CLIENT.address, user="batch"))
    assert "  batch@10.2.0.7  POST https://deb.example:443/a/b?token=*&page=*  " in _render(request)


def test_a_denial_in_report_mode_and_an_address() -> None:
    """What would have been denied says so; IPv6 addresses stand in brackets."""
    line = _render(replace(TUNNEL, host=ip_address("2001:db8::1")), replace(DENIED, enforced=False))
    assert line.startswith("01:46:40  would   tunnel  10.2.0.7  [2001:db8::1]:443  listed")


def test_lines_that_are_no_single_decision() -> None:
    """Repeats show count and times, gaps what was lost, changes what was changed; with its date if wanted."""
    first = event(query(), DENIED, id="a1", now=1e9, role="dns")
    span = Span(count=41, first=1e9, last=1e9 + 50)
    assert "count=41 (01:46:40 to 01:47:30) id=a2" in render(rolled_up(first, id="a2", now=1e9 + 60, span=span))
    loss = Loss(verdict="deny", enforced=True, reason="listed", rule="", client="", span=span)
    assert render(gap_event(loss, id="a3", now=1e9, role="dns")).startswith(
        "01:46:40  deny    gap     listed  count=41"
    )
    change = change_event("feed-updated", "urlhaus: 12 entries", id="a4", now=1e9, role="refresh")
    assert render(change, date=True) == (
        "2001-09-09 01:46:40  change  refresh  feed-updated  urlhaus: 12 entries  id=a4"
    )
