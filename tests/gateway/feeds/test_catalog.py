"""The catalogue of feeds: what it may say, and how its mistakes are told."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from gateway.document import ConfigError
from gateway.feeds.catalog import Catalog, Feed, FeedName, LocalList, load_catalog

FULL = """
urlhaus-hosts:
  url: https://urlhaus.example/downloads/hostfile/
  mirrors: [https://mirror.example/hostfile]
  format: hosts
  column: null
  categories: [malware]
  license: CC0-1.0
  terms: none
  about: Hosts that serve malware.
  interval: 1h
  limits: {max_bytes: 64MiB, min_entries: 100, max_shrink: 50%, max_growth: 300%}
  verify: {sha256: null, minisign: null}
  enabled: true
own:
  path: lists/own.txt
  format: domains
  never_block: true
"""


def load(folder: Path, text: str) -> dict[str, Feed]:
    """Write a catalogue and load it."""
    path = folder / "feeds.yaml"
    path.write_text(text, encoding="utf-8")
    return load_catalog(path)


def test_a_full_catalogue(tmp_path: Path) -> None:
    """Every key of a feed is read, and paths are taken from the catalogue's folder."""
    feeds = load(tmp_path, FULL)
    assert list(feeds) == ["urlhaus-hosts", "own"]
    feed = feeds["urlhaus-hosts"]
    assert feed.urls == ("https://urlhaus.example/downloads/hostfile/", "https://mirror.example/hostfile")
    assert (feed.interval, feed.limits.max_bytes, feed.min_entries) == (3600, 64 << 20, 100)
    assert (feed.max_shrink, feed.max_growth) == (0.5, 3.0)
    assert feeds["own"].path == tmp_path / "lists/own.txt"
    assert feeds["own"].never_block


def test_defaults_of_feeds_and_files(tmp_path: Path) -> None:
    """A published list is guarded without being told to; a local file may be empty and change as it likes."""
    feeds = load(tmp_path, "a: {url: 'https://a.example/', format: hosts}\nb: {path: /b.txt, format: hosts}\n")
    assert (feeds["a"].min_entries, feeds["a"].max_shrink, feeds["a"].max_growth) == (1, 0.5, 3.0)
    assert (feeds["b"].min_entries, feeds["b"].max_shrink, feeds["b"].max_growth) == (0, None, None)
    assert feeds["b"].path == Path("/b.txt")
    assert feeds["a"].interval == 86400


def test_an_empty_catalogue(tmp_path: Path) -> None:
    """A catalogue may name no feed."""
    assert load(tmp_path, "# nothing yet\n") == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {format: hosts}", "a: give url or path, exactly one of them"),
        ("a: {url: 'https://a.example', path: b, format: hosts}", "a: give url or path, exactly one of them"),
        ("a: {path: b, mirrors: ['https://a.example'], format: hosts}", "a: mirrors are for feeds with a url"),
        ("a: {path: b, format: csv}", "a: format csv needs a column, and only csv has columns"),
        ("a: {path: b, format: hosts, column: x}", "a: format csv needs a column, and only csv has columns"),
        ("a: {path: b, format: excel}", "a.format: expected 'hosts'"),
        ("a: {path: b}", "a.format: is missing"),
        ("a: {url: 'ftp://a.example', format: hosts}", "a.url: expected an http:// or https:// URL"),
        ("a: {url: 'https://a.example:x', format: hosts}", "a.url: expected an http:// or https:// URL"),
        ("a: {url: 'https:///x', format: hosts}", "a.url: expected an http:// or https:// URL"),
        ("a: {path: b, format: hosts, verify: {minisign: RWQ}}", "a.verify.minisign: expected a minisign public key"),
        ("a: {path: b, format: hosts, verify: {ed25519: RWQ}}", "a.verify.ed25519: expected an Ed25519 public key"),
        ("a: {path: b, format: hosts, verify: {sha256: abc}}", "a.verify.sha256: expected the 64 hexadecimal digits"),
        ("a: {path: b, format: hosts, limits: {max_bytes: 5 Foo}}", "a.limits.max_bytes: expected a size"),
        ("a: {path: b, format: hosts, limits: {max_shrink: 50}}", "a.limits.max_shrink: needs a unit, as in '5000%'"),
        ("a: {path: b, format: hosts, interval: 60}", "a.interval: needs a unit, as in '1m'"),
        ("a: {path: b, format: hosts, categories: [Bad Ones]}", "a.categories[0]: a category has lower-case letters"),
        ("a: {path: b, format: hosts, wanted: 1}", "a.wanted: unknown key"),
        ("../a: {path: b, format: hosts}", "a name has lower-case letters"),
        ("a: {path: b, format: hosts}\na: {path: b, format: hosts}", "a: is given twice"),
    ],
)
def test_problems(tmp_path: Path, text: str, problem: str) -> None:
    """A mistake is told with file, line and path."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert len(caught.value.problems) == 1
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'feeds.yaml'}:")
    assert problem in told


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Every mistake in a catalogue is in the report, at its own line."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "a:\n  path: b\n  format: x\nb:\n  path: b\n  format: hosts\n  interval: 1\n")
    assert [problem.line for problem in caught.value.problems] == [3, 7]


@pytest.mark.parametrize("name", ["a", "feodo-tracker.ips_2", "0", "x" * 64])
def test_good_names(name: str) -> None:
    """A name of a feed can be a folder."""
    assert Catalog.model_validate({name: {"path": "x", "format": "hosts"}}).root[name]


@pytest.mark.parametrize("name", ["", ".", "..", "a..b", "a/b", "A", "-a", "x" * 65, "ä", "a\n"])
def test_bad_names(name: str) -> None:
    """What could be another folder is refused."""
    with pytest.raises(ValidationError):
        Catalog.model_validate({name: {"path": "x", "format": "hosts"}})


def test_columns_may_be_numbers() -> None:
    """A column can be given as a number, as YAML reads it."""
    assert Feed.model_validate({"path": "x", "format": "csv", "column": 2}).column == "2"


class Lists(BaseModel):
    """Lists, as in the configuration."""

    lists: dict[FeedName, LocalList]


def test_a_list_of_the_configuration_is_a_file() -> None:
    """A list with a URL is told to be in the wrong place."""
    assert Lists.model_validate({"lists": {"a": {"path": "x", "format": "hosts"}}}).lists["a"].path == Path("x")
    with pytest.raises(ValidationError, match="belong in a catalogue"):
        Lists.model_validate({"lists": {"a": {"url": "https://a.example", "format": "hosts"}}})


def test_the_schema_describes_every_key() -> None:
    """Every key in the JSON Schema has a description."""
    definitions = Catalog.model_json_schema()["$defs"]
    for model in ("Feed", "Limits", "Verify"):
        assert all("description" in field for field in definitions[model]["properties"].values())
    assert definitions["Feed"]["additionalProperties"] is False
