"""What a query tells a zone that the zone was not told before.

Pure: no I/O, no clock. A label that was asked for is no news. A new one carries what it has under the character
model, weighted by how unlike an ordinary one it is.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from gateway.tunnelling.accounts import SharedTable
from gateway.tunnelling.charmodel import CharacterModel, numbered
from gateway.tunnelling.priors import Prior, Priors
from gateway.tunnelling.state import Tables, Zone
from gateway.tunnelling.structure import Controls
from gateway.tunnelling.zones import classify, exists

HEAVY = 5.0
"""Octets in one name from which it looks like data: 16 hexadecimal digits are 9, `graph-fallback` 1."""
_ADDRESS_TYPES = frozenset([1, 28, 65, 64, 12])
_ROUTINE_TYPES = frozenset([2, 5, 6, 15, 16, 33, 35, 43, 48, 257])
_DATA_WEIGHT = 1.5
"""For types whose answers are made to carry data: a question that gets more of an answer."""
_ROUTINE, _UNUSUAL = 0.25, 1.0
"""Octets that a known name carries when another type is asked for."""

_TEMPLATE_DIGITS = 10
_WORDS = re.compile(r"[a-z]+")
_CHEAP, _MACHINE_DIGITS = 1.0, 3
"""Octets of a label that need no closer look; digits of a machine's number."""
_WORD, _SYLLABLE, _SHORT = 0.2, 0.4, 3
"""Octets of a word that the zone has in other labels: `web`, `-fra` and a number make as many machines as one likes.
Shorter ones are more: there are but a few letters, and a tunnel would soon have told them all. So is a whole label
that the zone has elsewhere: `05a79b52.token` and `05a79b52.captcha`."""
_NETBIOS = 15
"""Longest host name of Windows networks; browsers probe with 7 to 15 random letters."""
_PRESCRIBED = re.compile(
    r"\._domainkey\.|^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(?:domains\.)?_msdcs\."
    r"|^_[0-9a-f]{32}\.|^[0-9a-f]{56}\._(?:smimecert|openpgpkey)\."
)
"""Places where standards put hashes and GUIDs: selectors of DKIM, domain controllers, validation of certificates,
keys of mail addresses (RFC 8162, RFC 7929). They count, but a few are no tunnel yet."""
_NOWHERE_HEAVY = 10.0
"""HEAVY, where nothing leaves: `desktop-c0ckdb9` under a domain that nobody registered is no tunnel."""
_EXPANDED = 0.2
"""Octets of a name that is known elsewhere with a search domain behind it: `api.github.com.example.org`."""
_DIGITS = str.maketrans("0123456789", "0000000000")


_LABELS = 8192
"""Whose octets are at hand: a label is new to one zone after the other."""


class News(NamedTuple):
    """What a name tells a zone."""

    octets: float
    plain: float
    """Without the weight of the type; 0 where standards put hashes."""
    heavy: bool
    hashes: list[int]
    """What to remember once it has been told."""


_NOTHING = News(0.0, 0.0, False, [])


class Reader:
    """Reads names: against the model, and against what the zones are known to have been told."""

    def __init__(
        self,
        model: CharacterModel,
        tables: Tables,
        hash_of: Callable[[str], int],
        priors: Priors,
        controls: Controls,
        table: SharedTable,
    ) -> None:
        self.model = model
        self._octets = lru_cache(_LABELS)(model.octets)
        self.hash_of = hash_of
        self.priors = priors
        self.controls = controls
        self.table = table
        """What zones were asked for, by whatever worker."""
        self._tables = tables

    def news(self, zone: Zone, name: str, qtype: int) -> News:
        """Return what is new in a name below its zone."""
        if zone.reverse:
            return self._reverse(zone, name)
        nowhere = zone.prior is Prior.NOWHERE
        if nowhere:
            if len(name) <= _NETBIOS and "." not in name:
                return _NOTHING
            rest, suffix = name, ""
        else:
            rest, suffix = name[: -len(zone.key) - 1], "." + zone.key
        hashes: list[int] = []
        octets, hash_of, knows = 0.0, self.hash_of, self.table.knows
        while rest:
            value = hash_of(rest + suffix)
            if knows(value):
                break
            hashes.append(value)
            label, _, above = rest.partition(".")
            octets += self._label(zone, label, above + suffix, hashes)
            rest = above
        prescribed = octets >= HEAVY and _PRESCRIBED.search(name) is not None
        plain = 0.0 if prescribed else octets
        heavy = octets >= (_NOWHERE_HEAVY if nowhere else HEAVY) and not prescribed
        if nowhere and self.controls.tlds and not heavy:
            return News(0.0, 0.0, False, hashes)  # never leaves
        if octets > 1 and (fresh := name[: len(name) - len(rest + suffix)].rstrip(".")) and self._is_expanded(fresh):
            plain = octets = _EXPANDED
            heavy = False
        if qtype not in _ADDRESS_TYPES:
            octets *= 1.0 if prescribed else _DATA_WEIGHT
            value = self.hash_of(f"{name}/{qtype}")
            if not self.is_known(value):
                hashes.append(value)
                octets += _ROUTINE if qtype in _ROUTINE_TYPES else _UNUSUAL
        return News(octets, plain, heavy, hashes)

    def is_known(self, value: int) -> bool:
        """Say whether a name was asked for before, here or at another worker."""
        return self.table.knows(value)

    def _is_expanded(self, fresh: str) -> bool:
        """Say whether the new part of a name is a name by itself, known or popular."""
        if "." not in fresh or not exists(fresh.rpartition(".")[2]):
            return False
        domain = classify(fresh).zone
        if self.priors.popular.prior(domain) is not Prior.UNKNOWN:
            return True
        zone = self._tables.zones.get(domain)
        return zone is not None and (fresh == domain or self.is_known(self.hash_of(fresh)))

    def _label(self, zone: Zone, label: str, parent: str, hashes: list[int]) -> float:
        """Return the octets that a new label carries, weighted by how unlike an ordinary one it is."""
        octets, hash_of, knows = self._octets(label), self.hash_of, self.table.knows
        template = label.translate(_DIGITS)
        digits = template.count("0")
        if 0 < digits <= _TEMPLATE_DIGITS:
            # One more of a numbered row (`cdn12`, `cdn13`) tells its number.
            value = hash_of(f"{template}#{parent}")
            if knows(value):
                return min(octets, numbered(digits))
            hashes.append(value)
        if octets <= _CHEAP:
            return octets
        value = hash_of(f"{label}*{zone.key}")
        if knows(value):
            return _SYLLABLE
        hashes.append(value)
        if digits <= _MACHINE_DIGITS and (words := _WORDS.findall(label)):
            values = [hash_of(f"{word}+{zone.key}") for word in words]
            unknown = [value for value in values if not knows(value)]
            if not unknown:
                of_words = sum(_WORD if len(word) >= _SHORT else _SYLLABLE for word in words)
                return min(octets, of_words + numbered(digits))
            hashes += unknown
        return octets

    def _reverse(self, zone: Zone, name: str) -> News:
        if zone.key == "arpa":
            return _NOTHING  # 32 bits over all holders of networks
        value = self.hash_of(name)
        if self.is_known(value):
            return _NOTHING
        nibbles = (len(name) - len(zone.key)) // 2
        network = name[-2 * 16 - len("ip6.arpa") :]
        hashes, known = [value], self.hash_of(network)
        if self.is_known(known):
            nibbles -= 4
        else:
            hashes.append(known)
        octets = max(0, nibbles) / 2
        return News(octets, octets, False, hashes)
