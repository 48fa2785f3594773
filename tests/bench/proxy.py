"""What a proxied connection costs: CPU of the proxy process, the gateway's against Squid's, in one run.

Run `python tests/bench/proxy.py`. The proxy under test is pinned to one core, load and origin to the other. CPU time
is read from the scheduler (/proc/PID/task/*/schedstat), which is far steadier than wall time; still, only ratios
within one run mean anything. Needs squid (with OpenSSL, for peek and splice) and nginx.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dnslib import QTYPE, RR, SOA, A, DNSRecord

NAME = "bench.test"
PROXY_CORE, LOAD_CORE = 0, 1


@dataclass(frozen=True, slots=True)
class Target:
    """A proxy under test."""

    name: str
    port: int
    pid: int


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for tool in ("squid", "nginx", "openssl"):
        if shutil.which(tool) is None:
            print(f"{tool} is not installed")
            return 2
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        _compare(Path(folder), options.connections, options.requests, options.rounds)
    return 0


def _compare(folder: Path, connections: int, requests: int, rounds: int) -> None:
    certificate(folder)
    with nginx(folder) as origin, gateway(folder, origin) as ours, squid(folder, origin) as theirs:
        rows: dict[str, dict[str, list[float]]] = {}
        for _ in range(rounds):
            for target in (ours, theirs):
                row = rows.setdefault(target.name, {})
                row.setdefault("CONNECT + TLS, new connection", []).append(
                    cost(target, lambda t=target: asyncio.run(handshakes(t.port, origin, connections))) / connections
                )
                row.setdefault("request on an open tunnel", []).append(
                    cost(target, lambda t=target: asyncio.run(exchanges(t.port, origin, requests))) / requests
                )
        print(f"{'CPU us, best of ' + str(rounds):34} {'gateway':>9} {'squid':>9} {'ratio':>7}")
        for what in rows["gateway"]:
            mine, other = min(rows["gateway"][what]), min(rows["squid"][what])
            print(f"{what:34} {mine * 1e6:9.1f} {other * 1e6:9.1f} {mine / other:7.2f}")


def cost(target: Target, work) -> float:  # type: ignore[no-untyped-def]  # any callable
    """Return the CPU seconds that the target spends while work is done."""
    work_before = cpu(target.pid)
    work()
    time.sleep(0.2)  # what it does after the last octet counts too
    return cpu(target.pid) - work_before


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


# -- load ------------------------------------------------------------------------------------------------------------


async def handshakes(proxy: int, origin: int, count: int, width: int = 8) -> None:
    """Open tunnels one after the other, each with a TLS handshake and one request; several lanes at once."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def lane(share: int) -> None:
        for _ in range(share):
            reader, writer = await tunnel(proxy, origin, context)
            writer.write(b"GET / HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()

    await asyncio.gather(*(lane(count // width) for _ in range(width)))


async def exchanges(proxy: int, origin: int, count: int, width: int = 8) -> None:
    """Send small requests over a few open tunnels."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def lane(share: int) -> None:
        reader, writer = await tunnel(proxy, origin, context)
        for _ in range(share):
            writer.write(b"GET / HTTP/1.1\r\nHost: bench.test\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
            await reader.readexactly(length)
        writer.close()

    await asyncio.gather(*(lane(count // width) for _ in range(width)))


async def tunnel(
    proxy: int, origin: int, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a tunnel and do the TLS handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
    writer.write(b"CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\n" % (NAME.encode(), origin, NAME.encode(), origin))
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in answer:
        raise RuntimeError(answer.decode("latin-1"))
    await writer.start_tls(context, server_hostname=NAME)
    return reader, writer


# -- servers ---------------------------------------------------------------------------------------------------------


def certificate(folder: Path) -> None:
    """Make the certificate of the origin."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", f"/CN={NAME}"],
        check=True, capture_output=True,
    )  # fmt: skip


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], core: int, port: int, **more: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on a core until the end."""
    process = subprocess.Popen(["taskset", "-c", str(core), *command], **more)  # type: ignore[call-overload]
    try:
        _await_port(port, process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"server ended with code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on port {port}")


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """Run the origin. Yields its port."""
    port = free_port()
    (folder / "www").mkdir()
    (folder / "www/index.html").write_text("x" * 1024)
    (folder / "nginx.conf").write_text(f"""
        worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr crit;
        events {{ worker_connections 4096; }}
        http {{ access_log off; keepalive_requests 1000000;
          server {{ listen 127.0.0.1:{port} ssl; root {folder}/www;
            ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; }} }}
    """)
    with running(["nginx", "-c", str(folder / "nginx.conf")], LOAD_CORE, port):
        yield port


def name_server() -> int:
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


@contextlib.contextmanager
def gateway(folder: Path, origin: int) -> Iterator[Target]:
    """Run one worker of the gateway, with its real resolver and ledger."""
    port = free_port()
    names = name_server()
    config = folder / "policy.yaml"
    config.write_text(f"""
version: 1
state_dir: ./state
proxy: {{listen: ["127.0.0.1:{port}"]}}
dns: {{upstreams: ["udp://127.0.0.1:{names}"]}}
policy:
  rules:
    - {{name: bench, action: allow, to: {{domains: [{NAME}], addresses: [127.0.0.0/8], ports: [{origin}]}}}}
""")
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "gateway.worker", "--config", str(config), "--role", "proxy", "--index", "0"]
    with running(
        [*command, "--ready-fd", str(write_end)], PROXY_CORE, port, pass_fds=(write_end,), stdin=subprocess.PIPE
    ) as process:
        os.read(read_end, 1)
        yield Target("gateway", port, process.pid)


@contextlib.contextmanager
def squid(folder: Path, origin: int) -> Iterator[Target]:
    """Run Squid: peeks at the ClientHello and splices, as the gateway does; without OpenSSL in it, a plain tunnel."""
    port = free_port()
    (folder / "hosts").write_text(f"127.0.0.1 {NAME}\n")
    (folder / "spool").mkdir()
    (folder / "spool").chmod(0o777)  # Squid gives root up
    splices = "--with-openssl" in subprocess.run(["squid", "-v"], capture_output=True, text=True, check=True).stdout
    listen = f"http_port 127.0.0.1:{port}"
    if splices:
        both = folder / "squid.pem"
        both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
        both.chmod(0o644)
        listen += f" ssl-bump cert={both} generate-host-certificates=off"
        listen += "\nacl hello at_step SslBump1\nssl_bump peek hello\nssl_bump splice all"
    (folder / "squid.conf").write_text(f"""
{listen}
hosts_file {folder}/hosts
acl bench dstdomain {NAME}
acl port port {origin}
http_access allow bench port
http_access allow CONNECT
http_access deny all
cache deny all
access_log stdio:{folder}/spool/access.log
cache_log {folder}/spool/cache.log
pid_filename {folder}/spool/squid.pid
coredump_dir {folder}/spool
shutdown_lifetime 0 seconds
workers 1
client_dst_passthru off
host_verify_strict off
""")
    with running(["squid", "-N", "-f", str(folder / "squid.conf")], PROXY_CORE, port) as process:
        yield Target("squid" if splices else "squid (plain tunnel)", port, process.pid)


if __name__ == "__main__":
    sys.exit(main())
