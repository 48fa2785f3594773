"""How much is too much: what a client may tell a zone, all clients together, and one client all unknown zones.

Pure: no I/O, no clock.
"""

from collections.abc import Callable
from typing import NamedTuple

from gateway.decision import Reason
from gateway.tunnelling.accounts import Cell, SharedTable
from gateway.tunnelling.news import News
from gateway.tunnelling.priors import Prior
from gateway.tunnelling.state import Account, Tables, Zone
from gateway.tunnelling.window import Limit, Window

STRICT = frozenset([Prior.UNKNOWN, Prior.NOWHERE, Prior.SITE])
"""Zones of which nothing good is known."""
_HEAVY_SHARE = 0.8
"""Of the new names of a zone: from here on it has hardly an ordinary one."""
_SINGLE_SHARE, _PAIR_SHARE, _FEW_SHARE = 0.3, 0.2, 0.2
"""Parts of the budget: one name of that size (before its type counts), two heavy ones, three and more are a
tunnel."""
_ASKED_SHARE = 0.2
"""The same for one name when it is not for an address: nobody asks for the TXT or MX of random letters, but where
standards put them (`news._PRESCRIBED`), or delegate a proof of control to (one GUID, 22 octets)."""
_LONG_SHARE = 0.4
"""The same for four and more heavy ones in the longest window. All of these were chosen with an eye on the names of
9815 less popular zones, a third of them at a time left out when the model was trained: 4 go beyond a budget, and 1
beyond these. So those zones are no test of them; tests/bench/heldout.py has one."""
_SITE_FACTOR = 4
"""How much more all clients together may tell a zone than one of them."""
_MANY = 4
_SITE_HEAVY_NAMES, _MANY_CLIENTS = 12, 3
_ALL_FACTOR, _ZONES_OF_ONE = 3, 200
"""How much more a client may tell all unknown zones together, in heavy names; and as many times that as it has that
many zones: an address that hides a thousand people comes upon more of them than one desk."""
_SINGLE = 8.0
"""Octets that the first heavy name of a zone may have without counting there."""


class Finding(NamedTuple):
    """Why a query is denied."""

    reason: Reason
    why: str
    limit: Limit
    lasting: bool = True
    """The client may tell the zone nothing more. Not so when it is denied for what others did, or for other zones."""


def factor_of(zone: Zone) -> float:
    """Return how many times the budget a zone has; 0: there is none to have."""
    return zone.factor or 0.0


class Limits:
    """Compares what a name would tell with what was told, and notes what is let pass."""

    def __init__(self, tables: Tables, hash_of: Callable[[str], int], budget: tuple[Limit, ...]) -> None:
        self.budget = budget
        """The shortest window first."""
        self.shared: SharedTable | None = None
        """What other workers have let pass."""
        self._tables = tables
        self._hash_of = hash_of

    def finding(self, now: float, client: str, zone: Zone, account: Account, news: News) -> Finding | None:
        """Return why a query is denied, or None."""
        budget, factor = self.budget, factor_of(zone)
        octets = news.octets
        share = _ASKED_SHARE if news.heavy and octets > news.plain else _SINGLE_SHARE
        if octets > budget[0].octets / 2 * factor or (zone.prior in STRICT and news.plain > budget[0].octets * share):
            return Finding(Reason.DNS_TUNNEL, f"one name with {octets:.0f} octets of new information", budget[0])
        if (limit := account.up.exceeds(now, octets, budget, factor)) is not None:
            return Finding(Reason.LEAK_BUDGET, "more new information than this client may tell the zone", limit)
        if zone.site is not None:
            if now < zone.until:
                return Finding(Reason.DNS_TUNNEL, "many clients told this zone too much", budget[0], lasting=False)
            if (limit := zone.site.exceeds(now, octets, budget, factor * _SITE_FACTOR)) is not None:
                zone.until = now + self._tables.longest
                why = "more new information than all clients together may tell the zone"
                return Finding(Reason.LEAK_BUDGET, why, limit, lasting=False)
        return self._data_finding(now, client, zone, account, news) if news.heavy and zone.prior in STRICT else None

    def shared_finding(self, now: float, client: str, zone: Zone, account: Account, news: News) -> Finding | None:
        """Return why a query is denied for what other workers have allowed, or None. Its spending is noted there."""
        shared, budget, factor = self.shared, self.budget, factor_of(zone)
        if shared is None:
            return None
        own = shared.open(now, self._hash_of(f"{client} {zone.key}"))
        site = shared.open(now, self._hash_of(f"site {zone.key}"))
        if now < own.until:
            return Finding(Reason.DNS_TUNNEL, "another worker has denied the zone to this client", budget[0])
        if (limit := own.exceeds(now, news.octets, budget, factor)) is not None:
            return Finding(Reason.LEAK_BUDGET, "more new information than this client may tell the zone", limit)
        if (limit := site.exceeds(now, news.octets, budget, factor * _SITE_FACTOR)) is not None:
            why = "more new information than all clients together may tell the zone"
            return Finding(Reason.LEAK_BUDGET, why, limit, lasting=False)
        whole = None
        if zone.prior in STRICT and news.heavy:
            account.new, account.heavy = max(account.new, own.new), max(account.heavy, own.heavy)
            if (verdict := self._data_finding(now, client, zone, account, news, own)) is not None:
                return verdict
            if counted := self._counted(zone, account, news):
                whole = shared.open(now, self._hash_of(f"all {client}"))
                if (limit := whole.exceeds(now, counted, budget, self._all_factor(now, client))) is not None:
                    why = "more names that look like data than a client may tell all unknown zones together"
                    return Finding(Reason.LEAK_BUDGET, why, limit, lasting=False)
                whole.add(now, counted)
        own.add(now, news.octets, new=1, heavy=news.heavy)
        site.add(now, news.octets)
        for cell in (site, own) if whole is None else (whole, site, own):
            shared.store(cell)
        shared.learn(news.hashes)
        return None

    def _data_finding(
        self, now: float, client: str, zone: Zone, account: Account, news: News, shared: Cell | None = None
    ) -> Finding | None:
        """Return why a name that looks like data is denied under an unknown zone, or None."""
        budget = self.budget
        # A network's machines may have random names (clouds do that), but nobody asks for their TXT.
        most = budget[0].octets * (factor_of(zone) if news.octets <= news.plain else 1.0)
        used = account.up.spent(now, budget[0].seconds)
        if shared is not None:
            used = max(used, shared.spent(now, budget[0].seconds))
        used += news.octets
        heavy, new = account.heavy + 1, account.new + 1 + zone.apex
        enough = _PAIR_SHARE if heavy == 2 else _FEW_SHARE
        if heavy >= 2 and heavy >= _HEAVY_SHARE * new and used > most * enough:
            return Finding(Reason.DNS_TUNNEL, f"{heavy} of {new} new names look like data", budget[0])
        if heavy >= _MANY and heavy >= _HEAVY_SHARE * new and not shared:
            used = account.up.spent(now, budget[-1].seconds) + news.octets
            if used > most * _LONG_SHARE:
                return Finding(Reason.DNS_TUNNEL, f"{heavy} of {new} new names look like data", budget[-1])
        heavy, new, clients = zone.heavy + 1, zone.new + 1, len(zone.clients)
        if heavy >= _SITE_HEAVY_NAMES and heavy >= _HEAVY_SHARE * new and clients >= _MANY_CLIENTS:
            zone.until = now + self._tables.longest
            why = f"{heavy} of {new} new names look like data, from {clients} or more clients"
            return Finding(Reason.DNS_TUNNEL, why, budget[0], lasting=False)
        counted = self._counted(zone, account, news)
        whole = self._tables.client(now, client).all
        if counted and whole is not None:
            limit = whole.exceeds(now, counted, budget, self._all_factor(now, client))
            if limit is not None:
                why = "more names that look like data than a client may tell all unknown zones together"
                return Finding(Reason.LEAK_BUDGET, why, limit, lasting=False)
        return None

    def _all_factor(self, now: float, client: str) -> float:
        return _ALL_FACTOR * max(1.0, len(self._tables.client(now, client).accounts) / _ZONES_OF_ONE)

    def _counted(self, zone: Zone, account: Account, news: News) -> float:
        """Return what a heavy name adds to what its client told all unknown zones together."""
        if zone.prior is Prior.SITE:
            return 0.0  # one domain for a network, with all its machines
        if account.heavy == 0:
            return max(0.0, news.octets - _SINGLE)
        return news.octets if (account.heavy + 1) * 2 > account.new + 1 else 0.0

    def commit(self, now: float, client: str, zone: Zone, account: Account, name: str, news: News) -> None:
        """Note what leaves."""
        longest = self._tables.longest
        if zone.prior in STRICT and news.heavy and (counted := self._counted(zone, account, news)):
            owner = self._tables.client(now, client)
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
        self._tables.learn(now, zone, news.hashes)
