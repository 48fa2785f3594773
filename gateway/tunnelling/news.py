"""What a query tells a zone that the zone was not told before.

Pure: no I/O, no clock. A label that was asked for is no news. A new one carries what it has under the character
model, weighted by how unlike an ordinary one it is.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from gateway.memo import Memo
from gateway.tunnelling.accounts import SharedTable
from gateway.tunnelling.charmodel import CharacterModel
from gateway.tunnelling.labels import CHEAP, SYLLABLE, Label, Labels, below
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
_ARPA_6 = ".ip6.arpa"
_TYPES = 256
"""Query types whose numbers are at hand."""
_EXPANDED = 0.2
"""Octets of a name that is known elsewhere with a search domain behind it: `api.github.com.example.org`."""


class News(NamedTuple):
    """What a name tells a zone."""

    octets: float
    plain: float
    """Without the weight of the type; 0 where standards put hashes."""
    heavy: bool
    places: dict[int, int]
    """What to remember once it has been told, and where (`SharedTable.learn`)."""


type Told = tuple[float, float, bool, dict[int, int]]
"""The fields of `News`: one is only made of names that are looked at closely."""

_NO_PLACES: dict[int, int] = {}
_NOTHING: Told = (0.0, 0.0, False, _NO_PLACES)


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
        self.hash_of = hash_of
        self.priors = priors
        self.controls = controls
        self.table = table
        """What zones were asked for, by whatever worker."""
        self._tables = tables
        self._labels = Labels(model, hash_of)
        self._types = Memo[int, int](_TYPES)
        self._arpa_6 = hash_of(_ARPA_6[1:])

    def news(self, zone: Zone, name: str, qtype: int) -> Told:
        """Return what is new in a name below its zone."""
        if zone.reverse:
            return self._reverse(zone, name)
        nowhere = zone.prior is Prior.NOWHERE
        if not nowhere:
            rest = name[: -len(zone.key) - 1]
        elif len(name) <= _NETBIOS and "." not in name:
            return _NOTHING
        else:
            rest = name
        value = number = zone.value
        octets, places = 0.0, _NO_PLACES
        if rest:
            place_of, labels, at_hand = self.table.place, self._labels, self._labels.at_hand
            down = []
            for text in reversed(rest.split(".")) if "." in rest else (rest,):
                label = at_hand.get(text) or labels.of(text)
                down.append((value, label))
                value = below(value, label.value)
            number = value
            place = place_of(value)
            if place >= 0:
                places = {}
            while place >= 0:
                places[value] = place
                value, label = down.pop()
                octets += self._label(zone, value, label, places)
                place = place_of(value) if down else -1
        if not octets and qtype in _ADDRESS_TYPES:
            return 0.0, 0.0, False, places
        prescribed = octets >= HEAVY and _PRESCRIBED.search(name) is not None
        plain = 0.0 if prescribed else octets
        heavy = octets >= (_NOWHERE_HEAVY if nowhere else HEAVY) and not prescribed
        if nowhere and self.controls.tlds and not heavy:
            return 0.0, 0.0, False, places  # never leaves
        if octets > 1 and "." in rest and self._is_expanded(rest, len(down)):
            plain = octets = _EXPANDED
            heavy = False
        if qtype not in _ADDRESS_TYPES:
            octets *= 1.0 if prescribed else _DATA_WEIGHT
            value = below(number, self._type(qtype))
            place = self.table.place(value)
            if place >= 0:
                places = {**places, value: place}
                octets += _ROUTINE if qtype in _ROUTINE_TYPES else _UNUSUAL
        return octets, plain, heavy, places

    def _type(self, qtype: int) -> int:
        found = self._types.get(qtype)
        return self._types.keep(qtype, self.hash_of(f" {qtype}")) if found is None else found

    def is_known(self, value: int) -> bool:
        """Say whether a name was asked for before, here or at another worker."""
        return self.table.knows(value)

    def _is_expanded(self, rest: str, known: int) -> bool:
        """Say whether the new part of a name, all but that many labels, is a name by itself, known or popular."""
        fresh = rest.rsplit(".", known)[0]
        if "." not in fresh or not exists(fresh.rpartition(".")[2]):
            return False
        domain = classify(fresh).zone
        if self.priors.popular.prior(domain) is not Prior.UNKNOWN:
            return True
        zone = self._tables.zones.get(domain)
        if zone is None:
            return False
        return fresh == domain or self.is_known(self._labels.number(zone.value, fresh[: -len(domain) - 1]))

    def _label(self, zone: Zone, parent: int, label: Label, places: dict[int, int]) -> float:
        """Return the octets that a new label carries under a parent, weighted by how unlike an ordinary one it is."""
        _, octets, row, row_octets, elsewhere, words, words_octets = label
        place_of = self.table.place
        if row:
            # One more of a numbered row (`cdn12`, `cdn13`) tells its number.
            value = below(parent, row)
            place = place_of(value)
            if place < 0:
                return row_octets
            places[value] = place
        if octets <= CHEAP:
            return octets
        value = below(zone.value, elsewhere)
        place = place_of(value)
        if place < 0:
            return SYLLABLE
        places[value] = place
        if words:
            news = False
            for word in words:
                value = below(zone.value, word)
                place = place_of(value)
                if place >= 0:
                    news, places[value] = True, place
            if not news:
                return words_octets
        return octets

    def _reverse(self, zone: Zone, name: str) -> Told:
        if zone.key == "arpa":
            return _NOTHING  # 32 bits over all holders of networks
        # Numbered like names below such a network that are no address: `lb._dns-sd._udp.0.8.e.f.ip6.arpa`.
        digits = name[: -len(_ARPA_6)]
        network = self._labels.number(self._arpa_6, digits[-2 * 16 + 1 :])
        value = self._labels.number(network, digits[: -2 * 16]) if len(digits) > 2 * 16 else network
        place = self.table.place(value)
        if place < 0:
            return _NOTHING
        nibbles = (len(name) - len(zone.key)) // 2
        places = {value: place}
        place = self.table.place(network)
        if place < 0:
            nibbles -= 4
        else:
            places[network] = place
        octets = max(0, nibbles) / 2
        return octets, octets, False, places
