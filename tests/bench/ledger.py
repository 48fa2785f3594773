"""What the ledger costs: microseconds of `record` in the calling thread, lines a second through the file.

Run as `python tests/bench/ledger.py [folder]`; the folder decides which disk is measured.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from gateway.decision import Decision, Match, Reason, Verdict
from gateway.ledger import Ledger, Outcome
from gateway.ledger.event import encode, event
from gateway.request import Client, DnsQuery, HttpRequest, Request, TlsHello, Tunnel

CLIENT = Client(address=ip_address("10.2.0.7"))
LISTED = Decision(
    Verdict.DENY,
    Reason.LISTED,
    rule="threat-feeds",
    detail="evil.example is on the list urlhaus",
    matched=Match("urlhaus", "5f2c9a", 120, "evil.example", ("malware",)),
    technique=("T1105",),
)
ALLOWED = Decision(Verdict.ALLOW, Reason.RULE, rule="package-mirrors")
TUNNEL = Tunnel(client=CLIENT, host="deb.example", port=443, user_agent="curl/8.5.0")
HELLO = TlsHello(
    tunnel=TUNNEL, server_names=("deb.example",), alpn=("h2",), ja4="t13d1516h2_8daaf6152771_e5627efa2ab1"
)
HTTP = HttpRequest(
    client=CLIENT,
    host="deb.example",
    port=443,
    scheme="https",
    method="POST",
    path="/repos/a/b?x=1&token=abc",
    headers=(("accept", "*/*"),) * 10,
    user_agent="curl/8.5.0",
    hello=HELLO,
)
ENDED = Outcome(octets_out=1200, octets_in=98765, seconds=1.25, address=ip_address("192.0.2.7"))


def _cost(call: Callable[[int], object], number: int) -> float:
    """Return the CPU time of the calling thread alone, in microseconds a call."""
    start = time.thread_time()
    for index in range(number):
        call(index)
    return (time.thread_time() - start) / number * 1e6


def _query(index: int) -> DnsQuery:
    return DnsQuery(client=CLIENT, name=f"n{index}.evil.example", qtype=1)


def main(folder: Path) -> None:
    """Print the table."""
    queries = [_query(index) for index in range(6000)]
    cases: list[tuple[str, Callable[[Ledger], Callable[[int], object]], int]] = [
        ("DNS block, repeat", lambda ledger: lambda _: ledger.record(queries[0], LISTED), 100_000),
        ("DNS block, new name", lambda ledger: lambda index: ledger.record(queries[index], LISTED), 6000),
        ("tunnel denied", lambda ledger: lambda _: ledger.record(TUNNEL, LISTED), 6000),
        ("tunnel ended", lambda ledger: lambda _: ledger.record(HELLO, ALLOWED, ENDED), 6000),
        ("request denied", lambda ledger: lambda _: ledger.record(HTTP, LISTED), 6000),
        ("request allowed, no end yet", lambda ledger: lambda _: ledger.record(HTTP, ALLOWED), 100_000),
    ]
    print(f"{'record()':<30}{'us':>8}")
    for name, make, number in cases:
        with Ledger(folder, "bench", backlog=200_000) as ledger:
            ledger.record(queries[0], LISTED)
            print(f"{name:<30}{_cost(make(ledger), number):>8.2f}")
    with Ledger(folder, "full", backlog=1) as ledger:
        ledger.record(TUNNEL, LISTED)
        print(f"{'tunnel denied, backlog full':<30}{_cost(lambda _: ledger.record(TUNNEL, LISTED), 6000):>8.2f}")
    _throughput(folder)


def _throughput(folder: Path) -> None:
    requests: tuple[tuple[str, Request], ...] = (("DNS", _query(1)), ("HTTP", HTTP))
    for name, request in requests:
        build = partial(event, request, LISTED, id="7x", now=1e9, role="bench")
        start = time.thread_time()
        for _ in range(5000):
            encode(build())
        cost = (time.thread_time() - start) / 5000 * 1e6
        print(f"{'build + encode, ' + name:<30}{cost:>8.2f}  ({len(encode(build()))} octets)")
    total = 100_000
    with Ledger(folder, "through", backlog=total) as ledger:
        start = time.perf_counter()
        for _ in range(total):
            ledger.record(TUNNEL, LISTED)
        ledger.flush(60)
        seconds = time.perf_counter() - start
        print(f"{'recorded and written':<30}{total / seconds:>8.0f} lines/s, {ledger.status().folded} folded")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
