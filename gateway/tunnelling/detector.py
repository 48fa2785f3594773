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

from collections.abc import Callable, Iterable
from hashlib import blake2b

from gateway.decision import Reason
from gateway.tunnelling.accounts import SharedTable
from gateway.tunnelling.assessment import Assessment, Features, entropy, passed
from gateway.tunnelling.charmodel import CharacterModel
from gateway.tunnelling.downloads import ANSWER_BUDGET, AnswerReader
from gateway.tunnelling.limits import Finding, Limits, Total, account_of, factor_of
from gateway.tunnelling.news import Reader
from gateway.tunnelling.priors import FACTORS, Prior, Priors
from gateway.tunnelling.state import Bounds, Client, Tables, Trip, Zone
from gateway.tunnelling.structure import Controls, flaw_of
from gateway.tunnelling.window import DEFAULT_BUDGET, Limit, ordered
from gateway.tunnelling.zones import NO_TLD, STAYING, Kind, classify

_ESTABLISHED_CLIENTS, _ESTABLISHED_DAYS = 3, 3
_WORTH_NOTING = 2.0
"""Octets of a name from which it is remembered when they left; what the others sum up to, the table knows."""


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
        table: SharedTable | None = None,
    ) -> None:
        """Begin with what the table holds, which other workers may share; without one, with nothing. The key, of the
        table or up to 16 octets, keeps clients from crafting names with equal hashes.

        Raises:
            ValueError: the table is for other windows.
        """
        limits = ordered(budget)
        table = table or SharedTable.private(windows(limits), key)
        _check(table, limits)
        self.key = table.key
        self._hash = _keyed(self.key)
        self.tables = Tables(bounds)
        self._reader = Reader(model, self.tables, self._hash, priors, controls, table)
        self._answers = AnswerReader(self._reader, self.key)
        self._limits = Limits(table, limits)

    def _client(self, client: str) -> Client:
        clients = self.tables.clients
        found = clients.young.get(client) or clients.get(client)
        if found is None:
            found = clients[client] = Client(self._hash(client))
        return found

    # -- questions ---------------------------------------------------------------------------------------------

    def query(self, now: float, client: str, name: str, qtype: int, *, enforced: bool = True) -> Assessment:
        """Assess a query that is about to leave, and account for it if it is allowed: or if it is not `enforced`,
        since it leaves then whatever is found.

        `name` is in normal form (`gateway.names`); time in seconds, never going back.
        """
        zone = self._zone(now, name)
        fresh = zone.asked(now, client, qtype)
        if zone.factor is None or (zone.divided and self._reader.priors.of_name(name) is not None):
            return zone.free
        strict = zone.strict
        if strict and not zone.reverse:
            flaw = flaw_of(name, qtype, self._reader.controls)
            if flaw is not None:
                return self._flawed(now, client, zone, name, qtype, flaw, enforced=enforced)
        told = self._reader.news(zone, name, qtype)
        if not zone.apex and name == zone.key:
            zone.apex = fresh = True
        value, first = self._client(client), self._limits.budget[0]
        octets = told[0]
        if octets <= 0:
            if fresh and strict:
                self._limits.visit(now, value, zone)
            if now < self._limits.until(value, zone):
                return self._again(now, client, zone, name)
            self._limits.table.learn(told[3])
            return zone.free
        if strict:
            value.asked(now, zone.value)
        found, used = self._limits.settle(now, value, zone, told, fresh=fresh and strict, enforced=enforced)
        zone.names += 1
        if octets >= _WORTH_NOTING and (found is None or not enforced):
            self.tables.step(account_of(value, zone), now, octets)
        if found is not None:
            return (
                self._again(now, client, zone, name)
                if found.again
                else self._deny(now, client, zone, name, octets, found, used)
            )
        return passed(zone.key, zone.prior, octets, used, first.octets * zone.factor, first.seconds)

    def closed(self, now: float, client: str, name: str) -> Assessment | None:
        """Assess a query that would be answered from what is kept here: None, unless the client was denied before.

        Nothing leaves by such a query. But the zone may have told more in an answer than the client may get, and that
        answer is in the cache.
        """
        if not self.is_closed(now, client):
            return None
        zone = self._zone(now, name)
        if zone.factor is None or (zone.divided and self._reader.priors.of_name(name) is not None):
            return None
        return self._again(now, client, zone, name) if now < self._limits.until(self._client(client), zone) else None

    def is_closed(self, now: float, client: str) -> bool:
        """Say whether any zone is closed to a client, whichever worker closed it."""
        return now < self._limits.until(self._client(client))

    @property
    def closures(self) -> int:
        """Changes when any worker has closed a zone to a client."""
        return self._limits.table.closures

    def use(
        self,
        now: float,
        priors: Priors,
        budget: Iterable[Limit],
        controls: Controls,
        table: SharedTable | None = None,
    ) -> None:
        """Go on with another configuration. What was accounted stays: with other windows, a table for them is needed
        that has taken over what the one before held; without one, a private one does.

        Raises:
            ValueError: the table has another key, or is for other windows.
        """
        limits = ordered(budget)
        if table is None:
            table = self._limits.table
            if table.seconds != windows(limits):
                table = SharedTable.private(windows(limits), self.key)
                table.adopt(now, self._limits.table)
        _check(table, limits)
        if table.key != self.key:
            raise ValueError("a table with another key")
        self._reader.priors, self._reader.controls, self._reader.table = priors, controls, table
        self._limits.use(table, limits)
        for zone in self.tables.zones.values():
            usual = Prior.UNKNOWN if zone.prior in _CONFIGURED else zone.prior
            kind = Kind(zone.key, reverse=zone.reverse, plain=zone.plain)
            fresh = self.make_zone(zone.first, kind, zone.value, usual)
            zone.become(fresh.prior, fresh.factor)
            zone.divided = fresh.divided

    def prior(self, now: float, name: str) -> Prior:
        """Return what is known of the zone of a name."""
        zone = self._zone(now, name)
        return (zone.divided and self._reader.priors.of_name(name)) or zone.prior

    def is_strict(self, now: float, name: str) -> bool:
        """Say whether nothing good is known of the zone of a name."""
        zone = self._zone(now, name)
        return zone.strict and not (zone.divided and self._reader.priors.of_name(name) is not None)

    def _zone(self, now: float, name: str) -> Zone:
        zones = self.tables.zones
        zone = zones.young.get(name[name.rfind(".", 0, max(0, name.rfind("."))) + 1 :])
        if zone is not None and zone.plain:
            if zone.days < _ESTABLISHED_DAYS:
                return zone
        else:
            kind = classify(name)
            zone = zones.get(kind.zone)
        if zone is None:
            if kind.private:
                prior = Prior.SITE if "." in kind.zone else Prior.PRIVATE
            elif kind.zone == NO_TLD:
                prior = Prior.NOWHERE
            elif kind.reverse:
                prior = Prior.REVERSE
            elif kind.plain:
                prior = self._reader.priors.popular.prior_of_plain(kind.zone)
            else:
                prior = self._reader.priors.popular.prior(kind.zone)
            zone = self.make_zone(now, kind, self._hash(kind.zone), prior)
            self._limits.recall(zone)
            zones[kind.zone] = zone
        if (
            zone.days >= _ESTABLISHED_DAYS
            and zone.prior is Prior.UNKNOWN
            and zone.clients >= _ESTABLISHED_CLIENTS
            and zone.heavy * 2 < zone.new
        ):
            zone.become(Prior.ESTABLISHED, FACTORS[Prior.ESTABLISHED])
        return zone

    def make_zone(self, now: float, kind: Kind, value: int, prior: Prior) -> Zone:
        """Return a zone as it begins; what the configuration says of it comes before what it was."""
        priors = self._reader.priors
        prior = (priors.of_plain(kind.zone) if kind.plain else priors.of_name(kind.zone)) or prior
        factor = None if kind.zone in STAYING else FACTORS.get(prior)
        divided = priors.divides(kind.zone)
        return Zone(kind.zone, value, prior, factor, now, reverse=kind.reverse, plain=kind.plain, divided=divided)

    def _flawed(
        self, now: float, client: str, zone: Zone, name: str, qtype: int, flaw: str, *, enforced: bool
    ) -> Assessment:
        """Refuse a query for its form. With names that look like data beside it, it is a tunnel and not a mistake."""
        news, value = self._reader.news(zone, name, qtype), self._client(client)
        octets, _, heavy, _ = news
        if not enforced and octets > 0:
            self._limits.settle(now, value, zone, news, fresh=False, enforced=False)
        told = self._limits.told(now, value, zone)
        if now < self._limits.until(value, zone):
            return self._again(now, client, zone, name)
        finding = Finding(Reason.DNS_TUNNEL, flaw, self._limits.budget[0], lasting=heavy or told.heavy > 0)
        return self._deny(now, client, zone, name, octets, finding, told.recent)

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
        if zone.factor is None or (zone.divided and self._reader.priors.of_name(name) is not None):
            return zone.free
        counted, places = self._answers.news(zone, name, qtype, octets, rcode, contents)
        if not counted:
            return zone.free
        value, budget = self._client(client), ANSWER_BUDGET
        over, used = self._limits.settle_answer(now, value, zone, counted, places, budget, enforced=enforced)
        if over:
            why = "more in answers than this client may get from the zone"
            return self._deny(now, client, zone, name, counted, Finding(Reason.DNS_TUNNEL, why, budget), used)
        return passed(zone.key, zone.prior, counted, used, budget.octets * factor_of(zone), budget.seconds)

    # -- denials -----------------------------------------------------------------------------------------------

    def _deny(
        self, now: float, client: str, zone: Zone, name: str, octets: float, finding: Finding, used: float
    ) -> Assessment:
        value, limit = self._client(client), finding.limit
        told, closed = self._limits.told(now, value, zone), 0.0
        curve: tuple[tuple[float, float], ...] = ()
        if finding.lasting:
            closed = self._limits.close(now, value, zone, finding.reason) - now
            trip = self._trip(client, zone, told, finding.reason, finding.why, now + closed)
            self.tables.trip(trip)
            curve = trip.curve
        return Assessment(
            True,
            zone.key,
            zone.prior,
            octets,
            used,
            limit.octets * factor_of(zone),
            limit.seconds,
            finding.reason,
            finding.why,
            self.features(zone, name),
            told.out,
            told.answers,
            closed,
            curve,
        )

    def _trip(self, client: str, zone: Zone, told: Total, reason: Reason, why: str, until: float) -> Trip:
        """Return a denial that lasts, with its leak curve: as it is remembered here, if that is all of it."""
        trail = self.tables.trails.get(account_of(self._client(client), zone)) or ()
        total, curve = 0.0, []
        for at, octets in trail:
            total += octets
            curve.append((at, round(total, 1)))
        if told.out - total > told.out / 5:
            return Trip(client, zone.key, reason, why, until, told.curve)
        if curve:
            curve[-1] = curve[-1][0], round(told.out, 1)  # with the light names in between
        return Trip(client, zone.key, reason, why, until, tuple(curve))

    def _again(self, now: float, client: str, zone: Zone, name: str) -> Assessment:
        value, limit = self._client(client), self._limits.budget[0]
        told, until = self._limits.told(now, value, zone), self._limits.until(value, zone)
        trip = self.tables.trips.get((client, zone.key))
        curve: tuple[tuple[float, float], ...] = ()
        if trip is None or trip.until < until:
            # Closed by another worker, or before a restart: the table knows how much had left, and about when.
            trip = self._trip(client, zone, told, told.reason, "by another worker or before a restart", until)
            self.tables.trip(trip)
            curve = trip.curve
        return Assessment(
            True,
            zone.key,
            zone.prior,
            0.0,
            told.out,
            limit.octets * factor_of(zone),
            limit.seconds,
            trip.reason,
            f"denied before: {trip.why}",
            self.features(zone, name),
            told.out,
            told.answers,
            until - now,
            curve,
        )

    def features(self, zone: Zone, name: str) -> Features:
        """Return what an analyst wants to see."""
        below = name if zone.prior is Prior.NOWHERE else name.removesuffix(zone.key).rstrip(".")
        minutes = max(1.0, (zone.last - zone.first) / 60)
        types = sorted((zone.types or {}).items(), key=lambda item: -item[1])
        return Features(
            entropy(below.replace(".", "")),
            len(name),
            sum(self._reader.model.bits(label) for label in below.split(".") if label),
            zone.names,
            zone.queries,
            zone.queries / minutes,
            tuple(types),
            zone.nxdomain / zone.replies if zone.replies else 0.0,
            zone.answers,
            zone.first,
        )

    def release(self, now: float, client: str, name: str, at: float | None = None) -> bool:
        """Let a client begin anew with the zone of a name, if that was closed to it, and not after `at`: what an
        operator released is released once, however often that is said. Says whether it was closed.
        """
        zone, asking = self._zone(now, name), self._client(client)
        if not self._limits.release(asking, zone, now if at is None else at):
            return False
        self.tables.trips.pop((client, zone.key))
        self.tables.trails.pop(account_of(asking, zone))
        return True


def _keyed(key: bytes) -> Callable[[str], int]:
    """Return a function that hashes text. A prefix keys BLAKE2 as its own parameter does, in half the time."""
    copy = blake2b(key, digest_size=8).copy

    def hashed(text: str) -> int:
        keyed = copy()
        keyed.update(text.encode("utf-8", "replace"))
        return int.from_bytes(keyed.digest())

    return hashed


def windows(budget: Iterable[Limit]) -> tuple[float, ...]:
    """Return the lengths of the windows that a table for a budget has."""
    return (*sorted({limit.seconds for limit in budget}), ANSWER_BUDGET.seconds)


def _check(table: SharedTable, budget: tuple[Limit, ...]) -> None:
    if table.seconds != windows(budget):
        raise ValueError("a table for other windows")


_CONFIGURED = frozenset([Prior.EXEMPT, Prior.SERVICE])
