"""Controls that narrow the channel whatever is sent through it: types and octets that no honest query needs.

Pure: no I/O, no clock.
"""

import re
from typing import NamedTuple

USED_TYPES = frozenset(
    # A NS CNAME SOA PTR HINFO MX TXT RP AFSDB AAAA LOC SRV NAPTR CERT DNAME DS SSHFP IPSECKEY RRSIG NSEC DNSKEY DHCID
    # NSEC3 NSEC3PARAM TLSA SMIMEA HIP CDS CDNSKEY OPENPGPKEY CSYNC ZONEMD SVCB HTTPS SPF EUI48 EUI64 ANY URI CAA
    [
        *(1, 2, 5, 6, 12, 13, 15, 16, 17, 18, 28, 29, 33, 35, 37, 39, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 55),
        *(59, 60, 61, 62, 63, 64, 65, 99, 108, 109, 255, 256, 257),
    ]
)
"""Types that are in use. NULL, KEY, SIG, the experimental, the obsolete and the private ones are not among them."""
_ORDINARY = re.compile(r"[a-z0-9_.-]*\Z", re.ASCII)


class Controls(NamedTuple):
    """Which controls are on."""

    types: bool = True
    """Refuse types that nobody uses, under zones that are not known."""
    octets: bool = True
    """Refuse octets that are not letters, digits, hyphen and underscore, under zones that are not known."""
    tlds: bool = True
    """Answer names under no existing top-level domain here."""
    ttl: int = 60
    """Seconds that answers from zones that are not known are kept at least."""


def flaw_of(name: str, qtype: int, controls: Controls) -> str | None:
    """Say what a query under an unknown zone has that no honest one needs; None when it is an ordinary one.

    >>> flaw_of("a.example", 10, Controls()), flaw_of("a\\\\\\\\200.example", 1, Controls(octets=False))
    ('type 10 is in no use', None)
    """
    if controls.types and qtype not in USED_TYPES:
        return f"type {qtype} is in no use"
    if controls.octets and not _ORDINARY.match(name):
        return "octets that host names do not have"
    return None
