"""What a proxied connection costs: the gateway beside Squid, tinyproxy and stock mitmdump, in one run.

Run `python tests/bench/proxy.py`. The proxy under test is pinned to one core, load and origin to the other. CPU time
is read from the process's own clock, which is far steadier than wall time; still, only ratios within one run mean
anything. Needs nginx; other proxies that are not installed are left out.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, tests are no package

from tests.peers.proxies import BULK, LOAD_CORE, LOOK, NAME, PRODUCTS, Origin, Target, certificate, nginx

WIDTH = 8
"""Lanes of load at the same time."""
REQUEST = b"GET / HTTP/1.1\r\nHost: %s:%d\r\n\r\n"
_WARM_UP = 0.1
"""The part of a load that goes before it uncounted, so that caches are filled."""


@dataclass(frozen=True, slots=True)
class Load:
    """Something that is measured."""

    name: str
    title: str
    run: Callable[[Target, Origin, int], Coroutine[Any, Any, None]]
    count: int
    inspected: bool = False


LOADS = (
    Load("connection", "CONNECT + TLS, new, spliced", lambda *a: connections(*a), 1200),
    Load("request", "request on a spliced tunnel", lambda *a: requests(*a), 6000),
    Load("plain", "plain HTTP request", lambda *a: plain(*a), 1200),
    Load("inspected", "CONNECT + TLS, new, inspected", lambda *a: connections(*a), 240, inspected=True),
    Load("inside", "request on an inspected tunnel", lambda *a: requests(*a), 1200, inspected=True),
    Load("bulk", "100 MB through a tunnel", lambda *a: bulk(*a), 1),
)
GOALS = (
    ("connection", "squid", 0.9),
    ("request", "squid", 0.9),
    ("bulk", "squid", 1.0),
    ("inspected", "squid", 1.0),
    ("inside", "mitmdump", 0.5),
    ("plain", "mitmdump", 0.5),
)
"""Load, whom to compare with, and the most that the ratio of CPU may be."""
IDLE_GOAL = 10.0  # KiB

type Pair = tuple[Target, Target | None]
"""A product's proxy that splices, and the one that inspects."""
type Figures = dict[str, dict[str, float]]
"""By load, by product."""


def main() -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="How much load, times the usual.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tunnels", type=int, default=5000, help="Idle tunnels; 0 leaves them out.")
    parser.add_argument("--latency", type=int, default=300, help="Connections timed one by one; 0 leaves them out.")
    parser.add_argument("--only", nargs="*", choices=[load.name for load in LOADS], help="Loads; all without it.")
    parser.add_argument("--products", nargs="*", choices=[each.name for each in PRODUCTS])
    options = parser.parse_args()
    for tool in ("nginx", "openssl", "taskset"):
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            print(f"left out: {tool} is missing (apt-get install nginx openssl util-linux)")
            return 0
    os.sched_setaffinity(0, {LOAD_CORE})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loads = [load for load in LOADS if options.only is None or load.name in options.only]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        certificate(folder)
        with contextlib.ExitStack() as stack:
            origin = stack.enter_context(nginx(folder))
            pairs = _start(stack, folder, origin, options.products)
            figures = _loads(pairs, origin, loads, options.rounds, options.scale)
            _print_loads(figures, loads, list(pairs), options.rounds)
            idle = _idle_tunnels(pairs, origin, options.tunnels) if options.tunnels else {}
            if options.latency:
                _latency(pairs, origin, options.latency)
            _print_goals(figures, idle)
    return 0


def _start(stack: contextlib.ExitStack, folder: Path, origin: Origin, wanted: list[str] | None) -> dict[str, Pair]:
    pairs: dict[str, Pair] = {}
    for product in PRODUCTS:
        if wanted is not None and product.name not in wanted:
            continue
        if missing := product.missing():
            remedy = f": apt-get install {product.packages}" if product.packages else ""
            print(f"left out: {product.name}, {' and '.join(missing)} missing{remedy}")
            continue
        splices = stack.enter_context(product.splices(folder, origin))
        inspects = stack.enter_context(product.inspects(folder, origin)) if product.inspects else None
        if product.name == "gateway":
            inspects = replace(splices, host=LOOK, sni=LOOK)
        pairs[product.name] = splices, inspects
    return pairs


# -- measuring -------------------------------------------------------------------------------------------------------


def _loads(pairs: dict[str, Pair], origin: Origin, loads: list[Load], rounds: int, scale: float) -> Figures:
    """Return microseconds of CPU, the best of all rounds."""
    figures: Figures = {load.name: {} for load in loads}
    for turn in range(rounds):
        for load in loads:
            count = max(1, int(load.count * scale))
            for name, (splices, inspects) in pairs.items():
                # mitmdump that ignores a host would ignore its plain requests too
                target = inspects if load.inspected or (load.name == "plain" and name == "mitmdump") else splices
                if target is None:
                    continue
                if not turn:
                    _drive(load.run(target, origin, max(1, int(count * _WARM_UP))))
                before = target.cpu()
                _drive(load.run(target, origin, count))
                time.sleep(0.2)  # what it does after the last octet counts too
                spent = (target.cpu() - before) / count * 1e6
                figures[load.name][name] = min(figures[load.name].get(name, spent), spent)
    return figures


def _idle_tunnels(pairs: dict[str, Pair], origin: Origin, count: int) -> dict[str, float]:
    """Return KiB of memory for each idle tunnel."""
    found: dict[str, float] = {}
    for name, (target, _) in pairs.items():
        _drive(idle(target, origin, min(200, count), lambda: None))
        time.sleep(1)
        before, after = target.memory(), 0

        def look(target: Target = target) -> None:
            nonlocal after
            time.sleep(1)
            after = target.memory()

        _drive(idle(target, origin, count, look))
        found[name] = (after - before) / count / 1024
    print(f"\nmemory for each of {count} idle tunnels, KiB: ", end="")
    print(", ".join(f"{name} {size:.1f}" for name, size in found.items()))
    return found


def _latency(pairs: dict[str, Pair], origin: Origin, count: int) -> None:
    """Print how much later a first answer and a further one come than without a proxy, one connection at a time."""
    print("\nadded latency, ms (p50 / p99)       " + "".join(f"{name:>18}" for name in pairs))
    samples: dict[str, tuple[list[float], list[float]]] = {}
    for name, target in (("", None), *((name, pair[0]) for name, pair in pairs.items())):
        first: list[float] = []
        further: list[float] = []
        _drive(timed(target, origin, count, first, further))
        samples[name] = first, further
    direct = samples.pop("")
    for row, what in enumerate(("new connection", "request on a tunnel")):
        cells = ""
        for each in samples.values():
            added = [(_quantile(each[row], at) - _quantile(direct[row], at)) * 1e3 for at in (50, 99)]
            cells += f"{added[0]:9.2f} /{added[1]:7.2f}"
        print(f"{what:36}{cells}")


def _quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def _print_loads(figures: Figures, loads: list[Load], names: list[str], rounds: int) -> None:
    print(f"{f'CPU us, best of {rounds}':34}" + "".join(f"{name:>11}" for name in names), end="")
    print("   gateway to " + ", ".join(name for name in names if name != "gateway"))
    for load in loads:
        row = figures[load.name]
        cells = "".join(f"{row[name]:11.1f}" if name in row else f"{'-':>11}" for name in names)
        ratios = "  ".join(
            f"{row['gateway'] / row[name]:.2f}" if name in row and "gateway" in row else "-"
            for name in names
            if name != "gateway"
        )
        print(f"{load.title:34}{cells}   {ratios}")


def _print_goals(figures: Figures, idle: dict[str, float]) -> None:
    print("\ngoal")
    for load, other, most in GOALS:
        row = figures.get(load, {})
        title = next(each.title for each in LOADS if each.name == load)
        if "gateway" in row and other in row:
            ratio = row["gateway"] / row[other]
            print(f"{'met   ' if ratio <= most else 'missed'}  {title}: {ratio:.2f} of {other}'s, at most {most}")
        else:
            print(f"not measured  {title}")
    if "gateway" in idle:
        met = "met   " if idle["gateway"] <= IDLE_GOAL else "missed"
        print(f"{met}  idle tunnel: {idle['gateway']:.1f} KiB, at most {IDLE_GOAL:.0f}")
    else:
        print("not measured  idle tunnel")


# -- load ------------------------------------------------------------------------------------------------------------


def _drive(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _lanes(count: int, lane: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    width = min(WIDTH, count)
    shares = [count // width + (number < count % width) for number in range(width)]
    await asyncio.gather(*(lane(share) for share in shares))


async def connections(target: Target, origin: Origin, count: int) -> None:
    """Open tunnels one after the other, each with a TLS handshake and one request; several lanes at once."""
    context = _context()

    async def lane(share: int) -> None:
        for _ in range(share):
            reader, writer = await tunnel(target, origin, context)
            await exchange(reader, writer, origin.tls, target.sni)
            writer.close()

    await _lanes(count, lane)


async def requests(target: Target, origin: Origin, count: int) -> None:
    """Send small requests over a few open tunnels."""
    context = _context()

    async def lane(share: int) -> None:
        reader, writer = await tunnel(target, origin, context)
        for _ in range(share):
            await exchange(reader, writer, origin.tls, target.sni)
        writer.close()

    await _lanes(count, lane)


async def plain(target: Target, origin: Origin, count: int) -> None:
    """Send small requests in the clear, over a few connections if the proxy keeps them open."""
    place = f"{target.host}:{origin.plain}".encode("ascii")
    request = b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n" % (place, place)

    async def lane(share: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        for _ in range(share):
            writer.write(request)
            await answered(reader)
            if not target.keeps_alive:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        writer.close()

    await _lanes(count, lane)


async def bulk(target: Target, origin: Origin, count: int) -> None:
    """Fetch a large file."""
    context = _context()
    for _ in range(count):
        reader, writer = await tunnel(target, origin, context)
        writer.write(b"GET /bulk HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n")
        octets = 0
        while data := await reader.read(1 << 20):
            octets += len(data)
        if octets < BULK:
            raise RuntimeError(f"{target.name}: {octets} octets of {BULK}")
        writer.close()


async def idle(target: Target, origin: Origin, count: int, meanwhile: Callable[[], None]) -> None:
    """Open tunnels as far as the answer to the ClientHello, and keep them all."""
    hello = _hello(target.sni)
    loop = asyncio.get_running_loop()
    open_ones: list[socket.socket] = []

    async def lane(share: int) -> None:
        for _ in range(share):
            sock = socket.socket()
            sock.setblocking(False)
            open_ones.append(sock)
            await loop.sock_connect(sock, ("127.0.0.1", target.port))
            await loop.sock_sendall(sock, _connect(target, origin))
            answer = await loop.sock_recv(sock, 4096)
            if b" 200 " not in answer:
                raise RuntimeError(answer.decode("latin-1"))
            await loop.sock_sendall(sock, hello)
            if not await loop.sock_recv(sock, 16384):
                raise RuntimeError(f"{target.name} closed a tunnel")

    try:
        await _lanes(count, lane)
        meanwhile()
    finally:
        for sock in open_ones:
            sock.close()


async def timed(target: Target | None, origin: Origin, count: int, first: list[float], further: list[float]) -> None:
    """Time new connections up to their first answer, and a second request on each."""
    context = _context()
    for turn in range(-20, count):
        began = time.perf_counter()
        if target is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", origin.tls)
            await writer.start_tls(context, server_hostname=NAME)
        else:
            reader, writer = await tunnel(target, origin, context)
        await exchange(reader, writer, origin.tls)
        there = time.perf_counter()
        await exchange(reader, writer, origin.tls)
        if turn >= 0:
            first.append(there - began)
            further.append(time.perf_counter() - there)
        writer.close()


def _connect(target: Target, origin: Origin) -> bytes:
    place = f"{target.host}:{origin.tls}"
    return f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: bench/1\r\n\r\n".encode("ascii")


async def tunnel(
    target: Target, origin: Origin, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a tunnel and do the TLS handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(_connect(target, origin))
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in answer:
        raise RuntimeError(f"{target.name}: {answer.decode('latin-1')}")
    await writer.start_tls(context, server_hostname=target.sni)
    return reader, writer


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, host: str = NAME) -> None:
    """Send a request, and read the answer."""
    writer.write(REQUEST % (host.encode("ascii"), port))
    await answered(reader)


async def answered(reader: asyncio.StreamReader) -> None:
    """Read an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in head:
        raise RuntimeError(head.decode("latin-1"))
    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r")[0]))


def _hello(name: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = _context().wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        half.do_handshake()
    return outgoing.read()


if __name__ == "__main__":
    sys.exit(main())
