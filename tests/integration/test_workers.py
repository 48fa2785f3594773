"""Two proxy workers on one port: what one of them loses, and what a reload closes and leaves alone."""

import os
import signal
import subprocess
import sys

from tests.peers.namespace import ROOT, Internet, wait_until

POLICY = """
version: 1
state_dir: state
proxy: {{workers: 2}}
dns: {{listen: []}}
policy:
  rules:
    - {{name: web, action: allow, to: {{domains: [{names}]}}}}
"""
_HOLD = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held = []
for name in sys.argv[1:]:
    s = socket.create_connection(("127.0.0.1", 3128))
    s.sendall(f"CONNECT {name}:443 HTTP/1.1\\r\\n\\r\\n".encode())
    assert b" 200 " in s.recv(4096)
    s = context.wrap_socket(s, server_hostname=name)
    s.setblocking(False)
    held.append((name, s))
print("held", flush=True)

def lives(s):
    try:
        return bool(s.recv(65536))
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False

while sys.stdin.readline():
    held = [(name, s) for name, s in held if lives(s)]
    print(*(name for name, s in held), flush=True)
"""


class Holder:
    """A client inside the namespace that keeps tunnels open and tells which of them live."""

    def __init__(self, world: Internet, *names: str) -> None:
        self.process = subprocess.Popen(
            world.command(sys.executable, "-c", _HOLD, *names),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def alive(self) -> list[str]:
        """Return the names whose tunnels are open."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def workers(world: Internet) -> list[int]:
    """Return the proxy workers."""
    parent = str(world.processes[-1].pid)
    found = subprocess.run(
        ["pgrep", "-P", parent, "-f", "--", "--role proxy"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def test_a_killed_worker_loses_only_its_own_tunnels(internet: Internet) -> None:
    """kill -9 of one of two workers: the tunnels of the other live on, and new ones are served at once."""
    internet.serve(POLICY.format(names="www.example.com"))
    holder = Holder(internet, *["www.example.com"] * 40)
    try:
        assert len(holder.alive()) == 40
        first, second = workers(internet)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(holder.alive()) < 40, "tunnels to break")
        assert 0 < len(holder.alive()) < 40
        again = Holder(internet, "www.example.com")
        assert again.alive() == ["www.example.com"]
        again.close()
        wait_until(lambda: len(set(workers(internet)) - {first}) == 2, "a new worker")
        assert second in workers(internet)
        assert 0 < len(holder.alive()) < 40
    finally:
        holder.close()


def test_a_reload_closes_what_is_now_denied(internet: Internet) -> None:
    """A reload leaves every tunnel alone that is still allowed, closes the others, and each has its line."""
    process = internet.serve(POLICY.format(names="www.example.com, api.example.org"))
    holder = Holder(internet, *["www.example.com", "api.example.org"] * 20)
    try:
        assert len(holder.alive()) == 40
        (internet.folder / "gateway.yaml").write_text(POLICY.format(names="www.example.com"))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "api.example.org" not in holder.alive(), "denied tunnels to be closed")
        assert holder.alive() == ["www.example.com"] * 20
        closed = wait_until(
            lambda: [
                line for line in internet.ledger()
                if line.get("event.reason") == "default-deny" and "api.example.org" in str(line)
            ],
            "lines in the ledger",
        )  # fmt: skip
        wait_until(
            lambda: len([x for x in internet.ledger() if x.get("event.reason") == "default-deny"]) == 20, "all"
        )
        assert closed
    finally:
        holder.close()
