"""What a DNS query costs: CPU of the resolver process, the gateway's against that of other servers, in one run.

Run `python tests/bench/dns.py`. The servers under test are pinned to one core and asked one after another; load
(dnsperf) and the upstream share the other. All have the same list and forward to the same upstream. CPU time is read
from the scheduler (/proc/PID/task/*/schedstat), which is far steadier than wall time; still, only ratios within one
run mean anything, and nothing is asserted. Needs two cores and dnsperf; a peer that is not installed is skipped.
"""

import argparse
import contextlib
import getpass
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.ports import free_port

RESOLVER_CORE, LOAD_CORE = 0, 1
CACHEABLE = 10_000
"""Names that are asked again and again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A resolver under test."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of listed, cacheable and unique names, in percent."""

    name: str
    listed: int
    cacheable: int
    unique: int
    edns: bool = True
    known: int = 0
    """Listed names that are asked for; 0: all of them."""


MIXES = (
    Mix("hits", 0, 100, 0),
    Mix("cached", 30, 70, 0, known=5_000),
    Mix("mix", 30, 60, 10),
    Mix("blocked", 100, 0, 0),
    Mix("misses", 0, 0, 100),
)
LONGEST = 20
"""Seconds for one load on one server, some of which take minutes over thirty thousand new names."""
SWAP_RATE = 20_000
SWAP_SECONDS = 10
GIVING_WAY = ("nice", "-n", "10")
"""How `deploy/cron/gateway-refresh` runs a refresh."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What some queries cost."""

    cpu: float
    """Microseconds of CPU a query."""
    rate: float
    """Queries a second."""
    p50: float
    """Milliseconds."""
    p99: float
    longest: float
    lost: int
    cut: str
    """What was left out because the time was over."""


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listed", type=int, default=140_000)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mix", choices=[mix.name for mix in MIXES], action="append", help="only these")
    parser.add_argument("--peer", choices=list(PEERS), action="append", help="only these")
    parser.add_argument("--no-swap", action="store_true", help="no swap of lists under load")
    parser.add_argument("--memory", type=int, default=1_000_000, help="listed names to measure memory with; 0: not")
    options = parser.parse_args()
    for tool, package in {"dnsperf": "dnsperf", "unbound": "unbound"}.items():
        if shutil.which(tool) is None:
            print(f"{tool} is not installed: apt-get install {package}")
            return 2
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        source = stack.enter_context(upstream(folder))
        ours = stack.enter_context(gateway(folder, source, options.listed))
        targets = [ours]
        for peer, (package, start) in PEERS.items():
            if options.peer and peer not in options.peer:
                continue
            if shutil.which(peer) is None:
                print(f"{peer} is skipped: apt-get install {package}")
                continue
            targets.append(stack.enter_context(start(folder, source, options.listed)))
        _heading()
        for mix in MIXES:
            if not options.mix or mix.name in options.mix:
                _compare(folder, targets, mix, options.listed, options.queries, options.rounds)
        if not options.no_swap:
            _swap(folder, ours, options.listed)
        stack.close()
    if options.memory:
        _memory(options.memory)
    return 0


def _heading() -> None:
    latency = f"{'p50 ms':>8} {'p99 ms':>8}"
    print(f"{'':8} {'server':9} {'CPU us/query':>13} {'queries/s':>10} {latency} {'lost':>6} {'MB':>6}")


def _line(mix: str, name: str, cost: Cost, memory: float) -> None:
    print(
        f"{mix:8} {name:9} {cost.cpu:13.1f} {cost.rate:10.0f} {cost.p50:8.2f} {cost.p99:8.2f} {cost.lost:6}"
        f" {memory:6.0f}{cost.cut}",
        flush=True,
    )


def _memory(listed: int) -> None:
    """Measure what a worker takes with long lists, before and after it was asked for many names."""
    mix = Mix("memory", 30, 60, 10)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        source = stack.enter_context(upstream(folder))
        ours = stack.enter_context(gateway(folder, source, listed))
        print(f"memory of a worker with {listed} listed names, in MB (the lists are files, shared by all workers)")
        for asked in (0, 100_000):
            if asked:
                load(folder, ours, mix, listed, asked, seed=1)
            own, files = (memory_of(ours.pid, kind) for kind in ("RssAnon", "RssFile"))
            print(
                f"after {asked:6} queries: RSS {resident(ours.pid):.0f}, own {own:.0f}, files {files:.0f}", flush=True
            )


def _compare(folder: Path, targets: list[Target], mix: Mix, listed: int, queries: int, rounds: int) -> None:
    count = min(queries, 30_000) if mix.unique > 50 else queries
    costs: dict[str, list[float]] = {target.name: [] for target in targets}
    for target in targets:  # fills the caches, and is not counted
        load(folder, target, mix, listed, count, seed=0)
    for number in range(1, rounds + 1):
        for target in targets:
            cost = load(folder, target, mix, listed, count, seed=number)
            costs[target.name].append(cost.cpu)
            _line(mix.name, target.name, cost, resident(target.pid))
    mine, *others = ((name, statistics.median(values)) for name, values in costs.items())
    for name, other in others:
        print(f"{mix.name:8} gateway / {name}: {mine[1] / other:.2f}   ({mine[1]:.1f} against {other:.1f} us)")


def _swap(folder: Path, ours: Target, listed: int) -> None:
    """Put a new list in force under a steady load."""
    names = folder / "listed.txt"
    config = folder / "gateway.yaml"

    def refresh() -> None:
        time.sleep(SWAP_SECONDS / 4)
        with names.open("a") as out:
            out.write("swapped.listed-names.com\n")
        command = [*GIVING_WAY, str(Path(sys.executable).parent / "gateway"), "refresh", "--config", str(config)]
        subprocess.run(command, check=True, capture_output=True)

    mix = Mix("swap", 30, 70, 0, known=5_000)
    count = SWAP_RATE * SWAP_SECONDS
    for name, work in (("steady", None), ("swap", refresh)):
        thread = threading.Thread(target=work or (lambda: None))
        thread.start()
        cost = load(folder, ours, mix, listed, count, seed=0, rate=SWAP_RATE)
        thread.join()
        print(
            f"{name:8} {ours.name:9} {cost.rate:.0f} queries/s, lost {cost.lost}, p99 {cost.p99:.2f} ms,"
            f" longest wait {cost.longest:.1f} ms (the refresh runs on the load's core)",
            flush=True,
        )


def load(folder: Path, target: Target, mix: Mix, listed: int, count: int, *, seed: int, rate: int = 0) -> Cost:
    """Send queries; at a rate, or as fast as the server answers."""
    chance = random.Random(seed)
    lines = []
    for number in range(count):
        dice = chance.randrange(100)
        if dice < mix.listed:
            lines.append(f"n{chance.randrange(mix.known or listed)}.listed-names.com A\n")
        elif dice < mix.listed + mix.cacheable:
            kind = "A" if chance.randrange(2) else "AAAA"
            lines.append(f"c{chance.randrange(CACHEABLE)}.bench-names.com {kind}\n")
        else:
            lines.append(f"u{number}-{time.monotonic_ns()}.bench-names.com A\n")
    path = folder / "queries"
    path.write_text("".join(lines))
    command = f"dnsperf -s 127.0.0.1 -p {target.port} -d {path} -c 20 -q 200 -n 1 -l {LONGEST} -v"
    options = [*(["-e"] if mix.edns else []), *(["-Q", str(rate)] if rate else [])]
    said = folder / "dnsperf.out"
    before = cpu(target.pid)
    with said.open("wb") as out:  # one line a query: through a pipe it would have to be read at once
        subprocess.run([*command.split(), *options], stdout=out, check=True)
    spent = cpu(target.pid) - before
    text = said.read_text()
    times = sorted(float(found) * 1000 for found in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", text, re.MULTILINE)) or [
        0
    ]
    figures = dict(re.findall(r"^\s*(Queries [^:]+):\s+([\d.]+)", text, re.MULTILINE))
    sent = int(float(figures["Queries sent"]))
    return Cost(
        cpu=spent / 1000 / max(sent, 1),
        rate=float(figures["Queries per second"]),
        p50=times[len(times) // 2],
        p99=times[len(times) * 99 // 100],
        longest=times[-1],
        lost=int(float(figures.get("Queries lost", "0"))),
        cut=f"   only {sent} of {count} queries, in {LONGEST} s" if sent < count else "",
    )


def cpu(pid: int) -> int:
    """Return the nanoseconds that all threads of a process have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return memory_of(pid, "VmRSS")


def memory_of(pid: int, kind: str) -> float:
    """Return a line of the memory in /proc/PID/status in MB."""
    found = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _answers(port: int) -> bool:
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\2c0\13bench-names\3com\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(query)
            return sock.recv(512)[3] & 0xF == 0
        except OSError:
            return False


@contextlib.contextmanager
def running(core: int, port: int, *command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on a core until the block ends; begin when it answers."""
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{command[0]} does not serve:\n{(folder / f'{port}.log').read_text()}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """Run an upstream that answers every name with the same addresses."""
    port = free_port()
    config = folder / "upstream.conf"
    config.write_text(f"""server:
    {_UNBOUND}
    port: {port}
    local-zone: "bench-names.com." redirect
    local-data: "bench-names.com. 3600 IN A 93.184.215.14"
    local-data: "bench-names.com. 3600 IN AAAA 2606:2800:21f::14"
""")
    with running(LOAD_CORE, port, "unbound", "-d", "-c", str(config), folder=folder):
        yield port


_UNBOUND = """do-daemonize: no
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    logfile: ""
    interface: 127.0.0.1
    num-threads: 1
    do-not-query-localhost: no
    so-rcvbuf: 4m
    so-reuseport: no
    outgoing-range: 4096
    num-queries-per-thread: 4096"""


@contextlib.contextmanager
def unbound(folder: Path, source: int, listed: int) -> Iterator[Target]:
    """Run Unbound with the list as a response policy zone."""
    port = free_port()
    zone = folder / "rpz.zone"
    with zone.open("w") as out:
        out.write("$TTL 60\n@ SOA ns.invalid. nobody.invalid. 1 3600 600 86400 60\n  NS ns.invalid.\n")
        for number in range(listed):
            out.write(f"n{number}.listed-names.com CNAME .\n")
    config = folder / "unbound.conf"
    config.write_text(f"""server:
    {_UNBOUND}
    port: {port}
    module-config: "respip iterator"
    msg-cache-size: 64m
    rrset-cache-size: 128m
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{source}
rpz:
    name: "rpz.bench"
    zonefile: "{zone}"
""")
    with running(RESOLVER_CORE, port, "unbound", "-d", "-c", str(config), folder=folder) as process:
        yield Target("unbound", port, process.pid)


@contextlib.contextmanager
def gateway(folder: Path, source: int, listed: int) -> Iterator[Target]:
    """Run the gateway's resolver with the list, rules, ledger, metrics and tunnel detection on.

    The zone asked for is exempt, or it would be denied for what it looks like: thousands of new names a second from
    one client. What accounting costs is measured by tests/bench/tunnelling.py.
    """
    port, looks = free_port(), free_port()
    names = folder / "listed.txt"
    with names.open("w") as out:
        for number in range(listed):
            out.write(f"n{number}.listed-names.com\n")
    config = folder / "gateway.yaml"
    config.write_text(f"""version: 1
state_dir: ./state
control: {{listen: "127.0.0.1:{looks}"}}
clients: {{local: {{addresses: [127.0.0.0/8]}}}}
dns:
  listen: ["udp://127.0.0.1:{port}", "tcp://127.0.0.1:{port}"]
  workers: 1
  upstreams: ["udp://127.0.0.1:{source}"]
  rate_limit: {{queries_per_second: 1000000, burst: 1000000}}
tunnelling: {{exempt: ["*.bench-names.com"]}}
lists:
  listed: {{path: {names}, format: domains, categories: [malware]}}
policy:
  default: {{proxy: deny, dns: allow}}
  rules:
    - {{name: never, action: deny, to: {{domains: [".forbidden.example"]}}}}
    - {{name: threats, action: deny, to: {{categories: [malware]}}}}
    - {{name: partners, action: allow, clients: [local], to: {{domains: [".partner.example"]}}}}
""")
    command = str(Path(sys.executable).parent / "gateway")
    subprocess.run([command, "refresh", "--config", str(config)], check=True, capture_output=True)
    with running(RESOLVER_CORE, port, command, "dns", "--config", str(config), folder=folder) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Target("gateway", port, int(children[0]))


@contextlib.contextmanager
def dnsmasq(folder: Path, source: int, listed: int) -> Iterator[Target]:
    """Run dnsmasq with the list as domains that nobody is asked for."""
    port = free_port()
    config = folder / "dnsmasq.conf"
    with config.open("w") as out:
        out.write(f"""port={port}
listen-address=127.0.0.1
bind-interfaces
user={getpass.getuser()}
pid-file
no-resolv
no-hosts
server=127.0.0.1#{source}
cache-size=100000
dns-forward-max=4096
""")
        for number in range(listed):
            out.write(f"local=/n{number}.listed-names.com/\n")
    with running(RESOLVER_CORE, port, "dnsmasq", "-k", "-C", str(config), folder=folder) as process:
        yield Target("dnsmasq", port, process.pid)


@contextlib.contextmanager
def dnsdist(folder: Path, source: int, listed: int) -> Iterator[Target]:
    """Run dnsdist with a packet cache and the list as a suffix match."""
    port = free_port()
    config = folder / "dnsdist.conf"
    config.write_text(f"""setSecurityPollSuffix("")
setLocal("127.0.0.1:{port}")
newServer{{address="127.0.0.1:{source}", checkName="c0.bench-names.com."}}
getPool(""):setCache(newPacketCache(200000))
listed = newSuffixMatchNode()
for number = 0, {listed - 1} do
  listed:add("n" .. number .. ".listed-names.com")
end
addAction(SuffixMatchNodeRule(listed), RCodeAction(DNSRCode.NXDOMAIN))
""")
    command = ("dnsdist", "--supervised", "-C", str(config))
    with running(RESOLVER_CORE, port, *command, folder=folder) as process:
        yield Target("dnsdist", port, process.pid)


type _Start = Callable[[Path, int, int], AbstractContextManager[Target]]
PEERS: dict[str, tuple[str, _Start]] = {
    "unbound": ("unbound", unbound),
    "dnsmasq": ("dnsmasq-base", dnsmasq),
    "dnsdist": ("dnsdist", dnsdist),
}
"""Other servers: what they are called, the package to install, how to run them."""


if __name__ == "__main__":
    sys.exit(main())
