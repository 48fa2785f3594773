"""The invariant of a filter: for a client, a name and a type there is one verdict, however the question comes."""

import asyncio
import base64
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.decision import Verdict
from gateway.dns.message import encode_name
from gateway.dns.resolver import Resolver
from gateway.dns.settings import Endpoint
from gateway.policy import Policy
from gateway.request import Client, DnsAnswer, DnsQuery
from gateway.rule import ClientGroup, Rule
from tests.builders import networks
from tests.gateway.dns.bombs import AAAA, TXT, A, option, query
from tests.gateway.dns.support import a_judge, a_policy, ede, parse
from tests.peers.dns_tls import NAME, TRANSPORTS, Http2Client, a_certificate, client_context, serving_all
from tests.peers.dns_upstream import upstream, zone

WEB, BATCH = "127.0.0.1", "127.9.9.9"
ADDRESS = "93.184.215.14"
ZONE = {
    "www.example.com": [ADDRESS],
    "alias.example.com": ["=www.example.com"],
    "hidden.example.com": ["=x.bad.example.com"],
    "x.bad.example.com": [ADDRESS],
    "rebind.example.com": ["10.0.0.1"],
}
CHAINS = {"alias.example.com": ("www.example.com",), "hidden.example.com": ("x.bad.example.com",)}
NAMES = (*ZONE, "missing.example.com", "x.bad\\046example.com")
"""The last one has a dot inside a label: another name than it looks."""
OPTIONS = (
    b"",
    option(65001, b"unknown"),
    option(10, b"12345678"),
    option(12, bytes(30)),
    option(8, b"\0\1\x18\0\x08\x08\x08"),
    option(65001) * 20,
)
"""None; unknown; cookie; padding; client subnet; many."""
HOWS = ("udp", "tcp", "tls", "h2 post", "h2 get", "http/1.1")


class Asked(NamedTuple):
    """A question, and how it is put."""

    client: str
    name: str
    qtype: int
    how: str
    capitals: int
    options: bytes

    @property
    def packet(self) -> bytes:
        """The query."""
        wire = bytearray(encode_name(self.name))
        chosen = Random(self.capitals)
        for at, octet in enumerate(wire):
            if 0x61 <= octet <= 0x7A and chosen.random() < 0.5:
                wire[at] = octet - 0x20
        return query(bytes(wire), self.options, qtype=self.qtype)


def policy(*, strict: bool) -> Policy:
    """Return a policy by which the two clients may not do the same; a strict one denies TXT to both, too."""
    groups = (
        ClientGroup(name="web", addresses=networks(f"{WEB}/32")),
        ClientGroup(name="batch", addresses=networks(f"{BATCH}/32")),
    )
    rules = [Rule(name="not-for-web", action=Verdict.DENY, clients=("web",), domains=("www.example.com",))]
    if strict:
        rules.append(Rule(name="no-txt", action=Verdict.DENY, qtypes=(TXT,)))
    return a_policy(*rules, listed=(".bad.example.com",), clients=groups)


def expected(asked: Asked, by: Policy) -> str:
    """Return the reason that the policy gives, asked directly; nothing for what is allowed."""
    client = Client(address=ip_address(asked.client))
    first = by.decide(DnsQuery(client=client, name=asked.name, qtype=asked.qtype))
    found = ZONE.get((CHAINS.get(asked.name) or (asked.name,))[-1], [])
    addresses = tuple(ip_address(text) for text in found) if asked.qtype == A else ()
    answer = DnsAnswer(
        client=client, name=asked.name, qtype=asked.qtype, chain=CHAINS.get(asked.name, ()), addresses=addresses
    )
    decision = first if first.denied else by.decide(answer)
    return f"{decision.reason.value} {decision.rule}".strip() if decision.denied else ""


def given_reason(reply: bytes) -> str:
    """Return the reason in an answer; nothing for one that was allowed."""
    told = ede(reply)
    if told is None:
        assert "egress-gateway" not in str(parse(reply))
        return ""
    return told[1].partition(" id=")[0].removesuffix(" threats").strip()


async def put(asked: Asked, places: list[Endpoint], folder: Path) -> bytes:
    """Ask, and return the answer."""
    packet, (udp, tcp, tls, https) = asked.packet, places
    loop = asyncio.get_running_loop()
    if asked.how == "udp":
        found: asyncio.Future[bytes] = loop.create_future()

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _: object) -> None:
                found.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(
            Receiver, local_addr=(asked.client, 0), remote_addr=(str(udp.address), udp.port)
        )
        transport.sendto(packet)
        try:
            return await found
        finally:
            transport.close()
    place = {"tcp": tcp, "tls": tls}.get(asked.how, https)
    protocol = {"tls": "dot", "http/1.1": "http/1.1"}.get(asked.how, "h2")
    reader, writer = await asyncio.open_connection(
        str(place.address),
        place.port,
        local_addr=(asked.client, 0),
        ssl=None if asked.how == "tcp" else client_context(folder, protocol),
        server_hostname=None if asked.how == "tcp" else NAME,
    )
    try:
        if asked.how in ("tcp", "tls"):
            writer.write(len(packet).to_bytes(2, "big") + packet)
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        if asked.how == "http/1.1":
            head = f"POST {place.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(packet)}\r\nConnection: close\r\n"
            writer.write(head.encode() + b"Content-Type: application/dns-message\r\n\r\n" + packet)
            return (await reader.read()).partition(b"\r\n\r\n")[2]
        client = Http2Client(reader, writer, place.path)
        if asked.how == "h2 get":
            client.begin(1, "GET", f"{place.path}?dns={base64.urlsafe_b64encode(packet).rstrip(b'=').decode()}")
        else:
            client.post(1, packet)
        return (await client.response(1))[2]
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


questions = st.builds(
    Asked,
    client=st.sampled_from((WEB, BATCH)),
    # Mostly the same questions by UDP without options: those are answered from what was answered before.
    name=st.sampled_from(("www.example.com", "alias.example.com") * 3 + NAMES),
    qtype=st.sampled_from((A, A, A, A, TXT, AAAA)),
    how=st.sampled_from(("udp",) * 6 + HOWS),
    capitals=st.integers(0, 3),
    options=st.sampled_from((b"",) * 6 + OPTIONS),
)


class Batch(NamedTuple):
    """Questions that are put at the same time."""

    questions: list[Asked]
    swap: str
    """`never`, or a policy put in force in their midst: one that says the `same`, or `another`."""


batches = st.lists(
    st.builds(Batch, st.lists(questions, min_size=4, max_size=10), st.sampled_from(("never", "same", "another"))),
    min_size=3,
    max_size=5,
)


@given(batches)
@settings(
    max_examples=max(settings().max_examples // 10, 10),
    phases=[Phase.reuse, Phase.generate],  # an example takes a second: to make it smaller would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_one_verdict(tmp_path: Path, batches: list[Batch]) -> None:
    """Transport, letter case, EDNS options, the cache, what others have asked and a refresh change no verdict."""
    strict = False
    async with upstream(zone(ZONE)) as up:
        judge = a_judge(up.endpoint, policy=policy(strict=strict))
        async with serving_all(Resolver(judge), a_certificate(tmp_path), TRANSPORTS) as places, asyncio.timeout(30):
            for batch in batches:
                before = judge.policy
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(put(each, places, tmp_path)) for each in batch.questions]
                    if batch.swap != "never":
                        while not (tasks[0].done() or judge.asked):  # noqa: ASYNC110 -- nothing sets an event there
                            await asyncio.sleep(0)
                        strict ^= batch.swap == "another"
                        judge.policy = policy(strict=strict)
                for asked, task in zip(batch.questions, tasks, strict=True):
                    right = {expected(asked, before), expected(asked, judge.policy)}
                    assert given_reason(task.result()) in right, asked
                judge.asked.clear()


def test_the_clients_differ() -> None:
    """The two clients are told apart by the policy, so that one's cached answer would be a leak to the other."""
    one, other = (Asked(client, "alias.example.com", A, "udp", 0, b"") for client in (WEB, BATCH))
    assert expected(one, policy(strict=False)) == "rule not-for-web"
    assert not expected(other, policy(strict=False))
