"""Proxies side by side, for the benchmark: the gateway, Squid, tinyproxy and mitmdump before one nginx.

Each is pinned to one core, and does its usual duties: it logs every connection, and asks its rules by name.
"""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dnslib import QTYPE, RR, SOA, A, DNSRecord

from tests.peers.ports import free_port

NAME = "bench.test"
"""The origin, where tunnels are spliced."""
LOOK = "look.test"
"""The same origin, where the gateway inspects."""
PROXY_CORE, LOAD_CORE = 0, 1
BULK = 100 * 1024 * 1024
"""Octets of the large file."""
_CERTGEN = ("/usr/lib/squid/security_file_certgen", "/usr/lib64/squid/security_file_certgen")


@dataclass(frozen=True, slots=True)
class Origin:
    """The web server."""

    tls: int
    """Its port for TLS."""
    plain: int
    """Its port for plain HTTP."""


@dataclass(frozen=True, slots=True)
class Target:
    """A proxy under test."""

    name: str
    port: int
    pid: int
    host: str = NAME
    """What it is asked to connect to: some cannot be given a name of ours, and get the address."""
    sni: str = NAME
    keeps_alive: bool = True
    """Whether it serves more than one plain request on a connection."""

    def cpu(self) -> float:
        """Return the CPU seconds that the proxy and its helpers have used; those of ended threads count too."""
        total = 0.0
        for pid in _family(self.pid):
            # The CPU-time clock of another process, as clock_getcpuclockid(3) makes it: in nanoseconds, not ticks.
            with contextlib.suppress(OSError):
                total += time.clock_gettime(~pid << 3 | 2)
        return total

    def memory(self) -> int:
        """Return the octets of memory that the proxy and its helpers hold."""
        total = 0
        for pid in _family(self.pid):
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return total * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Product:
    """A program that is compared: as it is run to splice, and to inspect."""

    name: str
    packages: str
    """What to install when it is missing."""
    programs: tuple[str, ...]
    splices: Callable[[Path, Origin], contextlib.AbstractContextManager[Target]]
    inspects: Callable[[Path, Origin], contextlib.AbstractContextManager[Target]] | None

    def missing(self) -> tuple[str, ...]:
        """Return the programs that are not installed."""
        return tuple(program for program in self.programs if _find(program) is None)


def certificate(folder: Path) -> None:
    """Make the certificate of the origin, which is its own authority; and one for Squid, of the same kind."""
    for name, subject, extension in (
        ("cert", NAME, f"subjectAltName=DNS:{NAME},DNS:{LOOK}"),
        ("squid-ca", "bench", "keyUsage=critical,keyCertSign,digitalSignature"),
    ):
        key = folder / ("key.pem" if name == "cert" else f"{name}-key.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "30", "-keyout", key, "-out", folder / f"{name}.pem", "-subj",
             f"/CN={subject}", "-addext", extension],
            check=True, capture_output=True,
        )  # fmt: skip


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[Origin]:
    """Run the origin."""
    origin = Origin(free_port(), free_port())
    (folder / "www").mkdir()
    (folder / "www/index.html").write_text("x" * 1024)
    with (folder / "www/bulk").open("wb") as file:
        file.truncate(BULK)
    (folder / "nginx.conf").write_text(f"""
        worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr crit;
        events {{ worker_connections 20000; }}
        http {{ access_log off; keepalive_requests 1000000; client_header_timeout 600; keepalive_timeout 600;
          server {{ listen 127.0.0.1:{origin.tls} ssl backlog=4096; listen 127.0.0.1:{origin.plain};
            root {folder}/www;
            ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; }} }}
    """)
    with _running(["nginx", "-c", str(folder / "nginx.conf")], LOAD_CORE, origin.tls):
        yield origin


@contextlib.contextmanager
def gateway(folder: Path, origin: Origin) -> Iterator[Target]:
    """Run one worker of the gateway, with its real resolver and ledger."""
    port = free_port()
    names = _name_server()
    config = folder / "policy.yaml"
    to = f"addresses: [127.0.0.0/8], ports: [{origin.tls}, {origin.plain}]"
    config.write_text(f"""
version: 1
state_dir: ./state
proxy: {{listen: ["127.0.0.1:{port}"], ca_bundle: {folder}/cert.pem, limits: {{connections_per_client: 20000}}}}
dns: {{upstreams: ["udp://127.0.0.1:{names}"]}}
policy:
  rules:
    - {{name: bench, action: allow, to: {{domains: [{NAME}], {to}}}}}
    - {{name: look, action: allow, tls: inspect, to: {{domains: [{LOOK}], {to}}}}}
""")
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "gateway.worker", "--config", str(config), "--role", "proxy", "--index", "0"]
    with _running(
        [*command, "--ready-fd", str(write_end)], PROXY_CORE, port, pass_fds=(write_end,), stdin=subprocess.PIPE
    ) as process:
        os.read(read_end, 1)
        yield Target("gateway", port, process.pid)


@contextlib.contextmanager
def squid(folder: Path, origin: Origin) -> Iterator[Target]:
    """Run Squid: peeks at the ClientHello and splices, as the gateway does."""
    bump = f"ssl-bump cert={_both(folder)} generate-host-certificates=off"
    more = "acl hello at_step SslBump1\nssl_bump peek hello\nssl_bump splice all"
    with _squid(folder, origin, "splice", bump, more) as target:
        yield target


@contextlib.contextmanager
def squid_bump(folder: Path, origin: Origin) -> Iterator[Target]:
    """Run Squid: peeks at the ClientHello and bumps, with ECDSA keys and kept certificates, as the gateway."""
    program, store = _find(_CERTGEN[0]), folder / "certgen"
    assert program is not None
    subprocess.run([program, "-c", "-s", store, "-M", "16MB"], check=True, capture_output=True)
    for path in (store, *store.rglob("*")):
        path.chmod(0o777)  # Squid gives root up
    bump = f"ssl-bump cert={_both(folder)} generate-host-certificates=on dynamic_cert_mem_cache_size=16MB"
    more = f"""sslcrtd_program {program} -s {store} -M 16MB
sslcrtd_children 1
tls_outgoing_options cafile={folder}/cert.pem min-version=1.2
acl hello at_step SslBump1
ssl_bump peek hello
ssl_bump bump all"""
    with _squid(folder, origin, "bump", bump, more) as target:
        yield target


@contextlib.contextmanager
def _squid(folder: Path, origin: Origin, kind: str, bump: str, more: str) -> Iterator[Target]:
    port = free_port()
    (folder / "hosts").write_text(f"127.0.0.1 {NAME}\n")
    spool = folder / f"spool-{kind}"
    spool.mkdir()
    spool.chmod(0o777)
    (folder / f"squid-{kind}.conf").write_text(f"""
http_port 127.0.0.1:{port} {bump}
{more}
hosts_file {folder}/hosts
acl bench dstdomain {NAME}
acl port port {origin.tls} {origin.plain}
http_access allow bench port
http_access allow CONNECT
http_access deny all
cache deny all
cache_mem 8 MB
max_filedescriptors {resource.getrlimit(resource.RLIMIT_NOFILE)[1]}
access_log stdio:{spool}/access.log
cache_log {spool}/cache.log
pid_filename {spool}/squid.pid
coredump_dir {spool}
shutdown_lifetime 0 seconds
workers 1
client_dst_passthru off
host_verify_strict off
""")
    # -N: one process; with a service name of its own, two of them do not meet in shared memory.
    command = ["squid", "-N", "-n", f"b{kind}{port}", "-f", str(folder / f"squid-{kind}.conf")]
    with _running(command, PROXY_CORE, port) as process:
        yield Target(f"squid {kind}", port, process.pid)


@contextlib.contextmanager
def tinyproxy(folder: Path, origin: Origin) -> Iterator[Target]:
    """Run tinyproxy: tunnels, without a look at what is in them; a thread for each client."""
    port = free_port()
    (folder / "allowed").write_text("^127\\.0\\.0\\.1$\n")
    (folder / "tinyproxy.conf").write_text(f"""
Port {port}
Listen 127.0.0.1
Timeout 600
LogFile "{folder}/tinyproxy.log"
LogLevel Connect
MaxClients 6000
Allow 127.0.0.1
ConnectPort {origin.tls}
Filter "{folder}/allowed"
FilterDefaultDeny Yes
FilterExtended On
""")
    with _running(["tinyproxy", "-d", "-c", str(folder / "tinyproxy.conf")], PROXY_CORE, port, quiet=True) as process:
        yield Target("tinyproxy", port, process.pid, host="127.0.0.1", keeps_alive=False)


@contextlib.contextmanager
def mitmdump(folder: Path, origin: Origin) -> Iterator[Target]:
    """Run mitmdump as it comes: it inspects."""
    with _mitmdump(folder) as target:
        yield target


@contextlib.contextmanager
def mitmdump_ignoring(folder: Path, origin: Origin) -> Iterator[Target]:
    """Run mitmdump so that it splices."""
    with _mitmdump(folder, "--ignore-hosts", f"127.0.0.1:{origin.tls}") as target:
        yield target


@contextlib.contextmanager
def _mitmdump(folder: Path, *more: str) -> Iterator[Target]:
    port = free_port()
    command = [str(_find("mitmdump")), "--listen-host", "127.0.0.1", "--listen-port", str(port), *more]
    command += ["--set", f"confdir={folder}/mitmproxy", "--set", f"ssl_verify_upstream_trusted_ca={folder}/cert.pem"]
    with _running(command, PROXY_CORE, port, quiet=True) as process:
        yield Target("mitmdump", port, process.pid, host="127.0.0.1")


PRODUCTS = (
    Product("gateway", "", (), gateway, None),
    Product("squid", "squid-openssl", ("squid", _CERTGEN[0]), squid, squid_bump),
    Product("tinyproxy", "tinyproxy", ("tinyproxy",), tinyproxy, None),
    Product("mitmdump", "", ("mitmdump",), mitmdump_ignoring, mitmdump),
)


def _find(program: str) -> str | None:
    beside = Path(sys.executable).parent / program
    if beside.exists():
        return str(beside)
    if program == _CERTGEN[0]:
        return next((path for path in _CERTGEN if Path(path).exists()), None)
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _both(folder: Path) -> Path:
    both = folder / "squid-both.pem"
    both.write_bytes((folder / "squid-ca-key.pem").read_bytes() + (folder / "squid-ca.pem").read_bytes())
    both.chmod(0o644)
    return both


def _family(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    found += _family(int(child))
    return found


@contextlib.contextmanager
def _running(
    command: list[str], core: int, port: int, *, quiet: bool = False, **more: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on a core until the end."""
    command = ["taskset", "-c", str(core), _find(command[0]) or command[0], *command[1:]]
    output = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, stdout=output, stderr=output, **more)  # type: ignore[call-overload]
    try:
        _await_port(port, process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"server ended with code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on port {port}")


def _name_server() -> int:
    """Answer every question for an IPv4 address with loopback, until the process ends. Returns the port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            data, peer = sock.recvfrom(2048)
            query = DNSRecord.parse(data)
            reply = query.reply()
            if query.q.qtype == QTYPE.A:
                reply.add_answer(RR(query.q.qname, QTYPE.A, ttl=3600, rdata=A("127.0.0.1")))
            else:  # with an SOA, so that "nothing" can be cached (RFC 2308)
                times = (1, 3600, 3600, 3600, 3600)
                reply.add_auth(RR("test", QTYPE.SOA, ttl=3600, rdata=SOA("ns.test", "who.test", times)))
            sock.sendto(reply.pack(), peer)

    threading.Thread(target=serve, daemon=True).start()
    return int(sock.getsockname()[1])
