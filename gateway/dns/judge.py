"""Who decides: the resolver's narrow view of the rest of the gateway."""

import errno
import logging
import socket
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gateway.addresses import IPAddress
from gateway.decision import Decision, Point
from gateway.dns.settings import Settings, make_settings, parse_resolv_conf
from gateway.ledger import Repeats
from gateway.request import Client, DnsQuery, Request

if TYPE_CHECKING:
    from gateway.runtime import Runtime

_LOG = logging.getLogger(__name__)
_RESOLV_CONF = Path("/etc/resolv.conf")


class Judge(Protocol):
    """What the resolver asks of the policy, the ledger and the configuration in force."""

    @property
    def generation(self) -> object:
        """Another object for another policy: what was decided before no longer counts then."""

    @property
    def settings(self) -> Settings:
        """The resolver's configuration; constant within a generation."""

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Decide, and record what is denied or would be. Returns the decision and its id in the ledger."""

    def judge_query(self, request: DnsQuery) -> tuple[Decision, Repeats]:
        """Decide and record as `judge` does. The decision may have a blank for the list entry. Repeats may be counted
        where that is open.
        """

    def passes(self, client: Client, name: str, qtype: int, addresses: tuple[IPAddress, ...]) -> bool:
        """Say whether it is known that `judge` lets an answer without further names pass, and has nothing to record.
        Otherwise it has to be asked.
        """

    def record(self, request: Request, decision: Decision) -> str:
        """Record a decision made earlier in this generation. Returns its id."""

    def groups(self, client: Client) -> tuple[str, ...]:
        """Return the client groups of a client."""

    def view(self, client: Client) -> Hashable:
        """Return a value that is equal for clients whom every decision treats alike in this generation."""


class RuntimeJudge:
    """The runtime of a process as a judge."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime
        self._settings_of: object = None
        self._settings: Settings | None = None

    @property
    def generation(self) -> object:
        """The state in force."""
        return self._runtime.state

    @property
    def settings(self) -> Settings:
        """The `dns` section in force, translated once."""
        state = self._runtime.state
        if self._settings is None or self._settings_of is not state:
            file = state.config.file
            self._settings = make_settings(
                file.dns,
                record_allowed=file.ledger.allowed_dns,
                system=parse_resolv_conf(_resolv_conf()),
                is_local=_is_local,
                upstream_ca=state.config.upstream_ca,
                tunnelling=file.tunnelling,
            )
            self._settings_of = state
            if not self._settings.upstreams:
                _LOG.error("dns.upstreams: nobody to ask; only forward zones and records are answered")
        return self._settings

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Decide and record."""
        return self._runtime.judge(request)

    def judge_query(self, request: DnsQuery) -> tuple[Decision, Repeats]:
        """Decide and record."""
        return self._runtime.judge_query(request)

    def passes(self, client: Client, name: str, qtype: int, addresses: tuple[IPAddress, ...]) -> bool:
        """Look at what the policy knows."""
        return self._runtime.state.policy.passes(client, name, qtype, addresses)

    def record(self, request: Request, decision: Decision) -> str:
        """Record."""
        return self._runtime.ledger.record(request, decision)

    def groups(self, client: Client) -> tuple[str, ...]:
        """Return the client groups."""
        return self._runtime.state.policy.groups_of(client, Point.DNS)

    def view(self, client: Client) -> Hashable:
        """Return the client groups: the policy knows clients of the resolver by nothing else."""
        return self._runtime.state.policy.groups_of(client, Point.DNS)


def _resolv_conf() -> str:
    try:
        return _RESOLV_CONF.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        _LOG.error("%s cannot be read: %s", _RESOLV_CONF, error.strerror)
        return ""


def _is_local(address: IPAddress) -> bool:
    """Say whether an address is one of this host: only those can be bound to."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False  # a host without IPv6, whose resolv.conf names a server that has it
        raise
    with sock:
        try:
            sock.bind((str(address), 0))
        except OSError:
            return False
    return True
