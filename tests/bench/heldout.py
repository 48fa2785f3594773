"""How the tunnelling detector does on what it was not made with: other encoders and settings, other honest clients.

Run: `python tests/bench/heldout.py [FQDNS]`. The generators here were written after most thresholds were chosen, and
no number was fitted to what came out; the monitoring host is the exception: it is why labels are priced by their
parts. It prints what left of each tunnel and of the known tools of `tests.tools`, and what was denied of each honest
client.

With a file of popular names (such as `gateway.tunnelling.train` takes), everything that is known is built anew from
one half of them, and 100 made-up days of clients ask for the other half: once as it is, once with three tenths of
the domains unknown but the 500 most popular. Then each zone has a day of its own with nothing known about any zone.
"""

import base64
import random
import statistics
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.tunnelling.charmodel import CharacterModel
from gateway.tunnelling.data import character_model, popular, services
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.priors import Popular, Priors
from gateway.tunnelling.train import build, read_names
from gateway.tunnelling.zones import classify
from tests.benign import Query
from tests.false_alarms import FALSE_ALARMS
from tests.leaks import Leak
from tests.tools import FETCHES, OPEN, QUIET, TOOLS

A, CNAME, MX, TXT, AAAA, SRV, HTTPS = 1, 5, 15, 16, 28, 33, 65
CONSONANTS, VOWELS = "bdfghklmnprstvz", "aeiou"
SYLLABLES = [consonant + vowel for consonant in CONSONANTS for vowel in VOWELS][:64]
SURNAMES = [
    "mueller",
    "schmidt",
    "rossi",
    "dubois",
    "novak",
    "larsen",
    "okafor",
    "tanaka",
    "silva",
    "kowalski",
    "haddad",
    "nguyen",
]
PRODUCTS = ["ledger", "atlas", "beacon", "harbor", "quill", "ember", "cobalt", "mosaic", "lantern", "prairie"]


class Row(NamedTuple):
    """One query; for a tunnel with the octets of its payload."""

    at: float
    client: str
    name: str
    qtype: int = A
    payload: int = 0
    answer: int = 110


type Make = Callable[[random.Random], Iterator[Row]]


def encoded(
    encode: Callable[[bytes], str], size: int, every: float, qtype: int, zone: str, shape: str = "{0}"
) -> Make:
    """Return a tunnel of one client: `shape` says where data and number stand in the name."""

    def run(random_: random.Random) -> Iterator[Row]:
        at = 0.0
        for number in range(500):
            at += random_.uniform(0.5, 1.5) * every
            data = encode(random_.randbytes(size))
            labels = ".".join(data[start : start + 50] for start in range(0, len(data), 50))
            yield Row(at, "10.9.8.7", f"{shape.format(labels, number)}.{zone}", qtype, size)

    return run


def base36(data: bytes) -> str:
    """Write as a number of letters and digits."""
    value, text = int.from_bytes(data, "big"), ""
    while value:
        value, digit = divmod(value, 36)
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + text
    return text


def spoken(data: bytes) -> str:
    """Write six bits as a syllable."""
    value = int.from_bytes(data, "big")
    return "".join(SYLLABLES[value >> shift & 63] for shift in range(0, len(data) * 8, 6))


def packed_hex(data: bytes) -> str:
    """Compress first, as some do; random octets do not get shorter."""
    return zlib.compress(data, 9).hex()


def base32hex(data: bytes) -> str:
    """Write in the alphabet of NSEC3."""
    return base64.b32hexencode(data).decode().rstrip("=").lower()


def ports(random_: random.Random) -> Iterator[Row]:
    """Yield data in SRV owners: service, port and host say two octets each."""
    for number in range(500):
        first, second, third = random_.randbytes(2).hex(), random_.randrange(65536), random_.randbytes(2).hex()
        yield Row(number * 7.0, "10.9.8.7", f"_{first}._tcp.{second}.{third}.millbrook-services.eu", SRV, 6)


def spread(random_: random.Random) -> Iterator[Row]:
    """Yield three clients that write to six domains in turn, in base36."""
    for number in range(600):
        zone = f"{PRODUCTS[number % 6]}-metrics.net"
        yield Row(number * 4.0, f"10.9.8.{number % 3}", f"{base36(random_.randbytes(12))}.{zone}", A, 12)


def ladder(random_: random.Random) -> Iterator[Row]:
    """Yield data in many labels of two characters."""
    for number in range(500):
        data = base36(random_.randbytes(20))
        name = ".".join(data[start : start + 2] for start in range(0, len(data), 2))
        yield Row(number * 3.0, "10.9.8.7", f"{name}.oakhurst-telemetry.com", HTTPS, 20)


def binary_choice(random_: random.Random) -> Iterator[Row]:
    """Yield one of sixteen fixed names every two minutes: four bits each, hardly anything new."""
    for number in range(720):
        yield Row(number * 120.0, "10.9.8.7", f"{random_.choice(PRODUCTS + SURNAMES[:6])}.hollyridge.org", A)


def fetch(qtype: int, octets: int, every: float) -> Make:
    """Return a download whose questions are words."""

    def run(random_: random.Random) -> Iterator[Row]:
        for number in range(400):
            name = f"{random_.choice(PRODUCTS)}{number}.updates.birchvale.net"
            yield Row(number * every, "10.9.8.7", name, qtype, 1, octets)

    return run


TUNNELS: dict[str, Make] = {
    "base36, 18 octets, 2 s": encoded(base36, 18, 2, A, "elmgrove.co"),
    "base36 behind a session, 9 octets, 5 s": encoded(base36, 9, 5, AAAA, "elmgrove.co", "s4.{0}.c{1}"),
    "base32hex, 75 octets, 0.1 s": encoded(base32hex, 75, 0.1, TXT, "d.elmgrove.co"),
    "base32hex, 7 octets, 30 s": encoded(base32hex, 7, 30, A, "elmgrove.co"),
    "hex of zlib, 24 octets, 1 s": encoded(packed_hex, 24, 1, MX, "elmgrove.co", "{1}-{0}"),
    "syllables, 6 octets, 3 s": encoded(spoken, 6, 3, A, "elmgrove.co"),
    "syllables, 3 octets, 60 s": encoded(spoken, 3, 60, A, "elmgrove.co"),
    "hex in a mail-like name, 6 octets, 10 s": encoded(bytes.hex, 6, 10, CNAME, "elmgrove.co", "msg-{0}.mail"),
    "hex under a private domain, 16 octets": encoded(bytes.hex, 16, 1, TXT, "elmgrove.lan"),
    "SRV owners": ports,
    "three clients, six domains": spread,
    "labels of two characters": ladder,
    "a choice among sixteen names": binary_choice,
    "download, TXT of 700": fetch(TXT, 700, 1),
    "download, AAAA of 250": fetch(AAAA, 250, 1),
    "download, HTTPS of 400": fetch(HTTPS, 400, 1),
}


def hospital(random_: random.Random) -> Iterator[Row]:
    """Yield a day of 60 stations: suppliers' portals, named machines of the house's own unlisted domain."""
    sites = [f"{name}-{kind}.{top}" for name in SURNAMES for kind in ("medical", "pharma") for top in ("de", "eu")]
    for number in range(9000):
        client = f"10.4.0.{random_.randrange(60)}"
        if random_.random() < 0.3:
            host = f"{random_.choice(('pacs', 'ris', 'ward', 'icu', 'lab'))}{random_.randrange(1, 25):02d}"
            yield Row(number * 9.0, client, f"{host}.klinikum-seeblick.org", random_.choice((A, AAAA)))
        else:
            host = random_.choice(("www", "portal", "order", "api", "login", "shop", "sso", "eprescription"))
            yield Row(number * 9.0, client, f"{host}.{random_.choice(sites)}", random_.choice((A, AAAA, HTTPS)))


def student(random_: random.Random) -> Iterator[Row]:
    """Yield a day of one browser on small sites with third parties of their own."""
    for number in range(2500):
        owner, top = random_.choice(SURNAMES) + random_.choice(PRODUCTS), random_.choice(("com", "io"))
        site = f"{owner}{random_.randrange(40)}.{top}"
        host = random_.choice(("www", "cdn", "static", "img-1", "assets-eu", "fonts", "stats", "consent", "api-v2"))
        yield Row(number * 30.0, "10.5.0.9", f"{host}.{site}", random_.choice((A, AAAA, HTTPS)))


def monitoring(random_: random.Random) -> Iterator[Row]:
    """Yield a monitoring host that asks for 150 machines of its company, round and round."""
    hosts = [
        f"{random_.choice(('db', 'web', 'app', 'mq'))}{number:02d}-{random_.choice(('fra', 'ams', 'dub'))}"
        for number in range(150)
    ]
    for number in range(6000):
        yield Row(number * 14.0, "10.6.0.2", f"{hosts[number % 150]}.prod.{PRODUCTS[0]}works.net", A)


def newsletter(random_: random.Random) -> Iterator[Row]:
    """Yield a mail server: MX, SPF, DKIM and DMARC of correspondents with small domains."""
    for number in range(2500):
        owner, top = f"{random_.choice(SURNAMES)}-{random_.choice(PRODUCTS)}", random_.choice(("fr", "it", "com"))
        domain, year = f"{owner}{number % 700}.{top}", random_.randrange(2024, 2027)
        selector = random_.choice(("s1", "google", "k2", "mail2024", "selector1", f"{year}q1"))
        yield Row(number * 30.0, "10.7.0.25", domain, MX, answer=260)
        for name in (domain, f"_dmarc.{domain}", f"{selector}._domainkey.{domain}"):
            yield Row(number * 30.0, "10.7.0.25", name, TXT, answer=260)


def cluster(random_: random.Random) -> Iterator[Row]:
    """Yield pods with a search list of the company's domain behind every name."""
    names = [f"{product}.{space}" for product in PRODUCTS for space in ("prod", "stage")]
    for number in range(5000):
        name = random_.choice(names)
        for search in ("svc.cluster.local", "cluster.local", "k8s.brightwater.io"):
            yield Row(number * 15.0, "10.8.0.3", f"{name}.{search}", random_.choice((A, AAAA)))


HONEST: dict[str, Make] = {
    "a hospital": hospital,
    "a student": student,
    "a monitoring host": monitoring,
    "a mail server": newsletter,
    "a Kubernetes node": cluster,
}


def a_detector() -> Detector:
    """Return a detector with the shipped data."""
    return Detector(character_model(), Priors(popular(), [service.suffix for service in services()]))


def known_tools() -> None:
    """Print what known tools get past."""
    before: list[int] = []
    for title, make in (TOOLS | QUIET | FETCHES | OPEN).items():
        leak = Leak(make, 2025)
        if title in TOOLS:
            before.append(leak.queries)
        verdict = "denied" if leak.denied else "NOT denied"
        print(
            f"{title}: {verdict}, {leak.queries} queries before, {leak.payload} octets out, {leak.answers} of answers"
        )
    print(f"known tools, queries before a denial, median: {statistics.median(before):g}")


def popular_days(names: list[str], unlisted: float) -> None:
    """Print how many of 100 days something was denied on."""
    random_ = random.Random(7)
    zones = {name: classify(name).zone for name in names}
    order = list(dict.fromkeys(zones.values()))
    left_out = {zone for zone in order[500:] if random_.random() < unlisted}
    chosen = [random_.random() < 0.5 for _ in names]
    known = build([name for name, own in zip(names, chosen, strict=True) if own and zones[name] not in left_out])
    others = [name for name, own in zip(names, chosen, strict=True) if not own]
    listed = Popular.of(known.leading, known.popular, popular().operated - left_out)
    model = CharacterModel(known.characters, known.usual, known.words)
    weights = [1 / (rank + 30) for rank in range(len(others))]
    denied, days, worst = 0, 0, Counter[str]()
    for _ in range(100):
        detector, before = Detector(model, Priors(listed, [service.suffix for service in services()])), denied
        for number, name in enumerate(random_.choices(others, weights, k=2000)):
            found = detector.query(number * 30.0, "10.5.0.9", name, random_.choice((A, A, A, AAAA, HTTPS)))
            denied += found.denied
            if found.denied:
                worst[found.zone] += 1
        days += denied > before
    print(f"popular names, {unlisted:.0%} of domains unknown: {denied} of 200000 denied, on {days} of 100 days")
    print("   ", dict(worst.most_common(3)))


def lone_zones(names: list[str]) -> None:
    """Print how many zones are denied something when nothing is known of them, a third of them at a time."""
    zones = {name: classify(name).zone for name in names}
    candidates = list(dict.fromkeys(zones.values()))[500:]
    random.Random(3).shuffle(candidates)
    denied = 0
    for fold in range(3):
        tested = set(candidates[fold::3])
        known = build([name for name in names if zones[name] not in tested])
        model = CharacterModel(known.characters, known.usual, known.words)
        priors = Priors(Popular.of([], []), [service.suffix for service in services()])
        of_zone: dict[str, list[str]] = {}
        for name in names:
            if zones[name] in tested:
                of_zone.setdefault(zones[name], []).append(name)
        for zone, below in of_zone.items():
            random_, detector = random.Random(zone), Detector(model, priors)
            random_.shuffle(below)
            denied += any(
                detector.query(index * 86400 / len(below), "c", name, A).denied for index, name in enumerate(below)
            )
    print(f"unknown zones with all their popular names in a day: {denied} of {len(candidates)} denied something")


def main() -> None:
    """Print what comes out."""
    before: list[int] = []
    for title, make in TUNNELS.items():
        detector, queries, payload, answers, denied = a_detector(), 0, 0, 0, False
        for row in make(random.Random(2025)):
            found = detector.query(row.at, row.client, row.name, row.qtype)
            denied |= found.denied
            if found.denied:
                continue
            queries += not denied
            payload += row.payload
            if detector.response(row.at, row.client, row.name, row.qtype, row.answer).denied:
                denied = True
            else:
                answers += row.answer
        before.append(queries)
        verdict = "denied" if denied else "NOT denied"
        print(f"{title}: {verdict}, {queries} queries before, {payload} octets out in all, {answers} of answers")
    print(f"queries before a denial, median: {statistics.median(before):g}")
    known_tools()
    honest: dict[str, Callable[[random.Random], Iterator[Row | Query]]] = {**HONEST, **FALSE_ALARMS}
    for title, day in honest.items():
        detector, total, refused = a_detector(), 0, Counter[str]()
        for asked in day(random.Random(2025)):
            total += 1
            found = detector.query(asked.at, asked.client, asked.name, asked.qtype)
            if not found.denied:
                found = detector.response(asked.at, asked.client, asked.name, asked.qtype, asked.answer)
            if found.denied:
                refused[found.zone] += 1
        print(f"{title}: {refused.total()} of {total} queries denied {dict(refused.most_common(3)) or ''}")
    if sys.argv[1:]:
        names = read_names(Path(sys.argv[1]))
        popular_days(names, 0.0)
        popular_days(names, 0.3)
        lone_zones(names)


if __name__ == "__main__":
    main()
