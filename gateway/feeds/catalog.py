"""The catalogue of feeds: where each list comes from, how to read it, and what it must look like to be believed.

Reads its file, and nothing else: whether a feed can be had is found out by a refresh.
"""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, model_validator

from gateway.document import read_document, validate
from gateway.feeds.publickeys import parse_ed25519_key, parse_minisign_key
from gateway.units import Duration, Percent, Size

type Format = Literal[
    "hosts",
    "domains",
    "wildcard",
    "adblock",
    "dnsmasq",
    "unbound",
    "rpz",
    "urls",
    "addresses",
    "csv",
    "misp",
    "stix",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CATEGORY = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def _feed_name(text: str) -> str:
    # The name is a folder in the state directory, and a word in rules, tables and metrics.
    if not _NAME.fullmatch(text) or ".." in text:
        raise ValueError("a name has lower-case letters, digits, '.', '_' and '-', and begins with a letter or digit")
    return text


def _category(text: str) -> str:
    if not _CATEGORY.fullmatch(text):
        raise ValueError(f"a category has lower-case letters, digits and '-', not {text!r}")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not re.search(r"\s", text)
    except ValueError:  # malformed port or IPv6 address
        good = False
    if not good:
        raise ValueError(f"expected an http:// or https:// URL, not {text!r}")
    return text


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ValueError("expected the 64 hexadecimal digits of a SHA-256 digest")
    return text.lower()


def _column(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _minisign(text: str) -> str:
    parse_minisign_key(text)
    return text.strip()


def _ed25519(text: str) -> str:
    parse_ed25519_key(text)
    return text.strip()


FeedName = Annotated[str, AfterValidator(_feed_name), Field(json_schema_extra={"pattern": f"^{_NAME.pattern}$"})]
Category = Annotated[str, AfterValidator(_category), Field(json_schema_extra={"pattern": f"^{_CATEGORY.pattern}$"})]
Url = Annotated[str, AfterValidator(_url), Field(json_schema_extra={"format": "uri"})]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Limits(_Model):
    """What a new copy must keep to; one that does not is refused, and the last good one stays."""

    max_bytes: Size = Field("64MiB", validate_default=True)
    """Largest size, unpacked."""
    min_entries: Annotated[int, Field(ge=0)] | None = None
    """Fewest entries. When not given, 1 for a feed with a URL, and 0 for a local file."""
    max_shrink: Percent | None = None
    """How much fewer entries than the last good copy. When not given, 50% with a URL, anything for a local file."""
    max_growth: Percent | None = None
    """How much more entries than the last good copy. When not given, 300% with a URL, anything for a local file."""
    max_rejected: Percent | None = None
    """How many of its lines cannot be read. When not given, 50% with a URL, 90% for a local file."""
    max_protected: Percent | None = None
    """How many of its entries may be such as no list may deny (they are left out in any case): public suffixes, names
    on never-block lists. A few are put up with. When not given, 1% with a URL, anything for a local file."""
    max_impact: Percent | None = None
    """How many of the destinations that were allowed in the last 24 hours it may newly deny, once those are more than
    a few. When not given, 10% with a URL, anything for a local file."""
    max_age: Duration | None = None
    """Age from which on the copy in use is reported. When not given, three intervals, and a day at least."""


class Verify(_Model):
    """How to make sure that a copy is what its publisher meant."""

    sha256: Annotated[str, AfterValidator(_sha256)] | None = None
    """SHA-256 digest of the one content that is good; for lists that never change."""
    minisign: Annotated[str, AfterValidator(_minisign)] | None = None
    """Public key of the publisher, as minisign writes it; the signature is beside the list, at `URL.minisig`."""
    ed25519: Annotated[str, AfterValidator(_ed25519)] | None = None
    """Public key of the publisher, 32 octets in base64; the signature of the file is beside it, at `URL.sig`."""
    ends_with: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """How the last line begins, for formats and publishers that mark the end: a copy without it was cut short."""

    @property
    def signatures(self) -> tuple[str, ...]:
        """What is appended to the address of the list for the addresses of its signatures."""
        return tuple(
            suffix for suffix, key in ((".minisig", self.minisign), (".sig", self.ed25519)) if key is not None
        )

    @property
    def origin(self) -> str:
        """Digest of what proves the origin of a copy: one that was proven otherwise is not proven."""
        given = (self.sha256, self.minisign, self.ed25519)
        return hashlib.sha256(repr(given).encode()).hexdigest()[:12] if any(given) else ""


class Feed(_Model):
    """One list: a published one (`url`) or a local file (`path`)."""

    url: Url | None = None
    """Where it is published. Give `url` or `path`."""
    path: Path | None = None
    """A local file, from the folder of the file that this is written in. Give `url` or `path`."""
    mirrors: tuple[Url, ...] = ()
    """Further URLs of the same list, tried in this order when the ones before fail."""
    format: Format
    """What it is written in."""
    column: Annotated[str, BeforeValidator(_column), Field(min_length=1)] | None = None
    """For csv: name of the column in the header row, or its number, counted from 1, when there is none."""
    categories: tuple[Category, ...] = ()
    """What the things on it are; rules name categories."""
    license: str = ""
    """Licence of the list, as an SPDX identifier where there is one."""
    terms: str = ""
    """Terms of use, where they are more than the licence."""
    about: str = ""
    """What the list is, in a sentence."""
    interval: Duration = Field("24h", validate_default=True)
    """Time between two requests for it; a refresh that comes earlier leaves it alone."""
    limits: Limits = Limits()
    """What a new copy must keep to."""
    verify: Verify = Verify()
    """How to make sure that a copy is genuine."""
    enabled: bool = True
    """Whether it is fetched and compiled."""
    never_block: bool = False
    """Nothing on this list is ever denied by another list."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ValueError("give url or path, exactly one of them")
        if self.mirrors and self.url is None:
            raise ValueError("mirrors are for feeds with a url")
        if (self.format == "csv") != (self.column is not None):
            raise ValueError("format csv needs a column, and only csv has columns")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """Where to get it, in order; empty for a local file."""
        return () if self.url is None else (self.url, *self.mirrors)

    @property
    def min_entries(self) -> int:
        """Fewest entries of a copy that is believed."""
        given = self.limits.min_entries
        return given if given is not None else 0 if self.url is None else 1

    @property
    def max_shrink(self) -> float | None:
        """How much smaller than the last good copy a new one may be, as a fraction; None for any."""
        given = self.limits.max_shrink
        return given if given is not None or self.url is None else 0.5

    @property
    def max_growth(self) -> float | None:
        """How much larger than the last good copy a new one may be, as a fraction; None for any."""
        given = self.limits.max_growth
        return given if given is not None or self.url is None else 3.0

    @property
    def max_rejected(self) -> float:
        """How many of the lines that are no comments may be unreadable, as a fraction."""
        given = self.limits.max_rejected
        return given if given is not None else 0.9 if self.url is None else 0.5

    @property
    def max_protected(self) -> float | None:
        """How many of the entries may be such as no list may deny, as a fraction; None for any."""
        given = self.limits.max_protected
        return given if given is not None or self.url is None else 0.01

    @property
    def max_impact(self) -> float | None:
        """How many of a day's destinations a new copy may newly deny, as a fraction; None for any."""
        given = self.limits.max_impact
        return given if given is not None or self.url is None else 0.1

    @property
    def max_age(self) -> float | None:
        """Age from which on a copy is reported, in seconds; None for local files, which are read every time."""
        given = self.limits.max_age
        return given if given is not None or self.url is None else max(3 * self.interval, 86400.0)

    def located(self, folder: Path) -> Self:
        """Return the feed with its path, if it has one, taken from a folder."""
        return self if self.path is None else self.model_copy(update={"path": folder / self.path})


def _local(feed: Feed) -> Feed:
    if feed.path is None:
        raise ValueError("a list is a local file: give its path; feeds with a url belong in a catalogue")
    return feed


LocalList = Annotated[Feed, AfterValidator(_local)]
"""A list of the configuration itself: a feed that is a local file."""


class Catalog(RootModel[dict[FeedName, Feed]]):
    """A catalogue: feeds by their names."""


def load_catalog(path: Path) -> dict[str, Feed]:
    """Return the feeds of a catalogue, in the order of the file, with paths from the folder that the file is in.

    Raises:
        ConfigError: with every problem in the file.
    """
    catalog: Catalog = validate(Catalog, read_document(path))
    return {name: feed.located(path.parent) for name, feed in catalog.root.items()}
