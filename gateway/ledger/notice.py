"""Lines of the ledger that are no single decision: repeats rolled up, gaps, and changes to the gateway itself.

Pure: no I/O, no clock. `gateway.count`, `gateway.first` and `gateway.last` say how many decisions a line stands for
and when they were made, so that counts over the ledger are exact.
"""

import math

from gateway.ledger.event import ECS_VERSION, Event
from gateway.ledger.losses import Loss, Span
from gateway.ledger.text import timestamp, visible, without_userinfo

CHANGE = "configuration"
"""`event.category` of a change, as against `network` for a decision."""
GAP = "ledger-gap"
"""`event.action` of a line that stands for decisions which could not be written one by one."""


def rolled_up(first: Event, *, id: str, now: float, span: Span) -> Event:
    """Return the line that stands for the repeats of a decision already recorded as `first`.

    `gateway.rollup` is the id of that first record: it is the id that clients were shown for every repeat. The line's
    own time is when it was written, so that times in a file only grow.
    """
    repeats = {**first, "@timestamp": timestamp(now), "event.id": id, "gateway.rollup": first["event.id"]}
    return _with_span(repeats, span)


def change_event(action: str, message: str, *, id: str, now: float, role: str, **fields: object) -> Event:
    """Return the record of a change to the policy, a feed or the gateway itself; fields become `gateway.change.*`.

    Fields that are None are left out; what is neither text, number nor truth value is recorded as its text.
    """
    record: Event = {
        "@timestamp": timestamp(now),
        "event.id": id,
        "ecs.version": ECS_VERSION,
        "event.kind": "event",
        "event.category": [CHANGE],
        "event.type": ["change"],
        "event.action": visible(action),
        "gateway.role": role,
        "message": visible(without_userinfo(message)),
    }
    for name, value in fields.items():
        if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            record[f"gateway.change.{name}"] = value
        elif value is not None:
            record[f"gateway.change.{name}"] = visible(without_userinfo(str(value)))
    return record


def gap_event(loss: Loss, *, id: str, now: float, role: str) -> Event:
    """Return the line that stands for decisions which could not be written: exactly how many, of which kind, when."""
    record: Event = {
        "@timestamp": timestamp(now),
        "event.id": id,
        "ecs.version": ECS_VERSION,
        "event.kind": "event",
        "event.category": ["network" if loss.verdict else CHANGE],
        "event.type": ["info"],
        "event.action": GAP,
        "event.reason": visible(loss.reason),
        "gateway.enforced": loss.enforced,
        "gateway.role": role,
        "message": f"{loss.span.count} records could not be written one by one",
    }
    if loss.verdict:
        record["gateway.verdict"] = loss.verdict
    if loss.rule:
        record["rule.name"] = visible(loss.rule)
    if loss.client:
        record["source.ip"] = loss.client
    return _with_span(record, loss.span)


def _with_span(record: Event, span: Span) -> Event:
    record["gateway.count"] = span.count
    record["gateway.first"] = timestamp(span.first)
    record["gateway.last"] = timestamp(span.last)
    return record
