"""Honest clients of a resolver, made up: what each of them asks for in a day. What a detector must keep quiet about.

Each is a list of `Query`; everything random comes from the generator given.
"""

import base64
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.tunnels import WORDS

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, HTTPS = 1, 2, 5, 6, 12, 15, 16, 28, 33, 65
_DAY = 86400.0
_TLDS = ("com", "net", "org", "de", "io", "co.uk", "fr", "info", "app", "shop")
_HOST_LABELS = """
www www www m api api-eu cdn cdn2 static img images assets login app shop blog mail news media fonts js edge-3
s1 tracking stats eu1 us-west player video12 ads widget ws auth sso portal support docs status dl download files
"""
_HOSTS = _HOST_LABELS.split()


class Query(NamedTuple):
    """One query of an honest client, and what it got."""

    at: float
    client: str
    name: str
    qtype: int
    answer: int = 120


type Site = Callable[[random.Random], Iterator[Query]]


def _domain(random_: random.Random) -> str:
    joint = random_.choice(("", "", "-"))
    number = random_.choice(("", "", "", str(random_.randrange(100))))
    return f"{random_.choice(WORDS)}{joint}{random_.choice(WORDS)}{number}.{random_.choice(_TLDS)}"


def _host(random_: random.Random, domain: str) -> str:
    return random_.choice((domain, *(f"{random_.choice(_HOSTS)}.{domain}" for _ in range(4))))


def _spread(random_: random.Random, count: int, start: float = 0.0, end: float = _DAY) -> list[float]:
    return sorted(random_.uniform(start, end) for _ in range(count))


def office_day(random_: random.Random) -> Iterator[Query]:
    """Yield what 40 desks ask for: a long tail of sites, cloud services, probes of browsers, antivirus."""
    domains = [_domain(random_) for _ in range(1500)]
    for at in _spread(random_, 12000, 8 * 3600, 18 * 3600):
        client = f"10.1.0.{random_.randrange(1, 41)}"
        name = _host(random_, random_.choice(domains))
        for qtype in random_.choice(((A,), (A, AAAA), (A, AAAA, HTTPS))):
            yield Query(at, client, name, qtype)
        dice = random_.random()
        if dice < 0.02:
            for _ in range(3):  # a browser looks whether somebody answers everything
                yield Query(at, client, "".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=10)), A)
        elif dice < 0.06:
            digest = random_.randbytes(13).hex()
            yield Query(at, client, f"{digest}.0.15.{digest[::-1]}.avqs.mcafee.com", A)
        elif dice < 0.09:
            yield Query(at, client, f"{random_.randbytes(16).hex()}.v.sophosxl.net", TXT, 90)
        elif dice < 0.12:
            yield Query(at, client, f"{random_.randbytes(20).hex()}.a.e5.sk", TXT, 90)
        elif dice < 0.15:
            yield Query(at, client, f"{random_.randbytes(16).hex()}.clo.footprintdns.com", A)
        elif dice < 0.18:
            code = base64.b32encode(random_.randbytes(5)).decode().lower()
            yield Query(at, client, f"rr{random_.randrange(1, 9)}---sn-{code}.googlevideo.com", A)
        elif dice < 0.19:
            yield Query(at, client, f"{random_.randrange(10**16)}.minerva.devices.a2z.com", A)
        elif dice < 0.20:
            yield Query(at, client, f"wpad.{random_.choice(('lan', 'corp', 'office.local'))}", A)
        elif dice < 0.205:
            yield Query(
                at,
                client,
                f"bafybei{base64.b32encode(random_.randbytes(32)).decode().lower()[:52]}.ipfs.dweb.link",
                A,
            )
        elif dice < 0.21:
            yield Query(at, client, f"{random_.randbytes(16).hex()}.test.dnsleaktest.com", A)


def mail_server(random_: random.Random) -> Iterator[Query]:
    """Yield what a mail server asks for 3000 messages: MX, SPF macros, DKIM, DMARC, DNSBL, HBL, reverse names."""
    domains = [_domain(random_) for _ in range(900)]
    client = "10.2.0.25"
    for at in _spread(random_, 3000):
        domain = random_.choice(domains)
        address = ".".join(str(random_.randrange(1, 255)) for _ in range(4))
        yield Query(at, client, f"{address}.in-addr.arpa", PTR)
        yield Query(at, client, domain, MX)
        yield Query(at, client, domain, TXT, 400)
        yield Query(at, client, f"_dmarc.{domain}", TXT, 150)
        # A domain has the same few selectors all day.
        own = random.Random(domain)
        selector = own.choice(
            (
                "s1", "s2", "default", "google", "k1", "selector1", f"2026{own.randrange(1, 13):02d}01",
                f"s{own.randrange(10**10)}", base64.b32encode(own.randbytes(20)).decode().lower(),
            )
        )  # fmt: skip
        yield Query(at, client, f"{selector}._domainkey.{domain}", TXT, 480)
        yield Query(at, client, f"mail.{domain}", random_.choice((A, AAAA)))
        yield Query(at, client, f"mta-sts.{domain}", A)
        yield Query(at, client, f"_mta-sts.{domain}", TXT, 110)
        yield Query(at, client, f"_25._tcp.mx1.{domain}", 52)
        yield Query(at, client, f"{address}.zen.spamhaus.org", A)
        yield Query(at, client, f"{random_.randbytes(20).hex()}._email.key0123456789.hbl.dq.spamhaus.net", A)
        yield Query(at, client, f"{domain}.multi.surbl.org", A)
        yield Query(at, client, f"{address}.bl.spamcop.net", A)
        yield Query(at, client, f"{random_.randbytes(16).hex()}.malware.hash.cymru.com", TXT, 80)
        if random_.random() < 0.1:
            yield Query(at, client, f"{address}.{domain}._spf.vali.email", TXT, 90)
            yield Query(at, client, f"spf.protection.{domain}", TXT, 200)


def kubernetes_node(random_: random.Random) -> Iterator[Query]:
    """Yield what pods ask for with five search domains: each outside name four times over."""
    spaces = ("default", "payments", "monitoring")
    search = ("svc.cluster.local", "cluster.local", "eu-central-1.compute.internal")
    names = [_host(random_, _domain(random_)) for _ in range(300)]
    services = [f"{random_.choice(WORDS)}-{random_.choice(WORDS)}" for _ in range(60)]
    for at in _spread(random_, 6000):
        client, space = "10.3.0.9", random_.choice(spaces)
        inner = random_.random() < 0.5
        name = f"{random_.choice(services)}.{space}" if inner else random_.choice(names)
        yield Query(at, client, f"{name}.{space}.svc.cluster.local", A)
        for zone in search:
            yield Query(at, client, f"{name}.{zone}", random_.choice((A, AAAA)))
        if not inner:
            yield Query(at, client, name, A)
        if random_.random() < 0.05:
            yield Query(at, client, f"{random_.randbytes(16).hex()}.grpc.{space}.svc.cluster.local", SRV)


def build_server(random_: random.Random) -> Iterator[Query]:
    """Yield what builds ask for: package mirrors, registries, buckets, certificates."""
    mirrors = [f"{host}.{_domain(random_)}" for host in ("mirror", "ftp", "deb", "cdn", "repo") for _ in range(12)]
    fixed = [
        "deb.debian.org", "security.debian.org", "pypi.org", "files.pythonhosted.org", "registry.npmjs.org",
        "proxy.golang.org", "sum.golang.org", "repo1.maven.org", "crates.io", "static.crates.io", "github.com",
        "objects.githubusercontent.com", "ghcr.io", "registry-1.docker.io", "production.cloudflare.docker.com",
        "auth.docker.io", "_http._tcp.deb.debian.org", "k8s-io.s3.dualstack.eu-west-1.amazonaws.com",
    ]  # fmt: skip
    for at in _spread(random_, 5000):
        name = random_.choice(fixed) if random_.random() < 0.7 else random_.choice(mirrors)
        yield Query(at, "10.4.0.3", name, SRV if name.startswith("_") else random_.choice((A, AAAA)))
        if random_.random() < 0.02:
            yield Query(at, "10.4.0.3", f"_acme-challenge.{random_.choice(WORDS)}.{random_.choice(mirrors)}", TXT)
        if random_.random() < 0.01:
            bucket = f"{random_.choice(WORDS)}-{random_.randbytes(4).hex()}"
            yield Query(at, "10.4.0.3", f"{bucket}.s3.eu-central-1.amazonaws.com", A)


def directory_client(random_: random.Random) -> Iterator[Query]:
    """Yield what a Windows client asks its domain, and the same where nobody registered that domain."""
    for at in _spread(random_, 3000):
        zone = random_.choice(("ad.corp", "contoso.local", "emea.contoso.local", "contoso"))
        guid = "-".join(random_.randbytes(size).hex() for size in (4, 2, 2, 2, 6))
        name = random_.choice(
            (
                f"_ldap._tcp.dc._msdcs.{zone}",
                f"_kerberos._tcp.default-first-site-name._sites.dc._msdcs.{zone}",
                f"_ldap._tcp.default-first-site-name._sites.{zone}",
                f"_gc._tcp.{zone}",
                f"desktop-{''.join(random_.choices('abcdefghijklmnop0123456789', k=7))}.{zone}",
                f"srv-{random_.choice(WORDS)}{random_.randrange(20):02d}.{zone}",
                f"wpad.{zone}",
                f"isatap.{zone}",
                f"www.google.com.{zone}",
                f"login.microsoftonline.com.{zone}",
            )
        )
        yield Query(at, "10.5.0.77", name, SRV if name.startswith("_") else A)
        if zone.endswith(".local") and random_.random() < 0.05:
            yield Query(at, "10.5.0.77", f"{guid}._msdcs.{zone}", CNAME)
        if random_.random() < 0.2:
            host = ".".join(str(random_.randrange(256)) for _ in range(2))
            yield Query(at, "10.5.0.77", f"{host}.20.10.in-addr.arpa", PTR)


def network_address_translator(random_: random.Random) -> Iterator[Query]:
    """Yield what hides behind one address: 50,000 different names in a day, mostly of sites that nobody knows."""
    seen: set[str] = set()
    domains = [_domain(random_) for _ in range(12000)]
    times = iter(_spread(random_, 50_000))
    while len(seen) < 50_000:
        name = _host(random_, random_.choice(domains))
        if random_.random() < 0.4:
            name = (
                f"{random_.choice(WORDS)}{random_.choice(('', '-'))}{random_.choice(WORDS)}.{random_.choice(domains)}"
            )
        if random_.random() < 0.003:
            name = f"{random_.randbytes(8).hex()}.{random_.choice(domains)}"
        if name not in seen:
            seen.add(name)
            yield Query(next(times), "192.0.2.80", name, random_.choice((A, A, AAAA)))


def sweeper(random_: random.Random) -> Iterator[Query]:
    """Yield a sweep over a /16, and the names of visitors over IPv6."""
    at = 0.0
    for third in range(64):
        for fourth in range(256):
            at += 0.5
            yield Query(at, "10.6.0.1", f"{fourth}.{third}.51.198.in-addr.arpa", PTR)
    for index in range(2000):
        nibbles = f"20010db8{random_.randrange(65536):04x}{random_.randbytes(10).hex()}"
        yield Query(at + index, "10.6.0.1", ".".join(reversed(nibbles)) + ".ip6.arpa", PTR)


SITES: dict[str, Site] = {
    "a busy office day": office_day,
    "a mail server": mail_server,
    "a Kubernetes node": kubernetes_node,
    "a build server": build_server,
    "a client of Active Directory": directory_client,
    "an address that hides 50,000 names a day": network_address_translator,
    "a reverse sweep": sweeper,
}
