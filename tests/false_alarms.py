"""What detectors of tunnels are known to take for one: random-looking names of honest clients, each kind by itself.

Vendors' zones are real, others made up, so that nothing is known of them. A list of `tests.benign.Query` for a day.
"""

import base64
import random
from collections.abc import Iterator

from tests.benign import AAAA, CNAME, HTTPS, MX, PTR, SRV, TXT, A, Query, Site
from tests.tunnels import WORDS

_CLIENT = "10.20.0.5"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MIXED = _LETTERS + "0123456789"


def _guid(random_: random.Random) -> str:
    return "-".join(random_.randbytes(size).hex() for size in (4, 2, 2, 2, 6))


def _letters(random_: random.Random, count: int, alphabet: str = _MIXED) -> str:
    return "".join(random_.choices(alphabet, k=count))


def _owner(number: int) -> str:
    return f"{WORDS[number % len(WORDS)]}{WORDS[number * 7 % len(WORDS)]}"


def _day(random_: random.Random, names: list[tuple[str, int]], rounds: int = 3) -> Iterator[Query]:
    """Yield every name so many times, the first time within the first hours."""
    for turn in range(rounds):
        random_.shuffle(names)
        for index, (name, qtype) in enumerate(names):
            yield Query(turn * 28000.0 + index * 27000 / len(names), _CLIENT, name, qtype)


def monitoring(random_: random.Random) -> Iterator[Query]:
    """Yield 160 machines of one company, asked for within five minutes and ever again."""
    places, kinds = ("fra", "ams", "dub", "iad"), ("db", "web", "app", "mq", "cache", "ldap", "vpn", "sw-core")
    names = sorted({f"{random_.choice(kinds)}{n:02d}-{random_.choice(places)}" for n in range(160)})
    for turn in range(40):
        for index, name in enumerate(names):
            yield Query(turn * 2000.0 + index * 1.8, _CLIENT, f"{name}.prod.quartzhill-it.net", A)


def content_shards(random_: random.Random) -> Iterator[Query]:
    """Yield servers of content networks, known and not."""
    names = [(f"rr{random_.randrange(1, 9)}---sn-{_letters(random_, 8)}.googlevideo.com", A) for _ in range(60)]
    names += [(f"scontent-{p}{n}-{n}.xx.fbcdn.net", AAAA) for p in ("fra", "ams", "muc") for n in range(1, 6)]
    names += [(f"edge-{n}.{p}{n % 4}.pebblecast-cdn.net", A) for p in ("fra", "lhr", "cdg") for n in range(14)]
    names += [(f"vod-{random_.randbytes(2).hex()}.{_owner(n)}video.tv", HTTPS) for n in range(20)]
    names += [(f"d{_letters(random_, 13)}.cloudfront.net", A) for _ in range(80)]
    names += [(f"e{random_.randrange(99999)}.dsc{c}.akamaiedge.net", A) for c in "abcdefg"]
    return _day(random_, names)


def trackers(random_: random.Random) -> Iterator[Query]:
    """Yield tracking domains that put an id before their name: one for each browser and site."""
    names = [(f"{_guid(random_)}.{_owner(n)}metrics.com", A) for n in range(12)]
    names += [(f"{random_.randbytes(8).hex()}.{_owner(n)}-analytics.io", A) for n in range(12)]
    names += [(f"smetrics.{_owner(n)}.com", A) for n in range(80)]
    names += [(f"{random_.randbytes(16).hex()}.litix.io", A) for _ in range(30)]
    names += [(f"{random_.randbytes(4).hex()}.akstat.io", A) for _ in range(30)]
    names += [(f"o{random_.randrange(10**6)}.ingest.sentry.io", A) for _ in range(30)]
    return _day(random_, names)


def links_in_mail(random_: random.Random) -> Iterator[Query]:
    """Yield hosts that links in newsletters go through."""
    names = [(f"url{random_.randrange(10000)}.{_owner(n)}.com", A) for n in range(60)]
    names += [(f"u{random_.randrange(10**8)}.ct.sendgrid.net", A) for _ in range(40)]
    names += [
        (f"{base64.b64encode(random_.randbytes(9)).decode().lower()[:11]}.{_owner(n)}mail.io", A) for n in range(9)
    ]
    names = [(name.replace("+", "a").replace("/", "b"), qtype) for name, qtype in names]
    names += [(f"click.e.{_owner(n)}.com", A) for n in range(60)]
    names += [(f"mkto-ab{random_.randrange(10**6)}.com", A) for _ in range(20)]
    return _day(random_, names)


def tenants(random_: random.Random) -> Iterator[Query]:
    """Yield tenants of software as a service, known services and not."""
    names = [(f"dev-{random_.randrange(10**8)}.okta.com", A) for _ in range(20)]
    names += [
        (f"{_letters(random_, 2)}{random_.randrange(10**5)}.eu-west-1.snowflakecomputing.com", A) for _ in range(20)
    ]
    names += [(f"_mongodb._tcp.cluster{n}.{_letters(random_, 5)}.mongodb.net", SRV) for n in range(10)]
    names += [(f"cluster{n}.{_letters(random_, 5)}.mongodb.net", TXT) for n in range(10)]
    names += [(f"{_owner(n)}-prod-{random_.randbytes(2).hex()}.app.ledgerbloom.io", A) for n in range(5)]
    names += [(f"{_owner(n)}.ledgerbloom.io", A) for n in range(30)]
    names += [(f"{random_.randbytes(16).hex()}.us-east-1.aws.found.io", A) for _ in range(12)]
    names += [(f"{_owner(n)}--c.vf.force.com", A) for n in range(20)]
    return _day(random_, names)


def windows(random_: random.Random) -> Iterator[Query]:
    """Yield update, delivery optimisation and telemetry of Windows, Teams."""
    names = [
        (f"{p}{n}.prod.do.dsp.mp.microsoft.com", A) for p in ("kv", "cp", "disc", "array") for n in range(601, 630)
    ]
    names += [(f"{n}.tlu.dl.delivery.mp.microsoft.com", A) for n in range(1, 9)]
    names += [(f"pub-ent-{p}-{n:02d}-t.trouter.teams.microsoft.com", A) for p in ("euwe", "frce") for n in range(12)]
    names += [(f"{_letters(random_, 12)}.nrb.footprintdns.com", A) for _ in range(30)]
    names += [(f"v{n}.events.data.microsoft.com", A) for n in (10, 20)]
    names += [(f"{random_.randbytes(16).hex()}.fp.measure.office.com", A) for _ in range(20)]
    return _day(random_, names)


def calls(random_: random.Random) -> Iterator[Query]:
    """Yield relays of conferences and private networks."""
    names = [(f"zoomfr{n}{random_.randrange(999)}mmr.zoom.us", A) for n in range(60)]
    names += [(f"relay-{random_.randbytes(4).hex()}.net.anydesk.com", A) for _ in range(25)]
    names += [(f"derp{n}{c}.tailscale.com", A) for n in range(1, 25) for c in "bcd"]
    names += [(f"{p}{n}.vpn-harbourlight.com", A) for p in ("de", "nl", "us", "uk", "se") for n in range(1, 16)]
    names += [(f"mmp{c}{n}.webex.com", A) for c in "abc" for n in range(20)]
    return _day(random_, names)


def things(random_: random.Random) -> Iterator[Query]:
    """Yield devices: an id of their own under their maker's zone."""
    names = [(f"a{_letters(random_, 13)}-ats.iot.eu-west-1.amazonaws.com", A) for _ in range(15)]
    names += [(f"{random_.randrange(10**16)}.minerva.devices.a2z.com", A) for _ in range(20)]
    names += [(f"d{random_.randbytes(6).hex()}.devices.{_owner(n)}home.io", A) for n in range(8)]
    names += [(f"mqtt-{p}-{n}.thermolane.com", A) for p in ("eu", "us") for n in range(8)]
    names += [(f"{_letters(random_, 8)}.eu.iot.{_owner(n)}.cloud", A) for n in range(8)]
    names += [(f"{n}.{p}.pool.ntp.org", A) for n in range(4) for p in ("de", "europe", "fedora", "debian")]
    return _day(random_, names)


def browsers(random_: random.Random) -> Iterator[Query]:
    """Yield three random single labels at every start, a router's search domain behind them, captive portals."""
    for start in range(40):
        for _ in range(3):
            label = _letters(random_, random_.randrange(7, 16), _LETTERS)
            yield Query(start * 2000.0, _CLIENT, label, A)
            yield Query(start * 2000.0, _CLIENT, f"{label}.lan", A)
            yield Query(start * 2000.0, _CLIENT, f"{label}.fritz.box", A)
        yield Query(start * 2000.0, _CLIENT, "connectivitycheck.gstatic.com", A)
        yield Query(start * 2000.0, _CLIENT, f"{random_.randbytes(16).hex()}.metric.gstatic.com", A)


def leak_tests(random_: random.Random) -> Iterator[Query]:
    """Yield what pages ask for that show a visitor the visitor's resolver."""
    zones = (
        "test.dnsleaktest.com", "ipleak.net", "dnsleak.am.i.mullvad.net", "bash.ws", "test.nextdns.io",
        "edns.ip-api.com", "dns4.browserleaks.org", "test-ipv6.com", "go.dnscheck.tools", "rs.dns-oarc.net",
    )  # fmt: skip
    names = [(f"{_letters(random_, random_.choice((10, 16, 32)))}.{zone}", A) for zone in zones for _ in range(12)]
    names += [(f"{_guid(random_)}.{zone}", AAAA) for zone in zones for _ in range(4)]
    return _day(random_, names)


def validation(random_: random.Random) -> Iterator[Query]:
    """Yield proofs of control over domains, status of certificates, selectors of keys."""
    names = [(f"_{random_.randbytes(16).hex()}.{_owner(n)}.com", CNAME) for n in range(30)]
    names += [
        (f"_{random_.randbytes(16).hex()}.{_letters(random_, 10)}.acm-validations.aws", CNAME) for _ in range(30)
    ]
    names += [(f"_acme-challenge.{h}.{_owner(n)}.com", TXT) for n in range(30) for h in ("www", "api", "mail")]
    names += [(f"{random_.randbytes(16).hex()}.{random_.randbytes(16).hex()}.comodoca.com", CNAME) for _ in range(9)]
    names += [(f"{_letters(random_, 32, _LETTERS)}._domainkey.{_owner(n)}.com", CNAME) for n in range(60)]
    names += [(f"{random_.randbytes(28).hex()}._openpgpkey.{_owner(n)}.com", 61) for n in range(9)]
    names += [(f"{_guid(random_)}.auth.{_owner(n)}-acme.net", TXT) for n in range(9)]
    names += [(f"e{n}.o.lencr.org", A) for n in range(5, 9)]
    names += [(f"_25._tcp.mx{n % 3}.{_owner(n)}.com", 52) for n in range(60)]
    return _day(random_, names)


def mail_senders(random_: random.Random) -> Iterator[Query]:
    """Yield look-ups of a mail server: lists of many sorts, macros of small senders, confirmed reverse names."""
    address = ".".join
    for number in range(1500):
        at, octets = number * 55.0, [str(random_.randrange(1, 255)) for _ in range(4)]
        for zone in ("zen.spamhaus.org", "b.barracudacentral.org", "ix.dnsbl.manitu.net", "dnsbl-1.uceprotect.net",
                     "bl.mailspike.net", "hostkarma.junkemailfilter.com", "bl.spameatingmonkey.net",
                     "score.senderscore.com", "all.spamrats.com", "bl.blocklist.de"):  # fmt: skip
            yield Query(at, _CLIENT, f"{address(octets)}.{zone}", A)
        key = "abcdefghijklmnopqrstuvwxyz"
        yield Query(at, _CLIENT, f"{address(octets)}.{key}.zen.dq.spamhaus.net", A)
        digest = base64.b32encode(random_.randbytes(20)).decode().lower()
        yield Query(at, _CLIENT, f"{digest}._file.{key}.hbl.dq.spamhaus.net", A)
        yield Query(at, _CLIENT, f"{_owner(number)}.dbl.spamhaus.org", A)
        yield Query(at, _CLIENT, f"{address(octets)}.in-addr.arpa", PTR)
        yield Query(at, _CLIENT, f"bounces.em{random_.randrange(9999)}.{_owner(number)}.com", MX)
        if number % 10 == 0:
            sender = f"{_owner(number)}.org"
            yield Query(at, _CLIENT, f"{address(octets)}._spf.{sender}", A)
            yield Query(at, _CLIENT, f"{'-'.join(octets)}.dsl.{_owner(number)}net.de", A)
            yield Query(at, _CLIENT, f"{address(octets)}.in-addr.{sender}._spf.mta.salesforce.com", TXT)


def runners(random_: random.Random) -> Iterator[Query]:
    """Yield jobs of continuous integration: stores of artefacts, registries, machines that live for minutes."""
    names = [(f"productionresultssa{n}.blob.core.windows.net", A) for n in range(20)]
    names += [(f"pipelinesghubeus{n}.actions.githubusercontent.com", A) for n in range(1, 25)]
    names += [
        (f"{_owner(n)}-artifacts-{random_.randbytes(3).hex()}.s3.eu-west-1.amazonaws.com", A) for n in range(40)
    ]
    names += [(f"{random_.randrange(10**12)}.dkr.ecr.eu-west-1.amazonaws.com", A) for _ in range(15)]
    names += [(f"{random_.randbytes(16).hex()}.gr7.eu-west-1.eks.amazonaws.com", A) for _ in range(10)]
    names += [
        (f"internal-{_letters(random_, 8)}-{random_.randrange(10**9)}.eu-west-1.elb.amazonaws.com", A)
        for _ in range(40)
    ]
    names += [(f"k8s-web-{random_.randbytes(5).hex()}-{random_.randbytes(8).hex()}.elb.us-east-1.amazonaws.com", A)
              for _ in range(40)]  # fmt: skip
    return _day(random_, names)


def inside(random_: random.Random) -> Iterator[Query]:
    """Yield names of clouds and local networks, which stay inside or end there."""
    names = [(f"ip-10-0-{random_.randrange(256)}-{n}.eu-west-1.compute.internal", A) for n in range(120)]
    names += [
        (f"gke-prod-pool-{random_.randbytes(4).hex()}-{_letters(random_, 4)}.c.proj-81.internal", A)
        for _ in range(60)
    ]
    names += [(f"vm-{n}.{_letters(random_, 26)}.bx.internal.cloudapp.net", A) for n in range(30)]
    names += [(f"{WORDS[n]}.service.dc1.consul", SRV) for n in range(60)]
    names += [(f"{_guid(random_)}._homekit._tcp.local", SRV) for _ in range(10)]
    names += [(f"brn{random_.randbytes(6).hex()}.local", A) for _ in range(15)]
    names += [
        (f"{kind}._dns-sd._udp.{n}.0.168.192.in-addr.arpa", PTR) for kind in ("b", "lb", "db", "r") for n in range(9)
    ]
    names += [(f"desktop-{_letters(random_, 7)}.corp", A) for _ in range(60)]
    names += [(f"ec2-3-120-{random_.randrange(256)}-{n}.eu-central-1.compute.amazonaws.com", A) for n in range(60)]
    return _day(random_, names)


FALSE_ALARMS: dict[str, Site] = {
    "a monitoring host with 160 machines": monitoring,
    "shards of content networks": content_shards,
    "trackers with an id": trackers,
    "links in mail": links_in_mail,
    "tenants of services": tenants,
    "Windows and Teams": windows,
    "conferences and private networks": calls,
    "devices": things,
    "probes of browsers": browsers,
    "leak tests": leak_tests,
    "validation": validation,
    "a mail server's lists": mail_senders,
    "continuous integration": runners,
    "names of clouds and local networks": inside,
}
