"""Names as known tools and malware build them, from their sources and published analyses: who asks what, how often.

None of it needs a network: like `tests.tunnels`, a recording is a list of `Asked`, and what is random comes from the
generator given. A day at most, or until 2000 names have been asked. Data are text or random octets, as with the tool.
"""

import base64
import random
from collections.abc import Callable, Iterator

from tests.tunnels import AAAA, CNAME, MX, NULL, TXT, WORDS, A, Asked, Encoder

KEY = 25
_MOST = 2000
_DAY = 86400.0
_CLIENT = "10.0.0.7"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def _b32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=").lower()


def _cut(text: str, size: int = 63) -> str:
    return ".".join(text[start : start + size] for start in range(0, len(text), size))


def _number(value: int, alphabet: str, width: int) -> str:
    text = ""
    for _ in range(width):
        value, digit = divmod(value, len(alphabet))
        text = alphabet[digit] + text
    return text


type _Name = Callable[[random.Random, int], tuple[str, int] | tuple[str, int, int]]


def _tool(zone: str, name: _Name, every: float, qtype: int | tuple[int, ...] = A, answer: int = 100) -> Encoder:
    """Return a tool of one client: what stands before the zone in its n-th query, the payload in it, and the type."""

    def run(random_: random.Random) -> Iterator[Asked]:
        own = random.Random(random_.random())
        at = 0.0
        for number in range(_MOST):
            at += every * own.uniform(0.8, 1.2)
            if at > _DAY:
                return
            text, payload, *rest = name(own, number)
            asked = rest[0] if rest else qtype if isinstance(qtype, int) else own.choice(qtype)
            yield Asked(at, _CLIENT, f"{text}.{zone}" if zone else text, asked, payload, answer)

    return run


def _iodine(codec: Callable[[bytes], str], size: int) -> _Name:
    """Version, login, codec test, fragment probes; then data behind five characters of header."""

    def name(random_: random.Random, number: int) -> tuple[str, int]:
        if number == 0:
            return "vaaaakaq" + _b32(random_.randbytes(2))[:3], 0
        if number == 1:
            return "la" + _b32(random_.randbytes(18)), 0
        if number in (2, 3):
            return "yrabc" if number == 2 else "za-aaahhh-drink-mal-ein-j-germeister-", 0
        if number % 3 == 0:
            return "p" + _b32(random_.randbytes(4)), 0  # ping
        return f"0{_b32(random_.randbytes(3))}{_cut(codec(random_.randbytes(size)), 57)}", size

    return name


def _dnscat(encrypted: bool) -> _Name:
    """Packets in hexadecimal: 16-bit id, type, session; most are empty and ask whether there is anything."""

    def name(random_: random.Random, number: int) -> tuple[str, int]:
        head = random_.randbytes(2) + b"\x01" + b"\xc3\x1e"
        if number == 0:
            body = random_.randbytes(68) if encrypted else b"\x12\x34\x00\x21command (ws17)\0"
        else:
            data = b" ".join(random_.choice(WORDS).encode() for _ in range(5)) if number % 4 == 3 else b""
            body = number.to_bytes(2, "big") + b"\x10\x22" + data
            body = random_.randbytes(8 + len(body)) if encrypted else body
        return _cut((head + body).hex(), 60), 0 if number == 0 or number % 4 != 3 else 24

    return name


def _dns2tcp(random_: random.Random, number: int) -> tuple[str, int]:
    if number == 0:
        return "aaaachiaa.=auth", 0
    return _cut(_b64(b"\xa1\x02" + number.to_bytes(2, "big") + b"\0" + random_.randbytes(90)), 63), 90


def _dnstt(random_: random.Random, number: int) -> tuple[str, int]:
    """A client id, padding, and packets of KCP, in base32: 140 octets, or 17 when it only polls."""
    size = 120 if number % 3 == 0 else 0
    return _cut(_b32(b"\x8f\x31\x07\xaa\x5c\xd2\x99\x14" + b"\xe8" + random_.randbytes(8 + size))), size


def _cobalt(random_: random.Random, number: int) -> tuple[str, int] | tuple[str, int, int]:
    """Beacon 4 in its stager's words: a session id each minute, data in `post`, tasks over `api` and `cdn`."""
    session, counter = "19997cf2", f"{number:03x}{random_.randrange(2**24):06x}"
    if number == 1:
        return f"www.1{random_.randbytes(28).hex()}.2{random_.randbytes(27).hex()}.{counter}.{session}", 55
    if number % 10 == 4:
        return f"post.1{random_.randbytes(24).hex()}.{counter}.{session}", 24
    if number % 10 == 7:
        return f"{('api', 'cdn', 'www6')[number % 3]}.{counter}.{session}", 0, (TXT, A, AAAA)[number % 3]
    return session, 0


def _cobalt_low(random_: random.Random, number: int) -> tuple[str, int]:
    """The same with names of an operator's profile and an empty inbox: four octets of data at a time."""
    session = "5d1f0ab6"
    return (session, 0) if number % 3 else (f"static.1{random_.randbytes(4).hex()}.{number:x}.{session}", 4)


def _sliver(random_: random.Random, number: int) -> tuple[str, int]:
    """Protocol buffers in base32: a small hello, a key exchange, then envelopes."""
    size = 9 if number == 0 else 130 if number < 4 else random_.choice((12, 12, 110))
    return _cut(_b32(b"\x08\x02\x10" + random_.randbytes(size))), size


def _exfiltrator(size: int, encode: Callable[[bytes], str]) -> _Name:
    """DNSExfiltrator: `init` with file name and number of chunks, then numbered chunks."""

    def name(random_: random.Random, number: int) -> tuple[str, int]:
        if number == 0:
            return f"init.{_b32(b'budget-2026.xlsx|4711')}.base64", 16
        return f"{number - 1}.{_cut(encode(random_.randbytes(size)))}", size

    return name


def _det(random_: random.Random, number: int) -> tuple[str, int]:
    return _cut(f"n9Qx2fA|!|{number}|!|".encode().hex() + random_.randbytes(16).hex()), 16


def _dnsteal(random_: random.Random, _: int) -> tuple[str, int]:
    text = "-.".join(_b64(random_.randbytes(33)) for _ in range(3))
    return f"{text}-.passwd", 99


def _saitama(random_: random.Random, number: int) -> tuple[str, int]:
    """A counter and data in base 36 under a shuffled alphabet, below one of three domains."""
    shuffled = "".join(random.Random(7).sample(_BASE36, 36))
    size = random_.choice((2, 4, 6))
    text = _number(int.from_bytes(random_.randbytes(size), "big"), shuffled, round(size * 1.55) + 1)
    domain = random_.choice(("uber-asia", "asiaworldremit", "joexpediagroup"))
    return f"{text}{_number(number * 7919 % 46656, shuffled, 3)}.{domain}.com", size


def _dnspionage(random_: random.Random, number: int) -> tuple[str, int]:
    return f"{_b32(random_.randbytes(2))}gltagjdviajakzxwy{number:03d}"[:20] + random_.choice("abcdefgh"), 3


def _sunburst(random_: random.Random, _: int) -> tuple[str, int]:
    """Sixteen characters of who, then the encoded name of a domain."""
    who = _number(random.Random(3).randrange(36**15), _BASE36, 15)
    shifted = "".join(random_.choice("rq3gsalt6u1iyfzop572d49bnx8cvmkewhj") for _ in range(random_.randrange(8, 15)))
    return f"{who}{random_.choice(_BASE36)}{shifted}.appsync-api.eu-west-1", 9


def _oilrig(random_: random.Random, number: int) -> tuple[str, int]:
    part = random_.randbytes(10).hex()
    return f"{number:05d}{random_.randrange(1000):03d}ac71{part}.33333210100a", 10


def _anchor(random_: random.Random, number: int) -> tuple[str, int]:
    text = f"/anchor_dns/WS17_W617601.{random_.randbytes(16).hex().upper()}/{number}/"
    return _cut(bytes(octet ^ 0xB9 for octet in text.encode()).hex(), 60), 20


def _tuns(random_: random.Random, number: int) -> tuple[str, int]:
    return f"d{_cut(_b32(random_.randbytes(70)), 62)}.{number % 1024}.s1", 70


def _ozyman(random_: random.Random, number: int) -> tuple[str, int]:
    session = "id-42317"
    return f"{_cut(_b32(random_.randbytes(110)))}.{random_.randrange(65536)}-{number * 110}.{session}.up", 110


def _ozyman_down(random_: random.Random, number: int) -> tuple[str, int]:
    return f"{number}-{random_.randrange(65536)}.id-42317.down", 0


def _feederbot(random_: random.Random, _: int) -> tuple[str, int]:
    return "".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=8)), 0


def _pisloader(random_: random.Random, number: int) -> tuple[str, int]:
    """Four random letters before the text of a shell in base32; a beacon of its own each half minute."""
    front = "".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=4))
    if number % 8:
        return f"{front}giztmny.ns1", 0
    return f"{front}{_b32(' '.join(random_.choices(WORDS, k=5)).encode())[:34]}.ns1", 21


def _denis(random_: random.Random, _: int) -> tuple[str, int]:
    return _cut(_b64(b"\0\0\0\x11\x4a" + random_.randbytes(60))), 60


def _wtime(random_: random.Random, number: int) -> tuple[str, int]:
    return f"{random_.randbytes(8).hex()}.{number:04d}.wt", 8


def _counter(random_: random.Random, number: int) -> tuple[str, int]:
    return f"{number}.{random.Random(9).randbytes(4).hex()}.ping", 1


def _byte_domains(random_: random.Random, number: int) -> tuple[str, int]:
    return f"{random_.randbytes(1).hex()}.{WORDS[number % 200]}{WORDS[number * 7 % 200]}.com", 1


def _word_pairs(random_: random.Random, _: int) -> tuple[str, int]:
    return f"{random_.choice(WORDS[:256])}-{random_.choice(WORDS[:256])}{random_.randrange(100):02d}", 2


def _tenants(random_: random.Random, _: int) -> tuple[str, int]:
    return f"{random_.choice(WORDS[:256])}.{random_.choice(WORDS[:256])}.tenants", 2


def _types(random_: random.Random, _: int) -> tuple[str, int, int]:
    return "www", 0, random_.choice((1, 28, 15, 16, 33, 65, 64, 257, 2, 6, 35, 43, 48, 52, 12, 5))


def _cases(random_: random.Random, _: int) -> tuple[str, int]:
    return "telemetry", 0


def _hourly(random_: random.Random, number: int) -> tuple[str, int]:
    return f"{random_.randbytes(6).hex()}", 6


def _hyphens(random_: random.Random, number: int) -> tuple[str, int]:
    return "-".join(random_.randbytes(2).hex() for _ in range(4)) + ".cdn", 8


def _guids(random_: random.Random, number: int) -> tuple[str, int]:
    return "-".join(random_.randbytes(size).hex() for size in (4, 2, 2, 2, 6)), 16


TOOLS: dict[str, Encoder] = {
    "iodine, base32, TXT": _tool("t.qovexa.net", _iodine(_b32, 120), 0.05, TXT),
    "iodine, base64, CNAME": _tool("t.qovexa.net", _iodine(_b64, 140), 0.05, CNAME),
    "iodine, base32, A, small fragments": _tool("t.qovexa.net", _iodine(_b32, 20), 0.5),
    "iodine, lazy, MX": _tool("t.qovexa.net", _iodine(_b32, 60), 2.0, MX),
    "iodine, NULL": _tool("t.qovexa.net", _iodine(_b32, 120), 0.05, NULL),
    "dnscat2, encrypted": _tool("d.kestrelbit.net", _dnscat(True), 1.0, (TXT, CNAME, MX)),
    "dnscat2, plain": _tool("d.kestrelbit.net", _dnscat(False), 1.0, (TXT, CNAME, MX)),
    "dnscat2, plain, A each minute": _tool("d.kestrelbit.net", _dnscat(False), 60.0),
    "dnscat2 without a domain": _tool("", lambda r, n: (f"dnscat.{_dnscat(False)(r, n)[0]}", 8), 1.0, TXT),
    "dns2tcp, TXT": _tool("d2t.corvelane.net", _dns2tcp, 0.1, TXT),
    "dns2tcp, KEY": _tool("d2t.corvelane.net", _dns2tcp, 0.1, KEY),
    "dnstt": _tool("t.harrowmere.com", _dnstt, 0.3, TXT, 400),
    "Cobalt Strike": _tool("ns1.grandviewcdn.com", _cobalt, 60.0),
    "Sliver": _tool("1.ashgrovelabs.com", _sliver, 1.0),
    "Merlin-like, base32 each 30 s": _tool("m.ashgrovelabs.com", lambda r, n: (_b32(r.randbytes(35)), 35), 30.0, TXT),
    "DNSExfiltrator": _tool("x.pineburst.io", _exfiltrator(150, _b64), 0.2, TXT),
    "DNSExfiltrator, base32, small and throttled": _tool("x.pineburst.io", _exfiltrator(15, _b32), 5.0, TXT),
    "DET": _tool("det.pineburst.io", _det, 3.0),
    "dnsteal": _tool("steal.pineburst.io", _dnsteal, 0.2),
    "DNSpionage": _tool("0ffice36o.com", _dnspionage, 15.0),
    "SUNBURST": _tool("avsvmcloud-like.com", _sunburst, 1800.0),
    "OilRig": _tool("ns1.msoffice-cdn-like.com", _oilrig, 2.0),
    "Anchor_DNS": _tool("westurn-like.in", _anchor, 10.0),
    "TUNS": _tool("tuns.pineburst.io", _tuns, 0.1, CNAME),
    "Heyoka": _tool("h.pineburst.io", lambda r, n: (_cut(_b64(r.randbytes(130))), 130), 0.1, TXT),
    "OzymanDNS, up": _tool("server.pineburst.io", _ozyman, 0.2, A),
    "Wekby pisloader": _tool("logitech-like.com", _pisloader, 30.0, TXT),
    "Denis": _tool("teriava-like.com", _denis, 5.0, CNAME),
    "WTimeRAT": _tool("wt.teriava-like.com", _wtime, 30.0),
    "GUIDs": _tool("id.pineburst.io", _guids, 10.0),
    "hexadecimal digits by hyphens": _tool("pineburst.io", _hyphens, 10.0),
}
"""At most 6 queries and 200 octets before the denial; median 1."""

QUIET: dict[str, Encoder] = {
    "Cobalt Strike, quiet": _tool("ns1.grandviewcdn.com", _cobalt_low, 300.0),
    "Saitama": _tool("", _saitama, 20.0),
    "Saitama, slow": _tool("", _saitama, 2400.0),
    "six octets an hour": _tool("pineburst.io", _hourly, 3600.0),
    "a counter each minute": _tool("pineburst.io", _counter, 60.0),
    "pairs of words with two digits": _tool("pineburst.io", _word_pairs, 10.0),
    "words as tenants": _tool("pineburst.io", _tenants, 10.0),
}
"""At most 1000 octets in a day, whether or not they are denied."""

OPEN: dict[str, Encoder] = {
    "an octet a domain, 200 domains": _tool("", _byte_domains, 20.0),
    "types": _tool("pineburst.io", _types, 61.0),
    "upper and lower case": _tool("pineburst.io", _cases, 61.0),
}
"""What an account of new names does not find: a few octets for each of many domains, and a choice among names that
are known, which the least TTL bounds to a symbol for each name and minute."""

FETCHES: dict[str, Encoder] = {
    "OzymanDNS, down": _tool("server.pineburst.io", _ozyman_down, 0.2, TXT, 220),
    "Feederbot": _tool("feeder-like.com", _feederbot, 5.0, TXT, 480),
    "Cobalt Strike, TXT": _tool("ns1.grandviewcdn.com", lambda r, n: (f"api.{n:03x}.19997cf2", 0), 1.0, TXT, 255),
    "Cobalt Strike, AAAA": _tool("ns1.grandviewcdn.com", lambda r, n: (f"www6.{n:03x}.19997cf2", 0), 1.0, AAAA, 28),
    "addresses, A": _tool("ns1.grandviewcdn.com", lambda r, n: (f"cdn.{n:03x}.19997cf2", 0), 1.0, A, 16),
    "HTTPS records": _tool("feeder-like.com", lambda r, n: (f"{WORDS[n % 200]}{n // 200}", 0), 2.0, 65, 400),
}
"""At most 4 KB of answers."""
