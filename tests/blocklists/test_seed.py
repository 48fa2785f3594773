"""The lists kept by hand: every line is an entry, in order, once, and denies nobody by surprise."""

import re
from pathlib import Path

import pytest
import tldextract

from gateway.feeds.catalog import load_catalog
from gateway.feeds.entry import NameEntry, ParseReport, Scope
from gateway.feeds.formats import parse
from gateway.feeds.protected import NeverBlock

BLOCKLISTS = Path(__file__).parents[2] / "blocklists"
SEEDS = sorted((BLOCKLISTS / "seed").glob("*.txt"))
NEVER_BLOCK = BLOCKLISTS / "seed" / "never-block.txt"
DENYING = [seed for seed in SEEDS if seed != NEVER_BLOCK]
# The part of the public suffix list that registries run; the bundled copy, never one that is fetched.
SUFFIXES = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=False)

EVERYDAY = [
    *(
        "github.com",
        "raw.githubusercontent.com",
        "gitlab.com",
        "pypi.org",
        "files.pythonhosted.org",
        "registry.npmjs.org",
    ),
    *("deb.debian.org", "archive.ubuntu.com", "registry-1.docker.io", "s3.amazonaws.com", "ec2.amazonaws.com"),
    *("storage.googleapis.com", "login.microsoftonline.com", "www.google.com", "www.cloudflare.com", "zoom.us"),
    *(
        "webex.com",
        "goto.com",
        "www.dropbox.com",
        "onedrive.live.com",
        "wetransfer.com",
        "marketplace.visualstudio.com",
    ),
]


def lines_of(seed: Path) -> list[str]:
    """Return the lines that are no comments."""
    return [line for line in seed.read_text("utf-8").splitlines() if not line.startswith("#")]


def test_every_seed_is_in_the_catalogue() -> None:
    """The seed catalogue names each list exactly once."""
    feeds = load_catalog(BLOCKLISTS / "seed.yaml")
    assert sorted(str(feed.path) for feed in feeds.values()) == [str(seed) for seed in SEEDS]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.stem)
def test_every_line_is_an_entry(seed: Path) -> None:
    """Nothing in a list is rejected or left out, and a name stands as it is looked up."""
    report = ParseReport()
    entries = list(parse(seed.read_bytes(), "domains", report))
    assert (report.rejected, report.unsupported, report.partial) == ({}, {}, {})
    assert len(entries) == len(lines_of(seed))
    names = [entry.name for entry in entries if isinstance(entry, NameEntry)]
    assert set(names) <= set(lines_of(seed))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.stem)
def test_lines_are_sorted_and_unique(seed: Path) -> None:
    """A list is easy to compare: sorted, each line once, none that another one covers."""
    lines = lines_of(seed)
    assert lines == sorted(set(lines))
    if seed in DENYING:
        assert [line for line in lines if any(line.endswith("." + other) for other in lines)] == []


@pytest.mark.parametrize("seed", DENYING, ids=lambda seed: seed.stem)
def test_no_public_suffixes(seed: Path) -> None:
    """No line denies a whole registry's worth of other people's names."""
    entries = parse(seed.read_bytes(), "domains", ParseReport())
    names = [entry.name for entry in entries if isinstance(entry, NameEntry)]
    assert [name for name in names if SUFFIXES(name).suffix == name] == []


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.stem)
def test_headers_say_why(seed: Path) -> None:
    """A list begins with what it is, the technique it is about, how it was chosen, and when."""
    header = [line for line in seed.read_text("utf-8").splitlines() if line.startswith("#")]
    text = "\n".join(header)
    assert len(header[0]) > 20
    assert re.search(r"ATT&CK: T\d{4}", text)
    assert "Chosen from:" in text
    assert re.search(r"Reviewed: \d{4}-\d{2}-\d{2}\.", text)


@pytest.mark.parametrize("name", EVERYDAY)
def test_everyday_names_stay(name: str) -> None:
    """What ordinary businesses work with is on none of the lists."""
    for seed in DENYING:
        for entry in parse(seed.read_bytes(), "domains", ParseReport()):
            if isinstance(entry, NameEntry):
                assert entry.scope is Scope.TREE
                assert name != entry.name
                assert not name.endswith("." + entry.name)


def test_what_may_not_be_denied() -> None:
    """The never-block list protects names and not what is below them; none of the seed lists loses an entry to it."""
    entries = list(parse(NEVER_BLOCK.read_bytes(), "wildcard", ParseReport()))
    assert {entry.scope for entry in entries if isinstance(entry, NameEntry)} == {Scope.EXACT}
    protected = NeverBlock(entries)
    for name in ("aws.com", "amazonaws.com", "s3.amazonaws.com", "ocsp.digicert.com", "digicert.com", "pypi.org"):
        assert protected.objects_to(NameEntry(1, name, Scope.TREE)), name
    assert not protected.objects_to(NameEntry(1, "evil-bucket.s3.amazonaws.com", Scope.TREE))
    for seed in DENYING:
        for entry in parse(seed.read_bytes(), "domains", ParseReport()):
            assert not protected.objects_to(entry), entry
