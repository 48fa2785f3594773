"""What leaks through real DNS tunnels: this resolver beside an entropy filter, and beside resolvers with none.

Run as root: `python tests/bench/tunnels.py`. Needs the Debian packages iodine, dns2tcp, unbound and dnsmasq-base, and
takes some ten minutes. Each tool tries to move a file of 100,000 octets and a chat of 391 through each resolver, in
namespaces; a loop in a shell asks for names with 2,048 octets in hexadecimal. What is printed is how many octets came
out of the tunnel, and in parentheses how many characters of names reached the name server: no payload that left is
larger. The last row is the price: names that are refused to honest clients (tests/benign.py).
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.tunnelling.assessment import entropy as shannon
from gateway.tunnelling.data import character_model, popular, services
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.priors import Priors
from tests.benign import SITES
from tests.peers.namespace import wait_until
from tests.peers.tunnels_live import HEX, RESOLVER, TOOLS, UPSTREAM, Lab, Leak, Tool, lab, missing

POLICY = f"""
version: 1
state_dir: state
dns: {{listen: ["udp://{RESOLVER}:53", "tcp://{RESOLVER}:53"], workers: 1, upstreams: ["udp://{UPSTREAM}"]}}
proxy: {{workers: 1}}
policy: {{default: {{proxy: deny, dns: allow}}}}
"""
UNBOUND = f"""
server:
  interface: {RESOLVER}
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  use-syslog: no
  chroot: ""
  username: ""
  pidfile: ""
  module-config: "iterator"
forward-zone:
  name: "."
  forward-addr: {UPSTREAM}
"""
PATIENCE = 20.0
BITS, LENGTH = 3.8, 20


def gateway(made: Lab) -> str:
    """Run this resolver with its defaults."""
    made.outside.serve(POLICY)
    return RESOLVER


def unbound(made: Lab) -> str:
    """Run Unbound as a forwarder."""
    (made.folder / "unbound.conf").write_text(UNBOUND)
    made.outside.start("unbound", "-d", "-c", str(made.folder / "unbound.conf"), log="unbound.log")
    return _answering(made)


def dnsmasq(made: Lab) -> str:
    """Run dnsmasq as a forwarder."""
    argv = f"dnsmasq -k -C /dev/null --no-resolv --no-hosts --server={UPSTREAM} --listen-address={RESOLVER}"
    made.outside.start(*argv.split(), "--bind-interfaces", "--pid-file=", "--user=root", log="dnsmasq.log")
    return _answering(made)


def entropy(made: Lab) -> str:
    """Ask the name server itself, which has the filter."""
    return UPSTREAM


def _answering(made: Lab) -> str:
    wait_until(
        lambda: "NXDOMAIN" in made.inside.run("dig", f"@{RESOLVER}", "+tries=1", "+time=1", "nobody.test").stdout,
        "the resolver to answer",
    )
    return RESOLVER


RESOLVERS: dict[str, Callable[[Lab], str]] = {
    "gateway": gateway,
    "entropy": entropy,
    "unbound": unbound,
    "dnsmasq": dnsmasq,
}


def measure(tool: Tool, resolver: str) -> Leak:
    """Return what a tool gets through a resolver."""
    bound = (BITS, LENGTH) if resolver == "entropy" else None
    patience = PATIENCE / 4 if resolver == "gateway" else PATIENCE
    with (
        tempfile.TemporaryDirectory() as folder,
        lab(Path(folder), f"egwb-{os.getpid()}", entropy=bound) as made,
    ):
        return made.try_out(tool, RESOLVERS[resolver](made), patience=patience)


def main() -> None:
    """Print the table, a row when it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolver", choices=list(RESOLVERS), action="append", help="only this one")
    resolvers = parser.parse_args().resolver or list(RESOLVERS)
    if why := missing():
        sys.exit(why)
    print("| tunnel | " + " | ".join(resolvers) + " |")
    print("|---|" + "---|" * len(resolvers))
    for tool in (*TOOLS, HEX):
        leaks = (measure(tool, resolver) for resolver in resolvers)
        cells = (f"{leak.arrived:,} ({leak.octets:,})" for leak in leaks)
        print(f"| {tool} | " + " | ".join(cells) + " |", flush=True)
    print("| honest clients | " + " | ".join(f"{refused(resolver):,}" for resolver in resolvers) + " |")


def refused(resolver: str) -> int:
    """Return how many different names of honest clients' days are refused."""
    found: set[tuple[str, str]] = set()
    for site, day in SITES.items():
        detector = Detector(character_model(), Priors(popular(), [service.suffix for service in services()]))
        for query in day(random.Random(1)):
            label = query.name.partition(".")[0]
            if (resolver == "gateway" and detector.query(query.at, query.client, query.name, query.qtype).denied) or (
                resolver == "entropy" and len(label) > LENGTH and shannon(label) > BITS
            ):
                found.add((site, query.name))
    return len(found)


if __name__ == "__main__":
    main()
