"""Builds what the detector knows of ordinary names: `python -m gateway.tunnelling.train FQDNS [DOMAINS]`.

Input: full host names, one a line, the most popular first (such as the Umbrella top list), and a file of further
registered domains whose order does not matter; either may be gzipped. Output, into `gateway/tunnelling/known`:
`characters.bin` (the trigram table), `labels.txt` (usual labels and their bits), `words.txt` (words inside labels and
theirs), `popular.txt.gz` (popular domains, the leading ones before an empty line). The same input gives the same
octets.
"""

import gzip
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import log2
from pathlib import Path
from typing import NamedTuple

from gateway.names import normalize
from gateway.tunnelling.charmodel import train
from gateway.tunnelling.zones import NO_TLD, classify, is_hosted

LABELS_PER_DOMAIN = 8
"""So that no content network with its thousands of hashes teaches the model what is usual."""
LONGEST = 24
"""Longer labels are seldom words."""
LEADING = 1000
"""Domains that count as leading."""
_SEEN = 3

_SHARED = """
linode.com vultr.com ovh.net your-server.de cloudflare.net trycloudflare.com ngrok.io ngrok.com ngrok.app
ngrok-free.app loca.lt serveo.net nip.io sslip.io xip.io traefik.me duckdns.org dynu.com dynu.net no-ip.com
ddns.net afraid.org mooo.com he.net dns.he.net cloudns.net cloudns.cc freeddns.org hopto.org zapto.org
sytes.net dyndns.org rbndr.us 1u.ms oastify.com burpcollaborator.net interact.sh oast.pro oast.live oast.site
oast.online oast.fun oast.me dnslog.cn ceye.io requestrepo.com canarytokens.com canarytokens.org pipedream.net
webhook.site tunnelbear.com your-freedom.net iodine.sh
"""
SHARED_SUFFIXES = frozenset(_SHARED.split())
"""Domains under which anybody gets names or name servers, or that log queries for anybody: never popular enough."""


_STANDARD = """
_25 _53 _443 _853 _acme-challenge _dmarc _domainkey _tcp _udp _tls _http _https _dns _spf _mta-sts _smtp _report
_adsp _atps _bimi _ldap _kerberos _kpasswd _gc _msdcs _sites dc pdc gc domains domaindnszones forestdnszones
default-first-site-name _sip _sips _sipfederationtls _xmpp-client _xmpp-server _jabber _imap _imaps _pop3 _pop3s
_submission _submissions _caldav _caldavs _carddav _carddavs _autodiscover autodiscover autoconfig mta-sts
lyncdiscover sip wpad isatap enterpriseregistration enterpriseenrollment selector1 selector2 _dns-sd _services
lb b db r dr _etcd-server _grpc _vlmcs _matrix _minecraft _stun _turn _turns _ntp _ptp _nfs _smb _afpovertcp
_ipp _ipps _printer _mongodb _amqps _esni _dnslink _dnsauth _domainconnect _pki-validation _github-challenge
_atproto _psl _ns _ta _validation-contact
"""
STANDARD = frozenset(_STANDARD.split())
"""Labels that standards and large services prescribe (RFC 8552 and its registry), usual wherever they are."""
_STANDARD_BITS = 6.0
_WORD = re.compile(r"[a-z]{2,}")
_BOUNDARY_BITS = 1.0
"""That a word comes, and not letters by themselves."""
_ZONES_WITH_WORD = 2


class Data(NamedTuple):
    """What is built."""

    characters: bytes
    usual: dict[str, float]
    words: dict[str, float]
    leading: tuple[str, ...]
    popular: tuple[str, ...]


def build(names: Sequence[str], domains: Iterable[str] = ()) -> Data:
    """Build from full names in order of popularity, and further domains. What is no host name is passed over."""
    per_zone: dict[str, dict[str, None]] = {}
    order: dict[str, None] = {}
    spoken: list[str] = []
    for name in names:
        zone = _zone(name)
        if zone is None:
            continue
        if zone not in per_zone:
            spoken.append(zone.partition(".")[0])
        if not is_hosted(zone) and zone not in SHARED_SUFFIXES:
            order.setdefault(zone)
        labels = per_zone.setdefault(zone, {})
        for label in name[: -len(zone) - 1].split("."):
            if label and len(label) <= LONGEST:
                labels.setdefault(label)
    spoken += [zone.partition(".")[0] for zone in dict.fromkeys(map(_zone, domains)) if zone and zone not in per_zone]
    hosts = [label for labels in per_zone.values() for label in list(labels)[:LABELS_PER_DOMAIN]]
    counted = Counter(hosts)
    usual = {label: round(-log2(count / len(hosts)), 2) for label, count in counted.items() if count >= _SEEN}
    usual |= {label: min(usual.get(label, _STANDARD_BITS), _STANDARD_BITS) for label in STANDARD}
    ranked = tuple(order)
    table = train(hosts * 2 + [label for label in spoken if len(label) <= LONGEST])
    return Data(table, usual, _words(per_zone), ranked[:LEADING], ranked[LEADING:])


def _words(per_zone: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """Return the bits of words that several zones have in their labels or are named after."""
    counted: Counter[str] = Counter()
    for zone, labels in per_zone.items():
        counted.update({word for text in (zone.partition(".")[0], *labels) for word in _WORD.findall(text)})
    total = counted.total()
    return {
        word: round(_BOUNDARY_BITS - log2(count / total), 1)
        for word, count in counted.items()
        if count >= _ZONES_WITH_WORD and len(word) <= LONGEST
    }


def _zone(name: str) -> str | None:
    kind = classify(name)
    return None if kind.private or kind.reverse or kind.zone == NO_TLD or kind.zone.endswith(".arpa") else kind.zone


def write(data: Data, folder: Path) -> None:
    """Write the files that `gateway.tunnelling.data` reads."""
    folder.mkdir(exist_ok=True)
    (folder / "characters.bin").write_bytes(data.characters)
    for title, priced in (("labels.txt", data.usual), ("words.txt", data.words)):
        lines = (f"{text} {bits}\n" for text, bits in sorted(priced.items()))
        (folder / title).write_text("".join(lines), encoding="ascii")
    text = "\n".join((*sorted(data.leading), "", *sorted(data.popular), ""))
    (folder / "popular.txt.gz").write_bytes(gzip.compress(text.encode("ascii"), mtime=0))


def read_names(path: Path) -> list[str]:
    """Read names, one a line; what is no host name is left out."""
    octets = path.read_bytes()
    text = (gzip.decompress(octets) if octets[:2] == b"\x1f\x8b" else octets).decode("utf-8", "replace")
    found = []
    for line in text.splitlines():
        try:
            found.append(normalize(line.strip()))
        except ValueError:
            continue
    return found


def main(arguments: Sequence[str]) -> int:
    """Build the data files. Returns the exit code."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write("usage: python -m gateway.tunnelling.train FQDNS [DOMAINS]\n")
        return 2
    names, *rest = (read_names(Path(argument)) for argument in arguments)
    write(build(names, rest[0] if rest else ()), Path(__file__).parent / "known")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
