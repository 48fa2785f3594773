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

from collections.abc import Iterable
from contextlib import nullcontext
from hashlib import blake2b

from gateway.decision import Reason
from gateway.tunnelling.accounts import SharedTable
from gateway.tunnelling.assessment import Assessment, Features, entropy
from gateway.tunnelling.charmodel import CharacterModel
from gateway.tunnelling.downloads import ANSWER_BUDGET, AnswerReader
from gateway.tunnelling.limits import STRICT, Finding, Limits, factor_of
from gateway.tunnelling.news import Reader
from gateway.tunnelling.priors import FACTORS, Prior, Priors
from gateway.tunnelling.state import Account, Bounds, Tables, Trip, Zone
from gateway.tunnelling.structure import Controls, flaw_of
from gateway.tunnelling.window import DEFAULT_BUDGET, Limit, Window
from gateway.tunnelling.zones import NO_TLD, STAYING, classify

_ALONE = nullcontext()
_ESTABLISHED_CLIENTS, _ESTABLISHED_DAYS = 3, 3


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
        limits = tuple(sorted(budget, key=lambda limit: limit.seconds))
        self.key = key
        self.tables = Tables(bounds, limits, self._hash)
        self._reader = Reader(model, self.tables, self._hash, priors, controls)
        self._answers = AnswerReader(self._reader, key)
        self._limits = Limits(self.tables, self._hash, limits)
        self._shared: SharedTable | None = None

    def _hash(self, text: str) -> int:
        return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8, key=self.key).digest(), "big")

    def share(self, table: SharedTable | None) -> None:
        """Have accounts and known names in common with other workers from now on. The detector was made with the
        key of the table.

        Raises:
            ValueError: with another key, or for other windows.
        """
        if table is not None:
            windows = {ANSWER_BUDGET.seconds, *(limit.seconds for limit in self._limits.budget)}
            if table.key != self.key or not windows <= set(table.seconds):
                raise ValueError("a table with another key, or for other windows")
        self._shared = self._reader.shared = self._limits.shared = table

    # -- questions ---------------------------------------------------------------------------------------------

    def query(self, now: float, client: str, name: str, qtype: int, *, enforced: bool = True) -> Assessment:
        """Assess a query that is about to leave, and account for it if it is allowed: or if it is not `enforced`,
        since it leaves then whatever is found.

        `name` is in normal form (`gateway.names`); time in seconds, never going back.
        """
        zone = self._zone(now, name)
        zone.asked(now, client, qtype)
        if zone.factor is None or (zone.divided and self._reader.priors.of_name(name) is not None):
            return Assessment(False, zone.key, zone.prior)
        if zone.prior in STRICT and not zone.reverse:
            flaw = flaw_of(name, qtype, self._reader.controls)
            if flaw is not None:
                if not enforced:
                    self._let_pass(now, client, zone, name, qtype)
                return self._flawed(now, client, zone, name, qtype, flaw)
        if (trip := self._trip_in_force(now, client, zone)) is not None:
            if not enforced:
                trip = trip._replace(out=trip.out + self._let_pass(now, client, zone, name, qtype))
            return self._again(now, trip, zone, name)
        news = self._reader.news(zone, name, qtype)
        if name == zone.key:
            zone.apex = True
        if news.octets <= 0:
            if news.hashes:
                self.tables.learn(now, zone, news.hashes)
            return Assessment(False, zone.key, zone.prior)
        account = self.tables.account(now, client, zone.key)
        first = self._limits.budget[0]
        with self._shared.lock if self._shared is not None else _ALONE:
            verdict = self._limits.finding(now, client, zone, account, news) or self._limits.shared_finding(
                now, client, zone, account, news
            )
            if verdict is not None:
                if not enforced:
                    self._limits.commit(now, client, zone, account, name, news)
                return self._deny(now, client, zone, name, news.octets, verdict)
            used = account.up.spent(now, first.seconds)
            self._limits.commit(now, client, zone, account, name, news)
        return Assessment(
            False, zone.key, zone.prior, news.octets, used, first.octets * factor_of(zone), first.seconds
        )

    def _let_pass(self, now: float, client: str, zone: Zone, name: str, qtype: int) -> float:
        """Account for what is only reported. Returns the octets."""
        news = self._reader.news(zone, name, qtype)
        if news.octets > 0:
            self._limits.commit(now, client, zone, self.tables.account(now, client, zone.key), name, news)
        return news.octets

    def closed(self, now: float, client: str, name: str) -> Assessment | None:
        """Assess a query that would be answered from what is kept here: None, unless the client was denied before.

        Nothing leaves by such a query. But the zone may have told more in an answer than the client may get, and that
        answer is in the cache.
        """
        if client not in self.tables.tripped:
            return None
        zone = self._zone(now, name)
        if zone.factor is None or (zone.divided and self._reader.priors.of_name(name) is not None):
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
        self._reader.priors, self._reader.controls = priors, controls
        self._limits.budget = tuple(sorted(budget, key=lambda limit: limit.seconds))
        self.tables.longest = max(limit.seconds for limit in self._limits.budget)
        for zone in self.tables.zones.values():
            usual = Prior.UNKNOWN if zone.prior in _CONFIGURED else zone.prior
            fresh = self.make_zone(zone.first, zone.key, zone.reverse, usual)
            zone.prior, zone.factor, zone.divided = fresh.prior, fresh.factor, fresh.divided

    def observe(self, now: float, client: str, name: str, qtype: int) -> None:
        """Account for a query that somebody else has allowed: another worker of the same service."""
        zone = self._zone(now, name)
        zone.asked(now, client, qtype)
        if zone.factor is None or (zone.divided and self._reader.priors.of_name(name) is not None):
            return
        news = self._reader.news(zone, name, qtype)
        if news.octets > 0:
            self._limits.commit(now, client, zone, self.tables.account(now, client, zone.key), name, news)
        elif news.hashes:
            self.tables.learn(now, zone, news.hashes)

    def prior(self, now: float, name: str) -> Prior:
        """Return what is known of the zone of a name."""
        zone = self._zone(now, name)
        return (zone.divided and self._reader.priors.of_name(name)) or zone.prior

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
                prior = self._reader.priors.popular.prior(kind.zone)
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
        known = self._reader.priors.of_name(key)
        prior = known or Prior(prior)
        factor = FACTORS.get(prior)
        if key in STAYING:
            factor = None
        return Zone(key, prior, factor, now, reverse=reverse, divided=self._reader.priors.divides(key))

    def _flawed(self, now: float, client: str, zone: Zone, name: str, qtype: int, flaw: str) -> Assessment:
        """Refuse a query for its form. With names that look like data beside it, it is a tunnel and not a mistake."""
        news = self._reader.news(zone, name, qtype)
        account = self.tables.account(now, client, zone.key)
        finding = Finding(Reason.DNS_TUNNEL, flaw, self._limits.budget[0], lasting=news.heavy or account.heavy > 0)
        return self._deny(now, client, zone, name, news.octets, finding)

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
            return Assessment(False, zone.key, zone.prior)
        counted, hashes = self._answers.news(zone, name, qtype, octets, rcode, contents)
        if not counted:
            return Assessment(False, zone.key, zone.prior)
        account = self.tables.account(now, client, zone.key)
        if account.down is None:
            account.down = Window()
        factor = factor_of(zone)
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
            finding = Finding(Reason.DNS_TUNNEL, why, ANSWER_BUDGET)
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

    # -- denials -----------------------------------------------------------------------------------------------

    def _deny(
        self,
        now: float,
        client: str,
        zone: Zone,
        name: str,
        octets: float,
        finding: Finding,
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
            limit.octets * factor_of(zone),
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

    def _trip(self, now: float, client: str, zone: Zone, account: Account, finding: Finding) -> Trip:
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
        limit = self._limits.budget[0]
        return Assessment(
            True,
            zone.key,
            zone.prior,
            0.0,
            trip.out,
            limit.octets * factor_of(zone),
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
            sum(self._reader.model.bits(label) for label in below.split(".") if label),
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
