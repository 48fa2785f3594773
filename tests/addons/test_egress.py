"""Tests of `addons/egress.py` as a script of a real mitmdump."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.proxy.samples import a_hello
from tests.integration.proxy_rig import Ran, run
from tests.peers.http_origin import Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate

_MITMDUMP = Path(sys.executable).parent / "mitmdump"
_SCRIPT = Path(__file__).parents[2] / "addons" / "egress.py"
_POLICY = """
version: 1
state_dir: ./state
dns: {records: {good.test: [127.0.0.1], seen.test: [127.0.0.1], inside.test: [10.0.0.1]}}
policy:
  rules:
    - {name: good, action: allow, to: {domains: [good.test, inside.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
    - name: seen
      action: allow
      to: {domains: [seen.test], addresses: [127.0.0.0/8], ports: [1-65535]}
      http: {methods: [GET]}
"""


class Stock:
    """A mitmdump with the script."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder

    async def curl(self, *arguments: str) -> Ran:
        """Run curl through it."""
        return await run("curl", "-sS", "--max-time", "20", "-x", f"http://127.0.0.1:{self.port}", *arguments)

    def ledger(self) -> list[tuple[str, str, str]]:
        """Return stage, verdict and reason of every entry; once the script has ended."""
        lines = [
            json.loads(line)
            for file in sorted((self.folder / "state/ledger").glob("*.jsonl"))
            for line in file.read_text().splitlines()
        ]
        return [
            (line["gateway.stage"], line["gateway.verdict"], line["event.reason"])
            for line in lines
            if "gateway.stage" in line
        ]


@contextlib.asynccontextmanager
async def mitmdump(folder: Path, trust: Path, policy: str = _POLICY) -> AsyncIterator[Stock]:
    """Run mitmdump with the script until the end."""
    (folder / "policy.yaml").write_text(policy)
    process = await asyncio.create_subprocess_exec(
        str(_MITMDUMP), "-s", str(_SCRIPT), "--set", f"egress_config={folder / 'policy.yaml'}",
        "--set", f"confdir={folder / 'conf'}", "--set", f"ssl_verify_upstream_trusted_ca={trust}",
        "--listen-host", "127.0.0.1", "-p", "0",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = 0
        async with asyncio.timeout(40):
            while not port:
                line = (await process.stdout.readline()).decode()
                assert line, "mitmdump ended"
                if "listening at" in line:
                    port = int(line.strip().rstrip(".").rpartition(":")[2])
        drain = asyncio.get_running_loop().create_task(process.stdout.read())
        yield Stock(port, folder)
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)
        await drain
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", "good.test", "seen.test")


async def test_same_decisions(tmp_path: Path, certificate: Path) -> None:
    """The script enforces at every stage what the gateway enforces, and records it."""
    async with TlsOrigin(certificate=certificate) as origin, Origin() as plain:
        async with mitmdump(tmp_path, certificate) as stock:
            url = f":{origin.port}/"
            ours = str(tmp_path / "conf/mitmproxy-ca-cert.pem")
            spliced = await stock.curl("--cacert", str(certificate), f"https://good.test{url}")
            assert spliced.out == "hello from the origin\n"
            seen = await stock.curl("--cacert", ours, f"https://seen.test{url}")
            assert seen.out == "hello from the origin\n"
            assert (await stock.curl(f"http://good.test:{plain.port}/")).out == "hello from the origin\n"
            before = origin.connections, plain.connections

            posted = await stock.curl("--cacert", ours, "-d", "x", f"https://seen.test{url}")
            assert "The egress gateway denied seen.test" in posted.out
            assert "response 403" in (await stock.curl("https://evil.test/")).err
            fronted = await stock.curl("--cacert", ours, "-H", "Host: evil.test", f"https://seen.test{url}")
            assert "(reason: host-mismatch)" in fronted.out
            assert "(reason: dns-rebinding)" in (await stock.curl(f"http://inside.test:{plain.port}/")).out
            for sent in (b"SSH-2.0-x\r\n", a_hello(b"evil.test")):
                reader, writer = await asyncio.open_connection("127.0.0.1", stock.port)
                writer.write(f"CONNECT good.test:{origin.port} HTTP/1.1\r\n\r\n".encode() + sent)
                answer = await asyncio.wait_for(reader.read(), 20)
                assert answer.endswith(bytes.fromhex("15030300020231"))
                writer.close()
            assert (origin.connections, plain.connections) == before
        recorded = stock.ledger()
    assert recorded == [
        ("tls-hello", "allow", "rule"),
        ("http-request", "allow", "rule"),
        ("http-request", "allow", "rule"),
        ("http-request", "deny", "port"),
        ("tunnel", "deny", "default-deny"),
        ("http-request", "deny", "host-mismatch"),
        ("dial", "deny", "dns-rebinding"),
        ("tls-hello", "deny", "not-tls"),
        ("tls-hello", "deny", "sni-mismatch"),
    ]


async def test_bad_policy(tmp_path: Path, certificate: Path) -> None:
    """With a policy file that is not good, nobody is served."""
    async with Origin() as origin:
        async with mitmdump(tmp_path, certificate, policy="version: 1\nnonsense: true\n") as stock:
            ran = await stock.curl(f"http://good.test:{origin.port}/")
            assert ran.code
        assert origin.untouched
