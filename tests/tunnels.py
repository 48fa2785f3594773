"""Encoders such as tunnels use, written anew: what each asks for, and how much of its payload a name carries.

None of it needs a network: a recording is a list of `Asked`. Everything random comes from the generator given.
"""

import base64
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

A, CNAME, NULL, MX, TXT, AAAA, SRV, KEY = 1, 5, 10, 15, 16, 28, 33, 25

_WORDS = """
able acid aged also area army away baby back ball band bank base bath bear beat been beer bell belt best bill
bird blow blue boat body bomb bond bone book boom born boss both bowl bulk burn bush busy call calm came camp
card care case cash cast cell chat chip city club coal coat code cold come cook cool cope copy core cost crew
crop dark data date dawn days dead deal dean dear debt deep deny desk dial diet disc disk does done door dose
down draw drew drop drug dual duke dust duty each earn ease east easy edge else even ever evil exit face fact
fail fair fall farm fast fate fear feed feel feet fell felt file fill film find fine fire firm fish five flat
flow food foot ford form fort four free from fuel full fund gain game gate gave gear gene gift girl give glad
goal goes gold golf gone good gray great green grew grey grow gulf hair half hall hand hang hard harm hate have
head hear heat held hell help here hero high hill hire hold hole holy home hope host hour huge hung hunt hurt
idea inch into iron item jack jane jean john join jump jury just keen keep kent kept kick kill kind king knee
knew know lack lady laid lake land lane last
"""
WORDS = _WORDS.split()
"""256 words and a few."""


class Asked(NamedTuple):
    """One query of a tunnel."""

    at: float
    client: str
    name: str
    qtype: int
    payload: int
    """Octets of the payload in the name."""
    answer: int = 100
    """Octets of the answer."""


type Encoder = Callable[[random.Random], Iterator[Asked]]


def _labels(text: str, size: int = 63) -> str:
    return ".".join(text[index : index + size] for index in range(0, len(text), size))


def _b32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=").lower()


def chunked(
    encode: Callable[[bytes], str],
    size: int,
    *,
    zone: str = "t.kestrelmoor.net",
    every: float = 0.05,
    qtype: int = A,
    count: int = 400,
    label: int = 63,
    text: bool = False,
    sequence: bool = False,
    client: str = "10.0.0.7",
) -> Encoder:
    """Return an encoder that sends chunks of so many octets below a zone."""

    def run(random_: random.Random) -> Iterator[Asked]:
        for index in range(count):
            data = _text(random_, size) if text else random_.randbytes(size)
            front = f"{index}." if sequence else ""
            yield Asked(index * every, client, f"{front}{_labels(encode(data), label)}.{zone}", qtype, size)

    return run


def _text(random_: random.Random, size: int) -> bytes:
    return " ".join(random_.choices(WORDS, k=size // 3 + 1)).encode()[:size]


def words(per_name: int, *, every: float, count: int = 2000, joined: str = ".", qtype: int = A) -> Encoder:
    """Return an encoder that writes each octet as one of 256 words."""

    def run(random_: random.Random) -> Iterator[Asked]:
        for index in range(count):
            name = joined.join(random_.choices(WORDS[:256], k=per_name))
            yield Asked(index * every, "10.0.0.7", f"{name}.plainreading.org", qtype, per_name)

    return run


def numbers(digits: int, *, every: float, count: int = 2000) -> Encoder:
    """Return an encoder that writes its payload as decimal numbers."""

    def run(random_: random.Random) -> Iterator[Asked]:
        for index in range(count):
            name = f"{random_.randrange(10**digits):0{digits}d}.orders.shopfloor.biz"
            yield Asked(index * every, "10.0.0.7", name, A, int(digits * 3.32 / 8))

    return run


def many_domains(domains: int, size: int, *, count: int = 400) -> Encoder:
    """Return an encoder that takes one domain after the other."""

    def run(random_: random.Random) -> Iterator[Asked]:
        for index in range(count):
            zone = f"domain{index % domains}-{WORDS[index % domains]}.com"
            yield Asked(index * 2.0, "10.0.0.7", f"{_b32(random_.randbytes(size))}.{zone}", A, size)

    return run


def many_clients(clients: int, size: int, *, count: int = 600) -> Encoder:
    """Return an encoder that spreads its names over many clients."""

    def run(random_: random.Random) -> Iterator[Asked]:
        for index in range(count):
            name = f"{random_.randbytes(size).hex()}.c.reedbeck.net"
            yield Asked(index * 1.0, f"10.0.{index % clients // 250}.{index % clients % 250 + 1}", name, A, size)

    return run


def download(qtype: int, answer: int, *, every: float = 0.2, count: int = 500) -> Encoder:
    """Return a download: short numbered names, long answers."""

    def run(random_: random.Random) -> Iterator[Asked]:
        for index in range(count):
            yield Asked(index * every, "10.0.0.7", f"{index}.files.fernhollow.info", qtype, 1, answer)

    return run


def no_zone(*, count: int = 200) -> Encoder:
    """Return what dnscat2 asks without a domain: `dnscat.` and hexadecimal digits."""

    def run(random_: random.Random) -> Iterator[Asked]:
        for index in range(count):
            yield Asked(index * 1.0, "10.0.0.7", f"dnscat.{random_.randbytes(24).hex()}", TXT, 24)

    return run


FAST: dict[str, Encoder] = {
    "hex, 8 octets a name": chunked(bytes.hex, 8),
    "hex, 16 octets a name": chunked(bytes.hex, 16),
    "hex, 30 octets, text": chunked(bytes.hex, 30, text=True),
    "hex, 90 octets, two labels": chunked(bytes.hex, 90),
    "hex in TXT, short labels": chunked(bytes.hex, 20, qtype=TXT, label=8),
    "hex with a sequence number": chunked(bytes.hex, 24, sequence=True),
    "hex of text, 8 octets": chunked(bytes.hex, 8, text=True),
    "base32, 10 octets": chunked(_b32, 10),
    "base32, 35 octets": chunked(_b32, 35),
    "base32 in CNAME, 100 octets": chunked(_b32, 100, qtype=CNAME),
    "base32 of text, 15 octets": chunked(_b32, 15, text=True),
    "base32 in MX": chunked(_b32, 60, qtype=MX),
    "base32 in NULL": chunked(_b32, 60, qtype=NULL),
    "base64url, 12 octets": chunked(_b64, 12),
    "base64url, 45 octets": chunked(_b64, 45),
    "base64url of text in TXT, 120 octets": chunked(_b64, 120, text=True, qtype=TXT),
    "base64url below a popular-looking label": chunked(_b64, 30, zone="cdn.static.harrowgate-cdn.com"),
    "AAAA, base32, 20 octets": chunked(_b32, 20, qtype=AAAA),
    "hex under a customer's name of a hosting service": chunked(bytes.hex, 16, zone="me.duckdns.org"),
    "no zone at all": no_zone(),
}
"""At most 6 queries and 200 octets before the denial; median 1."""

SLOW: dict[str, Encoder] = {
    "words, one a name, each second": words(1, every=1.0),
    "words, three a name": words(3, every=1.0),
    "words joined by hyphens": words(4, every=1.0, joined="-"),
    "words, four a name, in TXT, each minute": words(4, every=60.0, qtype=TXT),
    "hex, one name in 10 s": chunked(bytes.hex, 8, every=10.0),
    "hex, one name a minute": chunked(bytes.hex, 8, every=60.0),
    "hex, 2 octets, one name a minute": chunked(bytes.hex, 2, every=60.0, count=1440),
    "hex, 4 octets, one name in 10 minutes": chunked(bytes.hex, 4, every=600.0, count=144),
    "base32, 5 octets, one name in 10 s": chunked(_b32, 5, every=10.0),
    "numbers of 6 digits": numbers(6, every=1.0),
    "numbers of 12 digits": numbers(12, every=10.0),
    "numbers of 4 digits, one a minute": numbers(4, every=60.0),
    "10 domains": many_domains(10, 20),
    "50 domains": many_domains(50, 25),
    "50 domains, short names": many_domains(50, 10),
    "30 clients": many_clients(30, 12),
    "200 clients": many_clients(200, 16),
}
"""At most 1000 octets in a day."""

DOWNLOADS: dict[str, Encoder] = {
    "TXT, 230 octets": download(TXT, 230),
    "TXT, 1200 octets": download(TXT, 1200),
    "CNAME, 220 octets": download(CNAME, 220),
    "MX, 500 octets": download(MX, 500),
    "NULL, 1000 octets": download(NULL, 1000),
    "AAAA, 400 octets": download(AAAA, 400),
}
"""At most 4 KB of answers."""
