"""`gateway run` and who its clients are: users, certificates and groups of a policy file, through reloads."""

import os
import signal
import subprocess
from pathlib import Path

import bcrypt
import pytest

from tests.peers.certificates import Authority
from tests.peers.namespace import Internet, wait_until
from tests.peers.tls_origin import make_certificate

POLICY = """
version: 1
state_dir: state
clients:
  batch: {addresses: [127.0.0.1/32], users: [batch]}
  machines: {certificates: ["CN=robot,O=Example"]}
proxy:
  workers: 1
  listen: ["127.0.0.1:3128", "tls://127.0.0.1:3129"]
  certificate: {cert: server.pem, key: server.pem}
  client_ca: ca/authority.pem
  auth: {htpasswd: users}
dns: {listen: []}
policy:
  rules:
    - {name: for-batch, action: allow, clients: [batch], to: {domains: [www.example.com]}}
    - {name: for-machines, action: allow, clients: [machines], to: {domains: [api.example.org]}}
"""


def account(user: str, password: str) -> str:
    """Return a line of a file of users."""
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode()}\n"


@pytest.fixture
def authority(internet: Internet) -> Authority:
    """Files of users and certificates, and a gateway that goes by them."""
    folder = internet.folder
    (folder / "ca").mkdir()
    (folder / "users").write_text(account("batch", "first"))
    make_certificate(folder / "server.pem", "127.0.0.1")
    made = Authority(folder / "ca")
    internet.serve(POLICY)
    return made


def curl(world: Internet, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run curl inside, for the status and the headers."""
    return world.run("curl", "-sS", "-i", "--max-time", "10", *argv)


def by_password(world: Internet, password: str, url: str = "http://www.example.com/") -> str:
    """Return the first line of the answer to a user's request."""
    out = curl(world, "-x", "http://127.0.0.1:3128", "-U", f"batch:{password}", url).stdout
    return out.partition("\n")[0].split(" ", 1)[-1]


def by_certificate(
    world: Internet, client: Path, server: Path, scheme: str = "http"
) -> subprocess.CompletedProcess[str]:
    """Return how a request with a client certificate ended."""
    to = ("-x", "https://127.0.0.1:3129", "--proxy-cacert", str(server), "--proxy-cert", str(client))
    return curl(world, *to, "--cacert", str(world.ca), f"{scheme}://api.example.org/")


def reload(world: Internet) -> None:
    """Send SIGHUP."""
    os.kill(world.processes[-1].pid, signal.SIGHUP)


def test_users_are_read_again(internet: Internet, authority: Authority) -> None:
    """SIGHUP: a new password counts, the old one no more; a file with a mistake changes nothing and is told."""
    assert by_password(internet, "first") == "200 OK"
    assert by_password(internet, "second") == "407 Proxy Authentication Required"
    (internet.folder / "users").write_text(account("batch", "second"))
    reload(internet)
    wait_until(lambda: by_password(internet, "second") == "200 OK", "the new password")
    wait_until(lambda: by_password(internet, "first").startswith("4"), "the end of the old one")
    (internet.folder / "users").write_text("batch:second\n")
    reload(internet)
    log = internet.folder / "gateway.log"
    told = f"{internet.folder / 'users'}:1: user 'batch': no hash that the gateway reads"
    wait_until(lambda: told in log.read_text(), "the refusal")
    assert by_password(internet, "second") == "200 OK"


def test_users_in_the_ledger(internet: Internet, authority: Authority) -> None:
    """`user.name` is who was proven, and nothing else; no password is written anywhere."""
    assert by_password(internet, "first") == "200 OK"
    assert by_password(internet, "not-the-one").startswith("407")
    curl(internet, "-x", "http://127.0.0.1:3128", "http://www.example.com/")

    def lines() -> list[tuple[str, object]]:
        return [(line["event.reason"], line.get("user.name")) for line in internet.ledger() if "source.ip" in line]

    expected = {("rule", "batch"), ("auth-failed", None), ("client-unknown", None)}
    wait_until(lambda: set(lines()) >= expected, "the ledger")
    assert set(lines()) == expected
    for path in (*(internet.folder / "state" / "ledger").glob("*"), internet.folder / "gateway.log"):
        assert b"not-the-one" not in path.read_bytes()


def test_certificates_are_read_again(internet: Internet, authority: Authority) -> None:
    """SIGHUP: new connections see the new certificate, and clients of the new authority are let in."""
    robot, server = authority.issue("robot", "Example"), internet.folder / "server.pem"
    before = server.with_name("before.pem")
    before.write_bytes(server.read_bytes())
    assert "200 OK" in by_certificate(internet, robot, server).stdout
    assert "200 OK" in by_certificate(internet, robot, server, "https").stdout
    make_certificate(server, "127.0.0.1")
    fresh = Authority(internet.folder / "ca")
    reload(internet)
    newcomer = fresh.issue("robot", "Example")
    wait_until(lambda: "200 OK" in by_certificate(internet, newcomer, server).stdout, "the new certificates")
    wait_until(lambda: by_certificate(internet, newcomer, before).returncode == 60, "the end of the old certificate")
    wait_until(lambda: by_certificate(internet, robot, server).returncode != 0, "the end of the old authority")


def test_files_that_cannot_be_used_stop_the_start(internet: Internet) -> None:
    """What is wrong with users and certificates is told before anything serves, with exit code 2."""
    folder = internet.folder
    (folder / "gateway.yaml").write_text(POLICY)
    (folder / "users").write_text("batch:secret\n")
    refused = internet.gateway("check", "-c", str(folder / "gateway.yaml"))
    assert refused.returncode == 2
    assert f"{folder / 'users'}:1: user 'batch': no hash that the gateway reads" in refused.stderr + refused.stdout
    (folder / "users").write_text(account("batch", "first"))
    (folder / "server.pem").write_text("nothing")
    refused = internet.gateway("run", "-c", str(folder / "gateway.yaml"))
    assert refused.returncode == 2
    assert f"proxy.certificate.cert: {folder / 'server.pem'}: holds no certificate" in refused.stderr
