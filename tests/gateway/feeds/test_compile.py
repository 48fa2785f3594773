"""Compiling lists: what goes in, what is left out, and the account of both."""

from dataclasses import replace

import pytest

from gateway.feeds.compile import Source, accounts_of, compile_lists, fingerprint, never_block_of, read
from gateway.feeds.snapshot import Snapshot

KEY = bytes(16)


def source(
    name: str, text: str, format: str = "domains", *, never_block: bool = False, version: str = "0" * 12
) -> Source:
    """Return a list in this format."""
    return Source(
        name=name,
        version=version,
        format=format,
        data=text.encode(),
        never_block=never_block,
        categories=("malware",),
    )


LISTS = [
    source("never", "good.example\n192.0.2.1\n", never_block=True),
    source("names", "# comment\nbad.example\nco.uk\nbad.example\ngood.example\nwww.good.example\n-\nnot a name\n"),
    source("addresses", "192.0.2.0/24\n198.51.100.0/24\n0.0.0.0/1\n", "addresses"),
]


def test_every_line_is_accounted_for() -> None:
    """Entries, duplicates, drops and rejections of each list are counted, with samples of their lines."""
    compiled = compile_lists(LISTS, key=KEY, created=1.0)
    never, names, addresses = compiled.accounts
    assert (never.name, never.entries, never.lines) == ("never", 2, 2)
    assert (names.lines, names.entries, names.duplicates) == (8, 1, 1)
    assert names.dropped == {"public suffix": 1, "never-block": 2}
    assert sum(names.rejected.values()) == 2
    assert names.samples["public suffix"] == ((3, "co.uk"),)
    assert names.samples["never-block"] == ((5, "good.example"), (6, "www.good.example"))
    assert addresses.dropped == {"never-block": 1, "too wide": 1}
    assert addresses.samples["never-block"] == ((1, "192.0.2.0/24"),)
    assert addresses.entries == 1


def test_only_deny_lists_are_in_the_snapshot() -> None:
    """A never-block list protects, and is no list that a rule could name."""
    snapshot = Snapshot.from_bytes(compile_lists(LISTS, key=KEY, created=1.0).data)
    assert [info.name for info in snapshot.lists] == ["names", "addresses"]
    assert snapshot.lookup_name("x.bad.example") == (1, 0)
    assert snapshot.lookup_name("good.example") == (0, 0)
    assert snapshot.lookup_name("x.co.uk") == (0, 0)
    match = snapshot.match_name("x.bad.example", 1)
    assert match is not None
    assert (match.line, match.entry, match.categories) == (2, ".bad.example", ("malware",))


def test_the_account_is_kept_in_the_snapshot() -> None:
    """The accounts come back from a snapshot as they were."""
    compiled = compile_lists(LISTS, key=KEY, created=1.0)
    assert accounts_of(Snapshot.from_bytes(compiled.data).notes) == compiled.accounts


def test_compiling_is_deterministic() -> None:
    """The same lists, key and time give the same file."""
    assert compile_lists(LISTS, key=KEY, created=1.0).data == compile_lists(LISTS, key=KEY, created=1.0).data


@pytest.mark.parametrize(
    "other",
    [
        source("a", "x", version="1" * 12),
        source("b", "x"),
        source("a", "x", "hosts"),
        source("a", "x", never_block=True),
    ],
)
def test_the_fingerprint_tells_sources_apart(other: Source) -> None:
    """Whatever would change the snapshot changes the fingerprint."""
    assert fingerprint([source("a", "x")]) != fingerprint([other])
    assert fingerprint([source("a", "x")]) == fingerprint([source("a", "x")])


def test_an_exception_of_a_list_is_never_dropped() -> None:
    """Taking a protected name out of a list is no denial of it."""
    lists = [
        source("never", "good.example", never_block=True),
        source("a", "||bad.example^\n@@||good.example^\n", "adblock"),
    ]
    account = compile_lists(lists, key=KEY, created=1.0).accounts[1]
    assert (account.entries, account.dropped) == (2, {})


def test_what_was_read_before_is_not_read_again() -> None:
    """A list that was read before it is compiled gives the same snapshot and the same account, wherever it stands."""
    texts = {
        "names": ("domains", b"a.example\nb.example\nb.example\nsafe.example\nco.uk\nno name\n"),
        "nets": ("addresses", b"192.0.2.0/24\n192.0.2.0/25\n2001:db8::/32\n"),
        "urls": ("urls", b"http://c.example/x\nhttp://c.example/y\n"),
        "rules": ("adblock", b"||d.example^\n@@||e.d.example^\n"),
    }
    never = Source(name="never", version="1", format="domains", data=b"safe.example\n", never_block=True)
    plain = [Source(name=name, version="1", format=format, data=data) for name, (format, data) in texts.items()]
    protected = never_block_of([never], 0.0)
    ready = [
        replace(source, data=b"", reading=read(source, key=bytes(16), protected=protected, now=0.0))
        for source in plain
    ]
    expected = compile_lists([never, *plain], key=bytes(16), created=0.0)
    assert compile_lists([never, *ready], key=bytes(16), created=0.0) == expected
    assert compile_lists([never, *ready], key=bytes(16), created=0.0) == expected, "a second time as well"
    with pytest.raises(ValueError, match="another key"):
        compile_lists([never, *ready], key=bytes([1] * 16), created=0.0)
