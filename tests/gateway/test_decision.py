"""Decisions: a closed vocabulary, and when an adapter has to stop the traffic."""

import re

import pytest

from gateway.decision import Decision, Fact, Point, Reason, Tls, Verdict


def test_reasons_are_kebab_case_and_unique() -> None:
    """Every reason is a lower-case word or several with hyphens: they are names of metrics and parts of URLs."""
    values = [reason.value for reason in Reason]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", value) for value in values)


def test_the_agreed_reasons_exist() -> None:
    """The reasons that users were promised are all there."""
    promised = """rule default-deny listed private-address metadata-address direct-address dns-rebinding
        name-unresolvable sni-missing sni-mismatch host-mismatch ech not-tls protocol port user-agent tool method path
        content-type upload-budget qtype dns-tunnel leak-budget rate-limit malformed auth-required auth-failed
        client-unknown upstream-failure internal-error"""
    assert {reason.value for reason in Reason} >= set(promised.split())


@pytest.mark.parametrize(
    ("verdict", "enforced", "denied"),
    [(Verdict.DENY, True, True), (Verdict.DENY, False, False), (Verdict.ALLOW, True, False)],
)
def test_denied(verdict: Verdict, enforced: bool, denied: bool) -> None:
    """Traffic is stopped when it is denied and the denial is enforced."""
    assert Decision(verdict, Reason.RULE, enforced=enforced).denied is denied


def test_decisions_are_values() -> None:
    """Equal decisions are equal, hashable and cannot be changed."""
    one, other = (Decision(Verdict.ALLOW, Reason.RULE, rule="x") for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(AttributeError):
        one.verdict = Verdict.DENY  # type: ignore[misc]  # on purpose


def test_words_are_what_users_write() -> None:
    """The words of the policy file are the values."""
    assert [verdict.value for verdict in Verdict] == ["allow", "deny"]
    assert [tls.value for tls in Tls] == ["splice", "inspect"]
    assert [point.value for point in Point] == ["dns", "proxy", "firewall"]
    assert [fact.value for fact in Fact] == ["address", "tool", "http", "response"]
