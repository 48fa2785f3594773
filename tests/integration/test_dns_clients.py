"""Programs that people use, asking the gateway: each finds an allowed name, and a denied one never leaves the host.

All of them are in one namespace with one gateway, and find it as they would on a server: in resolv.conf, by an
option, or through a resolver of their own that forwards to it.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.dns_tls import NAME, a_certificate
from tests.peers.namespace import Internet, wait_until

POLICY = """
version: 1
state_dir: state
proxy: {listen: []}
dns:
  workers: 1
  listen: ["udp://127.0.0.1:53", "tcp://127.0.0.1:53", "tls://127.0.0.1:853", "https://127.0.0.1:8443/dns-query"]
  certificate: {cert: dns.pem, key: dns.pem}
  upstreams: ["udp://9.9.9.9"]
policy:
  default: {proxy: deny, dns: allow}
  rules:
    - {name: ours, action: deny, to: {domains: [.pastebin.com]}}
"""
ALLOWED, ADDRESS = "www.example.com", "93.184.215.14"
DENIED, NEVER = "pastebin.com", "93.184.215.30"

GETADDRINFO = r"""
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int argc, char **argv) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *each;
    int failed = argc < 2 ? EAI_NONAME : getaddrinfo(argv[1], "80", &hints, &found);
    if (failed) return printf("failed: %s\n", gai_strerror(failed)), 2;
    for (each = found; each; each = each->ai_next) {
        char text[INET6_ADDRSTRLEN];
        void *address = each->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr
                                                   : (void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
        puts(inet_ntop(each->ai_family, address, text, sizeof text));
    }
    return 0;
}
"""
CARES = r"""
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/select.h>
static int code = 3;
static void done(void *data, int status, int timeouts, struct hostent *host) {
    (void)data, (void)timeouts;
    code = status == ARES_SUCCESS ? 0 : 2;
    if (status != ARES_SUCCESS) { printf("failed: %s\n", ares_strerror(status)); return; }
    for (char **each = host->h_addr_list; *each; each++) {
        char text[INET6_ADDRSTRLEN];
        puts(inet_ntop(host->h_addrtype, *each, text, sizeof text));
    }
}
int main(int argc, char **argv) {
    ares_channel channel;
    if (argc < 2 || ares_library_init(ARES_LIB_INIT_ALL) || ares_init(&channel)) return 4;
    ares_gethostbyname(channel, argv[1], AF_INET, done, NULL);
    for (;;) {
        fd_set reads, writes;
        struct timeval wait;
        FD_ZERO(&reads);
        FD_ZERO(&writes);
        int count = ares_fds(channel, &reads, &writes);
        if (!count) return code;
        select(count, &reads, &writes, NULL, ares_timeout(channel, NULL, &wait));
        ares_process(channel, &reads, &writes);
    }
}
"""
UNBOUND = """
server:
    interface: 127.0.0.1
    port: 5301
    username: ""
    chroot: ""
    directory: ""
    pidfile: ""
    use-syslog: no
    do-not-query-localhost: no
    module-config: "iterator"
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{port}{more}
"""


@pytest.fixture(scope="module")
def serving(shared_internet: Internet) -> Internet:
    """A gateway in force, on the ports that clients expect."""
    a_certificate(shared_internet.folder)
    (shared_internet.folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:3 attempts:1\n")
    shared_internet.serve(POLICY)
    return shared_internet


@dataclass(frozen=True)
class Asker:
    """A program that looks a name up."""

    command: Callable[[Internet, str], list[str]]
    denied: str
    """What it says about a name that does not exist."""
    needs: tuple[str, ...] = ()
    apt: str = ""


def by_resolv_conf(world: Internet, *argv: str) -> list[str]:
    """Return a command that sees a resolv.conf of its own, which names the gateway."""
    script = f'mount --bind {world.folder}/resolv.conf /etc/resolv.conf && exec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, "sh", *argv]


def compiled(world: Internet, compiler: str, source: str, *options: str) -> str:
    """Return a program made of a C source."""
    program = world.folder / f"{compiler}{len(options)}"
    if not program.exists():
        (world.folder / "source.c").write_text(source)
        command = [compiler, "-O1", "-o", str(program), str(world.folder / "source.c"), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    return str(program)


def with_tls(world: Internet, *options: str) -> list[str]:
    """Return a kdig that verifies the certificate."""
    more = (f"+tls-ca={world.folder / 'dns.pem'}", f"+tls-hostname={NAME}", "+retry=0", "+time=5")
    return ["kdig", "@127.0.0.1", *options, *more]


def curl(world: Internet, name: str) -> list[str]:
    """Return a curl that looks the host up by DoH, connects to what it found, and shows the page."""
    options = ("--cacert", str(world.folder / "dns.pem"), "--connect-timeout", "3", "-m", "10", "-sSv")
    url = f"https://{NAME}:8443/dns-query"
    return ["curl", *options, "--doh-url", url, "--resolve", f"{NAME}:8443:127.0.0.1", f"http://{name}/page"]


def node(world: Internet, name: str) -> list[str]:
    """Return a node that asks with c-ares."""
    script = "require('dns').resolve4(process.argv[1], (e, r) => console.log(e ? `failed: ${e.code}` : r.join()))"
    return by_resolv_conf(world, "node", "-e", script, name)


ASKERS = {
    "dig": Asker(lambda _, name: ["dig", "@127.0.0.1", name], "status: NXDOMAIN", ("dig",), "dnsutils"),
    "dig over TCP": Asker(lambda _, name: ["dig", "@127.0.0.1", "+tcp", name], "status: NXDOMAIN", ("dig",)),
    "dig by resolv.conf": Asker(lambda world, name: by_resolv_conf(world, "dig", name), "NXDOMAIN", ("dig",)),
    "host": Asker(lambda _, name: ["host", name, "127.0.0.1"], "not found: 3(NXDOMAIN)", ("host",), "dnsutils"),
    "kdig": Asker(lambda _, name: ["kdig", "@127.0.0.1", name], "status: NXDOMAIN", ("kdig",), "knot-dnsutils"),
    "kdig over TLS": Asker(lambda world, name: [*with_tls(world, "+tls"), name], "NXDOMAIN", ("kdig",)),
    "kdig over HTTPS": Asker(
        lambda world, name: [*with_tls(world, "-p", "8443", "+https"), name], "NXDOMAIN", ("kdig",)
    ),
    "glibc": Asker(lambda world, name: by_resolv_conf(world, "getent", "ahosts", name), ""),
    "musl": Asker(
        lambda world, name: by_resolv_conf(world, compiled(world, "musl-gcc", GETADDRINFO, "-static"), name),
        "failed: Name does not resolve",
        ("musl-gcc",),
        "musl-tools gcc",
    ),
    "c-ares": Asker(
        lambda world, name: by_resolv_conf(world, compiled(world, "gcc", CARES, "-lcares"), name),
        "failed: Domain name not found",
        ("gcc", "/usr/include/ares.h"),
        "libc-ares-dev gcc",
    ),
    "c-ares in node": Asker(node, "failed: ENOTFOUND", ("node",), "nodejs"),
    "curl by DoH": Asker(curl, "DoH: Bad RCODE type A for pastebin.com", ("curl",), "curl"),
}


def missing(needs: tuple[str, ...]) -> list[str]:
    """Return which programs and files are not there."""
    return [need for need in needs if not (Path(need).exists() if "/" in need else shutil.which(need))]


@pytest.mark.parametrize("asker", ASKERS.values(), ids=ASKERS.keys())
def test_a_program_finds_what_is_allowed_and_only_that(serving: Internet, asker: Asker) -> None:
    """The allowed name has its address, cold and cached; the denied one does not exist, and no question left."""
    if absent := missing(asker.needs):
        pytest.skip(f"needs {', '.join(absent)} (apt-get install {asker.apt})")
    for _ in range(2):
        found = serving.run(*asker.command(serving, ALLOWED))
        assert ADDRESS in found.stdout + found.stderr, found
        denied = serving.run(*asker.command(serving, DENIED))
        output = denied.stdout + denied.stderr
        assert asker.denied in output, denied
        assert NEVER not in output
        if not asker.denied:  # says nothing, so its exit code has to
            assert (found.returncode, denied.returncode) == (0, 2)
    assert ALLOWED in [line.get("name") for line in serving.seen()]
    assert DENIED not in [line.get("name") for line in serving.seen()]


def status(world: Internet, port: int, name: str, *options: str) -> str:
    """Return the code that a server answers with, and the addresses of the origins that it names."""
    output = world.run("dig", "@127.0.0.1", "-p", str(port), "+tries=1", "+time=5", *options, name).stdout
    return output.partition("status: ")[2].partition(",")[0] + "".join(
        f" {address}" for address in (ADDRESS, NEVER) if address in output
    )


def unbound(world: Internet, _: int) -> list[str]:
    """Return an Unbound that forwards to the gateway by UDP."""
    (world.folder / "unbound.conf").write_text(UNBOUND.format(port=53, more=""))
    return ["unbound", "-d", "-c", str(world.folder / "unbound.conf")]


def unbound_by_tls(world: Internet, _: int) -> list[str]:
    """Return an Unbound that forwards to the gateway by TLS, and checks its name."""
    text = UNBOUND.format(port=853, more=f"#{NAME}\n    forward-tls-upstream: yes")
    (world.folder / "unbound-tls.conf").write_text(
        text.replace("server:", f'server:\n    tls-cert-bundle: "{world.folder}/dns.pem"', 1)
    )
    return ["unbound", "-d", "-c", str(world.folder / "unbound-tls.conf")]


def dnsmasq(_: Internet, port: int) -> list[str]:
    """Return a dnsmasq that forwards to the gateway, with its own guards on."""
    options = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=")
    listen = ("--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}", "--user=root")
    return ["dnsmasq", *options, *listen, "--server=127.0.0.1#53", "--stop-dns-rebind", "--domain-needed"]


FORWARDERS = [
    pytest.param(unbound, {"NXDOMAIN"}, id="Unbound"),
    pytest.param(unbound_by_tls, {"NXDOMAIN"}, id="Unbound over TLS"),
    # dnsmasq 2.90 keeps the SOA of the answer, and concludes that what has an SOA must exist: no data, from then on.
    # An SOA of any name above would do worse: caches on the way would have it for names that are allowed.
    pytest.param(dnsmasq, {"NXDOMAIN", "NOERROR"}, id="dnsmasq"),
]


@pytest.mark.parametrize(("command", "denied"), FORWARDERS)
def test_a_resolver_that_forwards_to_the_gateway(
    serving: Internet, command: Callable[[Internet, int], list[str]], denied: set[str]
) -> None:
    """Its own clients get what the gateway says, over UDP and TCP, with EDNS, DO and CD and without, kept or not."""
    port = 5301
    argv = command(serving, port)
    if absent := missing((argv[0], "dig")):
        pytest.skip(f"needs {', '.join(absent)} (apt-get install unbound dnsmasq-base dnsutils)")
    process = serving.start(*argv, log="forwarder.log")
    try:
        wait_until(lambda: status(serving, port, "version.invalid") not in ("", "REFUSED"), "the forwarder")
        for options in ((), ("+tcp",), ("+noedns",), ("+dnssec",), ("+cdflag",), ()):
            assert status(serving, port, ALLOWED, *options) == f"NOERROR {ADDRESS}", options
            for name in (DENIED, f"sub.{DENIED}"):
                code, _, address = status(serving, port, name, *options).partition(" ")
                assert code in denied, options
                assert not address
    finally:
        process.terminate()
        process.wait(10)
    assert DENIED not in [line.get("name") for line in serving.seen()]


def test_the_denials_are_in_the_ledger(serving: Internet) -> None:
    """What the programs were denied is on record, with the rule and the client's address."""
    assert status(serving, 53, DENIED) == "NXDOMAIN"

    def denials() -> list[dict[str, object]]:
        return [line for line in serving.ledger() if line.get("dns.question.name") == DENIED]

    lines = wait_until(denials, "the denial")
    assert {line["rule.name"] for line in lines} == {"ours"}
    assert {line["source.ip"] for line in lines} == {"127.0.0.1"}
