"""What is counted, by name: the metrics that workers report, and the order in which their numbers stand.

Pure: no I/O, no clock. Labels come from closed sets (roles, reasons, transports) and from the configuration; nothing
that a client or an origin sends ever becomes one, or whoever likes could fill a monitoring system.
"""

from typing import NamedTuple

from gateway.decision import Reason
from gateway.dns.tally import Source, Transport

PREFIX = "egress_gateway_"
MICROSECONDS = 1_000_000
"""In a second: times are kept as whole microseconds."""

type Labels = tuple[tuple[str, str], ...]


class Kind(NamedTuple):
    """A family of metrics."""

    type: str
    """`counter`, `gauge` or `histogram`, as Prometheus says."""
    help: str
    parts: int = 1
    """Of the unit in the name, in which the number is kept."""
    largest: bool = False
    """All workers tell the same number, so that the largest counts and not their sum."""


class Cell(NamedTuple):
    """One number of one worker."""

    family: str
    labels: Labels = ()


KINDS = {
    "dns_queries_total": Kind("counter", "Queries of clients by transport."),
    "dns_answers_total": Kind("counter", "Answers by where they came from; every query ends as one of them."),
    "dns_waiting_queries": Kind("gauge", "Queries that wait for an upstream."),
    "dns_cache_entries": Kind("gauge", "Answers that are kept, by table."),
    "dns_cache_bytes": Kind("gauge", "Memory that they take, estimated."),
    "denials_total": Kind("counter", "Denials by enforcement point and reason; enforced=false was only recorded."),
    "tunnelling_clients": Kind("gauge", "Clients that the detector of DNS tunnels remembers.", largest=True),
    "tunnelling_zones": Kind("gauge", "Zones that the detector of DNS tunnels remembers.", largest=True),
    "tunnelling_closures_total": Kind("counter", "Times that a zone was closed to a client.", largest=True),
    "proxy_connections_total": Kind("counter", "Connections of clients."),
    "proxy_open_connections": Kind("gauge", "Connections of clients that are open."),
    "proxy_tunnels_total": Kind("counter", "Tunnels that were passed on (splice) or looked into (inspect)."),
    "proxy_open_tunnels": Kind("gauge", "Those that are open."),
    "proxy_requests_total": Kind("counter", "HTTP requests that were passed on and have ended; https was inspected."),
    "proxy_bytes_total": Kind("counter", "Octets that were passed on, out from clients and in to them."),
    "ledger_lines_total": Kind("counter", "Lines written to the ledger."),
    "ledger_folded_total": Kind("counter", "Decisions without a line of their own, only counted in gap lines."),
    "ledger_waiting_lines": Kind("gauge", "Lines that wait to be written."),
    "ledger_failing": Kind("gauge", "Workers that cannot write the ledger at present."),
    "worker_reloads_total": Kind("counter", "Reloads of policy and lists in workers by outcome."),
    "process_cpu_seconds_total": Kind("counter", "CPU time by process.", MICROSECONDS),
    "dns_upstream_queries_total": Kind("counter", "Queries to upstreams."),
    "dns_upstream_failures_total": Kind("counter", "Queries without a usable answer by upstream and cause."),
    "dns_upstream_resting": Kind("gauge", "Workers that pass over an upstream at present."),
    "dns_upstream_seconds": Kind("histogram", "Time that usable answers of upstreams took.", MICROSECONDS),
}
"""Families that workers report."""


def _cells(family: str, *labels: Labels) -> tuple[Cell, ...]:
    return tuple(Cell(family, each) for each in labels or ((),))


def _by(label: str, *values: str) -> tuple[Labels, ...]:
    return tuple(((label, value),) for value in values)


_DNS = (
    *_cells("dns_queries_total", *_by("transport", *(each.name.lower() for each in Transport))),
    *_cells("dns_answers_total", *_by("source", *(each.name.lower() for each in Source))),
)
_DENIALS = _cells(
    "denials_total",
    *((("reason", reason.value), ("enforced", word)) for reason in Reason for word in ("true", "false")),
)
_PROXY = (
    *_cells("proxy_connections_total"),
    *_cells("proxy_tunnels_total", *_by("mode", "splice", "inspect")),
    *_cells("proxy_requests_total", *_by("scheme", "http", "https")),
    *_cells(
        "proxy_bytes_total",
        *(
            (("mode", mode), ("direction", direction))
            for mode in ("splice", "inspect", "plain")
            for direction in ("out", "in")
        ),
    ),
)
COUNTERS = (
    *_DNS,
    *_DENIALS,
    *_PROXY,
    *_cells("tunnelling_closures_total"),
    *_cells("ledger_lines_total"),
    *_cells("ledger_folded_total"),
    *_cells("worker_reloads_total", *_by("outcome", "ok", "refused")),
    *_cells("process_cpu_seconds_total"),
)
"""Numbers that only grow. Those of a worker that died are gone on with by the one that takes its place."""
GAUGES = (
    *_cells("dns_waiting_queries"),
    *_cells("dns_cache_entries", *_by("table", "answers", "hot")),
    *_cells("dns_cache_bytes", *_by("table", "answers", "hot")),
    *_cells("tunnelling_clients"),
    *_cells("tunnelling_zones"),
    *_cells("proxy_open_connections"),
    *_cells("proxy_open_tunnels", *_by("mode", "splice", "inspect")),
    *_cells("ledger_waiting_lines"),
    *_cells("ledger_failing"),
)
"""Numbers of a moment, which end with their worker."""
ROLES = {"dns_queries": "dns", "dns_answers": "dns", "proxy_": "proxy"}
"""Families, by how they begin, that only one role has; the others are in every worker."""


def concerns(role: str, family: str) -> bool:
    """Say whether workers of a role have a family at all: nobody wants rows of zeros that cannot change."""
    return all(role == owner for start, owner in ROLES.items() if family.startswith(start))
