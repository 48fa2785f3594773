"""Tests of `gateway.proxy.live`."""

import pytest

from gateway.decision import Budget, Reason, Tls, Verdict
from gateway.htpasswd import Accounts
from gateway.policy import Policy
from gateway.proxy.authentication import Authenticator
from gateway.proxy.live import LiveTunnel
from gateway.proxy.splice import Splice
from gateway.proxy.uploads import Meter, Uploads
from gateway.request import Dial
from gateway.rule import Rule
from tests.builders import a_client, a_hello, a_tunnel, an_address
from tests.gateway.proxy.fakes import FakeTransport
from tests.integration.proxy_rig import Bench

ADDRESS = an_address("93.184.215.14")


class Scene:
    """A tunnel under a policy."""

    def __init__(self, *rules: Rule, report: bool = False) -> None:
        self.judge = Bench(Policy(rules=rules, report=report))
        request = a_hello(tunnel=a_tunnel("www.example.com", client=a_client(user="batch")))
        decision = self.judge.decide(Dial(origin=request, address=ADDRESS))
        splice = Splice(now=0, idle=100, lifetime=1000, finished=lambda _: None)
        self.uploads = Uploads()
        self.hashes = {"batch": "hash"}
        authenticator = Authenticator(lambda: Accounts(dict(self.hashes)), lambda: 0.0)
        chain = ("cdn.test",)
        standing = authenticator.standing(request.client)
        generation = self.judge.generation
        self.live = LiveTunnel(
            self.judge, self.uploads, authenticator, standing, splice, request, decision, ADDRESS, chain, generation
        )
        self.client, self.origin = FakeTransport(), FakeTransport()
        splice.origin.connection_made(self.origin)
        self.began = self.live.begin(b"hello")
        if self.began:
            splice.join(self.client, b"hello")

    def end(self) -> tuple[Reason, int]:
        """End the tunnel; return why, and how much was sent."""
        self.live.end(1.0)
        line = self.judge.ledger.lines[-1]
        assert line.outcome is not None
        return line.decision.reason, line.outcome.octets_out

    def reload(self, *rules: Rule) -> None:
        """Put another policy in force."""
        self.judge.policy = Policy(rules=rules)
        self.judge.generation += 1
        self.live.check(1)


def a_rule(budget: int | None = None, tls: Tls | None = None, *names: str) -> Rule:
    """Return a rule for the tunnel."""
    upload = None if budget is None else Budget(budget, 3600)
    return Rule(name="r", action=Verdict.ALLOW, domains=names or ("www.example.com",), upload=upload, tls=tls)


def test_cut_at_the_cap() -> None:
    """What is more than the budget does not go on, and the tunnel ends, denied for it: one line."""
    scene = Scene(a_rule(100))
    scene.live.splice.client.data_received(b"x" * 95)
    assert not scene.origin.closing
    scene.live.splice.client.data_received(b"y")
    assert bytes(scene.origin.sent) == b"hello" + b"x" * 95
    assert scene.origin.closing
    assert scene.client.closing
    assert scene.end() == (Reason.UPLOAD_BUDGET, 100)
    assert len(scene.judge.ledger.lines) == 1


def test_what_comes_back_is_free() -> None:
    """The budget is for what a client sends."""
    scene = Scene(a_rule(100))
    scene.live.splice.origin.data_received(b"x" * 1000)
    assert not scene.origin.closing
    assert scene.end() == (Reason.RULE, 5)


def test_too_much_at_once() -> None:
    """With less left than the ClientHello, nothing is sent at all."""
    scene = Scene(a_rule(4))
    assert not scene.began
    assert not scene.origin.sent
    assert scene.end() == (Reason.UPLOAD_BUDGET, 0)


def test_report_mode() -> None:
    """In report mode a budget only records, once."""
    scene = Scene(a_rule(10), report=True)
    scene.live.splice.client.data_received(b"x" * 95)
    scene.live.splice.client.data_received(b"x" * 95)
    assert len(scene.origin.sent) == 195
    assert not scene.origin.closing
    (line,) = scene.judge.ledger.lines
    assert (line.decision.reason, line.decision.enforced) == (Reason.UPLOAD_BUDGET, False)


def test_counting_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """When an upload cannot be counted, it is not passed on."""

    def fail(self: Meter, octets: int) -> bool:
        raise RuntimeError("injected")

    scene = Scene(a_rule(100))
    monkeypatch.setattr(Meter, "spend", fail)
    scene.live.splice.client.data_received(b"x")
    assert bytes(scene.origin.sent) == b"hello"
    assert scene.origin.closing
    assert scene.end() == (Reason.INTERNAL_ERROR, 5)


def test_still_allowed() -> None:
    """A reload leaves a tunnel alone that the new policy allows."""
    scene = Scene(a_rule())
    scene.reload(a_rule(None, None, ".example.com"))
    assert not scene.origin.closing


def test_now_denied() -> None:
    """A tunnel that the new policy denies is closed, and its line says so."""
    scene = Scene(a_rule())
    scene.reload(a_rule(None, None, "other.test"))
    assert scene.origin.closing
    assert scene.end() == (Reason.DEFAULT_DENY, 5)


def test_now_denied_by_the_chain() -> None:
    """A tunnel ends that leads to a name which the new policy denies, by an alias that was met on the way."""
    scene = Scene(a_rule())
    scene.reload(Rule(name="no", action=Verdict.DENY, domains=("cdn.test",)), a_rule())
    assert scene.origin.closing
    assert scene.end() == (Reason.RULE, 5)
    assert scene.judge.ledger.lines[-1].decision.denied


@pytest.mark.parametrize("change", [{}, {"batch": "another hash"}], ids=["account", "password"])
def test_now_nobody(change: dict[str, str]) -> None:
    """A tunnel ends with the account, or the password, of who opened it."""
    scene = Scene(a_rule())
    scene.hashes = change
    scene.reload(a_rule())
    assert scene.origin.closing
    assert scene.end() == (Reason.AUTH_FAILED, 5)


def test_now_inspected() -> None:
    """A tunnel that the new policy would look into cannot go on unseen."""
    scene = Scene(a_rule())
    scene.reload(a_rule(None, Tls.INSPECT))
    assert scene.origin.closing
    assert scene.end() == (Reason.PROTOCOL, 5)


def test_now_with_a_budget() -> None:
    """A new policy's budget counts from then on."""
    scene = Scene(a_rule())
    scene.reload(a_rule(10))
    scene.live.splice.client.data_received(b"x" * 10)
    assert not scene.origin.closing
    scene.live.splice.client.data_received(b"x")
    assert scene.origin.closing


def test_without_a_reload() -> None:
    """The policy is asked again only when another one is in force."""
    scene = Scene(a_rule())
    scene.judge.policy = Policy()
    scene.live.check(1)
    assert not scene.origin.closing
