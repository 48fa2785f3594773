"""A browser through the proxy: Chromium, its post-quantum ClientHello, parallel requests, upload and WebSocket."""

import asyncio
import contextlib
import os
import shutil
import ssl
import string
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from gateway.decision import Reason
from gateway.request import HttpRequest, TlsHello
from gateway.rule import Rule
from tests.integration.proxy_rig import Rig, a_proxy, allow, inspect, run, until
from tests.peers.ports import free_port
from tests.peers.tls_origin import make_certificate

PARALLEL, UPLOAD = 30, 300_000
PAGE = string.Template("""<!doctype html><title>page</title><script>
(async () => {
  const told = [];
  const got = await Promise.all([...Array($parallel).keys()].map(i => fetch("/part/" + i).then(r => r.text())));
  told.push(got.join(",") === [...got.keys()].join(",") ? "parts" : got.join(","));
  told.push(await fetch("/upload", {method: "POST", body: "x".repeat($upload)}).then(r => r.text()));
  told.push(await new Promise(done => {
    const socket = new WebSocket("wss://" + location.host + "/echo");
    socket.onopen = () => socket.send("over a WebSocket");
    socket.onmessage = message => { done(message.data); socket.close(); };
    socket.onerror = () => done("no WebSocket");
  }));
  told.push(await fetch("https://evil.test/").then(r => "answered " + r.status, error => "refused"));
  await fetch("/told", {method: "POST", body: told.join("; ")});
})();
</script>""").substitute(parallel=PARALLEL, upload=UPLOAD)


@dataclass(slots=True)
class Site:
    """A page that tries things, and tells what came of them."""

    port: int = field(default_factory=free_port)
    told: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def served(self, certificate: Path) -> AsyncIterator["Site"]:
        """Serve it."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/part/{number}", self._part),
                web.post("/upload", self._upload),
                web.get("/echo", self._echo),
                web.post("/told", self._tell),
            ]
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context).start()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _part(self, request: web.Request) -> web.Response:
        return web.Response(text=request.match_info["number"])

    async def _upload(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{len(await request.read())} octets")

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def _tell(self, request: web.Request) -> web.Response:
        self.told.append(await request.text())
        return web.Response()


@contextlib.asynccontextmanager
async def browsing(folder: Path, rule: Rule) -> AsyncIterator[tuple[Rig, Site]]:
    """Open the page in a browser that trusts whoever it is to see: the gateway, or the origin."""
    for program in ("chromium", "certutil"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    certificate = make_certificate(folder / "origin.pem", "page.test")
    async with Site().served(certificate) as site, a_proxy(folder, rule, trust=certificate) as rig:
        database = folder / ".pki" / "nssdb"
        database.mkdir(parents=True)
        trusted = str(rig.proxy.certificate if rule.http else certificate)
        for arguments in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "trusted", "-i", trusted]):
            ran = await run("certutil", "-d", f"sql:{database}", *arguments)
            assert ran.code == 0, ran.err
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        with (folder / "chromium.log").open("wb") as log:
            browser = await asyncio.create_subprocess_exec(
                "chromium",
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                "--remote-debugging-port=0",  # it stays until it is ended
                f"--user-data-dir={folder / 'profile'}",
                f"--proxy-server=http://127.0.0.1:{rig.port}",
                f"https://page.test:{site.port}/",
                env={**clean, "HOME": str(folder)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield rig, site
        finally:
            browser.terminate()
            await browser.wait()
        await rig.settled()


async def test_inspected(tmp_path: Path) -> None:
    """Everything that a page does works, request by request in the ledger; what no rule allows does not."""
    async with browsing(tmp_path, inspect("page.test")) as (rig, site):
        await until(lambda: site.told, 60)
    assert site.told == [f"parts; {UPLOAD} octets; over a WebSocket; refused"]
    passed = [line.request for line in rig.ledger.ended if isinstance(line.request, HttpRequest)]
    paths = [request.path for request in passed if request.host == "page.test"]
    assert {"/", "/upload", "/echo", "/told", *(f"/part/{number}" for number in range(PARALLEL))} <= set(paths)
    denied = {getattr(line.request, "host", None) for line in rig.ledger.lines if line.decision.denied}
    assert "evil.test" in denied
    assert "page.test" not in denied


async def test_spliced(tmp_path: Path) -> None:
    """It is refused: nobody can see whom an encrypted ClientHello is for, and a browser's always looks like one."""
    async with browsing(tmp_path, allow("page.test")) as (rig, site):
        await until(lambda: Reason.ECH in rig.ledger.denials, 60)
    assert site.told == []
    hellos = {
        (each.request.host, each.decision.reason) for each in rig.ledger.lines if isinstance(each.request, TlsHello)
    }
    assert hellos == {("page.test", Reason.ECH)}
