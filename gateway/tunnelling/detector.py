"""How much news a client may tell a zone: the verdict on each query before it leaves.

Pure: no I/O, no clock; time is an argument, randomness too (the key of the hashes). The order of the checks:

1. exempt zones and lookup services pass; types and octets of no honest use are refused under unknown zones;
2. a client that was denied once for a zone stays denied until that ages out;
3. new labels are charged what they carry under the character model, known ones nothing;
4. one name with half the budget in it, several heavy names with hardly a light one between, or a budget exceeded is a
   denial: per client and zone, per zone over all clients, and per client over all unknown zones.

What is denied is not accounted, since it does not leave. So what a client tells an unknown zone never exceeds the
budget, whatever it asks for.
"""

import re
from collections.abc import Iterable
from contextlib import nullcontext
from hashlib import blake2b
from typing import NamedTuple

from gateway.decision import Reason
from gateway.tunnelling.accounts import Cell, SharedTable
from gateway.tunnelling.assessment import Assessment, Features, entropy
from gateway.tunnelling.charmodel import CharacterModel
from gateway.tunnelling.priors import FACTORS, Prior, Priors
from gateway.tunnelling.state import Account, Bounds, Tables, Trip, Zone
from gateway.tunnelling.structure import Controls, flaw_of
from gateway.tunnelling.window import Limit, Window
from gateway.tunnelling.zones import NO_TLD, STAYING, classify, exists, is_hosted

STRICT = frozenset([Prior.UNKNOWN, Prior.NOWHERE, Prior.SITE])
"""Zones of which nothing good is known."""
DEFAULT_BUDGET = (Limit(120, 3600), Limit(240, 86400))
ANSWER_BUDGET = Limit(4096, 3600)
"""Octets of answers that can carry data."""
HEAVY = 6.0
"""Octets in one name from which it looks like data: 16 hexadecimal digits are 9, `graph-fallback` 1."""
_HEAVY_SHARE = 0.8
"""Of the new names of a zone: from here on it has hardly an ordinary one."""
_SINGLE_SHARE, _PAIR_SHARE, _FEW_SHARE = 0.3, 1 / 3, 0.2
"""Parts of the budget: one name of that size (before its type counts), two heavy ones, three and more are a tunnel.
Chosen with an eye on the names of 5183 less popular zones that the character model was not trained on, of which 0, 3
and 5 go beyond. So those zones are no test of them; tests/bench/heldout.py has one."""
_SITE_FACTOR = 4
"""How much more all clients together may tell a zone than one of them."""
_SITE_HEAVY_NAMES = 12
_ALL_FACTOR = 3
"""How much more a client may tell all unknown zones together, in heavy names."""
_SINGLE = 8.0
"""Octets that the first heavy name of a zone may have without counting there."""
_ESTABLISHED_CLIENTS, _ESTABLISHED_DAYS = 3, 3

_ADDRESS_TYPES = frozenset([1, 28, 65, 64, 12])
_ROUTINE_TYPES = frozenset([2, 5, 6, 15, 16, 33, 35, 43, 48, 257])
_DATA_WEIGHT = 1.5
"""For types whose answers are made to carry data: a question that gets more of an answer."""
_ANSWER_WEIGHTS = {1: 0.0, 2: 0.0, 6: 0.0, 12: 0.0, 64: 0.25, 65: 0.25, 43: 0.5, 46: 0.5, 48: 0.5}
"""By the type of the question, where nothing but the size of the answer is known."""
_RECORD = 12
"""Octets of a record beside its data and name."""
_RECORD_WEIGHTS = {1: 0.25, 43: 0.25, 46: 0.25, 47: 0.25, 48: 0.25, 50: 0.25}
"""Of new records: 4 of the 16 octets of an A record are data. Signatures differ for each name by nature."""
_ROUTINE, _UNUSUAL = 0.25, 1.0
"""Octets that a known name carries when another type is asked for."""

_LOW_RATE, _RATE_SPAN, _LEAST_WEIGHT = 3.6, 1.6, 0.15
"""Ordinary labels have 3.2 to 4.3 bits a character (quartiles of popular names held out), hexadecimal
text 5 and more."""
_MOST_BITS = 5.25
"""A character of a name that is not case-sensitive carries no more (37 symbols)."""
_DIGIT_BITS = 3.33
_TEMPLATE_DIGITS = 10
_NETBIOS = 15
"""Longest host name of Windows networks; browsers probe with 7 to 15 random letters."""
_PRESCRIBED = re.compile(r"\._domainkey\.|^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(?:domains\.)?_msdcs\.")
"""Places where standards put hashes and GUIDs: selectors of DKIM, domain controllers. They count, but a few are no
tunnel yet."""
_NOWHERE_HEAVY = 10.0
"""HEAVY, where nothing leaves: `desktop-c0ckdb9` under a domain that nobody registered is no tunnel."""
_EXPANDED = 0.2
"""Octets of a name that is known elsewhere with a search domain behind it: `api.github.com.example.org`."""
_DIGITS = str.maketrans("0123456789", "0000000000")


class News(NamedTuple):
    """What a name tells a zone."""

    octets: float
    plain: float
    """Without the weight of the type."""
    heavy: bool
    hashes: list[int]
    """What to remember once it has been told."""


_ALONE = nullcontext()
_NOTHING = News(0.0, 0.0, False, [])


class _Finding(NamedTuple):
    """Why a query is denied."""

    reason: Reason
    why: str
    limit: Limit
    lasting: bool = True
    """The client may tell the zone nothing more. Not so when it is denied for what others did, or for other zones."""


class Detector:
    """Accounts for what clients tell zones. Not for several threads."""

    def __init__(
        self,
        model: CharacterModel,
        priors: Priors,
        *,
        budget: Iterable[Limit] = DEFAULT_BUDGET,
        controls: Controls = Controls(),  # noqa: B008 -- immutable
        bounds: Bounds = Bounds(),  # noqa: B008
        key: bytes = b"",
    ) -> None:
        """Begin with nothing known. The key, up to 64 octets, keeps clients from crafting names with equal hashes."""
        self._model = model
        self._priors = priors
        self._budget = tuple(sorted(budget, key=lambda limit: limit.seconds))
        self._controls = controls
        self.key = key
        self.tables = Tables(bounds, self._budget, self._hash)
        self._shared: SharedTable | None = None

    def share(self, table: SharedTable | None) -> None:
        """Have accounts and known names in common with other workers from now on. The detector was made with the
        key of the table.

        Raises:
            ValueError: with another key, or for other windows.
        """
        if table is not None:
            windows = {ANSWER_BUDGET.seconds, *(limit.seconds for limit in self._budget)}
            if table.key != self.key or not windows <= set(table.seconds):
                raise ValueError("a table with another key, or for other windows")
        self._shared = table

    # -- questions ---------------------------------------------------------------------------------------------

    def query(self, now: float, client: str, name: str, qtype: int, *, enforced: bool = True) -> Assessment:
        """Assess a query that is about to leave, and account for it if it is allowed: or if it is not `enforced`,
        since it leaves then whatever is found.

        `name` is in normal form (`gateway.names`); time in seconds, never going back.
        """
        zone = self._zone(now, name)
        zone.asked(now, client, qtype)
        if zone.factor is None or (zone.divided and self._priors.of_name(name) is not None):
            return Assessment(False, zone.key, zone.prior)
        if zone.prior in STRICT and not zone.reverse:
            flaw = flaw_of(name, qtype, self._controls)
            if flaw is not None:
                if not enforced:
                    self._let_pass(now, client, zone, name, qtype)
                return self._flawed(now, client, zone, name, qtype, flaw)
        if (trip := self._trip_in_force(now, client, zone)) is not None:
            if not enforced:
                trip = trip._replace(out=trip.out + self._let_pass(now, client, zone, name, qtype))
            return self._again(now, trip, zone, name)
        news = self._news(zone, name, qtype)
        if name == zone.key:
            zone.apex = True
        if news.octets <= 0:
            if news.hashes:
                self.tables.learn(now, zone, news.hashes)
            return Assessment(False, zone.key, zone.prior)
        account = self.tables.account(now, client, zone.key)
        first = self._budget[0]
        with self._shared.lock if self._shared is not None else _ALONE:
            verdict = self._verdict(now, client, zone, account, news) or self._shared_verdict(
                now, client, zone, account, news
            )
            if verdict is not None:
                if not enforced:
                    self._commit(now, client, zone, account, name, news)
                return self._deny(now, client, zone, name, news.octets, verdict)
            used = account.up.spent(now, first.seconds)
            self._commit(now, client, zone, account, name, news)
        return Assessment(
            False, zone.key, zone.prior, news.octets, used, first.octets * self._factor(zone), first.seconds
        )

    def _let_pass(self, now: float, client: str, zone: Zone, name: str, qtype: int) -> float:
        """Account for what is only reported. Returns the octets."""
        news = self._news(zone, name, qtype)
        if news.octets > 0:
            self._commit(now, client, zone, self.tables.account(now, client, zone.key), name, news)
        return news.octets

    def closed(self, now: float, client: str, name: str) -> Assessment | None:
        """Assess a query that would be answered from what is kept here: None, unless the client was denied before.

        Nothing leaves by such a query. But the zone may have told more in an answer than the client may get, and that
        answer is in the cache.
        """
        if client not in self.tables.tripped:
            return None
        zone = self._zone(now, name)
        if zone.factor is None or (zone.divided and self._priors.of_name(name) is not None):
            return None
        trip = self._trip_in_force(now, client, zone)
        return None if trip is None else self._again(now, trip, zone, name)

    def _trip_in_force(self, now: float, client: str, zone: Zone) -> Trip | None:
        trip = self.tables.trips.get((client, zone.key))
        if trip is not None and now >= trip.until:
            self.tables.untrip(client, zone.key)
            return None
        return trip

    def use(self, priors: Priors, budget: Iterable[Limit], controls: Controls) -> None:
        """Go on with another configuration. What was accounted stays."""
        self._priors, self._controls = priors, controls
        self._budget = tuple(sorted(budget, key=lambda limit: limit.seconds))
        self.tables.longest = max(limit.seconds for limit in self._budget)
        for zone in self.tables.zones.values():
            usual = Prior.UNKNOWN if zone.prior in _CONFIGURED else zone.prior
            fresh = self.make_zone(zone.first, zone.key, zone.reverse, usual)
            zone.prior, zone.factor, zone.divided = fresh.prior, fresh.factor, fresh.divided

    def observe(self, now: float, client: str, name: str, qtype: int) -> None:
        """Account for a query that somebody else has allowed: another worker of the same service."""
        zone = self._zone(now, name)
        zone.asked(now, client, qtype)
        if zone.factor is None or (zone.divided and self._priors.of_name(name) is not None):
            return
        news = self._news(zone, name, qtype)
        if news.octets > 0:
            self._commit(now, client, zone, self.tables.account(now, client, zone.key), name, news)
        elif news.hashes:
            self.tables.learn(now, zone, news.hashes)

    def prior(self, now: float, name: str) -> Prior:
        """Return what is known of the zone of a name."""
        zone = self._zone(now, name)
        return (zone.divided and self._priors.of_name(name)) or zone.prior

    def _zone(self, now: float, name: str) -> Zone:
        kind = classify(name)
        zone = self.tables.zone(kind.zone)
        if zone is None:
            if kind.private:
                prior = Prior.SITE if "." in kind.zone else Prior.PRIVATE
            elif kind.zone == NO_TLD:
                prior = Prior.NOWHERE
            elif kind.reverse:
                prior = Prior.REVERSE
            else:
                prior = Prior.UNKNOWN if is_hosted(kind.zone) else self._priors.popular.prior(kind.zone)
            zone = self.make_zone(now, kind.zone, kind.reverse, prior)
            self.tables.add_zone(now, zone, self._hash(kind.zone))
        elif (
            zone.prior is Prior.UNKNOWN
            and zone.days >= _ESTABLISHED_DAYS
            and len(zone.clients) >= _ESTABLISHED_CLIENTS
            and zone.heavy * 2 < zone.new
        ):
            zone.prior, zone.factor = Prior.ESTABLISHED, FACTORS[Prior.ESTABLISHED]
        return zone

    def make_zone(self, now: float, key: str, reverse: bool, prior: str) -> Zone:
        """Return a zone as it begins; what the configuration says of it comes before what it was."""
        known = self._priors.of_name(key)
        prior = known or Prior(prior)
        factor = FACTORS.get(prior)
        if key in STAYING:
            factor = None
        return Zone(key, prior, factor, now, reverse=reverse, divided=self._priors.divides(key))

    def _verdict(self, now: float, client: str, zone: Zone, account: Account, news: News) -> _Finding | None:
        """Return why a query is denied, or None."""
        budget, factor = self._budget, self._factor(zone)
        octets = news.octets
        if octets > budget[0].octets / 2 * factor or (
            news.plain > budget[0].octets * _SINGLE_SHARE and zone.prior in STRICT
        ):
            return _Finding(Reason.DNS_TUNNEL, f"one name with {octets:.0f} octets of new information", budget[0])
        if (limit := account.up.exceeds(now, octets, budget, factor)) is not None:
            return _Finding(Reason.LEAK_BUDGET, "more new information than this client may tell the zone", limit)
        if zone.site is not None:
            if now < zone.until:
                return _Finding(Reason.DNS_TUNNEL, "many clients told this zone too much", budget[0], lasting=False)
            if (limit := zone.site.exceeds(now, octets, budget, factor * _SITE_FACTOR)) is not None:
                zone.until = now + self.tables.longest
                why = "more new information than all clients together may tell the zone"
                return _Finding(Reason.LEAK_BUDGET, why, limit, lasting=False)
        return self._data_verdict(now, client, zone, account, news) if news.heavy and zone.prior in STRICT else None

    def _shared_verdict(self, now: float, client: str, zone: Zone, account: Account, news: News) -> _Finding | None:
        """Return why a query is denied for what other workers have allowed, or None. Its spending is noted there."""
        shared, budget, factor = self._shared, self._budget, self._factor(zone)
        if shared is None:
            return None
        own = shared.open(now, self._hash(f"{client} {zone.key}"))
        site = shared.open(now, self._hash(f"site {zone.key}"))
        if now < own.until:
            return _Finding(Reason.DNS_TUNNEL, "another worker has denied the zone to this client", budget[0])
        if (limit := own.exceeds(now, news.octets, budget, factor)) is not None:
            return _Finding(Reason.LEAK_BUDGET, "more new information than this client may tell the zone", limit)
        if (limit := site.exceeds(now, news.octets, budget, factor * _SITE_FACTOR)) is not None:
            why = "more new information than all clients together may tell the zone"
            return _Finding(Reason.LEAK_BUDGET, why, limit, lasting=False)
        whole = None
        if zone.prior in STRICT and news.heavy:
            account.new, account.heavy = max(account.new, own.new), max(account.heavy, own.heavy)
            if (verdict := self._data_verdict(now, client, zone, account, news, own)) is not None:
                return verdict
            if counted := self._counted(zone, account, news):
                whole = shared.open(now, self._hash(f"all {client}"))
                if (limit := whole.exceeds(now, counted, budget, _ALL_FACTOR)) is not None:
                    why = "more names that look like data than a client may tell all unknown zones together"
                    return _Finding(Reason.LEAK_BUDGET, why, limit, lasting=False)
                whole.add(now, counted)
        own.add(now, news.octets, new=1, heavy=news.heavy)
        site.add(now, news.octets)
        for cell in (site, own) if whole is None else (whole, site, own):
            shared.store(cell)
        shared.learn(news.hashes)
        return None

    def _data_verdict(
        self, now: float, client: str, zone: Zone, account: Account, news: News, shared: Cell | None = None
    ) -> _Finding | None:
        """Return why a name that looks like data is denied under an unknown zone, or None."""
        budget = self._budget
        used = account.up.spent(now, budget[0].seconds)
        if shared is not None:
            used = max(used, shared.spent(now, budget[0].seconds))
        used += news.octets
        heavy, new = account.heavy + 1, account.new + 1 + zone.apex
        enough = _PAIR_SHARE if heavy == 2 else _FEW_SHARE
        if heavy >= 2 and heavy >= _HEAVY_SHARE * new and used > budget[0].octets * enough:
            return _Finding(Reason.DNS_TUNNEL, f"{heavy} of {new} new names look like data", budget[0])
        heavy, new, clients = zone.heavy + 1, zone.new + 1, len(zone.clients)
        if heavy >= _SITE_HEAVY_NAMES and heavy >= _HEAVY_SHARE * new and clients >= _ESTABLISHED_CLIENTS:
            zone.until = now + self.tables.longest
            why = f"{heavy} of {new} new names look like data, from {clients} or more clients"
            return _Finding(Reason.DNS_TUNNEL, why, budget[0], lasting=False)
        counted = self._counted(zone, account, news)
        whole = self.tables.client(now, client).all
        if counted and whole is not None:
            limit = whole.exceeds(now, counted, budget, _ALL_FACTOR)
            if limit is not None:
                why = "more names that look like data than a client may tell all unknown zones together"
                return _Finding(Reason.LEAK_BUDGET, why, limit, lasting=False)
        return None

    def _flawed(self, now: float, client: str, zone: Zone, name: str, qtype: int, flaw: str) -> Assessment:
        """Refuse a query for its form. With names that look like data beside it, it is a tunnel and not a mistake."""
        news = self._news(zone, name, qtype)
        account = self.tables.account(now, client, zone.key)
        finding = _Finding(Reason.DNS_TUNNEL, flaw, self._budget[0], lasting=news.heavy or account.heavy > 0)
        return self._deny(now, client, zone, name, news.octets, finding)

    def _counted(self, zone: Zone, account: Account, news: News) -> float:
        """Return what a heavy name adds to what its client told all unknown zones together."""
        if zone.prior is Prior.SITE:
            return 0.0  # one domain for a network, with all its machines
        if account.heavy == 0:
            return max(0.0, news.octets - _SINGLE)
        return news.octets if (account.heavy + 1) * 2 > account.new + 1 else 0.0

    def _commit(self, now: float, client: str, zone: Zone, account: Account, name: str, news: News) -> None:
        longest = self.tables.longest
        if zone.prior in STRICT and news.heavy and (counted := self._counted(zone, account, news)):
            owner = self.tables.client(now, client)
            if owner.all is None:
                owner.all = Window()
            owner.all.add(now, counted, longest)
        account.up.add(now, news.octets, longest)
        account.sample(name)
        if zone.site is None:
            zone.site = Window()
        zone.site.add(now, news.octets, longest)
        account.new += 1
        zone.new += 1
        if news.heavy:
            account.heavy += 1
            zone.heavy += 1
        self.tables.learn(now, zone, news.hashes)

    def _factor(self, zone: Zone) -> float:
        return zone.factor or 0.0

    # -- what a name carries -----------------------------------------------------------------------------------

    def _hash(self, text: str) -> int:
        return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8, key=self.key).digest(), "big")

    def _news(self, zone: Zone, name: str, qtype: int) -> News:
        """Return what is new in a name below its zone."""
        if zone.reverse:
            return self._reverse_news(zone, name)
        nowhere = zone.prior is Prior.NOWHERE
        if nowhere:
            if len(name) <= _NETBIOS and "." not in name:
                return _NOTHING
            rest, suffix = name, ""
        else:
            rest, suffix = name[: -len(zone.key) - 1], "." + zone.key
        hashes: list[int] = []
        octets = 0.0
        while rest:
            value = self._hash(rest + suffix)
            if self._is_known(zone, value):
                break
            hashes.append(value)
            label, _, above = rest.partition(".")
            octets += self._label(zone, label, above + suffix, hashes)
            rest = above
        plain = octets
        prescribed = octets >= HEAVY and _PRESCRIBED.search(name) is not None
        heavy = octets >= (_NOWHERE_HEAVY if nowhere else HEAVY) and not prescribed
        if nowhere and self._controls.tlds and not heavy:
            return News(0.0, 0.0, False, hashes)  # never leaves
        if octets > 1 and (fresh := name[: len(name) - len(rest + suffix)].rstrip(".")) and self._is_expanded(fresh):
            plain = octets = _EXPANDED
            heavy = False
        if qtype not in _ADDRESS_TYPES:
            octets *= 1.0 if prescribed else _DATA_WEIGHT
            value = self._hash(f"{name}/{qtype}")
            if not self._is_known(zone, value):
                hashes.append(value)
                octets += _ROUTINE if qtype in _ROUTINE_TYPES else _UNUSUAL
        return News(octets, plain, heavy, hashes)

    def _is_known(self, zone: Zone, value: int) -> bool:
        return zone.knows(value) or (self._shared is not None and self._shared.knows(value))

    def _is_expanded(self, fresh: str) -> bool:
        """Say whether the new part of a name is a name by itself, known or popular."""
        if "." not in fresh or not exists(fresh.rpartition(".")[2]):
            return False
        domain = classify(fresh).zone
        if not is_hosted(domain) and self._priors.popular.prior(domain) is not Prior.UNKNOWN:
            return True
        zone = self.tables.zones.get(domain)
        return zone is not None and (fresh == domain or zone.knows(self._hash(fresh)))

    def _label(self, zone: Zone, label: str, parent: str, hashes: list[int]) -> float:
        """Return the octets that a new label carries, weighted by how unlike an ordinary one it is."""
        bits = self._model.bits(label)
        length = len(label)
        weight = min(1.0, max(_LEAST_WEIGHT, (bits / length - _LOW_RATE) / _RATE_SPAN))
        octets = min(bits, _MOST_BITS * length) * weight / 8
        template = label.translate(_DIGITS)
        digits = template.count("0")
        if 0 < digits <= _TEMPLATE_DIGITS:
            # One more of a numbered row (`cdn12`, `cdn13`) tells its number.
            value = self._hash(f"{template}#{parent}")
            if self._is_known(zone, value):
                return min(octets, digits * _DIGIT_BITS / 8)
            hashes.append(value)
        return octets

    def _reverse_news(self, zone: Zone, name: str) -> News:
        if zone.key == "arpa":
            return _NOTHING  # 32 bits over all holders of networks
        value = self._hash(name)
        if self._is_known(zone, value):
            return _NOTHING
        nibbles = (len(name) - len(zone.key)) // 2
        network = name[-2 * 16 - len("ip6.arpa") :]
        hashes, known = [value], self._hash(network)
        if self._is_known(zone, known):
            nibbles -= 4
        else:
            hashes.append(known)
        octets = max(0, nibbles) / 2
        return News(octets, octets, False, hashes)

    # -- answers -----------------------------------------------------------------------------------------------

    def response(
        self,
        now: float,
        client: str,
        name: str,
        qtype: int,
        octets: int,
        *,
        rcode: int = 0,
        contents: Iterable[tuple[int, bytes]] | None = None,
        enforced: bool = True,
    ) -> Assessment:
        """Assess an answer before the client gets it, and account for it if it is allowed or not `enforced`.

        `octets` is the size of the message. `contents`, types and data of its records, say what of it is new: a
        record that came before, under whatever name, tells the client nothing. Without them, an answer of the same
        size is taken for the same one.
        """
        zone = self._zone(now, name)
        zone.replies += 1
        zone.nxdomain += rcode == 3
        zone.answers += octets
        if zone.factor is None or (zone.divided and self._priors.of_name(name) is not None):
            return Assessment(False, zone.key, zone.prior)
        if contents is not None and zone.prior in STRICT:
            counted, hashes = self._new_records(zone, contents)
        else:
            counted, hashes = octets * _ANSWER_WEIGHTS.get(qtype, 1.0), [self._hash(f"{name}/{qtype}/{octets}")]
            if rcode or self._is_known(zone, hashes[0]):
                counted = 0.0
        if not counted:
            return Assessment(False, zone.key, zone.prior)
        account = self.tables.account(now, client, zone.key)
        if account.down is None:
            account.down = Window()
        factor = self._factor(zone)
        with self._shared.lock if self._shared is not None else _ALONE:
            down = self._shared.open(now, self._hash(f"down {client} {zone.key}")) if self._shared else None
            over = account.down.exceeds(now, counted, [ANSWER_BUDGET], factor) or (
                down and down.exceeds(now, counted, [ANSWER_BUDGET], factor)
            )
            if over is None and down is not None and self._shared is not None:
                down.add(now, counted)
                self._shared.store(down)
                self._shared.learn(hashes)
        if over is not None:
            why = "more in answers than this client may get from the zone"
            finding = _Finding(Reason.DNS_TUNNEL, why, ANSWER_BUDGET)
            if not enforced:
                account.down.add(now, counted, self.tables.longest)
                self.tables.learn(now, zone, hashes)
            return self._deny(now, client, zone, name, counted, finding, account.down)
        used = account.down.spent(now, ANSWER_BUDGET.seconds)
        account.down.add(now, counted, self.tables.longest)
        self.tables.learn(now, zone, hashes)
        return Assessment(
            False, zone.key, zone.prior, counted, used, ANSWER_BUDGET.octets * factor, ANSWER_BUDGET.seconds
        )

    def _new_records(self, zone: Zone, contents: Iterable[tuple[int, bytes]]) -> tuple[float, list[int]]:
        """Return the octets of the records that the zone has not sent before, weighted, and their hashes."""
        counted, hashes = 0.0, []
        for rtype, data in contents:
            value = int.from_bytes(blake2b(data, digest_size=8, key=self.key).digest(), "big")
            if value not in hashes and not self._is_known(zone, value):
                hashes.append(value)
                counted += (len(data) + _RECORD) * _RECORD_WEIGHTS.get(rtype, 1.0)
        return counted, hashes

    # -- denials -----------------------------------------------------------------------------------------------

    def _deny(
        self,
        now: float,
        client: str,
        zone: Zone,
        name: str,
        octets: float,
        finding: _Finding,
        window: Window | None = None,
    ) -> Assessment:
        account = self.tables.account(now, client, zone.key)
        account.sample(name)
        limit = finding.limit
        longest = self.tables.longest
        trip = self._trip(now, client, zone, account, finding) if finding.lasting else None
        if trip is not None:
            self._close(now, client, zone)
            self.tables.trip(trip)
        return Assessment(
            True,
            zone.key,
            zone.prior,
            octets,
            (window or account.up).spent(now, limit.seconds),
            limit.octets * self._factor(zone),
            limit.seconds,
            finding.reason,
            finding.why,
            self.features(zone, name),
            account.up.spent(now, longest),
            account.down.spent(now, longest) if account.down is not None else 0.0,
            trip.until - now if trip is not None else 0.0,
            trip.curve if trip is not None else (),
        )

    def _close(self, now: float, client: str, zone: Zone) -> None:
        if self._shared is not None:
            with self._shared.lock:
                cell = self._shared.open(now, self._hash(f"{client} {zone.key}"))
                cell.close(now + self.tables.longest)
                self._shared.store(cell)

    def _trip(self, now: float, client: str, zone: Zone, account: Account, finding: _Finding) -> Trip:
        longest = self.tables.longest
        curve: list[tuple[float, float]] = []
        total = 0.0
        for time, spent in account.up.entries():
            total += spent
            curve.append((time, round(total, 1)))
        return Trip(
            client,
            zone.key,
            finding.reason.value,
            finding.why,
            zone.first,
            now + longest,
            total,
            account.down.spent(now, longest) if account.down is not None else 0.0,
            account.samples,
            tuple(curve),
            1,
            now,
        )

    def _again(self, now: float, trip: Trip, zone: Zone, name: str) -> Assessment:
        trip = trip._replace(refused=trip.refused + 1, last=now)
        self.tables.trips[trip.client, trip.zone] = trip
        limit = self._budget[0]
        return Assessment(
            True,
            zone.key,
            zone.prior,
            0.0,
            trip.out,
            limit.octets * self._factor(zone),
            limit.seconds,
            Reason(trip.reason),
            f"denied before: {trip.why}",
            self.features(zone, name),
            trip.out,
            trip.answers,
            trip.until - now,
        )

    def features(self, zone: Zone, name: str) -> Features:
        """Return what an analyst wants to see."""
        below = name if zone.prior is Prior.NOWHERE else name.removesuffix(zone.key).rstrip(".")
        minutes = max(1.0, (zone.last - zone.first) / 60)
        types = sorted((zone.types or {}).items(), key=lambda item: -item[1])
        return Features(
            entropy(below.replace(".", "")),
            len(name),
            sum(self._model.bits(label) for label in below.split(".") if label),
            zone.names,
            zone.queries,
            zone.queries / minutes,
            tuple(types),
            zone.nxdomain / zone.replies if zone.replies else 0.0,
            zone.answers,
            zone.first,
        )

    def release(self, now: float, client: str, zone: str) -> bool:
        """Let a client begin anew with a zone. Says whether it was denied."""
        if self._shared is not None:
            with self._shared.lock:
                for account in (f"{client} {zone}", f"down {client} {zone}"):
                    self._shared.forget(now, self._hash(account))
        self.tables.forget(client, zone)
        return self.tables.untrip(client, zone)


_CONFIGURED = frozenset([Prior.EXEMPT, Prior.SERVICE])
