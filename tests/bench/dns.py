"""What a DNS query costs: CPU of the resolver process, the gateway's against Unbound's, in one run.

Run `python tests/bench/dns.py`. The resolver under test is pinned to one core; load (dnsperf) and the upstream share
the other. Both have the same list (Unbound as a response policy zone), and forward to the same upstream. CPU time is
read from the scheduler (/proc/PID/task/*/schedstat), which is far steadier than wall time; still, only ratios within
one run mean anything. Needs dnsperf and unbound (`apt-get install dnsperf unbound`), and two cores.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


MIXES = (
    Mix("hits", 0, 100, 0),
    Mix("cached", 30, 70, 0),
    Mix("mix", 30, 60, 10),
    Mix("blocked", 100, 0, 0),
    Mix("misses", 0, 0, 100),
)


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listed", type=int, default=140_000)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mix", choices=[mix.name for mix in MIXES], action="append", help="only these")
    options = parser.parse_args()
    for tool in ("dnsperf", "unbound"):
        if shutil.which(tool) is None:
            print(f"{tool} is not installed: apt-get install {tool}")
            return 2
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        mixes = [mix for mix in MIXES if not options.mix or mix.name in options.mix]
        _compare(Path(folder), mixes, options.listed, options.queries, options.rounds)
    return 0


def _compare(folder: Path, mixes: list[Mix], listed: int, queries: int, rounds: int) -> None:
    with (
        upstream(folder) as source,
        gateway(folder, source, listed) as ours,
        unbound(folder, source, listed) as theirs,
    ):
        print(
            f"{'':10} {'server':10} {'CPU us/query':>13} {'queries/s':>10} {'latency ms':>11} {'lost':>6} {'MB':>6}"
        )
        for mix in mixes:
            count = queries if not mix.unique else min(queries, 30_000 if mix.unique > 50 else queries)
            costs: dict[str, list[float]] = {ours.name: [], theirs.name: []}
            for target in (ours, theirs):  # fills the caches, and is not counted
                load(folder, target, mix, listed, count, seed=0)
            for number in range(1, rounds + 1):
                for target in (ours, theirs):
                    cost, rate, latency, lost = load(folder, target, mix, listed, count, seed=number)
                    costs[target.name].append(cost)
                    memory = resident(target.pid)
                    print(
                        f"{mix.name:10} {target.name:10} {cost:13.1f} {rate:10.0f} {latency:11.2f} {lost:6}"
                        f" {memory:6.0f}"
                    )
            mine, other = (statistics.median(values) for values in costs.values())
            print(f"{mix.name:10} {'ratio':10} {mine / other:13.2f}   ({mine:.1f} against {other:.1f} us)")


def load(
    folder: Path, target: Target, mix: Mix, listed: int, count: int, *, seed: int
) -> tuple[float, float, float, int]:
    """Send queries. Returns CPU microseconds a query, queries a second, mean latency in ms and how many were lost."""
    chance = random.Random(seed)
    lines = []
    for number in range(count):
        dice = chance.randrange(100)
        if dice < mix.listed:
            lines.append(f"n{chance.randrange(listed)}.listed-names.com A\n")
        elif dice < mix.listed + mix.cacheable:
            kind = "A" if chance.randrange(2) else "AAAA"
            lines.append(f"c{chance.randrange(CACHEABLE)}.bench-names.com {kind}\n")
        else:
            lines.append(f"u{number}-{time.monotonic_ns()}.bench-names.com A\n")
    path = folder / "queries"
    path.write_text("".join(lines))
    before = cpu(target.pid)
    command = [
        "dnsperf",
        "-s",
        "127.0.0.1",
        "-p",
        str(target.port),
        "-d",
        str(path),
        "-c",
        "20",
        "-q",
        "200",
        "-n",
        "1",
    ]
    done = subprocess.run([*command, *(["-e"] if mix.edns else [])], capture_output=True, text=True, check=True)
    spent = cpu(target.pid) - before
    figures = dict(re.findall(r"^\s*(Queries [^:]+|Average Latency \(s\)):\s+([\d.]+)", done.stdout, re.MULTILINE))
    rate, latency = float(figures["Queries per second"]), float(figures["Average Latency (s)"])
    return spent / 1000 / count, rate, latency * 1000, int(float(figures.get("Queries lost", "0")))


def cpu(pid: int) -> int:
    """Return the nanoseconds that all threads of a process have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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
    """Run the gateway's resolver with the list, rules and ledger on."""
    port = free_port()
    names = folder / "listed.txt"
    with names.open("w") as out:
        for number in range(listed):
            out.write(f"n{number}.listed-names.com\n")
    config = folder / "gateway.yaml"
    config.write_text(f"""version: 1
state_dir: ./state
clients: {{local: {{addresses: [127.0.0.0/8]}}}}
dns:
  listen: ["udp://127.0.0.1:{port}", "tcp://127.0.0.1:{port}"]
  workers: 1
  upstreams: ["udp://127.0.0.1:{source}"]
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


if __name__ == "__main__":
    sys.exit(main())
