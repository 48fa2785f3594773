"""Bypass 31: carrying data out in small pieces, in one endless piece, or where nobody can look."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from gateway.decision import Budget, Reason
from tests.gateway.proxy.samples import a_hello
from tests.integration.proxy_rig import Rig, a_proxy, allow, until
from tests.peers.http_origin import Origin

CAP = 100_000


class Sink(Origin):
    """Counts everything that arrives."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count octets until the end."""
        while data := await reader.read(65536):
            self.octets += len(data)


async def _flood(rig: Rig, begin: bytes, piece: bytes, *, most: int = 40 * CAP) -> None:
    """Send pieces until the gateway closes the connection, or far too much was taken."""
    reader, writer = await rig.connect()
    sent = 0
    with contextlib.suppress(ConnectionError):
        writer.write(begin)
        while sent < most and not reader.at_eof():
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
            await asyncio.sleep(0)
    writer.transport.abort()


@pytest.mark.parametrize(
    ("framing", "piece"),
    [
        ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (4096, b"x" * 4096)),
        (f"Content-Length: {CAP - 500}", b"x" * 4096),
    ],
    ids=["endless chunks", "a length that would just fit, twice"],
)
async def test_long_upload(tmp_path: Path, framing: str, piece: bytes) -> None:
    """31: An upload stops at the cap, whatever length it announces."""
    rule = allow("good.test", upload=Budget(CAP, 3600))
    async with Sink() as sink, a_proxy(tmp_path, rule) as rig:
        target = f"good.test:{sink.port}"
        head = f"POST http://{target}/ HTTP/1.1\r\nHost: {target}\r\n{framing}\r\n\r\n".encode()
        for _ in range(2):
            await _flood(rig, head, piece)
            await rig.settled()
        assert sink.octets <= CAP + 2 * 200  # what HTTP adds: chunk sizes, and fields of the gateway's own
        assert Reason.UPLOAD_BUDGET in rig.ledger.denials
        assert len(rig.ledger.lines) == 2


async def test_announced_too_long(tmp_path: Path) -> None:
    """31: A request that announces more than is left is answered with the reason, before anything of it is sent."""
    rule = allow("good.test", upload=Budget(CAP, 3600))
    async with Sink() as sink, a_proxy(tmp_path, rule) as rig:
        target = f"good.test:{sink.port}"
        head = f"POST http://{target}/ HTTP/1.1\r\nHost: {target}\r\nContent-Length: {CAP}\r\n\r\n"
        answer = await rig.ask(head.encode())
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"X-Gateway-Reason: upload-budget\r\n" in answer
        assert b"(100000B in 1h) is used up" in answer
        assert rig.ledger.denials == [Reason.UPLOAD_BUDGET]
        assert len(rig.ledger.lines) == 1
        assert sink.untouched


@pytest.mark.parametrize("where", ["path", "query", "field", "several hosts"])
async def test_many_small_requests(tmp_path: Path, where: str) -> None:
    """Requests of 1 KB stop at the cap, wherever the data is, and whichever host of the domain is asked."""
    rule = allow(".good.test", upload=Budget(CAP, 3600))
    names = {f"h{number}.good.test": "127.0.0.1" for number in range(10)}
    async with Origin() as origin, a_proxy(tmp_path, rule, names={"good.test": "127.0.0.1", **names}) as rig:
        answered = denied = 0
        for number in range(20):
            host = f"h{number % 10}.good.test" if where == "several hosts" else "good.test"
            target = f"{host}:{origin.port}"
            data = "x" * 1000
            path = {"path": f"/{data}", "query": f"/?{data}"}.get(where, "/")
            field = "" if where in ("path", "query") else f"X-Data: {data}\r\n"
            one = f"GET http://{target}{path} HTTP/1.1\r\nHost: {target}\r\n{field}\r\n".encode()
            answer = await rig.ask(one * 49 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answered += answer.count(b"HTTP/1.1 200 ")
            denied += answer.count(b"X-Gateway-Reason: upload-budget")
        assert 80 < answered < 100
        assert denied == 20 - answered // 50
        assert sum(map(len, origin.requests)) <= CAP
        await rig.settled()
        assert set(rig.ledger.denials) == {Reason.UPLOAD_BUDGET}


async def test_spliced(tmp_path: Path) -> None:
    """An upload through a tunnel that nobody looks into stops at the cap, and the next tunnel gets nothing."""
    rule = allow("good.test", upload=Budget(CAP, 3600))
    async with Sink() as sink, a_proxy(tmp_path, rule) as rig:
        target = f"good.test:{sink.port}"
        await _flood(
            rig, f"CONNECT {target} HTTP/1.1\r\n\r\n".encode() + a_hello(), b"\x17\x03\x03\x10\x00" + b"x" * 4096
        )
        await rig.settled()
        assert CAP - 70_000 < sink.octets <= CAP
        assert rig.ledger.denials == [Reason.UPLOAD_BUDGET]
        assert len(rig.ledger.lines) == 1
        (line,) = rig.ledger.lines
        assert line.outcome is not None
        assert line.outcome.octets_out == sink.octets
        before = sink.octets
        await _flood(rig, f"CONNECT {target} HTTP/1.1\r\n\r\n".encode() + a_hello(), b"x" * 70_000, most=140_000)
        await rig.settled()
        assert sink.octets <= CAP
        assert sink.octets - before < 70_000
        assert rig.ledger.denials == [Reason.UPLOAD_BUDGET] * 2


async def test_in_parallel(tmp_path: Path) -> None:
    """Many tunnels at once share one budget."""
    rule = allow("good.test", upload=Budget(CAP, 3600))
    async with Sink() as sink, a_proxy(tmp_path, rule) as rig:
        target = f"good.test:{sink.port}"
        begin = f"CONNECT {target} HTTP/1.1\r\n\r\n".encode() + a_hello()
        await asyncio.gather(*(_flood(rig, begin, b"x" * 1000, most=CAP) for _ in range(20)))
        await rig.settled()
        assert CAP - 5_000 < sink.octets <= CAP
        assert len(rig.ledger.lines) == 20


async def test_downloads_are_free(tmp_path: Path) -> None:
    """What comes back is not charged, and an upload within the budget passes whole."""
    rule = allow("good.test", upload=Budget(CAP, 3600))
    async with Origin(body=b"y" * 500_000) as origin, a_proxy(tmp_path, rule) as rig:
        ran = await rig.curl("-d", "x" * 50_000, f"http://good.test:{origin.port}/")
        assert len(ran.out) == 500_000
        await until(lambda: len(rig.ledger.lines) == 1)
        assert rig.ledger.denials == []
