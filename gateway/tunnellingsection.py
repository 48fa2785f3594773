"""The `tunnelling` section of the policy file."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from gateway.section import Address, Identifier, Name, Pattern, Section
from gateway.units import Duration, parse_duration, parse_size, render_duration, render_size


def _tunnelling_action(value: Any) -> Any:
    value = "off" if value is False else value  # YAML 1.1 reads a bare `off` as false
    if value not in ("deny", "report", "off"):
        raise ValueError(f"expected 'deny', 'report' or 'off', not {value!r}")
    return value


def _leak_limit(value: Any) -> Any:
    if isinstance(value, tuple):
        return value
    size, slash, span = str(value).partition("/")
    try:
        octets, seconds = parse_size(size), parse_duration(span)
    except ValueError:
        octets, seconds = 0, 0.0
    if not slash or octets <= 0 or not 60 <= seconds <= 7 * 86400:
        raise ValueError(f"{value!r} is no budget: give octets and a time from 1m to 7d, as in '120B/1h'")
    return octets, seconds


type TunnellingAction = Annotated[Literal["deny", "report", "off"], BeforeValidator(_tunnelling_action)]
type LeakLimit = Annotated[
    tuple[int, float],
    BeforeValidator(_leak_limit),
    PlainSerializer(lambda limit: f"{render_size(limit[0])}/{render_duration(limit[1])}", return_type=str),
    WithJsonSchema({"type": "string", "examples": ["120B/1h", "240B/24h"]}),
]


class TunnellingControls(Section):
    """What narrows the channel to zones that are not known, whatever is sent through it."""

    types: bool = True
    """Refuse query types that nobody uses: NULL, KEY, private ones."""
    octets: bool = True
    """Refuse names with octets that host names do not have."""
    tlds: bool = True
    """Answer names under top-level domains that do not exist here."""
    min_ttl: Duration = 60
    """Answers are kept at least so long, so that a name asked again does not leave again."""


def _moment(value: Any) -> str:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is no time: give one such as '2026-01-31T12:00:00Z'") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


class ReleasedClient(Section):
    """A client that may tell a zone things again, as `gateway tunnels release` prints it."""

    client: Address
    zone: Name
    at: Annotated[str, BeforeValidator(_moment)]
    """When it was released: an entry counts once, and the next release of the same client is another entry."""


class TunnellingSection(Section):
    """Detection of DNS tunnels."""

    action: TunnellingAction = "deny"
    """What is done with a query that tells an unknown zone too much: `deny`, `report` (recorded only), or `off`."""
    clients: dict[Identifier, TunnellingAction] = {}
    """Another action for some groups of clients."""
    leak_budget: Annotated[tuple[LeakLimit, ...], Field(min_length=1, max_length=4)] = ((120, 3600), (240, 86400))
    """New information that a client may tell an unknown zone; known zones have a multiple of it."""
    exempt: tuple[Pattern, ...] = ()
    """Names that are not accounted for, beside forward zones, local records and the shipped list of services."""
    released: tuple[ReleasedClient, ...] = ()
    """Denials that are lifted when this file is loaded; the client's account of the zone begins anew."""
    controls: TunnellingControls = TunnellingControls()
