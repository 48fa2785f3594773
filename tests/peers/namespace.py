"""A network namespace with public addresses, in which whole processes meet, and nothing is real."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESOLVER = "9.9.9.9"
ZONE = {
    "www.example.com": ["93.184.215.14"],
    "example.com": ["93.184.215.14"],
    "api.example.org": ["93.184.215.20"],
    "pastebin.com": ["93.184.215.30"],
    "internal.example.net": ["10.20.30.40"],
    "mixed.example.net": ["93.184.215.40", "10.20.30.40"],
    "rebind.example.net": ["127.0.0.1"],
    "dns.google": ["8.8.4.4"],
}


def wait_until[T](look: Callable[[], T | None], what: str, seconds: float = 20.0) -> T:
    """Return what `look` finds as soon as it is true; fail the test when it never is."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)
    return found


@dataclass
class Internet:
    """One namespace with its name server and origins."""

    namespace: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def ca(self) -> Path:
        """The certificate that all origins present, and that clients trust."""
        return self.folder / "origin.pem"

    def command(self, *argv: str) -> list[str]:
        """Return a command line that runs inside the namespace."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(self, *argv: str, timeout: float = 30, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end."""
        return subprocess.run(
            self.command(*argv), capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT, **more
        )

    def start(self, *argv: str, log: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start a program inside; it is ended with the namespace. Its output goes to a file."""
        with (self.folder / log).open("wb") as output:
            process = subprocess.Popen(self.command(*argv), stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, **more)
        self.processes.append(process)
        return process

    def gateway(self, *argv: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a gateway command inside."""
        return self.run(str(Path(sys.executable).parent / "gateway"), *argv, timeout=timeout)

    def serve(self, policy: str | Path, log: str = "gateway.log") -> subprocess.Popen[bytes]:
        """Start `gateway run` inside, with a policy given as a file or as its text; return when it serves."""
        if isinstance(policy, str):
            path = self.folder / "gateway.yaml"
            path.write_text(policy)
            policy = path
        gateway = str(Path(sys.executable).parent / "gateway")
        process = self.start(gateway, "run", "--config", str(policy), log=log)
        output = self.folder / log

        def serving() -> bool:
            assert process.poll() is None, f"gateway ended with {process.returncode}: {output.read_text()}"
            return "gateway is running" in output.read_text()

        wait_until(serving, f"the gateway to serve; see {output}", 40)
        return process

    def seen(self) -> list[dict[str, Any]]:
        """Return every question and connection that the outside has seen."""
        return [json.loads(line) for line in (self.folder / "internet.jsonl").read_text().splitlines()]

    def ledger(self) -> list[dict[str, Any]]:
        """Return every line of the ledger."""
        return [
            json.loads(line)
            for path in sorted((self.folder / "state" / "ledger").glob("*.jsonl"))
            for line in path.read_text().splitlines()
        ]

    def close(self) -> None:
        """End what was started, newest first, and remove the namespace."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)
        subprocess.run(["ip", "netns", "delete", self.namespace], check=True)
        shutil.rmtree(f"/etc/netns/{self.namespace}")


def make_certificate(path: Path) -> None:
    """Make a certificate for all names of the zone, and beside it `both.pem`, which has the key too."""
    names = ",".join(f"DNS:{name}" for name in ZONE)
    request = f"""openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=origins
        -addext subjectAltName={names} -keyout {path}.key -out {path}"""
    subprocess.run(request.split(), check=True, capture_output=True)
    path.with_name("both.pem").write_text(Path(f"{path}.key").read_text() + path.read_text())
