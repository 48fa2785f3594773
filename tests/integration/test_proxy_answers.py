"""Answers as clients get them: rules about media types and file types, through mitmproxy's layers."""

import asyncio
import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gateway.decision import Reason, Verdict
from gateway.filetypes import formats_of
from gateway.policy import Policy
from gateway.request import HttpResponse
from gateway.rule import HttpConditions, Rule
from tests.integration.proxy_rig import Bench, Rig, a_proxy, allow, until
from tests.peers.http_origin import Behaviour, Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate

ELF = Path("/bin/sh").read_bytes()[:2000]


def no_files(*kinds: str, **more: Any) -> Rule:
    """Return a rule that denies answers of some types."""
    conditions = HttpConditions(file_types=formats_of(kinds))
    return Rule(**{"name": "no-files", "action": Verdict.DENY, "http": conditions, **more})


def only(**conditions: Any) -> Rule:
    """Return a rule that allows some answers of good.test."""
    return allow("good.test", name="some", http=HttpConditions(**conditions))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test")


def _tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("name"))
    return made.getvalue()


DENIED: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "a program for Linux": (ELF, ()),
    "a program for Windows that says it is a picture": (b"MZ" + b"x" * 1000, ("Content-Type: image/png",)),
    "a script": (b"#!/bin/sh\necho\n", ("Content-Type: text/plain",)),
    "an archive": (_tar(), ()),
    "a program inside a content coding": (gzip.compress(ELF), ("Content-Encoding: gzip",)),
    "a program in a coding that is not read": (ELF, ("Content-Encoding: compress",)),
}


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("name", DENIED)
async def test_denied_files(tmp_path: Path, certificate: Path, name: str, version: str) -> None:
    """A file of a denied type is a 403 with its reason and one line; not one octet of it reaches the client."""
    body, fields = DENIED[name]
    rules = (no_files("executable", "script", "archive"), allow("good.test"))
    async with (
        TlsOrigin(certificate=certificate, body=body, fields=fields) as origin,
        a_proxy(tmp_path, *rules, trust=certificate) as rig,
    ):
        url = f"https://good.test:{origin.port}/x"
        ran = await rig.curl(version, "--suppress-connect-headers", "--cacert", str(rig.proxy.certificate), "-i", url)
        assert " 403" in ran.out.splitlines()[0]
        assert "x-gateway-reason: file-type" in ran.out.lower()
        assert "ELF" not in ran.out
        assert len(origin.requests) == 1
        await rig.settled()
        (line,) = rig.ledger.lines
        assert isinstance(line.request, HttpResponse)
        assert (line.decision.reason, line.decision.rule) == (Reason.FILE_TYPE, "no-files")


class Packing(Origin):
    """Answers with a program in a transfer coding (RFC 9112 section 7), as clients with `TE: gzip` unpack it."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        await reader.readuntil(b"\r\n\r\n")
        packed = gzip.compress(ELF)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed))


async def test_a_transfer_coding_hides_nothing(tmp_path: Path) -> None:
    """What it packs is seen as what a content coding packs is."""
    async with Packing() as origin, a_proxy(tmp_path, no_files("executable"), allow("good.test")) as rig:
        ran = await rig.curl("--tr-encoding", "-i", f"http://good.test:{origin.port}/x")
        assert " 403" in ran.out.splitlines()[0]
        await rig.settled()
        assert rig.ledger.denials == [Reason.FILE_TYPE]


@pytest.mark.parametrize("size", [0, 1, 261, 262, 263, 300_000])
async def test_other_files_are_whole(tmp_path: Path, size: int) -> None:
    """What is no file of a denied type arrives whole, of any size, and with its own head."""
    body = b"y" * size
    rules = (no_files("executable"), allow("good.test"))
    async with Origin(body=body, fields=("X-Mine: z",)) as origin, a_proxy(tmp_path, *rules) as rig:
        url = f"http://good.test:{origin.port}/"
        ran = await rig.curl("-i", url, url)
        assert ran.out.count("X-Mine: z") == 2
        assert ran.out.count("y" * size if size else "200 OK") >= 2
        await rig.settled()
        outcomes = [line.outcome for line in rig.ledger.ended]
        whole = len(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nX-Mine: z\r\n\r\n") + size
        assert [outcome and (outcome.octets_in, outcome.status) for outcome in outcomes] == [(whole, 200)] * 2
        assert origin.connections == 1


async def test_the_head_waits_for_the_verdict(tmp_path: Path) -> None:
    """While the first octets are still to come, the client gets nothing; then everything."""
    more = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nM")
        await more.wait()
        writer.write(b"Z...")

    rules = (no_files("executable"), allow("good.test"))
    async with Origin(behave=drip) as origin, a_proxy(tmp_path, *rules) as rig:
        reader, writer = await rig.connect()
        writer.write(request_to(origin))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.3)
        more.set()
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 403 ")
        writer.close()


def request_to(origin: Origin, *fields: str) -> bytes:
    """Return a plain request."""
    target = f"good.test:{origin.port}"
    return "\r\n".join((f"GET http://{target}/ HTTP/1.1", f"Host: {target}", *fields, "", "")).encode()


async def test_a_server_that_ends_while_it_is_looked_at(tmp_path: Path) -> None:
    """A body that breaks off before a verdict is possible does not reach the client."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nM")

    rules = (no_files("executable"), allow("good.test"))
    async with Origin(behave=break_off) as origin, a_proxy(tmp_path, *rules) as rig:
        answer = await rig.ask(request_to(origin))
        assert b"200" not in answer.split(b"\r\n")[0]
        await rig.settled()
        assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE]
        assert len(rig.ledger.lines) == 1


async def test_ranges_and_codings_are_not_asked_for(tmp_path: Path) -> None:
    """Where an answer will be looked at, its middle is not asked for, nor a coding that hides it; else both are."""
    asked = ("Range: bytes=1-", 'If-Range: "x"', "Accept-Encoding: compress, gzip")
    async with Origin() as origin:
        async with a_proxy(tmp_path, no_files("executable"), allow("good.test")) as rig:
            await rig.curl(*(f"-H{field}" for field in asked), f"http://good.test:{origin.port}/")
        async with a_proxy(tmp_path, allow("good.test")) as rig:
            await rig.curl(*(f"-H{field}" for field in asked), f"http://good.test:{origin.port}/")
        looked_at, plain = (request.decode().lower() for request in origin.requests)
        assert "range" not in looked_at
        assert "accept-encoding: gzip\r\n" in looked_at
        assert all(field.lower() in plain for field in asked)


STATUS: dict[str, tuple[bytes, Reason]] = {
    "the middle of a file": (
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/3\r\nContent-Length: 2\r\n\r\nab",
        Reason.FILE_TYPE,
    ),
    "another protocol": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        Reason.FILE_TYPE,
    ),
}


@pytest.mark.parametrize("name", STATUS)
async def test_what_cannot_be_looked_at(tmp_path: Path, name: str) -> None:
    """An answer whose beginning never shows may be a file of any type."""
    answer, reason = STATUS[name]

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()

    rules = (no_files("executable"), allow("good.test"))
    async with Origin(behave=behave) as origin, a_proxy(tmp_path, *rules) as rig:
        upgrade = (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: e",
        )
        got = await rig.ask(request_to(origin, *(upgrade if "protocol" in name else ())))
        assert got.startswith(b"HTTP/1.1 403 ")
        assert rig.ledger.denials == [reason]


TYPES: dict[str, tuple[tuple[str, ...], bool]] = {
    "the type": (("Content-Type: text/html; charset=utf-8",), True),
    "in capitals": (("Content-Type: TEXT/Html",), True),
    "another": (("Content-Type: application/zip",), False),
    "none, which is application/octet-stream": ((), False),
    "two, one of them another": (("Content-Type: text/html", "Content-Type: application/zip"), False),
}


@pytest.mark.parametrize("name", TYPES)
async def test_response_types(tmp_path: Path, name: str) -> None:
    """An answer of a denied media type is a denial that says so; others arrive."""
    fields, allowed = TYPES[name]
    no_types = Rule(name="no", action=Verdict.DENY, http=HttpConditions(response_types=("application/*",)))
    async with Origin(fields=fields) as origin, a_proxy(tmp_path, no_types, allow("good.test")) as rig:
        ran = await rig.curl("-i", f"http://good.test:{origin.port}/")
        await rig.settled()
        if allowed:
            assert ran.out.endswith("hello from the origin\n")
            assert [line.decision.rule for line in rig.ledger.ended] == ["allowed"]
        else:
            assert "X-Gateway-Reason: content-type" in ran.out
            assert "hello" not in ran.out
            assert rig.ledger.denials == [Reason.CONTENT_TYPE]


async def test_answers_without_content(tmp_path: Path) -> None:
    """An answer with nothing behind its head has no type to object to."""
    rules = (no_files("executable", "other"), only(response_types=("text/*",)))
    async with Origin(body=b"") as origin, a_proxy(tmp_path, *rules) as rig:
        ran = await rig.curl("-i", f"http://good.test:{origin.port}/")
        assert ran.out.startswith("HTTP/1.1 200 ")
        assert rig.ledger.denials == []


async def test_a_rule_on_trial_speaks_once(tmp_path: Path) -> None:
    """A rule in report mode lets the file pass, and records once what it would have done."""
    rules = (no_files("executable", report=True), allow("good.test"))
    async with Origin(body=ELF) as origin, a_proxy(tmp_path, *rules) as rig:
        ran = await rig.curl("-o", str(tmp_path / "got"), f"http://good.test:{origin.port}/")
        assert ran.code == 0
        assert (tmp_path / "got").read_bytes() == ELF
        await rig.settled()
        reported = [line for line in rig.ledger.lines if line.decision.reported and line.outcome is None]
        assert [each.decision.reported[0].rule for each in reported] == ["no-files"]


async def test_a_broken_decision_on_an_answer(tmp_path: Path) -> None:
    """When the decision about an answer breaks, the answer is denied."""

    class Broken(Bench):
        def decide(self, request: Any) -> Any:
            if isinstance(request, HttpResponse):
                raise RuntimeError("injected")
            return super().decide(request)

    rules = (no_files("executable"), allow("good.test"))
    async with Origin() as origin, a_proxy(tmp_path, judge=Broken(Policy(rules=rules)), names=GOOD) as rig:
        answer = await rig.ask(request_to(origin))
        assert b"hello" not in answer
        assert answer == b"" or b"X-Gateway-Reason: internal-error" in answer


GOOD = {"good.test": "127.0.0.1"}


async def test_a_stricter_policy_and_answers_under_way(tmp_path: Path) -> None:
    """A download that was looked at and is still allowed goes on after a reload; one that is now denied ends."""
    go = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1000)
        await go.wait()
        writer.write(b"y")

    async def start(rig: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await rig.connect()
        writer.write(request_to(origin))
        await asyncio.wait_for(reader.readuntil(b"x" * 1000), 20)
        return reader, writer

    first = (no_files("executable"), allow("good.test"))
    async with Origin(behave=drip) as origin, a_proxy(tmp_path, *first) as rig:
        reader, writer = await start(rig)
        rig.judge.policy = Policy(rules=(no_files("executable", "script"), allow("good.test")))
        rig.judge.generation += 1
        await asyncio.sleep(0.1)  # several ticks
        go.set()
        assert await asyncio.wait_for(reader.readexactly(1), 20) == b"y"
        writer.close()
        go.clear()
        reader, writer = await start(rig)
        rig.judge.policy = Policy(rules=(no_files("other"), allow("good.test")))
        rig.judge.generation += 1
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        await until(lambda: rig.ledger.denials == [Reason.FILE_TYPE])
        go.set()


def large(*, length: bool) -> Behaviour:
    """Return an origin that answers with 2,000 octets, and says so or not."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if length:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
                writer.write(b"" if head.startswith(b"HEAD") else b"x" * 2000)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n")
                await writer.drain()
                writer.write(b"3e8\r\n" + b"y" * 1000 + b"\r\n0\r\n\r\n")

    return behave


async def test_an_answer_that_announces_too_much(tmp_path: Path) -> None:
    """An answer larger than its rule allows is a 403 when it says so, and no octet of it arrives; its head may."""
    async with Origin(behave=large(length=True)) as origin, a_proxy(tmp_path, only(max_response=1999)) as rig:
        url = f"http://good.test:{origin.port}/"
        ran = await rig.curl("-i", url)
        assert ran.out.startswith("HTTP/1.1 403 ")
        assert "X-Gateway-Reason: body-size" in ran.out
        assert "xxx" not in ran.out
        assert (await rig.curl("-I", url)).out.startswith("HTTP/1.1 200 ")
        await rig.settled()
        assert rig.ledger.denials == [Reason.BODY_SIZE]


@pytest.mark.parametrize("most", [1500, 2100])
async def test_an_answer_that_becomes_too_much(tmp_path: Path, most: int) -> None:
    """An answer that does not say how large it is is cut off where it gets too large, and recorded as denied."""
    async with Origin(behave=large(length=False)) as origin, a_proxy(tmp_path, only(max_response=most)) as rig:
        ran = await rig.curl(f"http://good.test:{origin.port}/")
        await rig.settled()
        (line,) = rig.ledger.lines
        assert line.outcome is not None
        assert line.outcome.octets_in <= most
        if most < 2000:
            assert ran.code
            assert "y" not in ran.out
            assert line.decision.reason is Reason.BODY_SIZE
        else:
            assert (ran.code, len(ran.out)) == (0, 2000)
            assert not line.decision.denied
