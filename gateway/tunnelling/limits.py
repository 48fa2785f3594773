"""How much is too much: what a client may tell a zone, all clients together, and one client all unknown zones.

Pure: no I/O, no clock.
"""

from typing import NamedTuple

from gateway.decision import Reason
from gateway.tunnelling.accounts import GRAIN, MOST, Facts, SharedTable, grains, paired
from gateway.tunnelling.news import News, Told
from gateway.tunnelling.priors import FACTORS, Prior
from gateway.tunnelling.state import Client, Zone
from gateway.tunnelling.window import Limit

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
_CLOSERS = (Reason.DNS_TUNNEL, Reason.LEAK_BUDGET)
"""Reasons that close a zone, as accounts are marked."""
_MIXED = 0x9E3779B97F4A7C15
_HASHES = 2**64 - 1
_SINGLE = 8.0
"""Octets that the first heavy name of a zone may have without counting there."""


class Finding(NamedTuple):
    """Why a query is denied."""

    reason: Reason
    why: str
    limit: Limit
    lasting: bool = True
    """The client may tell the zone nothing more. Not so when it is denied for what others did, or for other zones."""
    again: bool = False
    """The zone was closed to the client before."""


def factor_of(zone: Zone) -> float:
    """Return how many times the budget a zone has; 0: there is none to have."""
    return zone.factor or 0.0


def account_of(client: Client, zone: Zone) -> int:
    """Return the hash that names the account of a client with a zone."""
    return client.value * _MIXED + zone.value & _HASHES


class Total(NamedTuple):
    """What a client has told a zone, and what it had of it, octets."""

    recent: float
    """In the shortest window."""
    out: float
    """In the longest."""
    answers: float
    heavy: int
    reason: Reason
    """Why the zone is closed, if it is."""
    curve: tuple[tuple[float, float], ...]
    """When about how many octets had left."""


class Limits:
    """Compares what a name would tell with what was told, and notes what is let pass."""

    def __init__(self, table: SharedTable, budget: tuple[Limit, ...]) -> None:
        self.use(table, budget)

    def use(self, table: SharedTable, budget: tuple[Limit, ...]) -> None:
        """Go on with another table and other budgets, the shortest window first."""
        self.table, self.budget = table, budget
        self.longest = budget[-1].seconds
        factors = (0.0, *FACTORS.values())
        self._of_factor = {each: (self._times(each), self._times(each * _SITE_FACTOR)) for each in factors}
        """What a client may tell a zone, and what all may."""
        self._pairs = {each: paired(*limits) for each, limits in self._of_factor.items()}
        least = min(budget[0].octets * _SINGLE_SHARE, budget[0].octets / 2)
        self._single = {each: min(least, budget[0].octets / 2 * each) for each in factors}
        """Octets of a name that need no look at it alone."""

    def _times(self, factor: float) -> tuple[int, ...]:
        return tuple(min(MOST, int(limit.octets * factor * GRAIN)) for limit in self.budget)

    def settle(
        self, now: float, client: Client, zone: Zone, told: Told, *, fresh: bool, enforced: bool
    ) -> tuple[Finding | None, float]:
        """Compare a name with what its client has told, and note it if it leaves: if nothing is found, or it is not
        `enforced`. `fresh`: the zone is to know about this client. Returns what is found, and what the client had
        spent in the shortest window.
        """
        table, factor = self.table, zone.factor or 0.0
        octets, _, heavy, places = told
        cost, pair = -int(octets * -GRAIN // 1), client.value * _MIXED + zone.value & _HASHES
        if not heavy and octets <= self._single[factor]:
            with table.lock:
                before, zone.place = table.charge(now, pair, zone.value, cost, self._pairs[factor], zone.place)
                if before >= 0:
                    if fresh:
                        self._visit(now, client, zone, zone.place)
                    table.learn(places)
                    return None, before / GRAIN
        news = News(*told)
        heavy = heavy and zone.strict
        with table.lock:
            own, site = table.open(now, table.pairs, pair), table.open(now, table.zones, zone.value)
            if fresh:
                self._visit(now, client, zone, site)
            used = table.spent(own, 0)
            found = self._finding(now, zone, own, site, news, cost)
            whole = counted = 0
            if heavy:
                facts = table.facts(own)
                if counted := grains(self._counted(zone, facts, news)):
                    whole = table.open(now, table.clients, client.value)
                if found is None:
                    long = table.spent(own, len(self.budget) - 1) + octets
                    found = self._data_finding(now, zone, news, facts, site, used + octets, long)
                if found is None and whole:
                    found = self._whole_finding(client, whole, counted)
            if found is None or not enforced:
                table.spend(own, cost, heavy=news.heavy)
                table.spend(site, cost, heavy=news.heavy)
                if whole:
                    table.spend(whole, counted)
                table.learn(places)
        return found, used

    def _finding(self, now: float, zone: Zone, own: int, site: int, news: News, cost: int) -> Finding | None:
        """Return why a query is denied, or None."""
        table, budget, factor = self.table, self.budget, zone.factor or 0.0
        if now < table.until(own):
            return Finding(Reason.DNS_TUNNEL, "", budget[0], again=True)
        octets, most = news.octets, budget[0].octets
        share = _ASKED_SHARE if news.heavy and octets > news.plain else _SINGLE_SHARE
        if octets > most / 2 * factor or (zone.strict and news.plain > most * share):
            return Finding(Reason.DNS_TUNNEL, f"one name with {octets:.0f} octets of new information", budget[0])
        if (span := table.exceeds(own, cost, self._of_factor[factor][0])) >= 0:
            why = "more new information than this client may tell the zone"
            return Finding(Reason.LEAK_BUDGET, why, budget[span])
        if now < table.until(site):
            return Finding(Reason.DNS_TUNNEL, "many clients told this zone too much", budget[0], lasting=False)
        if (span := table.exceeds(site, cost, self._of_factor[factor][1])) >= 0:
            table.close(site, now + self.longest)
            why = "more new information than all clients together may tell the zone"
            return Finding(Reason.LEAK_BUDGET, why, budget[span], lasting=False)
        return None

    def _data_finding(
        self, now: float, zone: Zone, news: News, own: Facts, site: int, used: float, told: float
    ) -> Finding | None:
        """Return why a name that looks like data is denied under an unknown zone, or None."""
        budget, table = self.budget, self.table
        # A network's machines may have random names (clouds do that), but nobody asks for their TXT.
        most = budget[0].octets * (factor_of(zone) if news.octets <= news.plain else 1.0)
        heavy, new = own.heavy + 1, own.new + 1 + zone.apex
        enough = _PAIR_SHARE if heavy == 2 else _FEW_SHARE
        if heavy >= 2 and heavy >= _HEAVY_SHARE * new and used > most * enough:
            return Finding(Reason.DNS_TUNNEL, f"{heavy} of {new} new names look like data", budget[0])
        if heavy >= _MANY and heavy >= _HEAVY_SHARE * new and told > most * _LONG_SHARE:
            return Finding(Reason.DNS_TUNNEL, f"{heavy} of {new} new names look like data", budget[-1])
        facts = table.facts(site)
        heavy, new, clients = facts.heavy + 1, facts.new + 1, facts.clients
        if heavy >= _SITE_HEAVY_NAMES and heavy >= _HEAVY_SHARE * new and clients >= _MANY_CLIENTS:
            table.close(site, now + self.longest)
            why = f"{heavy} of {new} new names look like data, from {clients} or more clients"
            return Finding(Reason.DNS_TUNNEL, why, budget[0], lasting=False)
        return None

    def _whole_finding(self, client: Client, whole: int, counted: int) -> Finding | None:
        """Return why a heavy name is denied for what its client told other unknown zones, or None."""
        limits = self._times(_ALL_FACTOR * max(1.0, client.zones / _ZONES_OF_ONE))
        if (span := self.table.exceeds(whole, counted, limits)) < 0:
            return None
        why = "more names that look like data than a client may tell all unknown zones together"
        return Finding(Reason.LEAK_BUDGET, why, self.budget[span], lasting=False)

    def _counted(self, zone: Zone, own: Facts, news: News) -> float:
        """Return what a heavy name adds to what its client told all unknown zones together."""
        if zone.prior is Prior.SITE:
            return 0.0  # one domain for a network, with all its machines
        if own.heavy == 0:
            return max(0.0, news.octets - _SINGLE)
        return news.octets if (own.heavy + 1) * 2 > own.new + 1 else 0.0

    def settle_answer(
        self,
        now: float,
        client: Client,
        zone: Zone,
        octets: float,
        places: dict[int, int],
        limit: Limit,
        *,
        enforced: bool,
    ) -> tuple[bool, float]:
        """Compare an answer with what its client had, and note it as `settle` does. Says whether it is too much, and
        what the client had before.
        """
        table, cost = self.table, grains(octets)
        with table.lock:
            own = table.open(now, table.pairs, account_of(client, zone))
            used = table.spent(own, -1)
            over = table.exceeds_answers(own, cost, int(limit.octets * factor_of(zone) * GRAIN))
            if not over or not enforced:
                table.spend_answer(own, cost)
                table.learn(places)
        return over, used

    # -- zones over all clients --------------------------------------------------------------------------------

    def recall(self, zone: Zone) -> None:
        """Take over what the table knows of a zone."""
        if at := self.table.find(self.table.zones, zone.value):
            facts = self.table.facts(at)
            zone.first, zone.apex = facts.since, bool(facts.mark)
            zone.days, zone.clients, zone.new, zone.heavy = facts.days, facts.clients, facts.new, facts.heavy

    def visit(self, now: float, client: Client, zone: Zone) -> None:
        """Note that a client asked for a zone."""
        with self.table.lock:
            self._visit(now, client, zone, self.table.open(now, self.table.zones, zone.value))

    def _visit(self, now: float, client: Client, zone: Zone, site: int) -> None:
        zone.days, zone.clients = self.table.visit(now, site, client.value, apex=zone.apex)
        if zone.days > 1:
            facts = self.table.facts(site)
            zone.new, zone.heavy = facts.new, facts.heavy

    # -- what is closed ----------------------------------------------------------------------------------------

    def until(self, client: Client, zone: Zone | None = None) -> float:
        """Return until when a zone is closed to a client; without a zone, until when any is."""
        table = self.table
        at = (
            table.find(table.clients, client.value)
            if zone is None
            else table.find(table.pairs, account_of(client, zone))
        )
        return table.until(at) if at else 0.0

    def close(self, now: float, client: Client, zone: Zone, reason: Reason) -> float:
        """Close a zone to a client. Returns until when."""
        table, until = self.table, now + self.longest
        with table.lock:
            table.close(table.open(now, table.pairs, account_of(client, zone)), until, _CLOSERS.index(reason), now)
            table.close(table.open(now, table.clients, client.value), until)
        return until

    def told(self, now: float, client: Client, zone: Zone) -> Total:
        """Return what was told in the longest window."""
        table = self.table
        with table.lock:
            at = table.open(now, table.pairs, account_of(client, zone))
            facts, total, curve = table.facts(at), 0.0, []
            for when, octets in table.curve(at):
                total += octets
                curve.append((when, round(total, 1)))
            recent, out, answers = (table.spent(at, span) for span in (0, len(self.budget) - 1, -1))
        return Total(recent, out, answers, facts.heavy, _CLOSERS[facts.mark % len(_CLOSERS)], tuple(curve))

    def release(self, client: Client, zone: Zone, at: float) -> bool:
        """Let the account of a client with a zone begin anew, if it was closed before a time. Says whether it was."""
        table, account = self.table, account_of(client, zone)
        with table.lock:
            place = table.find(table.pairs, account)
            if not place or not table.until(place) or table.closed_at(place) > at:
                return False
            table.forget(table.pairs, account)
        return True
