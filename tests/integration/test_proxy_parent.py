"""Chaining: the gateway asks another proxy for tunnels to the addresses that it judged, and for nothing else."""

from pathlib import Path

import pytest

from gateway.decision import Reason
from tests.integration.proxy_rig import a_proxy, allow, inspect, until
from tests.peers.http_origin import Origin
from tests.peers.parent import Parent
from tests.peers.tls_origin import TlsOrigin, make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test", "seen.test")


async def test_everything_goes_through(tmp_path: Path, certificate: Path) -> None:
    """Spliced, inspected and plain: the parent is asked for the address that was judged, never for a name."""
    async with TlsOrigin(certificate=certificate) as origin, Origin() as plain, Parent() as parent:
        rules = allow("good.test"), inspect("seen.test")
        async with a_proxy(tmp_path, *rules, section={"parent": parent.url}, trust=certificate) as rig:
            for trusted, url in (
                (certificate, f"https://good.test:{origin.port}/"),
                (rig.proxy.certificate, f"https://seen.test:{origin.port}/"),
                (certificate, f"http://good.test:{plain.port}/"),
            ):
                answer = await rig.curl("--cacert", str(trusted), url)
                assert answer.out == "hello from the origin\n", answer.err
            await rig.settled()
            assert parent.asked == [f"127.0.0.1:{port}" for port in (origin.port, origin.port, plain.port)]
            assert [str(line.outcome.address) for line in rig.ledger.ended if line.outcome] == ["127.0.0.1"] * 3
            assert rig.ledger.denials == []


async def test_parent_by_name(tmp_path: Path) -> None:
    """A parent that is given by name is looked up with the gateway's own resolver."""
    async with Origin() as plain, Parent() as parent:
        section = {"parent": f"http://parent.test:{parent.port}"}
        async with a_proxy(tmp_path, allow("good.test"), names={"parent.test": "127.0.0.1"}, section=section) as rig:
            answer = await rig.curl(f"http://good.test:{plain.port}/")
            assert answer.out == "hello from the origin\n", answer.err
            assert rig.names.asked == ["good.test", "parent.test"]


async def test_no_way_around(tmp_path: Path) -> None:
    """What is denied is not asked for: no name, no address that a name leads to; nor is the parent a destination."""
    async with Origin() as plain, Parent() as parent:
        rule, names = allow("good.test", "inner.test", addresses=()), {"inner.test": "127.0.0.1"}
        async with a_proxy(tmp_path, rule, names=names, section={"parent": parent.url}) as rig:
            for host in ("evil.test", "inner.test", "127.0.0.1"):
                await rig.curl(f"http://{host}:{plain.port}/")
            await rig.curl(f"http://127.0.0.1:{parent.port}/")
            assert len(rig.ledger.denials) == 4
            assert not parent.asked
            assert not parent.connections
            assert plain.untouched


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "answered 403 to CONNECT 127.0.0.1:"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answered 407"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP"),
        (b"", "closed the connection instead of answering"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, "more than 16384 octets"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\nforged", "more than its answer"),
    ],
    ids=["403", "407", "no HTTP", "nothing", "endless", "answers unasked"],
)
async def test_refusal(tmp_path: Path, answer: bytes, told: str, tls: bool) -> None:
    """A parent that does not make the tunnel is an upstream failure, with what it did; nothing goes round it."""
    async with (
        Origin() as plain,
        Parent(answer=answer) as parent,
        a_proxy(tmp_path, allow("good.test"), section={"parent": parent.url}) as rig,
    ):
        got = await rig.curl("-k", f"http{'s' if tls else ''}://good.test:{plain.port}/")
        assert tls or "upstream-failure" in got.out
        assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE]
        assert told in rig.ledger.lines[0].decision.detail
        assert f"the parent proxy {parent.url}" in rig.ledger.lines[0].decision.detail
        await rig.settled()
        assert plain.untouched


async def test_silent_parent(tmp_path: Path) -> None:
    """A parent that never answers costs the time to connect, and no more."""
    async with Origin() as plain, Parent(silent=True) as parent:
        section = {"parent": parent.url, "timeouts": {"connect": "1s"}}
        async with a_proxy(tmp_path, allow("good.test"), section=section) as rig:
            for scheme in ("http", "https"):
                await rig.curl("-k", f"{scheme}://good.test:{plain.port}/")
            assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE] * 2
            await until(lambda: not parent.open)
            assert plain.untouched


async def test_parent_that_is_itself(tmp_path: Path) -> None:
    """A gateway that is its own parent says so, and does not ask itself for ever."""
    async with Origin() as plain, Parent() as parent:
        free = parent.port
    section = {"listen": [f"127.0.0.1:{free}"], "parent": f"http://127.0.0.1:{free}"}
    async with a_proxy(tmp_path, allow("good.test"), section=section) as rig:
        answer = await rig.curl(f"http://good.test:{plain.port}/")
        assert "is this gateway itself" in answer.out
        assert rig.ledger.denials == [Reason.UPSTREAM_FAILURE]


async def test_second_address(tmp_path: Path) -> None:
    """Of a name with several addresses, the parent is asked for the next when it refuses the first."""
    async with Origin(host="127.0.0.2") as plain, Parent() as parent:
        names = {"good.test": ["127.0.0.1", "127.0.0.2"]}
        async with a_proxy(tmp_path, allow("good.test"), names=names, section={"parent": parent.url}) as rig:
            answer = await rig.curl(f"http://good.test:{plain.port}/")
            assert answer.out == "hello from the origin\n", answer.err
            assert parent.asked == [f"127.0.0.1:{plain.port}", f"127.0.0.2:{plain.port}"]
