"""Tests for gateway.dns.leakage: what reaches the upstream."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, TXT

from gateway.decision import Reason
from gateway.dns.cache import Key
from gateway.dns.forwarder import ResolutionError
from gateway.dns.leakage import Leakage
from gateway.dns.resolver import LeakError, Resolver
from gateway.dns.settings import Release, Tunnelling
from gateway.tunnelling.evidence import parse as parse_evidence
from gateway.tunnelling.structure import Controls
from gateway.tunnelling.window import Limit
from gateway.tunnelling.zones import PRIVATE, STAYING
from tests.gateway.dns.support import BATCH, WEB, Clock, a_judge, a_policy, addresses, ask, client, ede, parse
from tests.peers.dns_upstream import Message, Upstream, upstream, zone

DATA = "726f6f743a783a303a303a726f6f743a.2f726f6f743a2f62696e2f626173680a.6461656d6f6e3a783a313a313a646165"
DENY = Tunnelling("deny")
RELEASED = datetime(2026, 1, 31, 12, tzinfo=UTC)


def answering(name: str = "www.evilzone.com") -> Any:
    """Return an upstream's data: one name."""
    return zone({name: ["93.184.215.14"]})


FILES = [f"{number}.files.evilzone.com" for number in range(30)]


def files(query: Message, _: str) -> Message:
    """Answer with 250 octets of text, other ones for each name."""
    reply = query.reply()
    text = str(query.q.qname).lower().ljust(250, "x")
    reply.add_answer(RR(query.q.qname, QTYPE.TXT, rdata=TXT([text]), ttl=300))
    return reply


def texts(data: object) -> str:
    """Return the text in an answer."""
    return "".join(record.rdata.data[0].decode() for record in parse(data).rr)


def asked(up: Upstream) -> list[str]:
    """Return the names that reached the upstream, lower-cased."""
    return [str(query.q.qname).rstrip(".").lower() for query, _ in up.queries]


async def test_a_tunnel_reaches_nobody() -> None:
    """A name full of data is answered here like every block, and recorded with reason, zone and techniques."""
    async with upstream(answering()) as up:
        judge = a_judge(up.endpoint, tunnelling=DENY)
        resolver = Resolver(judge)
        reply = await resolver.answer(WEB, ask(f"{DATA}.evilzone.com", "TXT"))
        assert parse(reply).header.rcode == RCODE.NXDOMAIN
        assert ede(reply) == (15, "dns-tunnel id=r1")
        await resolver.answer(WEB, ask("www.evilzone.com"))
        assert asked(up) == []
        ((request, decision),) = judge.records[:1]
        assert str(request.client.address) == WEB
        assert decision.reason is Reason.DNS_TUNNEL
        assert "zone evilzone.com" in decision.detail
        assert "entropy" in decision.detail
        assert decision.technique == ("T1071.004", "T1048.003", "T1572")
        assert addresses(await resolver.answer(BATCH, ask("www.evilzone.com"))) == ["93.184.215.14"]
        await resolver.close()


@pytest.mark.parametrize(
    ("settings", "reaches", "recorded"),
    [
        (DENY, 0, 1),
        (Tunnelling("report"), 1, 1),
        (Tunnelling("off"), 1, 0),
        (Tunnelling("deny", groups=(("web", "report"),)), 1, 1),
        (Tunnelling("off", groups=(("web", "deny"),)), 0, 1),
        (Tunnelling("deny", groups=(("batch", "off"),)), 0, 1),
        (Tunnelling("deny", exempt=("*.evilzone.com",)), 1, 0),
    ],
    ids=["deny", "report", "off", "report a group", "deny a group", "another group", "exempt"],
)
async def test_modes(settings: Tunnelling, reaches: int, recorded: int) -> None:
    """`report` records and lets pass, `off` does nothing, and groups of clients may differ."""
    async with upstream(answering()) as up:
        judge = a_judge(up.endpoint, tunnelling=settings)
        resolver = Resolver(judge)
        await resolver.answer(WEB, ask(f"{DATA}.evilzone.com"))
        assert len(asked(up)) == reaches
        assert len(judge.records) == recorded
        await resolver.close()


async def test_what_is_closed_to_one_client_costs_others_none_of_their_rate() -> None:
    """Whoever closes a zone with each query takes nothing from what others may ask."""
    async with upstream(answering()) as up:
        judge = a_judge(up.endpoint, tunnelling=DENY, rate_limit=(500.0, 1000))
        resolver = Resolver(judge, Clock())
        for number in range(100):
            await resolver.answer(WEB, ask(f"{DATA}.evilzone{number}.com"))
            assert not parse(await resolver.answer(BATCH, ask("www.evilzone.com"))).header.tc
        assert judge.reasons == [Reason.DNS_TUNNEL] * 100
        await resolver.close()


FORMS = {
    "a type in no use": ("www.evilzone.com", "NULL", Controls(types=False)),
    "an obsolete type": ("www.evilzone.com", "KEY", Controls(types=False)),
    "a type for private use": ("www.evilzone.com", "TYPE65399", Controls(types=False)),
    "punctuation": ("a=b.evilzone.com", "A", Controls(octets=False)),
    "no existing top-level domain": ("www.nosuchtld", "A", Controls(tlds=False)),
}
"""Controls that bound the channel whatever is sent through it, all on by default: what each keeps here, and its
switch (`tunnelling.controls`). `min_ttl`, and the letters' case, which has no switch, have tests of their own."""


@pytest.mark.parametrize(("name", "qtype", "off"), list(FORMS.values()), ids=list(FORMS))
async def test_controls(name: str, qtype: str, off: Controls) -> None:
    """A query of a form that no honest client needs reaches the upstream only with the control off."""
    for controls, reaches in ((Controls(), []), (off, [name])):
        async with upstream(answering()) as up:
            resolver = Resolver(a_judge(up.endpoint, tunnelling=Tunnelling("deny", controls=controls)))
            await resolver.answer(WEB, ask(name, qtype))
            assert asked(up) == reaches
            await resolver.close()


def test_controls_are_on_by_default() -> None:
    """Who configures nothing has them all."""
    assert Tunnelling("deny").controls == Controls(types=True, octets=True, tlds=True, ttl=60)


@pytest.mark.parametrize("written", ["WWW.EVILZONEWITHMANYLETTERS.COM", "wWw.EvIlZoNeWiThMaNyLeTtErS.cOm"])
async def test_the_case_that_a_client_writes_is_not_seen_upstream(written: str) -> None:
    """The upstream sees lower-case letters, or some mixed by the resolver: never as the client wrote them."""
    async with upstream(answering()) as up:
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY))
        await resolver.answer(WEB, ask(written))
        sent = str(up.queries[0][0].q.qname).rstrip(".")
        assert sent.lower() == written.lower()
        assert sent != written
        await resolver.close()


async def test_letter_case_does_not_leave() -> None:
    """A name in another case is the same question: it does not leave again."""
    async with upstream(answering()) as up:
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY))
        await resolver.answer(WEB, ask("wWw.eViLzOnE.com"))
        await resolver.answer(WEB, ask("WwW.EvIlZoNe.com"))
        assert asked(up) == ["www.evilzone.com"]
        await resolver.close()


@pytest.mark.parametrize(("controls", "times"), [(Controls(), 1), (Controls(ttl=0), 2)])
async def test_answers_of_unknown_zones_are_kept_for_a_minute(controls: Controls, times: int) -> None:
    """A name that is asked again within a minute does not leave again, whatever TTL its zone says."""
    async with upstream(zone({"www.evilzone.com": ["93.184.215.14"]}, ttl=1)) as up:
        clock = Clock()
        resolver = Resolver(a_judge(up.endpoint, tunnelling=Tunnelling("deny", controls=controls)), clock)
        for _ in range(2):
            assert addresses(await resolver.answer(WEB, ask("www.evilzone.com")))
            clock.now += 50
        assert len(asked(up)) == times
        await resolver.close()


async def test_names_without_a_zone_stay_here() -> None:
    """A name under no existing top-level domain is NXDOMAIN, unless a forward zone covers it."""
    async with upstream(answering("host.contoso")) as up:
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY))
        assert parse(await resolver.answer(WEB, ask("host.contoso"))).header.rcode == RCODE.NXDOMAIN
        await resolver.close()
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY, forward={"contoso": (up.endpoint,)}))
        assert addresses(await resolver.answer(WEB, ask("host.contoso"))) == ["93.184.215.14"]
        await resolver.close()


@pytest.mark.parametrize("top", sorted(PRIVATE | {"home.arpa"}))
async def test_private_names_that_leave_are_accounted_for(top: str) -> None:
    """A name under a private top-level domain either stays here, or is bounded like any other."""
    async with upstream(answering()) as up:
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY))
        await resolver.answer(WEB, ask(f"www.site.{top}"))
        assert bool(asked(up)) is (top not in STAYING)
        await resolver.answer(WEB, ask(f"{DATA}.site.{top}", "TXT"))
        assert asked(up) == ([] if top in STAYING else [f"www.site.{top}"])
        await resolver.close()


async def test_the_root_exists() -> None:
    """A validator gets the keys of the root: it is no name without a top-level domain."""
    async with upstream(answering()) as up:
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY))
        await resolver.answer(WEB, ask(".", "DNSKEY"))
        assert asked(up) == [""]
        await resolver.close()


async def test_what_is_cached_costs_nothing() -> None:
    """Queries that are answered from the cache never come to the detector."""
    async with upstream(answering()) as up:
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY))
        for _ in range(5):
            await resolver.answer(WEB, ask("www.evilzone.com"))
        found = resolver.leakage.detector.tables.zones["evilzone.com"]
        assert found.queries == 1
        await resolver.close()


async def test_a_closed_zone_is_closed_for_cached_names_too() -> None:
    """Once a zone is closed to a client, not even the hot table or the cache answers it; others go on."""
    async with upstream(answering()) as up:
        judge = a_judge(up.endpoint, tunnelling=DENY)
        resolver = Resolver(judge)
        for client_of in (WEB, BATCH):
            for _ in range(3):
                assert addresses(await resolver.answer(client_of, ask("www.evilzone.com"))) == ["93.184.215.14"]
        await resolver.answer(WEB, ask(f"{DATA}.evilzone.com", "TXT"))
        for stream in (False, True):
            reply = resolver.answer_now(WEB, ask("WWW.evilzone.com"), stream=stream)
            assert parse(reply).header.rcode == RCODE.NXDOMAIN
            assert addresses(resolver.answer_now(BATCH, ask("www.evilzone.com"), stream=stream))
        assert all(decision.reason is Reason.DNS_TUNNEL for _, decision in judge.records)
        assert asked(up) == ["www.evilzone.com"]
        await resolver.close()


async def test_a_new_generation_opens_no_zone() -> None:
    """A reload keeps what is closed closed, and what is exempt now is open."""
    async with upstream(answering()) as up:
        judge = a_judge(up.endpoint, tunnelling=DENY)
        resolver = Resolver(judge)
        await resolver.answer(WEB, ask("www.evilzone.com"))
        await resolver.answer(WEB, ask(f"{DATA}.evilzone.com"))
        judge.policy = a_policy()
        assert parse(await resolver.answer(WEB, ask("www.evilzone.com"))).header.rcode == RCODE.NXDOMAIN
        judge.policy = a_policy()
        judge.settings = judge.settings._replace(tunnelling=Tunnelling("deny", exempt=(".evilzone.com",)))
        assert addresses(await resolver.answer(WEB, ask("www.evilzone.com"))) == ["93.184.215.14"]
        await resolver.close()


async def test_an_answer_that_was_denied_cannot_be_had_from_the_cache() -> None:
    """A download ends at its budget for good: not even what is in the cache by then is given to that client."""
    async with upstream(files) as up:
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY))
        first, again = [[texts(await resolver.answer(WEB, ask(name, "TXT"))) for name in FILES] for _ in range(2)]
        assert 0 < len("".join(first)) <= 4096
        assert not any(again)
        assert all([texts(await resolver.answer(BATCH, ask(name, "TXT"))) for name in FILES[:8]])
        await resolver.close()


async def test_an_answer_nobody_waited_for_is_counted_when_it_is_given() -> None:
    """An answer that came when its client had gone, or was renewed early, counts when it is taken from the cache."""
    async with upstream(files) as up:
        resolver = Resolver(a_judge(up.endpoint, tunnelling=DENY))
        got = ""
        for name in FILES:
            await resolver._forwarder.fetch(Key(name, QTYPE.TXT, dnssec_ok=False, checking_disabled=False))
            for stream in (True, False, False):
                reply = resolver.answer_now(WEB, ask(name, "TXT"), stream=stream)
                assert isinstance(reply, bytes)
            got += texts(reply)
        assert 3500 < len(got) <= 4096
        await resolver.close()


async def test_names_that_the_proxy_looks_up_count_too() -> None:
    """The host of a CONNECT tells its zone as much as a query does, and both have one account."""
    async with upstream(answering()) as up:
        judge = a_judge(up.endpoint, tunnelling=DENY)
        resolver = Resolver(judge)
        found = await resolver.lookup("www.evilzone.com", client(WEB))
        assert [str(address) for address in found.addresses] == ["93.184.215.14"]
        for _ in range(2):  # from the cache, and from what was resolved a moment ago: neither outlives the denial
            assert (await resolver.lookup("www.evilzone.com", client(WEB))).addresses
        with pytest.raises(LeakError) as caught:
            await resolver.lookup(f"{DATA}.evilzone.com", client(WEB))
        assert caught.value.reason is Reason.DNS_TUNNEL
        with pytest.raises(LeakError):
            await resolver.lookup("www.evilzone.com", client(WEB))
        assert parse(await resolver.answer(WEB, ask("www.evilzone.com"))).header.rcode == RCODE.NXDOMAIN
        assert (await resolver.lookup("www.evilzone.com", client(BATCH))).addresses
        with pytest.raises(ResolutionError, match="does not exist"):
            await resolver.lookup("host.contoso", client(BATCH))
        assert set(asked(up)) == {"www.evilzone.com"}
        await resolver.close()


async def test_the_proxy_in_report_mode() -> None:
    """A look-up that would be denied is recorded, and goes on."""
    async with upstream(answering(f"{DATA}.evilzone.com")) as up:
        judge = a_judge(up.endpoint, tunnelling=Tunnelling("report"))
        resolver = Resolver(judge)
        assert (await resolver.lookup(f"{DATA}.evilzone.com", client(WEB), families=(4,))).addresses
        assert [decision.enforced for _, decision in judge.records] == [False]
        await resolver.close()


def test_a_release_counts_once() -> None:
    """A client that the configuration releases begins anew; the same entry loaded again changes nothing."""
    now = RELEASED.timestamp() - 60
    leakage, address = Leakage(DENY, lambda: now), client("10.0.0.7").address
    data = "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com"
    assert leakage.query(address, (), data, 16) is not None
    assert leakage.query(address, (), "www.evilzone.com", 1) is not None
    now += 120
    released = DENY._replace(released=(Release(address, "www.evilzone.com", RELEASED.isoformat()),))
    leakage.use(released)
    assert leakage.query(address, (), "www.evilzone.com", 1) is None
    assert leakage.query(address, (), data, 16) is not None
    leakage.use(released._replace(budget=(Limit(100, 3600),)))
    assert leakage.query(address, (), "www.evilzone.com", 1) is not None


def test_a_release_counts_for_a_gateway_that_starts(tmp_path: Path) -> None:
    """It is enough to have it in the policy file when the gateway starts the next time; then it has counted."""
    address, data = client("2001:db8::1").address, "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com"
    before, after = (RELEASED.timestamp() + step for step in (-60, 60))
    assert Leakage(DENY, lambda: before, tmp_path).query(address, (), data, 16) is not None
    assert Leakage(DENY, lambda: after, tmp_path).query(address, (), "www.evilzone.com", 1) is not None
    neighbour = client("2001:db8::99").address
    released = DENY._replace(released=(Release(neighbour, "evilzone.com", RELEASED.isoformat()),))
    assert Leakage(released, lambda: after, tmp_path).query(address, (), "www.evilzone.com", 1) is None
    assert Leakage(released, lambda: after, tmp_path).query(address, (), data, 16) is not None
    assert Leakage(released, lambda: after + 9, tmp_path).query(address, (), "www.evilzone.com", 1) is not None


def test_a_worker_that_counts_alone_says_so_in_the_ledger(tmp_path: Path) -> None:
    """Where the accounts that workers share cannot be opened, each denial tells whoever reads it."""
    (tmp_path / "tunnelling").write_text("in the way")
    data = "k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7" * 2 + ".evilzone.com"
    for place, alone in ((tmp_path, True), (tmp_path / "other", False), (None, False)):
        decision = Leakage(DENY, lambda: 5.0, place).query(client(WEB).address, (), data, 16)
        assert decision is not None
        assert ("this worker counts alone" in decision.detail) is alone
        evidence = parse_evidence(decision.detail)
        assert evidence is not None
        assert evidence.zone == "evilzone.com"


async def test_a_restart_closes_what_was_closed_for_cached_names_too(tmp_path: Path) -> None:
    """The first query of a client to a new process finds its zones closed, even when the answer is in the cache."""
    async with upstream(answering()) as up:
        first = Resolver(a_judge(up.endpoint, tunnelling=DENY), state_dir=tmp_path)
        await first.answer(WEB, ask(f"{DATA}.evilzone.com", "TXT"))
        await first.close()
        second = Resolver(a_judge(up.endpoint, tunnelling=DENY), state_dir=tmp_path)
        assert addresses(await second.answer(BATCH, ask("www.evilzone.com")))
        assert parse(second.answer_now(WEB, ask("www.evilzone.com"))).header.rcode == RCODE.NXDOMAIN
        await second.close()


async def test_what_one_worker_closes_another_does_not_answer_from_its_cache(tmp_path: Path) -> None:
    """Not even what it has at hand for that very client."""
    async with upstream(answering()) as up:
        one, two = (Resolver(a_judge(up.endpoint, tunnelling=DENY), state_dir=tmp_path) for _ in range(2))
        for asking in (WEB, WEB, BATCH, BATCH):
            assert addresses(await two.answer(asking, ask("www.evilzone.com")))
        await one.answer(WEB, ask(f"{DATA}.evilzone.com", "TXT"))
        for stream in (False, True):
            assert parse(two.answer_now(WEB, ask("www.evilzone.com"), stream=stream)).header.rcode == RCODE.NXDOMAIN
            assert addresses(two.answer_now(BATCH, ask("www.evilzone.com"), stream=stream))
        await one.close()
        await two.close()
