"""The formats that lists come in, and the one function that reads them all.

Pure: no I/O, no clock. One module for each family: `plain`, `adblock`, `resolvers`, `zones`, `tables`, `documents`.
"""

from collections.abc import Buffer, Callable, Iterator
from datetime import datetime

from gateway.feeds.entry import Entry, ParseReport
from gateway.feeds.formats.adblock import adblock
from gateway.feeds.formats.documents import misp, stix
from gateway.feeds.formats.plain import addresses, domains, hosts, urls, wildcard
from gateway.feeds.formats.resolvers import dnsmasq, unbound
from gateway.feeds.formats.tables import csv
from gateway.feeds.formats.zones import rpz

_PARSERS: dict[str, Callable[[Buffer, ParseReport], Iterator[Entry]]] = {
    "hosts": hosts,
    "domains": domains,
    "wildcard": wildcard,
    "adblock": adblock,
    "dnsmasq": dnsmasq,
    "unbound": unbound,
    "rpz": rpz,
    "urls": urls,
    "addresses": addresses,
    "misp": misp,
}

FORMATS = (*_PARSERS, "csv", "stix")
"""The names of the formats, as in a catalogue."""


def parse(
    data: Buffer,
    format: str,
    report: ParseReport,
    *,
    column: str | None = None,
    now: datetime | None = None,
) -> Iterator[Entry]:
    """Yield the entries of a list, in the order of its lines, and account for every line in `report`.

    `data` is the whole file, in memory or mapped. `column` is for csv, which needs it, and `now` for stix, which
    skips expired indicators with it. No content makes this raise: what is not understood is counted as `rejected`,
    what is understood and of no use as `unsupported`. Duplicates, public suffixes and the like are for the caller to
    judge.

    Once the iterator is exhausted, `accepted + blank + sum(unsupported) + sum(rejected) == lines`: a line counts as
    accepted when it gave an entry or more, else as rejected when some part of it was wrong, else as unsupported, else
    as blank. A record that spans lines (rpz, csv) is one line for this; its other lines are blank. For misp and stix
    lines are the items of the list and the objects of the bundle; a file that is no such document is one line,
    rejected.

    Raises:
        ValueError: there is no such format, or a column is missing; at once, before anything is read.
    """
    if format == "csv":
        if not column:
            raise ValueError("format csv needs a column")
        return csv(data, report, column)
    if format == "stix":
        return stix(data, report, now)
    try:
        return _PARSERS[format](data, report)
    except KeyError:
        raise ValueError(f"no such format, expected one of {' '.join(FORMATS)}") from None
