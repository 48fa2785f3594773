"""Name servers that others wrote, on loopback: BIND with signed zones as the upstream, Unbound as the other resolver.

All of them serve the same small internet: a signed root, a zone signed with NSEC, one with NSEC3, one without
signatures, one that is broken and one that refuses. What it holds is made by rule, so that tests can ask for it.
"""

import base64
import hashlib
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("named", "dnssec-keygen", "dnssec-signzone", "unbound")
PACKAGES = "bind9 bind9-utils unbound"

SIGNED, SIGNED3, PLAIN = "signed.example", "nsec3.example", "plain.example"
"""Zones with the same records, proved in three ways."""
BROKEN, REFUSED = "broken.example", "refused.example"
MEMBERS = 12
"""Hosts `h0 ...` of each zone."""


def missing_programs() -> list[str]:
    """Return what is not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def zone_text(origin: str, others: tuple[str, ...]) -> str:
    """Return a zone with every kind of record that clients ask for."""
    lines = [
        f"$ORIGIN {origin}.",
        "$TTL 3600",
        "@ IN SOA ns admin 2026010101 7200 3600 1209600 120",
        "@ IN NS ns",
        "@ IN NS ns2",
        "ns IN A 93.184.216.1",
        "ns2 IN AAAA 2606:2800:220:1::1",
        "@ IN A 93.184.216.10",
        "@ IN MX 10 mail",
        "@ IN MX 20 mail.example.org.",
        '@ IN TXT "v=spf1 -all"',
        '@ IN CAA 0 issue "ca.example.net"',
        "mail IN A 93.184.216.25",
        "mail IN AAAA 2606:2800:220:1::25",
        'txt IN TXT "one" "two \\"quoted\\"" "three\\000\\255"',
        *(f'long IN TXT "{number:03d} {"x" * 240}"' for number in range(8)),
        *(f"many IN A 93.184.217.{number}" for number in range(1, 61)),
        *(f'huge IN TXT "{number:03d} {"y" * 200}"' for number in range(90)),
        "_sip._tcp IN SRV 10 60 5060 h1",
        "_sip._tcp IN SRV 20 0 5061 h2",
        f"_443._tcp.h1 IN TLSA 3 1 1 {hashlib.sha256(b'x').hexdigest()}",
        'naptr IN NAPTR 100 10 "S" "SIP+D2T" "" _sip._tcp',
        'naptr IN NAPTR 100 20 "U" "E2U+sip" "!^.*$!sip:info@example.net!" .',
        "ptr IN PTR h1",
        'hinfo IN HINFO "CPU" "OS"',
        "loc IN LOC 52 22 23.000 N 4 53 32.000 E -2m 0m 10000m 10m",
        f"sshfp IN SSHFP 4 2 {hashlib.sha256(b'y').hexdigest()}",
        'uri IN URI 10 1 "https://example.net/"',
        "rp IN RP admin txt",
        "afsdb IN AFSDB 1 h1",
        "kx IN KX 10 h1",
        "private IN TYPE65280 \\# 4 0A000001",
        "svcb IN SVCB 1 h1 alpn=h2,h3 port=8443 ipv4hint=93.184.216.40 ipv6hint=2606:2800:220:1::40",
        "https IN HTTPS 1 . alpn=h2 ipv4hint=93.184.216.41",
        "https IN A 93.184.216.41",
        "httpsalias IN HTTPS 0 https",
        "ttl0 0 IN A 93.184.216.50",
        "ttl1 1 IN A 93.184.216.51",
        "ttlweek 604800 IN A 93.184.216.52",
        "mixedttl 300 IN A 93.184.216.53",
        "a.b.deep.empty IN A 93.184.216.60",  # `empty`, `deep.empty`, `b.deep.empty` have no records of their own
        "*.wild IN A 93.184.216.70",
        '*.wild IN TXT "from a wildcard"',
        "there.wild IN A 93.184.216.71",
        "*.wildalias IN CNAME h3",
        "UPPER IN A 93.184.216.80",
        "MiXeD IN CNAME UPPER",
        "esc\\.aped IN A 93.184.216.81",
        "sp\\032ace IN A 93.184.216.82",
        "bin\\001\\200 IN A 93.184.216.83",
        "under_score IN A 93.184.216.84",
        f"{'l' * 63} IN A 93.184.216.85",
        "alias IN CNAME h0",
        "alias2 IN CNAME alias",
        "alias3 IN CNAME alias2",
        "dangling IN CNAME nothing-here",
        "nodataalias IN CNAME txt",
        "loop1 IN CNAME loop2",
        "loop2 IN CNAME loop1",
        f"brokenalias IN CNAME www.{BROKEN}.",
        f"refusedalias IN CNAME www.{REFUSED}.",
        *(f"to{number} IN CNAME h1.{other}." for number, other in enumerate(others)),
        *(f"into{number} IN CNAME alias2.{other}." for number, other in enumerate(others)),
        f"tonothing IN CNAME nothing-there.{others[0]}.",
        "tree IN DNAME h.tree2",
        "x.h.tree2 IN A 93.184.216.90",
        f"away IN DNAME {others[0]}.",
        "sub IN NS ns.sub",
        "ns.sub IN A 93.184.216.2",
    ]
    lines += (f"h{number} IN A 93.184.216.{100 + number}" for number in range(MEMBERS))
    lines += (f"h{number} IN AAAA 2606:2800:220:1::{100 + number:x}" for number in range(0, MEMBERS, 2))
    lines += (f"c{number} IN CNAME c{number + 1}" for number in range(9))
    lines.append("c9 IN A 93.184.216.99")
    return "\n".join(lines) + "\n"


@dataclass
class NameServers:
    """Servers of a test, in a folder of its own."""

    folder: Path
    upstream: int = field(default_factory=free_port)
    """The port of BIND."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def tool(self, *argv: str, text: str | None = None) -> str:
        """Run a tool to its end in the folder of the zones."""
        done = subprocess.run(
            argv, cwd=self.folder, input=text, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def start(self, *argv: str, log: str) -> subprocess.Popen[bytes]:
        """Start a server; `close` ends it."""
        with (self.folder / log).open("wb") as output:
            process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End the servers, newest first."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)

    def sign(self, origin: str, text: str, *options: str) -> str:
        """Sign a zone; return the DS record of its key."""
        file = f"{origin or 'root'}.zone"
        zone = origin or "."
        keys = [
            self.tool("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", *kind, zone) for kind in (("-f", "KSK"), ())
        ]
        text += "".join((self.folder / f"{key}.key").read_text() for key in keys)
        (self.folder / file).write_text(text)
        self.tool("dnssec-signzone", "-q", "-x", "-o", zone, "-f", file, *options, file)
        return self.tool("dnssec-dsfromkey", "-2", keys[0])

    def anchor(self) -> str:
        """Return the root's key as a DNSKEY record."""
        for path in self.folder.glob("K.+*.key"):
            text = path.read_text()
            if " 257 3 " in text:
                return next(line for line in text.splitlines() if not line.startswith(";"))
        raise AssertionError("the root is not signed")

    def serve_zones(self) -> None:
        """Make the zones, and serve them with BIND, which also follows their aliases."""
        delegations = []
        zones = (SIGNED, SIGNED3, PLAIN)
        salt = base64.b16encode(b"salt").decode()
        for index, origin in enumerate(zones):
            text = zone_text(origin, zones[index + 1 :] + zones[:index])
            delegations += [f"{origin}. 3600 IN NS ns.{origin}.", f"ns.{origin}. 3600 IN A 93.184.216.1"]
            if origin == PLAIN:
                (self.folder / f"{origin}.zone").write_text(text)
            else:
                delegations.append(self.sign(origin, text, *(("-3", salt, "-H", "0") if origin == SIGNED3 else ())))
        for origin in (BROKEN, REFUSED):
            delegations += [f"{origin}. 3600 IN NS ns.{origin}.", f"ns.{origin}. 3600 IN A 93.184.216.1"]
        (self.folder / f"{REFUSED}.zone").write_text(zone_text(REFUSED, zones))
        self.sign("", _ROOT_ZONE + "\n".join(delegations) + "\n")
        zone = 'zone "{name}" {{ type primary; file "{file}.zone";{more} }};\n'
        configuration = _NAMED.format(folder=self.folder, port=self.upstream)
        configuration += zone.format(name=".", file="root", more="")
        for origin in (*zones, BROKEN, REFUSED):  # the broken one has no file
            more = " allow-query { none; };" if origin == REFUSED else ""
            configuration += zone.format(name=origin, file=origin, more=more)
        (self.folder / "named.conf").write_text(configuration)
        self.start("named", "-g", "-n", "1", "-c", str(self.folder / "named.conf"), log="named.log")
        self.wait(self.upstream, "named.log", says="all zones loaded")
        refused = [line for line in (self.folder / "named.log").read_text().splitlines() if "not loaded" in line]
        assert [BROKEN in line for line in refused] == [True], refused

    def serve_unbound(
        self, port: int, forward: int, *, validate: bool = False, anchor: str = "", log: str = "unbound.log"
    ) -> None:
        """Run an Unbound that asks the server on a port of loopback for everything.

        It validates with the root's key, or with another one.
        """
        if validate:
            (self.folder / f"anchor-{port}.key").write_text((anchor or self.anchor()) + "\n")
            anchor = f'trust-anchor-file: "{self.folder}/anchor-{port}.key"'
        modules = "validator iterator" if validate else "iterator"
        path = self.folder / f"unbound-{port}.conf"
        path.write_text(_UNBOUND.format(port=port, forward=forward, modules=modules, anchor=anchor))
        self.start("unbound", "-d", "-c", str(path), log=log)
        self.wait(port, log)

    def serve_gateway(self, port: int, upstream: int, rules: str = "") -> subprocess.Popen[bytes]:
        """Run `gateway dns`, with the server on a port of loopback as its upstream."""
        path = self.folder / "gateway.yaml"
        path.write_text(_GATEWAY.format(port=port, upstream=upstream) + rules)
        gateway = str(Path(sys.executable).parent / "gateway")
        process = self.start(gateway, "dns", "--config", str(path), log="gateway.log")
        self.wait(port, "gateway.log")
        return process

    def wait(self, port: int, log: str, says: str = "", seconds: float = 20) -> None:
        """Wait until the server started last takes connections, and has said something."""
        end = time.monotonic() + seconds
        while True:
            text = (self.folder / log).read_text()
            assert self.processes[-1].poll() is None, text
            assert time.monotonic() < end, text
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                if says in text:
                    return
            except OSError:
                pass  # not yet
            time.sleep(0.02)


_ROOT_ZONE = """$ORIGIN .
$TTL 3600
@ IN SOA ns.example. admin.example. 1 7200 3600 1209600 300
@ IN NS ns.example.
ns.example. IN A 93.184.216.1
mail.example.org. IN A 93.184.216.26
1.216.184.93.in-addr.arpa. IN PTR ns.plain.example.
10.216.184.93.in-addr.arpa. IN PTR plain.example.
"""

_NAMED = """
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion yes;
    allow-recursion {{ any; }};
    dnssec-validation no;
    notify no;
    empty-zones-enable no;
    check-names primary ignore;
    zero-no-soa-ttl no;
    max-cache-size 16m;
}};
controls {{ }};
"""

_UNBOUND = """
server:
    interface: 127.0.0.1
    port: {port}
    username: ""
    chroot: ""
    directory: ""
    pidfile: ""
    use-syslog: no
    num-threads: 1
    do-not-query-localhost: no
    access-control: 127.0.0.0/8 allow
    module-config: "{modules}"
    {anchor}
    edns-buffer-size: 1232
    max-udp-size: 1232
    trust-anchor-signaling: no
    root-key-sentinel: no
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{forward}
"""

_GATEWAY = """
version: 1
state_dir: state
dns:
  workers: 1
  listen: ["udp://127.0.0.1:{port}", "tcp://127.0.0.1:{port}"]
  upstreams: ["udp://127.0.0.1:{upstream}"]
  strip: {{ech: false}}
  rate_limit: null
  cache: {{negative_ttl: 1h, prefetch: false}}
tunnelling: {{action: off}}
policy:
  default: {{proxy: deny, dns: allow}}
"""
