"""Which ATT&CK technique a denial speaks of.

Pure: data and two look-ups. A rule's own `technique:` comes first; this is what the built-in protections and listed
categories add.
"""

from collections.abc import Iterable
from functools import lru_cache

from gateway.decision import Reason

BY_REASON: dict[Reason, tuple[str, ...]] = {
    Reason.METADATA_ADDRESS: ("T1552.005",),
    Reason.DNS_TUNNEL: ("T1071.004", "T1048.003", "T1572"),
    Reason.LEAK_BUDGET: ("T1071.004", "T1048.003"),
    Reason.NOT_TLS: ("T1572", "T1095"),
    Reason.PROTOCOL: ("T1572",),
    Reason.SNI_MISSING: ("T1090.004",),
    Reason.SNI_MISMATCH: ("T1090.004",),
    Reason.HOST_MISMATCH: ("T1090.004",),
    Reason.ECH: ("T1090.004",),
    Reason.DIRECT_ADDRESS: ("T1071.001",),
    Reason.PORT: ("T1571",),
    Reason.UPLOAD_BUDGET: ("T1048",),
    Reason.CERTIFICATE_PIN: ("T1557",),
    Reason.TOOL: ("T1105",),
    Reason.BUCKET: ("T1567.002",),
    Reason.FILE_TYPE: ("T1105",),
    Reason.AUTH_FAILED: ("T1078",),
    Reason.CLIENT_UNKNOWN: ("T1078",),
}
"""Techniques that a built-in reason stands for. T1090.004 is domain fronting."""

BY_CATEGORY: dict[str, tuple[str, ...]] = {
    "malware": ("T1105",),
    "phishing": ("T1566",),
    "c2": ("T1071",),
    "tor": ("T1090.003",),
    "proxy": ("T1090",),
    "vpn": ("T1090", "T1572"),
    "doh": ("T1071.004", "T1572"),
    "tunnel": ("T1572",),
    "callback": ("T1071.001",),
    "remote-access": ("T1219",),
    "paste": ("T1567.003",),
    "file-drop": ("T1567.002", "T1105"),
    "metadata": ("T1552.005",),
    "dynamic-dns": ("T1568",),
    "cryptomining": ("T1496",),
}
"""Techniques that a category of lists stands for."""


def techniques(reason: Reason, categories: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the techniques behind a reason and the categories that matched, each once, in order."""
    return _techniques(reason, tuple(categories))


@lru_cache(maxsize=1024)
def _techniques(reason: Reason, categories: tuple[str, ...]) -> tuple[str, ...]:
    found = dict.fromkeys(BY_REASON.get(reason, ()))
    for category in categories:
        found.update(dict.fromkeys(BY_CATEGORY.get(category, ())))
    return tuple(found)
