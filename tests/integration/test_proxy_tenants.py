"""Tenant restrictions as the hosts where people sign in see them."""

from pathlib import Path
from typing import Any

import pytest

from gateway.decision import Tls
from gateway.policy import Policy
from gateway.proxysection import TenantsSection
from tests.integration.proxy_rig import Bench, a_proxy, allow
from tests.peers.http_origin import Origin
from tests.peers.tls_origin import TlsOrigin, make_certificate

DIRECTORY = "456ff232-3512-5823-b3b3-3236a0826f3d"
TENANTS = {
    "microsoft": {"tenants": ["acme.example", "acme.onmicrosoft.test"], "context": DIRECTORY},
    "google": ["acme.example"],
}
PATTERNS = TenantsSection.model_validate(TENANTS).restrictions.patterns

SAID = {
    "login.microsoftonline.com": [
        "restrict-access-to-tenants: acme.example,acme.onmicrosoft.test",
        f"restrict-access-context: {DIRECTORY}",
    ],
    "login.live.com": ["sec-restrict-tenant-access-policy: restrict-msa"],
    "accounts.google.com": ["x-googapps-allowed-domains: acme.example"],
}
CLAIMS = (
    "Restrict-Access-To-Tenants: evil.test",
    "RESTRICT-ACCESS-CONTEXT: evil",
    "sec-Restrict-Tenant-Access-Policy: evil",
    "X-GoogApps-Allowed-Domains: evil.test",
    "X-GooG-Allowed-Domains: evil.test",
)
OURS = ("restrict", "googapps", "allowed-domains")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names of the tests."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "origin.pem", *SAID, "www.example.test")


def said_to(origin: Origin) -> list[list[str]]:
    """Return what each request to an origin said about tenants."""
    lines = [request.decode().lower().split("\r\n") for request in origin.requests]
    return [[line for line in each if any(word in line for word in OURS)] for each in lines]


def a_world(tmp_path: Path, certificate: Path, *names: str, tls: Tls | None = Tls.SPLICE) -> Any:
    """Return a proxy with tenants whose rule would splice."""
    judge = Bench(Policy(rules=[allow(*names, tls=tls)], inspected=PATTERNS))
    table = dict.fromkeys(names, "127.0.0.1")
    return a_proxy(tmp_path, judge=judge, names=table, trust=certificate, section={"tenants": TENANTS})


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("host", SAID)
async def test_said_to_the_host(tmp_path: Path, certificate: Path, host: str, version: str) -> None:
    """The host hears the restriction once and nothing that the client made up, though a rule wants it spliced."""
    async with TlsOrigin(certificate=certificate) as origin, a_world(tmp_path, certificate, host) as rig:
        claims = [part for claim in CLAIMS for part in ("-H", claim)]
        url = f"https://{host}:{origin.port}"
        ran = await rig.curl(version, "--cacert", str(rig.proxy.certificate), *claims, f"{url}/a", f"{url}/b")
        assert ran.out == "hello from the origin\n" * 2
        assert said_to(origin) == [SAID[host]] * 2


async def test_the_next_server_may_not_drop_it(tmp_path: Path, certificate: Path) -> None:
    """A client cannot name what the gateway says among the fields that are for the next server alone."""
    async with TlsOrigin(certificate=certificate) as origin:
        async with a_world(tmp_path, certificate, "accounts.google.com") as rig:
            named = "Connection: close, X-GoogApps-Allowed-Domains"
            url = f"https://accounts.google.com:{origin.port}/"
            await rig.curl("--http1.1", "--cacert", str(rig.proxy.certificate), "-H", named, url)
        assert said_to(origin) == [SAID["accounts.google.com"]]
        assert b"Connection: close\r\n" in origin.requests[0]


async def test_plain_requests_too(tmp_path: Path, certificate: Path) -> None:
    """A plain request to such a host says the same."""
    async with Origin() as origin, a_world(tmp_path, certificate, "accounts.google.com") as rig:
        ran = await rig.curl("-H", CLAIMS[3], f"http://accounts.google.com:{origin.port}/")
        assert ran.out == "hello from the origin\n"
        assert said_to(origin) == [SAID["accounts.google.com"]]


async def test_other_hosts_hear_nothing(tmp_path: Path, certificate: Path) -> None:
    """Every other host stays spliced; where it is inspected, nothing is said and nothing taken away."""
    async with TlsOrigin(certificate=certificate) as origin:
        url = f"https://www.example.test:{origin.port}/"
        async with a_world(tmp_path, certificate, "www.example.test") as rig:
            ran = await rig.curl("--cacert", str(certificate), url)
            assert ran.out == "hello from the origin\n"  # the origin's own certificate: nobody looked inside
        async with a_world(tmp_path, certificate, "www.example.test", tls=Tls.INSPECT) as rig:
            await rig.curl("--cacert", str(rig.proxy.certificate), "-H", CLAIMS[0], url)
        assert said_to(origin) == [[], [CLAIMS[0].lower()]]
