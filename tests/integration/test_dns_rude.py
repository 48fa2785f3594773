"""A real `gateway dns` under rude clients: idle, slow, and sending nonsense. It goes on to answer a polite one."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from gateway.dns.admission import MAX_CONNECTIONS
from tests.gateway.dns.mutations import mutated, seeds
from tests.gateway.dns.support import ask, parse
from tests.peers.dns_tls import NAME
from tests.peers.namespace import ROOT, wait_until
from tests.peers.ports import free_port
from tests.peers.tls_origin import make_certificate

CONNECTIONS = 5_000
SOURCES = 50
"""Loopback addresses that they come from: one client may only have so many."""
SLOW = 200
QUICK_ENOUGH = 50.0
"""Milliseconds: the 99th percentile of a polite client's waits, on a machine that does nothing else."""
GROWTH = 64 << 20
"""Octets that the process may have more than before, when all is over: kept by the allocator for the next time."""
AGAIN = 8 << 20
"""And how many more after the same attack once more: what is kept is used again."""
POLICY = """
version: 1
state_dir: state
dns:
  workers: 1
  listen: ["udp://127.0.0.1:{0}", "tcp://127.0.0.1:{0}", "tls://127.0.0.1:{1}", "https://127.0.0.1:{2}/dns-query"]
  certificate: {{cert: dns.pem, key: dns.pem}}
  upstreams: ["udp://127.0.0.1:{3}"]
  records: {{polite.example.com: [192.0.2.7]}}
policy:
  default: {{proxy: deny, dns: allow}}
  rules:
    - {{name: ours, action: deny, to: {{domains: [bad.example.com]}}}}
"""


@dataclass(frozen=True)
class Served:
    """A gateway that runs."""

    pid: int
    plain: int
    """The port for UDP and TCP."""
    tls: int
    https: int

    @property
    def memory(self) -> int:
        """Octets that the worker has in memory."""
        return int(Path(f"/proc/{self.worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def worker(self) -> int:
        """The process that answers."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    @property
    def connections(self) -> int:
        """Descriptors that the worker has open."""
        return len(list(Path(f"/proc/{self.worker}/fd").iterdir()))


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Run `gateway dns`."""
    make_certificate(folder / "dns.pem", NAME)
    ports = [free_port() for _ in range(4)]
    (folder / "gateway.yaml").write_text(POLICY.format(*ports))
    gateway = Path(sys.executable).parent / "gateway"
    # With the usual limit, which is not ours here: the gateway raises it by itself.
    words = [
        "sh",
        "-c",
        'ulimit -S -n 1024 && exec "$0" dns --config "$1"',
        str(gateway),
        str(folder / "gateway.yaml"),
    ]
    log = folder / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    try:

        def serving() -> bool:
            assert process.poll() is None, log.read_text()
            return "answering on" in log.read_text()

        wait_until(serving, "the resolver to serve")
        yield Served(process.pid, *ports[:3])
        assert "Traceback" not in log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Let this process have as many sockets as it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} file descriptors, and may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Figures:
    """What the polite client measured, in milliseconds."""

    asked: int = 0
    lost: int = 0
    p50: float = 0
    p99: float = 0
    p100: float = 0
    control: float = 0


@asynccontextmanager
async def polite(place: Served, what: str) -> AsyncIterator[None]:
    """Have a polite client ask meanwhile, from a process of its own, and assert that it is served well."""
    query = ask("polite.example.com").hex()
    prober = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "tests/peers/prober.py"), str(place.plain), query),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield
    finally:
        output, _ = await prober.communicate()
    found = Figures(**json.loads(output))
    print(f"{what}: {found}, RSS {place.memory >> 20} MB", file=sys.stderr)  # noqa: T201 -- figures for the reader
    assert found.asked > 50
    assert found.lost <= found.asked // 100
    # What a process that only echoes had to wait is the machine's doing.
    assert found.p99 < QUICK_ENOUGH + 4 * found.control


async def connect(place: tuple[str, int], source: str) -> socket.socket | None:
    """Return a connection from one of our addresses; None when it was refused."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.bind((source, 0))
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, place), 10)
    except OSError:
        sock.close()
        return None
    return sock


async def idle(place: Served) -> None:
    """Open thousands of connections and say nothing."""
    sockets: list[socket.socket] = []
    try:
        for number in range(CONNECTIONS):
            sock = await connect(("127.0.0.1", place.plain), f"127.1.{number % SOURCES}.1")
            if sock is not None:
                sockets.append(sock)
            if not number % 25:
                await asyncio.sleep(0.005)
        assert len(sockets) > CONNECTIONS * 9 // 10
        assert place.connections > MAX_CONNECTIONS * 9 // 10  # they were really held, and no more than allowed
        await asyncio.sleep(2)
    finally:
        for sock in sockets:
            sock.close()


async def slow(place: Served) -> None:
    """Send octet by octet, never to the end; or read no answers; or half a handshake; or half a request."""
    loop = asyncio.get_running_loop()
    message = ask("bad.example.com")
    framed = len(message).to_bytes(2, "big") + message

    async def trickle(port: int, octets: bytes, source: str) -> None:
        sock = await connect(("127.0.0.1", port), source)
        assert sock is not None
        with sock, suppress(OSError):
            for at in range(len(octets) - 1):
                await loop.sock_sendall(sock, octets[at : at + 1])
                await asyncio.sleep(0.1)

    async def deaf(source: str) -> None:
        sock = await connect(("127.0.0.1", place.plain), source)
        assert sock is not None
        with sock, suppress(OSError, TimeoutError):
            async with asyncio.timeout(3):
                for _ in range(2000):
                    await loop.sock_sendall(sock, framed * 16)
                    await asyncio.sleep(0.01)
            await asyncio.sleep(1)

    hello = b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3" + bytes(60)
    async with asyncio.TaskGroup() as group:
        for number in range(SLOW):
            source = f"127.2.{number % SOURCES}.1"
            group.create_task(trickle(place.plain, framed, source))
            group.create_task(trickle((place.tls, place.https)[number % 2], hello[:40], source))
            if not number % 10:
                group.create_task(deaf(f"127.3.{number % SOURCES}.1"))


async def nonsense(place: Served) -> None:
    """Send random octets, and what chance makes of real messages, to every port."""
    loop = asyncio.get_running_loop()
    random = Random(7)
    known = seeds().queries
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.4.0.1", 0))
        sock.connect(("127.0.0.1", place.plain))
        end = time.monotonic() + 4
        for number in range(20_000):
            if time.monotonic() > end:
                break
            packet = (
                random.randbytes(random.randrange(1, 600)) if number % 2 else mutated(random, random.choice(known))
            )
            with suppress(OSError):
                sock.send(packet[:9000])
            if not number % 10:
                await asyncio.sleep(0.002)
    for number in range(150):
        port = (place.plain, place.tls, place.https)[number % 3]
        connection = await connect(("127.0.0.1", port), f"127.5.{number % SOURCES}.1")
        assert connection is not None
        with connection, suppress(OSError, TimeoutError):
            await asyncio.wait_for(loop.sock_sendall(connection, random.randbytes(20_000)), 5)
        await asyncio.sleep(0.005)


@pytest.mark.timeout(120)
async def test_a_polite_client_is_served_meanwhile(tmp_path: Path) -> None:
    """Whatever rude clients do, a polite one waits less than 50 ms, and afterwards the memory is free again."""
    with many_descriptors(), served(tmp_path) as place:
        async with polite(place, "quiet"):
            await asyncio.sleep(1)
        before, descriptors = place.memory, place.connections
        once = 0
        for what, attack in {"idle": idle, "idle again": idle, "slow": slow, "nonsense": nonsense}.items():
            async with polite(place, what):
                await attack(place)
            if attack is idle:
                wait_until(lambda: place.connections <= descriptors + 20, "the connections to go", 30)
                assert not once or place.memory < once + AGAIN
                once = place.memory
        wait_until(lambda: place.connections <= descriptors + 20, "the connections to go", 30)
        async with polite(place, "afterwards"):
            await asyncio.sleep(1)
        wait_until(lambda: place.memory < before + GROWTH, "the memory to be free again", 20)
        assert parse(await over_tcp(place, ask("bad.example.com"))).header.rcode == 3


async def over_tcp(place: Served, query: bytes) -> bytes:
    """Return the answer over TCP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.plain)
    writer.write(len(query).to_bytes(2, "big") + query)
    reply = await asyncio.wait_for(reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")), 10)
    writer.close()
    await writer.wait_closed()
    return reply
