"""A real `gateway proxy` with origins behind it, a polite client beside it, and a look into its memory."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.query import count_of
from tests.peers.namespace import ROOT, wait_until
from tests.peers.ports import free_port
from tests.peers.tls_origin import make_certificate

QUICK_ENOUGH = 100.0
"""Milliseconds: what nine in ten of a polite client's waits keep below, on a machine that does nothing else.

There are some forty to two hundred of a kind, so the 99th percentile would be about the longest: one pause of the
machine. That is printed for the reader; nobody may be lost, which bounds it at the client's patience.
"""
FEW = 10
"""Waits of a kind of which no tenth can be left out."""
POLICY = """
version: 1
state_dir: state
proxy:
  workers: {workers}
  listen: ["127.0.0.1:{port}", "tls://127.0.0.1:{tls}"]
  certificate: {{cert: origin.pem, key: origin.pem}}
  ca_bundle: origin.pem
  timeouts: {{{timeouts}}}
  limits: {{{limits}}}
dns:
  upstreams: ["udp://127.0.0.1:9"]
  records:
    polite.test: [127.0.0.1]
    echo.test: [127.0.0.1]
    seen.test: [127.0.0.1]
    cut.test: [127.0.0.1]
{records}
policy:
  rules:
{rules}
    - name: tunnels
      action: allow
      to: {{domains: [polite.test, echo.test, ".spliced.test"{more}], addresses: [127.0.0.0/8], ports: [1-65535]}}
    - name: seen
      action: allow
      to: {{domains: [".seen.test"], addresses: [127.0.0.0/8], ports: [1-65535]}}
      http: {{paths: ["/**"]}}
"""


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int
    tls: int
    echo: int
    deaf: int
    http: int
    https: int
    settings: dict[str, Any]

    @property
    def workers(self) -> list[int]:
        """The processes that serve."""
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @property
    def memory(self) -> int:
        """Octets that the workers have in memory."""
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.workers)
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def peak(self) -> int:
        """The most octets that the worker has had in memory since `forget_peak`."""
        status = Path(f"/proc/{self.workers[0]}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))

    def forget_peak(self) -> None:
        """Begin to measure the peak anew."""
        for pid in self.workers:
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    @property
    def descriptors(self) -> int:
        """File descriptors that the workers have open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers)  # noqa: PTH208 -- thousands, often

    @property
    def seconds(self) -> float:
        """Processor time that the workers have used."""
        return sum(ran for ran, _ in self.scheduled)

    @property
    def scheduled(self) -> list[tuple[float, float]]:
        """For how long each worker has run, and for how long it could have and others were running."""
        figures = (Path(f"/proc/{pid}/schedstat").read_text().split() for pid in self.workers)
        return [(int(ran) / 1e9, int(waited) / 1e9) for ran, waited, _ in figures]

    def clients_of(self, worker: int) -> set[tuple[str, int]]:
        """Return addresses and ports of the clients whose connections a worker holds."""
        held = set()
        for each in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                held.add(str(each.readlink()))
        found = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, ours, theirs, *_, inode = line.split()[:10]
            if int(ours.rpartition(":")[2], 16) == self.port and f"socket:[{inode}]" in held:
                address, _, port = theirs.partition(":")
                found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
        return found

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """Every line of the ledger."""
        files = sorted((self.folder / "state" / "ledger").glob("*.jsonl"))
        texts = [path.read_text() for path in files]
        # The end of a file that is being written may be half a line.
        return [json.loads(line) for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]

    def reasons(self, since: int = 0) -> Counter[str]:
        """How often each reason was given for a denial, in the lines from that one on."""
        found: Counter[str] = Counter()
        for line in self.ledger[since:]:
            if line.get("gateway.verdict") == "deny":
                found[line["event.reason"]] += count_of(line)
        return found

    def lines_of(self, net: str) -> list[str]:
        """Return the reasons of denials, or nothing, of all lines about clients in a /24."""
        return [
            line["event.reason"] if line["gateway.verdict"] == "deny" else ""
            for line in self.ledger
            if str(line.get("source.ip")).startswith(f"{net}.")
        ]

    def await_reasons(self, expected: Mapping[str, int], since: int = 0, seconds: float = 10) -> None:
        """Wait until the ledger has just these reasons for denials, in the lines from that one on."""
        ends = time.monotonic() + seconds
        while (found := self.reasons(since)) != expected and time.monotonic() < ends:
            time.sleep(0.05)
        assert found == expected, f"{found} in place of {expected}"

    def connect(self, source: str = "127.0.0.1", port: int = 0) -> socket.socket:
        """Return a connection from one of our addresses."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(10)
            sock.bind((source, 0))
            sock.connect(("127.0.0.1", port or self.port))
        except OSError:
            sock.close()
            raise
        return sock

    def rewrite(self, **changes: Any) -> None:
        """Write another policy, and have it put in force."""
        self.settings.update(changes)
        (self.folder / "gateway.yaml").write_text(POLICY.format(**self.settings))
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def origins(folder: Path) -> Iterator[dict[str, int]]:
    """Run the origins. Yields their ports."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/peers/rude_origin.py"), str(folder / "origin.pem")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate(timeout=20)


@contextmanager
def a_gateway(
    folder: Path,
    *,
    workers: int = 1,
    timeouts: str = "",
    limits: str = "",
    more: str = "",
    rules: str = "",
    records: str = "",
    descriptors: int = 1024,
) -> Iterator[Gateway]:
    """Run `gateway proxy` and its origins. `descriptors`: its soft limit, which it raises by itself; negative: its
    hard limit too.
    """
    names = ("polite.test", "echo.test", "seen.test", "*.seen.test", "*.spliced.test", "cut.test")
    make_certificate(folder / "origin.pem", *names)
    port, tls = free_port(), free_port()
    settings = {"workers": workers, "port": port, "tls": tls, "timeouts": timeouts, "limits": limits, "more": more}
    settings |= {"rules": rules, "records": records}
    (folder / "gateway.yaml").write_text(POLICY.format(**settings))
    gateway, log = str(Path(sys.executable).parent / "gateway"), folder / "gateway.log"
    which = "-S" if descriptors > 0 else "-S -H"
    limit = " && ".join(f"ulimit {each} -n {abs(descriptors)}" for each in which.split())
    with origins(folder) as ports, log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", f'{limit} && exec "$0" proxy --config "$1"', gateway, str(folder / "gateway.yaml")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:

            def serving() -> bool:
                assert process.poll() is None, log.read_text()
                return "gateway is running" in log.read_text()

            wait_until(serving, f"the gateway to serve; see {log}")
            yield Gateway(folder, process, port, tls, settings=settings, **ports)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert "Traceback" not in log.read_text()


@contextmanager
def many_descriptors(wanted: int) -> Iterator[None]:
    """Let this process have as many sockets as it needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} file descriptors, and may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def polite(gateway: Gateway, what: str, allowance: float = 1.0) -> Iterator[None]:
    """Have a polite client use the gateway meanwhile, from a process of its own; assert that it is served well.

    `allowance`: how many times longer than usual it may wait.
    """
    prober = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "tests/peers/proxy_prober.py")),
            *map(str, (gateway.port, gateway.echo, gateway.http, gateway.https)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert prober.stdout is not None
    try:
        assert prober.stdout.readline() == b"ready\n"
        before, scheduled = gateway.memory, gateway.scheduled
        yield
    finally:
        output, _ = prober.communicate(timeout=60)
    found = json.loads(output)
    figures, lost = found["figures"], found["lost"]
    control = figures.pop("control")
    told = ", ".join(
        "/".join([f"{name} {each['p50']}", *(str(each[share]) for share in ("p90", "p99", "p100"))])
        for name, each in figures.items()
    )
    memory = f"{before >> 20} -> {gateway.memory >> 20} MB"
    spent = [
        (ran - ran_before, waited - waited_before)
        for (ran, waited), (ran_before, waited_before) in zip(gateway.scheduled, scheduled, strict=True)
    ]
    seconds, slower = sum(ran for ran, _ in spent), max((ran + waited) / max(ran, 0.01) for ran, waited in spent)
    tried = figures["new"]["tried"]
    share = f"{seconds:.1f} s x {slower:.1f}"
    sys.stderr.write(
        f"{what}: {tried} rounds, {told}, control {control['p99']}; {memory}; {share}\n"
    )  # for the reader
    assert not lost
    assert tried >= 40
    for name, each in figures.items():
        # What a process that only echoes had to wait is the machine's doing, and how often others had the processor.
        limit = allowance * slower * QUICK_ENOUGH + 4 * control["p99"]
        assert each["p90"] < (limit if each["tried"] >= FEW else 3 * limit), name
