"""What is told to whoever starts a gateway: where it serves, and how its certificate is trusted.

Pure, but for reading the certificate.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.config import Config
from gateway.console import counted


def welcome(config: Config, roles: tuple[str, ...], program: str, path: str) -> Iterator[str]:
    """Yield what a newcomer sees when everything serves: where, and what to try."""
    rules, lists = counted(len(config.rules), "rule"), counted(len(config.active_feeds), "list")
    yield f"gateway is running with {path} ({rules}, {lists})"
    dns = config.file.dns.listen if "dns" in roles else ()
    proxy = config.file.proxy.listen if "proxy" in roles else ()
    if dns:
        yield f"  DNS    {'  '.join(dns)}"
    if proxy:
        yield f"  proxy  {'  '.join(proxy)}"
    if config.control_listen:
        yield f"  health {'  '.join(f'http://{place}/healthz' for place in config.control_listen)}"
    yield "try, in another terminal:"
    if proxy:
        place = _reached(proxy[0].replace("tls://", "https://") if "://" in proxy[0] else f"http://{proxy[0]}")
        yield f"  curl -x {place} https://example.com/"
        yield f"  curl -v -x {place} https://pastebin.com/"
    if dns:
        yield f"  {_dig(dns)} dns.google"
    yield f"  {program} explain -c {path} {'https://pastebin.com/' if proxy else '--dns dns.google'}"
    yield f"  {program} ledger -c {path} --tail"
    yield "Ctrl-C stops it."


def _dig(listeners: Sequence[str]) -> str:
    """Return how to ask the first listener, plain ones first."""
    scheme, _, place = min(listeners, key=lambda listener: listener.startswith(("tls://", "https://"))).partition(
        "://"
    )
    place, slash, path = _reached(place).partition("/")
    host, _, port = place.rpartition(":")
    how = {"tcp": " +tcp", "tls": " +tls", "https": f" +https={slash}{path}"}.get(scheme, "")
    return f"dig{how} @{host.strip('[]')} -p {port}"


def _reached(place: str) -> str:
    """Return a place to connect to: one that listens everywhere does so on loopback too."""
    return place.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")


def how_to_trust(certificate: Path) -> Iterator[str]:
    """Yield where the inspection CA is, and how programs on a client are told to trust it."""
    data = certificate.read_bytes()
    fingerprint = x509.load_pem_x509_certificate(data).fingerprint(hashes.SHA256()).hex(":").upper()
    there = "/usr/local/share/ca-certificates/egress-gateway.crt"
    yield f"certificate  {certificate.resolve()}"
    yield f"SHA-256      {fingerprint}"
    yield f"copy it to every client as {there}, compare the fingerprint there, and:"
    yield "  Debian   update-ca-certificates          (then curl, wget, apt, git and Python's ssl trust it)"
    yield f"  Java     keytool -importcert -cacerts -storepass changeit -noprompt -alias egress-gateway -file {there}"
    yield f"  Node     export NODE_EXTRA_CA_CERTS={there}"
    yield "  pip      pip config set global.cert /etc/ssl/certs/ca-certificates.crt"
    yield "  requests export REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt"
    yield f"  git      git config --system http.https://HOST/.sslCAInfo {there}   (for one host alone)"
    yield "Who has the key beside it can be any server for these clients: keep the state directory to its owner."
