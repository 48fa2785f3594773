"""The lists as a response policy zone in other resolvers: BIND with TSIG and IXFR, and Unbound."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.namespace import wait_until
from tests.peers.ports import free_port

GATEWAY = str(Path(sys.executable).parent / "gateway")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
KEY = 'key "xfr.example" { algorithm hmac-sha256; secret "%s"; };'
GOOD, BAD = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "//////////////////////////////////////////8="
POLICY = """
version: 1
state_dir: state
dns:
  listen: ["udp://127.0.0.1:{port}", "tcp://127.0.0.1:{port}"]
  workers: 1
  upstreams: ["udp://127.0.0.1:9"]
  rpz_zones:
    rpz.example: {{key: xfr.key}}
    open.example: {{lists: [ours], allow: [127.0.0.0/8]}}
lists:
  ours: {{path: ours.txt, format: domains, categories: [malware]}}
  nets: {{path: nets.txt, format: addresses, categories: [c2]}}
"""
NAMED = """
options {{ directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none;
  session-keyfile "{folder}/session.key"; recursion yes; allow-query {{ any; }}; dnssec-validation no; notify no;
  response-policy {{ zone "rpz.example" min-update-interval 1; }} qname-wait-recurse no; }};
controls {{ }};
{key}
zone "example" {{ type primary; file "example.db"; }};
zone "rpz.example" {{ type secondary; file "rpz.db"; masterfile-format text; max-refresh-time 1; min-refresh-time 1;
  primaries {{ 127.0.0.1 port {primary} key "xfr.example"; }}; }};
"""
UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  do-not-query-localhost: no
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  module-config: "respip iterator"
  access-control: 127.0.0.0/8 allow
remote-control:
  control-enable: no
rpz:
  name: open.example
  primary: 127.0.0.1@{primary}
  zonefile: "{folder}/open.zone"
auth-zone:
  name: example
  zonefile: "{folder}/example.db"
  for-downstream: no
  for-upstream: yes
"""
EXAMPLE = """$TTL 1
@ IN SOA localhost. hostmaster.localhost. 1 3600 600 604800 1
@ IN NS localhost.
*.example. IN A 192.0.2.1
"""


def need(program: str) -> str:
    """Return where a program is."""
    found = shutil.which(program, path=PATH)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI installs {program}")
        pytest.skip(f"{program} is not installed")
    return found


class World:
    """A gateway and what else runs, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, log: str) -> Path:
        """Start a program; return its log."""
        path = self.folder / log
        with path.open("wb") as output:
            self.processes.append(subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder))
        return path

    def refresh(self, text: str) -> None:
        """Compile another list."""
        (self.folder / "ours.txt").write_text(text)
        command = [GATEWAY, "refresh", "-c", "gateway.yaml", "--quiet"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def log(self) -> str:
        """Return what the gateway has said."""
        return (self.folder / "gateway.log").read_text()

    def ledger(self) -> str:
        """Return what is recorded."""
        return "".join(path.read_text() for path in sorted((self.folder / "state/ledger").iterdir()))

    def close(self) -> None:
        """End everything."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


@contextmanager
def running(folder: Path, policy: str) -> Iterator[World]:
    """Run a gateway with a policy."""
    made = World(folder)
    (folder / "gateway.yaml").write_text(policy.format(port=made.port))
    (folder / "xfr.key").write_text(KEY % GOOD)
    (folder / "nets.txt").write_text("203.0.113.0/24\n2001:db8:bad::/48\n")
    made.refresh("evil.example\nold.example\n")
    try:
        log = made.start(GATEWAY, "dns", "-c", "gateway.yaml", log="gateway.log")
        wait_until(lambda: "gateway is running" in log.read_text(), "the gateway")
        yield made
    finally:
        made.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A gateway that serves two zones."""
    with running(tmp_path, POLICY) as made:
        yield made


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same for all tests that leave lists and zones as they were."""
    with running(tmp_path_factory.mktemp("steady"), POLICY) as made:
        yield made


def status(port: int, name: str) -> str:
    """Return the status that a resolver gives a name."""
    command = [need("dig"), "@127.0.0.1", "-p", str(port), name, "+tries=1", "+time=2", "+noall", "+comments"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    return answer.partition("status: ")[2].partition(",")[0]


def bind(world: World, secret: str = GOOD) -> int:
    """Start BIND as a secondary; return its port."""
    folder = world.folder / "bind"
    folder.mkdir()
    port = free_port()
    text = NAMED.format(folder=folder, port=port, primary=world.port, key=KEY % secret)
    (folder / "named.conf").write_text(text)
    (folder / "example.db").write_text(EXAMPLE)
    world.start(need("named"), "-g", "-c", str(folder / "named.conf"), log="named.log")
    return port


def test_bind_with_a_key(world: World) -> None:
    """BIND transfers the zone with TSIG, denies what is listed, and takes up changes by IXFR."""
    port = bind(world)
    wait_until(lambda: status(port, "www.evil.example") == "NXDOMAIN", "the zone in BIND")
    assert status(port, "old.example") == "NXDOMAIN"
    assert "sending 127.0.0.1 serial" in world.log()
    text = (world.folder / "bind/rpz.db").read_text()
    assert "rpz-ip.rpz.example." in text  # as the origin, or from BIND 9.20 on behind each name
    assert "\n24.0.113.0.203" in text
    assert "\n48.zz.bad.db8.2001" in text
    world.refresh("evil.example\nnew.example\n")
    wait_until(lambda: status(port, "new.example") == "NXDOMAIN", "the change in BIND")
    wait_until(lambda: status(port, "old.example") == "NOERROR", "the end of what went")
    assert status(port, "evil.example") == "NXDOMAIN"
    assert "sending 127.0.0.1 what changed from serial" in world.log()
    named = (world.folder / "named.log").read_text()
    assert "TSIG 'xfr.example'" in named
    assert "failed" not in named.partition("Transfer started")[2]


def test_bind_with_a_wrong_key(steady: World) -> None:
    """A secondary with another secret gets nothing, and the ledger says who and why."""
    port = bind(steady, BAD)
    wait_until(lambda: "TSIG error 16" in steady.ledger(), "the refusal")
    assert status(port, "evil.example") == "NOERROR"


def test_dig_without_a_key(steady: World) -> None:
    """Without a signature the zone that needs one is refused, which is one line a minute in the ledger however often
    it is tried; the other is for everybody on this machine.
    """
    command = [need("dig"), "@127.0.0.1", "-p", str(steady.port), "AXFR", "+tries=1", "+time=3"]
    for name, wanted in (*[("rpz.example", "Transfer failed")] * 3, ("open.example", "*.evil.example.open.example.")):
        done = subprocess.run([*command, name], capture_output=True, text=True, timeout=20, check=False)
        assert wanted in done.stdout
    wait_until(lambda: "the query is not signed" in steady.ledger(), "the refusal")
    assert steady.ledger().count("the query is not signed") == 1


def test_dig_with_a_key(steady: World) -> None:
    """dig checks the signatures of every message."""
    command = [need("dig"), "@127.0.0.1", "-p", str(steady.port), "-k", str(steady.folder / "xfr.key")]
    done = subprocess.run([*command, "AXFR", "rpz.example"], capture_output=True, text=True, timeout=20, check=False)
    assert "XFR size: 9 records" in done.stdout, done.stdout
    assert "ould" not in done.stdout, "couldn't verify, or the like"


def test_a_zone_that_comes_later(tmp_path: Path) -> None:
    """A zone that a reload adds, where there was none, is served as soon as a refresh has written it."""
    without = "\n".join(line for line in POLICY.splitlines() if "rpz_zones" not in line and ".example:" not in line)
    with running(tmp_path, without + "\n") as world:
        command = [need("dig"), "@127.0.0.1", "-p", str(world.port), "+tries=1", "+time=2", "+noall", "+answer"]

        def answer(*question: str) -> str:
            return subprocess.run(
                [*command, *question], capture_output=True, text=True, timeout=20, check=False
            ).stdout

        assert "SOA" not in answer("open.example", "SOA")
        (tmp_path / "gateway.yaml").write_text(POLICY.format(port=world.port))
        world.processes[0].send_signal(signal.SIGHUP)
        world.refresh("evil.example\n")
        wait_until(lambda: "SOA" in answer("open.example", "SOA"), "the zone")
        assert "*.evil.example.open.example." in answer("open.example", "AXFR")


def test_unbound(steady: World) -> None:
    """Unbound transfers the zone and denies what is listed."""
    folder = steady.folder / "unbound"
    folder.mkdir()
    port = free_port()
    (folder / "unbound.conf").write_text(UNBOUND.format(folder=folder, port=port, primary=steady.port))
    (folder / "example.db").write_text(EXAMPLE)
    steady.start(need("unbound"), "-d", "-p", "-c", str(folder / "unbound.conf"), log="unbound.log")
    wait_until(lambda: status(port, "www.evil.example") == "NXDOMAIN", "the zone in Unbound")
    assert status(port, "old.example") == "NXDOMAIN"
    assert status(port, "other.example") == "NOERROR"
    assert (folder / "open.zone").exists()
