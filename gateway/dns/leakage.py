"""What clients tell the outside in names: asked before a query leaves for an upstream, and told of the answer.

The resolver's narrow view of `gateway.tunnelling`. What is answered here (records, cache, blocks) never comes by.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from gateway.addresses import IPAddress, client_key
from gateway.decision import Decision, Reason, Verdict
from gateway.dns.accounts import open_table
from gateway.dns.cache import Terms
from gateway.dns.message import Answer
from gateway.dns.settings import Tunnelling
from gateway.techniques import techniques
from gateway.tunnelling.accounts import KEY, SharedTable
from gateway.tunnelling.assessment import Assessment
from gateway.tunnelling.data import character_model, popular, services
from gateway.tunnelling.detector import Detector, windows
from gateway.tunnelling.evidence import describe
from gateway.tunnelling.priors import Priors
from gateway.tunnelling.zones import PRIVATE, exists

_ALONE = "; this worker counts alone, since the accounts that workers share cannot be opened"
_USUAL = Terms()


class Leakage:
    """Accounts for what leaves, for one process and one configuration."""

    def __init__(self, settings: Tunnelling, wall: Callable[[], float], state_dir: Path | None = None) -> None:
        """`wall` tells the time of day, since accounts outlive the process: those in `state_dir`, which all workers
        share. Without it, there are none but those of this process.
        """
        self._wall = wall
        self._state_dir = state_dir
        self._now = 0.0
        self._alone = False
        self._detector: Detector | None = None
        self._adopt(settings)

    def _adopt(self, settings: Tunnelling) -> None:
        """Look up what is wanted for every query."""
        self._settings = settings
        self._is_on = _is_on(settings)
        self._action = None if settings.groups else settings.action
        """What is done for all clients, if that is the same."""
        self._keeps = self._is_on and settings.controls.tlds

    def prepare(self) -> None:
        """Read what the detector knows, which takes a tenth of a second: before the first client waits for it."""
        if self._is_on:
            self.detector.prior(self._clock(), "www.example.com")

    def _clock(self) -> float:
        now = self._wall()
        if now > self._now:  # a clock that is set back makes nothing free
            self._now = now
        return self._now

    def _table(self) -> SharedTable | None:
        if self._state_dir is None:
            return None
        table = open_table(self._state_dir, windows(self._settings.budget), self._clock())
        self._alone = table is None
        return table

    def use(self, settings: Tunnelling) -> None:
        """Go on with another configuration. What was accounted stays, but for clients that are newly released."""
        if settings == self._settings:
            return
        before = self._settings
        self._adopt(settings)
        if self._detector is None:
            return
        now = self._clock()
        table = self._table() if windows(settings.budget) != windows(before.budget) else None
        if table is not None and table.key != self._detector.key:
            self._detector = None  # its key was its own: there was nothing to share with before
            return
        self._detector.use(now, _priors(settings), settings.budget, settings.controls, table)
        self._release(self._detector)

    def _release(self, detector: Detector) -> None:
        """Let clients begin anew that the configuration releases, unless they were denied again since."""
        for release in self._settings.released:
            at = datetime.fromisoformat(release.at).timestamp()
            detector.release(self._clock(), client_key(release.client), release.zone, at)

    @property
    def detector(self) -> Detector:
        """The detector, made when it is first needed: its data cost memory and time."""
        if self._detector is None:
            table = self._table()
            self._detector = make_detector(self._settings, secrets.token_bytes(KEY), table)
            self._release(self._detector)
        return self._detector

    def query(self, address: IPAddress, groups: tuple[str, ...], name: str, qtype: int) -> Decision | None:
        """Return the denial of a query that is about to leave, enforced or only reported; None lets it go."""
        if (action := self._action or self._settings.action_for(groups)) == "off":
            return None
        found = (self._detector or self.detector).query(
            self._clock(), client_key(address), name, qtype, enforced=action == "deny"
        )
        return self._decision(found, enforced=action == "deny") if found.denied else None

    def response(
        self, address: IPAddress, groups: tuple[str, ...], name: str, qtype: int, answer: Answer
    ) -> Decision | None:
        """Return the denial of an answer that is about to be given to a client; None hands it over."""
        if (action := self._action or self._settings.action_for(groups)) == "off":
            return None
        found = (self._detector or self.detector).response(
            self._clock(),
            client_key(address),
            name,
            qtype,
            len(answer.records),
            rcode=answer.rcode,
            contents=answer.contents(),
            enforced=action == "deny",
        )
        return self._decision(found, enforced=action == "deny") if found.denied else None

    def closed_to(self, address: IPAddress) -> bool:
        """Say whether any zone is closed to a client: then `again` has to be asked for what is kept here, too."""
        return self._is_on and self.detector.is_closed(self._clock(), client_key(address))

    @property
    def closures(self) -> int:
        """Changes when any worker has closed a zone to a client: then `closed_to` may say something else."""
        return self._detector.closures if self._detector is not None else 0

    @property
    def tracked(self) -> tuple[int, int]:
        """Clients and zones that this worker remembers something of."""
        if self._detector is None:
            return 0, 0
        tables = self._detector.tables
        return len(tables.clients), len(tables.zones)

    def again(self, address: IPAddress, groups: tuple[str, ...], name: str) -> Decision | None:
        """Return the denial of a query that could be answered from what is kept here; None lets it be."""
        if (self._action or self._settings.action_for(groups)) != "deny":
            return None
        found = self.detector.closed(self._clock(), client_key(address), name)
        return None if found is None else self._decision(found, enforced=True)

    def _decision(self, found: Assessment, *, enforced: bool) -> Decision:
        decision = decision_of(found, enforced=enforced)
        return replace(decision, detail=decision.detail + _ALONE) if self._alone else decision

    def keeps(self, name: str) -> bool:
        """Say whether a name stays here, because its top-level domain does not exist."""
        if not name or not self._keeps:
            return False  # the root exists: validators ask it for its keys
        top = name.rpartition(".")[2]
        return not exists(top) and top not in PRIVATE

    def terms(self, name: str) -> Terms:
        """Return on what terms answers are kept: a name of an unknown zone is a symbol a minute, and whoever gets an
        answer of it from the cache may be told something that no query of its own was answered with: one that was
        renewed early, or that came when its client had gone.
        """
        if not self._is_on or not (self._detector or self.detector).is_strict(self._clock(), name):
            return _USUAL
        return Terms(self._settings.controls.ttl, metered=True)


def make_detector(settings: Tunnelling, key: bytes, table: SharedTable | None = None) -> Detector:
    """Return a detector that knows the shipped data, and what the table holds if there is one. The key is for one
    without a table."""
    return Detector(
        character_model(),
        _priors(settings),
        budget=settings.budget,
        controls=settings.controls,
        key=key,
        table=table,
    )


def _is_on(settings: Tunnelling) -> bool:
    return settings.action != "off" or any(action != "off" for _, action in settings.groups)


def _priors(settings: Tunnelling) -> Priors:
    return Priors(popular(), [service.suffix for service in services()], settings.exempt)


def decision_of(found: Assessment, *, enforced: bool) -> Decision:
    """Return a denial as a decision, with the evidence for the ledger."""
    reason = found.reason or Reason.DNS_TUNNEL
    return Decision(Verdict.DENY, reason, detail=describe(found), enforced=enforced, technique=techniques(reason))
