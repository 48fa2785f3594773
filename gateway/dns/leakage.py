"""What clients tell the outside in names: asked before a query leaves for an upstream, and told of the answer.

The resolver's narrow view of `gateway.tunnelling`. What is answered here (records, cache, blocks) never comes by.
"""

import secrets
import zlib
from collections.abc import Callable

from gateway.addresses import IPAddress
from gateway.decision import Decision, Reason, Verdict
from gateway.dns.settings import Tunnelling
from gateway.techniques import techniques
from gateway.tunnelling.assessment import Assessment
from gateway.tunnelling.data import character_model, popular, services
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.evidence import describe
from gateway.tunnelling.priors import Prior, Priors
from gateway.tunnelling.zones import PRIVATE, classify, exists


class Leakage:
    """Accounts for what leaves, for one process and one configuration."""

    def __init__(self, settings: Tunnelling, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._detector: Detector | None = None
        self._is_on = _is_on(settings)

    def use(self, settings: Tunnelling) -> None:
        """Go on with another configuration. What was accounted stays, but for clients that are newly released."""
        if settings == self._settings:
            return
        fresh = [release for release in settings.released if release not in self._settings.released]
        self._settings = settings
        self._is_on = _is_on(settings)
        if self._detector is not None:
            self._detector.use(_priors(settings), settings.budget, settings.controls)
            for release in fresh:
                self._detector.release(client_key(release.client), classify(release.zone).zone)

    @property
    def detector(self) -> Detector:
        """The detector, made when it is first needed: its data cost memory and time."""
        if self._detector is None:
            self._detector = make_detector(self._settings, secrets.token_bytes(16))
        return self._detector

    def query(self, address: IPAddress, groups: tuple[str, ...], name: str, qtype: int) -> Decision | None:
        """Return the denial of a query that is about to leave, enforced or only reported; None lets it go."""
        if not self._is_on or (action := self._settings.action_for(groups)) == "off":
            return None
        found = self.detector.query(self._clock(), client_key(address), name, qtype)
        return decision_of(found, enforced=action == "deny") if found.denied else None

    def response(
        self, address: IPAddress, groups: tuple[str, ...], name: str, qtype: int, records: bytes, rcode: int
    ) -> Decision | None:
        """Return the denial of an answer that came for a client; None hands it over."""
        if not self._is_on or (action := self._settings.action_for(groups)) == "off":
            return None
        found = self.detector.response(
            self._clock(),
            client_key(address),
            name,
            qtype,
            len(records),
            rcode=rcode,
            content=zlib.crc32(records),
        )
        return decision_of(found, enforced=action == "deny") if found.denied else None

    def closed_to(self, address: IPAddress) -> bool:
        """Say whether any zone is closed to a client: then `again` has to be asked for what is kept here, too."""
        return self._detector is not None and client_key(address) in self._detector.tables.tripped

    def again(self, address: IPAddress, groups: tuple[str, ...], name: str) -> Decision | None:
        """Return the denial of a query that could be answered from what is kept here; None lets it be."""
        if self._detector is None or self._settings.action_for(groups) != "deny":
            return None
        found = self._detector.closed(self._clock(), client_key(address), name)
        return None if found is None else decision_of(found, enforced=True)

    def keeps(self, name: str) -> bool:
        """Say whether a name stays here, because its top-level domain does not exist."""
        if not self._is_on or not self._settings.controls.tlds:
            return False
        top = name.rpartition(".")[2]
        return not exists(top) and top not in PRIVATE

    def least_ttl(self, name: str) -> int:
        """Return for how many seconds an answer is kept at least: a name of an unknown zone is a symbol a minute."""
        least = self._settings.controls.ttl
        if not self._is_on or not least:
            return 0
        return least if self.detector.prior(self._clock(), name) is Prior.UNKNOWN else 0


def make_detector(settings: Tunnelling, key: bytes) -> Detector:
    """Return a detector that knows nothing but the shipped data."""
    return Detector(character_model(), _priors(settings), budget=settings.budget, controls=settings.controls, key=key)


def _is_on(settings: Tunnelling) -> bool:
    return settings.action != "off" or any(action != "off" for _, action in settings.groups)


def _priors(settings: Tunnelling) -> Priors:
    return Priors(popular(), [service.suffix for service in services()], settings.exempt)


def client_key(address: IPAddress) -> str:
    """Return whose account a client's is: an IPv6 client may use all addresses of its network."""
    return str(address) if address.version == 4 else address.packed[:8].hex()


def decision_of(found: Assessment, *, enforced: bool) -> Decision:
    """Return a denial as a decision, with the evidence for the ledger."""
    reason = found.reason or Reason.DNS_TUNNEL
    return Decision(Verdict.DENY, reason, detail=describe(found), enforced=enforced, technique=techniques(reason))
