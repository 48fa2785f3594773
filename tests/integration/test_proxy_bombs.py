"""A real `gateway proxy` that looks for programs, and answers that unpack to ten gigabytes, or to nothing at all."""

import time
from collections.abc import Iterator

import pytest

from tests.integration.hostile_rig import Gateway, a_gateway, polite
from tests.peers.bombs import CODINGS
from tests.peers.flood import Stream, flood, inspected
from tests.peers.namespace import wait_until

NO_PROGRAMS = """
    - name: no-programs
      action: deny
      to: {domains: [.seen.test]}
      http: {file_types: [executable]}
"""
GROWTH = 40 << 20
"""Octets that eight connections may need, whatever is packed into what they get."""
KEPT = 64 << 20
GET = "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
DENIED = [
    *(f"/bomb/{coding}" for coding in (*CODINGS, "gzip, gzip")),
    *(f"/{how}/{coding}" for how in ("program", "broken", "short") for coding in CODINGS),
    *("/members/gzip", "/members/zstd", "/program/x-mine", "/window/br", "/window/zstd"),
]
"""Programs, and what may be one because nobody can tell."""
ALLOWED = [*(f"/harmless/{coding}" for coding in CODINGS), *(f"/text/{coding}" for coding in CODINGS)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all bodies: what one leaves behind, the next would show."""
    with a_gateway(tmp_path_factory.mktemp("gateway"), rules=NO_PROGRAMS) as made:
        with polite(made, "quiet"):
            time.sleep(0.1)
        yield made


def asked(gateway: Gateway, path: str, net: str) -> list[Stream]:
    """Ask for a path on four plain and four inspected connections at once."""
    made = []
    path = path.replace(" ", "%20")
    for number in range(4):
        for tls in (False, True):
            source, host = f"{net}.{number + 1}", f"seen.test:{gateway.https if tls else gateway.http}"
            sock = inspected(gateway, source=source) if tls else gateway.connect(source)
            where = path if tls else f"http://{host}{path}"
            made.append(Stream(sock, b"", GET.format(host=host, path=where).encode()))
    return flood(made, 20)


@pytest.mark.parametrize("path", DENIED)
def test_what_may_be_a_program_is_denied(gateway: Gateway, path: str) -> None:
    """Nothing of it reaches a client, each has a line, and what it unpacks to costs neither time nor memory."""
    before, spent, since = gateway.memory, gateway.seconds, len(gateway.ledger)
    gateway.forget_peak()
    streams = asked(gateway, path, "127.3.1")
    assert gateway.peak < before + GROWTH
    assert gateway.seconds - spent < 1.0
    for stream in streams:
        assert stream.first.startswith(b"HTTP/1.1 403 ")
        assert b"X-Gateway-Reason: file-type\r\n" in stream.first
        assert b"decoded" not in stream.first
    gateway.await_reasons({"file-type": len(streams)}, since)


@pytest.mark.parametrize("path", ALLOWED)
def test_what_is_none_passes_as_it_came(gateway: Gateway, path: str) -> None:
    """A body that begins like no program is passed on packed, however large it is unpacked."""
    before, since = gateway.memory, len(gateway.ledger)
    gateway.forget_peak()
    streams = asked(gateway, path, "127.3.2")
    assert gateway.peak < before + GROWTH
    for stream in streams:
        head, _, body = stream.first.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        (length,) = (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        assert stream.received == len(head) + 4 + length
        assert body
    assert not gateway.reasons(since)


def test_others_are_served_meanwhile(gateway: Gateway) -> None:
    """While bombs come in one after the other; and the memory is free again afterwards."""
    before = gateway.memory
    with polite(gateway, "bombs"):
        for path in DENIED:
            asked(gateway, path, "127.4.3")
    wait_until(lambda: gateway.memory < before + KEPT, "the memory to be free again", 15)
