"""Copies on disk: found again, recognised when damaged, and never half written."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.feeds.guards import version_of
from gateway.feeds.store import FeedState, Store, read_line, write_atomically

DATA = b"a.example\r\nb.example\n"


def a_state(data: bytes = DATA, format: str = "domains") -> FeedState:
    """Return the state of a copy."""
    return FeedState(version=version_of(data), format=format, url="https://a.example/", etag='"1"', last_success=5.0)


def save(store: Store, name: str, data: bytes, state: FeedState) -> None:
    """Store a copy as a refresh does that believes it."""
    store.save_copy(name, data, state)
    store.save_state(name, state)


def test_a_copy_comes_back(tmp_path: Path) -> None:
    """A stored copy and what is known of it are read back."""
    store = Store(tmp_path)
    save(store, "a", DATA, a_state())
    assert Store(tmp_path).state("a", "domains", None) == a_state()
    with store.open("a", a_state()) as data:
        assert bytes(data) == DATA
    assert (tmp_path / "feeds/a").stat().st_mode & 0o777 == 0o700


def test_an_empty_copy_comes_back(tmp_path: Path) -> None:
    """A copy may be empty."""
    store = Store(tmp_path)
    save(store, "a", b"", a_state(b""))
    with store.open("a", a_state(b"")) as data:
        assert bytes(data) == b""


def test_nothing_is_known_of_a_feed_never_fetched(tmp_path: Path) -> None:
    """Without a copy there is no state."""
    assert Store(tmp_path).state("a", "domains", None) is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"{}", b'{"version": 1, "format": ""}', b'{"version": "../x", "format": ""}', b"\xff"]
)
def test_a_lost_state_is_made_up_from_the_copy(tmp_path: Path, text: bytes) -> None:
    """When the state file is no use, the newest sound copy is used, and nothing is claimed of its origin."""
    store = Store(tmp_path)
    save(store, "a", b"old", a_state(b"old"))
    os.utime(tmp_path / "feeds/a" / a_state(b"old").file, (1, 1))
    save(store, "a", DATA, a_state())
    (tmp_path / "feeds/a/state.json").write_bytes(text)
    state = store.state("a", "domains", None)
    assert state is not None
    assert (state.version, state.url, state.etag) == (version_of(DATA), "", "")


def test_a_damaged_copy_is_not_used(tmp_path: Path) -> None:
    """A copy whose content is not that of its name is no copy; an older sound one is."""
    store = Store(tmp_path)
    save(store, "a", DATA, a_state())
    path = tmp_path / "feeds/a" / a_state().file
    path.write_bytes(DATA[:5])
    assert store.state("a", "domains", None) is None
    save(store, "a", b"older", a_state(b"older"))
    store.save_state("a", a_state())
    state = store.state("a", "domains", None)
    assert state is not None
    assert state.version == version_of(b"older")
    save(store, "a", DATA, a_state())
    assert path.read_bytes() == DATA


def test_an_atomic_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a write fails, what was there is still there, and nothing else is."""
    path = tmp_path / "file"
    write_atomically(path, b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.feeds.store.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_atomically(path, b"three")
    assert path.read_bytes() == b"three"
    assert path.stat().st_mode & 0o777 == 0o600


def test_cleaning_keeps_what_is_in_use(tmp_path: Path) -> None:
    """Old copies, leftovers of interrupted writes and feeds that are gone are removed; the rest stays."""
    store = Store(tmp_path)
    save(store, "a", b"old", a_state(b"old"))
    save(store, "a", DATA, a_state())
    save(store, "gone", DATA, a_state())
    (tmp_path / "feeds/a/.tmp-x.list").write_bytes(b"half")
    store.clean({("a", version_of(DATA))})
    names = {path.name for path in tmp_path.rglob("*")}
    assert names == {"feeds", "a", a_state().file, "state.json"}


@pytest.mark.parametrize(("line", "text"), [(1, "a.example"), (2, "b.example"), (3, None), (0, None)])
def test_lines_of_a_copy(tmp_path: Path, line: int, text: str | None) -> None:
    """A line is found by its number, as the parsers count."""
    save(Store(tmp_path), "a", DATA, a_state())
    assert read_line(tmp_path, "a", version_of(DATA), line) == text


def test_items_of_a_document(tmp_path: Path) -> None:
    """In a JSON document, a line is an item of its list."""
    data = b'{"list": ["a.example", {"x": 1}]}'
    save(Store(tmp_path), "a", data, a_state(data, "misp"))
    version = version_of(data)
    assert [read_line(tmp_path, "a", version, line) for line in (0, 1, 2, 3)] == [None, "a.example", '{"x": 1}', None]


def test_lines_of_copies_that_are_gone(tmp_path: Path) -> None:
    """There is no line of a copy that is not there, or not readable."""
    assert read_line(tmp_path, "a", "0" * 12, 1) is None
    save(Store(tmp_path), "a", b"{", replace(a_state(b"{"), format="misp"))
    assert read_line(tmp_path, "a", version_of(b"{"), 1) is None
