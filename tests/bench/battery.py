"""How many of the known bypasses get through: the gateway, Squid and stock mitmdump, each as strict as it can be set.

Run `python tests/bench/battery.py` as root. It goes into a network namespace of its own, where a public address is
the allowed origin and the private ones are the forbidden one. Needs squid (with OpenSSL) and mitmdump.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GOOD, GOOD_PORT = "93.184.215.14", 443
ADDRESSES = (GOOD, "10.0.0.1", "100.64.0.1", "169.254.169.254", "100.100.100.200", "192.0.0.192", "8.8.8.8")


def main() -> int:
    """Print the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("proxies", nargs="*", help="Which; without any, all.")
    options = parser.parse_args()
    if not options.inside:
        command = ["unshare", "--net", "--mount", sys.executable, __file__, "--inside", *options.proxies]
        return subprocess.call(command)
    _arrange()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=battery",
             "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        known = {"gateway": gateway, "squid": squid, "mitmdump": mitmdump}
        titles = options.proxies or list(known)
        if "squid" in titles and _certgen() is None:
            print("squid is skipped: it has to be the one with OpenSSL (apt-get install squid-openssl)")
            titles.remove("squid")
        for title, proxy in ((title, known[title]) for title in titles):
            with proxy(folder) as port:
                results[title] = selfcheck(port)
                print(title, "done", flush=True)
    numbers = sorted({row["number"] for rows in results.values() for row in rows})
    for number in numbers:
        cells = {title: next(r for r in rows if r["number"] == number) for title, rows in results.items()}
        print(f"{number:3}", *(f"{r['tried'] - len(r['failures'])}/{r['tried']}".rjust(8) for r in cells.values()),
              "", next(iter(cells.values()))["title"])  # fmt: skip
        for title, row in cells.items():
            for failure in row["failures"][:2]:
                print(f"        {title}: {failure[:130]}")
    for title, rows in results.items():
        tried = sum(row["tried"] for row in rows)
        resisted = tried - sum(len(row["failures"]) for row in rows)
        print(f"{title}: {sum(row['passed'] for row in rows)} of {len(rows)} numbers, {resisted} of {tried} attempts")
    return 0


def _certgen() -> str | None:
    """Return the program that makes certificates for Squid, if that can."""
    return shutil.which("security_file_certgen", path="/usr/lib/squid:" + os.environ["PATH"])


def _arrange() -> None:
    """Give the namespace its addresses and its name server."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    resolv = Path("/etc/resolv.conf").resolve()
    if not resolv.exists():
        resolv.parent.mkdir(parents=True, exist_ok=True)
        resolv.touch()
    Path("/run/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", "/run/resolv.conf", str(resolv)], check=True)


def selfcheck(port: int) -> list[dict[str, Any]]:
    """Run the battery against the proxy on a port."""
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "selfcheck", "--json"]
    command += [
        "--patience",
        "0.2",
        "--proxy",
        f"http://127.0.0.1:{port}",
        "--good",
        GOOD,
        "--good-port",
        str(GOOD_PORT),
    ]
    ran = subprocess.run([*command, "--dns-listen", "127.0.0.1:53"], capture_output=True, text=True, check=False)
    if ran.returncode == 2:
        raise RuntimeError(ran.stderr)
    return list(json.loads(ran.stdout))


@contextlib.contextmanager
def serving(command: list[str], port: int) -> Iterator[int]:
    """Run a proxy until the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with code {process.returncode}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


@contextlib.contextmanager
def gateway(folder: Path) -> Iterator[int]:
    """Run the gateway with the policy that `gateway selfcheck --policy` prints."""
    run = [sys.executable, "-c", "from gateway.cli import main; main()"]
    places = ["--good", GOOD, "--good-port", str(GOOD_PORT), "--dns-listen", "127.0.0.1:53"]
    shown = subprocess.run(
        [*run, "selfcheck", "--policy", *places], capture_output=True, text=True, check=True
    ).stdout
    (folder / "policy.yaml").write_text(shown)
    with serving([*run, "proxy", "--config", str(folder / "policy.yaml")], 3128) as port:
        yield port


@contextlib.contextmanager
def squid(folder: Path) -> Iterator[int]:
    """Run Squid: allowed names and ports only, no private addresses, names compared after peeking."""
    both = folder / "squid.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    both.chmod(0o644)
    database = folder / "ssl_db"
    crtd = _certgen()
    subprocess.run([str(crtd), "-c", "-s", str(database), "-M", "4MB"], check=True, capture_output=True)
    subprocess.run(["chmod", "-R", "777", str(database)], check=True)
    (folder / "squid.conf").write_text(f"""
http_port 127.0.0.1:3129 ssl-bump cert={both} generate-host-certificates=on
sslcrtd_program {crtd} -s {database} -M 4MB
acl hello at_step SslBump1
acl names ssl::server_name .good.test capped.test
acl seen ssl::server_name seen.test
ssl_bump peek hello
ssl_bump splice names
ssl_bump bump seen
ssl_bump terminate all
on_unsupported_protocol respond all
acl good dstdomain .good.test seen.test capped.test
acl port port {GOOD_PORT}
acl private dst 0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
acl private dst 192.168.0.0/16 224.0.0.0/3 ::/128 ::1/128 fc00::/7 fe80::/10 64:ff9b::/96 2002::/16
http_access deny !good
http_access deny !port
http_access deny private
http_access allow good port
http_access deny all
host_verify_strict on
dns_nameservers 127.0.0.1
cache deny all
access_log none
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
shutdown_lifetime 0 seconds
""")
    with serving(["squid", "-N", "-f", str(folder / "squid.conf")], 3129) as port:
        yield port


@contextlib.contextmanager
def mitmdump(folder: Path) -> Iterator[int]:
    """Run mitmdump as it comes, with its own block list for every other domain, and no raw TCP."""
    program = Path(sys.executable).with_name("mitmdump")
    command = [str(program), "--listen-host", "127.0.0.1", "-p", "3130", "--set", f"confdir={folder / 'conf'}"]
    command += ["--set", r"block_list=/!~d '(good|seen|capped)[.]test$'/403", "--set", "rawtcp=false"]
    with serving(command, 3130) as port:
        yield port


if __name__ == "__main__":
    sys.exit(main())
