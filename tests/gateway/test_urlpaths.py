"""Paths of URLs: every spelling of one path has one normal form, and no reading of it is missed."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.urlpaths import decoded, normalize_path, possible_readings, readings

CASES = [
    ("", "/"),
    ("/", "/"),
    ("relative", "/relative"),
    ("/a/b.html", "/a/b.html"),
    ("/Case/Is/Kept", "/Case/Is/Kept"),
    ("/%61%2D%5f%7E", "/a-_~"),
    ("/%2f%3a%e2", "/%2F%3A%E2"),
    ("/a/./b", "/a/b"),
    ("/a/../b", "/b"),
    ("/a/%2e%2E/b", "/b"),
    ("/a/.%2e/b", "/b"),
    ("/../../etc", "/etc"),
    ("/a/b/..", "/a/"),
    ("/a/b/.", "/a/b/"),
    ("/..", "/"),
    ("/...", "/..."),
    ("/.well-known/x", "/.well-known/x"),
    ("/a//b", "/a//b"),
    ("/a//../b", "/a/b"),
    ("/a%2F..%2Fb", "/a%2F..%2Fb"),
    ("/a\\..\\b", "/a%5C..%5Cb"),
    ("/50%", "/50%25"),
    ("/%zz", "/%25zz"),
    ("/%%36%31", "/%2561"),
    ("/%2565", "/%2565"),
    ("/a b\t", "/a%20b%09"),
    ("/straße", "/stra%C3%9Fe"),
    ("/caf\udce9", "/caf%E9"),
    ("/\ud800", "/%ED%A0%80"),
    ("/a#b", "/a%23b"),
    ("/a?q=%61&r=%2f", "/a?q=a&r=%2F"),
    ("/a?../b", "/a?../b"),
    ("/a?b?c", "/a?b?c"),
    ("?q", "/?q"),
    ("/a?", "/a?"),
    ("/;p=1/@x:y,z!$&'()*+", "/;p=1/@x:y,z!$&'()*+"),
]


@pytest.mark.parametrize(("path", "expected"), CASES, ids=[repr(path) for path, _ in CASES])
def test_normal_form(path: str, expected: str) -> None:
    """A path has the normal form that RFC 3986 gives it."""
    assert normalize_path(path) == expected


PIECES = ["/", ".", "..", "%", "2", "e", "E", "%2e", "%2F", "%25", "?", "#", "a", "é", "\\", "\udc80", "\ud800"]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_total_and_idempotent(path: str) -> None:
    """Any text has a normal form, which is its own, is ASCII, begins with a slash and has no dot segment."""
    normal = normalize_path(path)
    assert normalize_path(normal) == normal
    assert normal.startswith("/")
    assert normal.isascii()
    assert not {".", ".."} & set(normal.partition("?")[0].split("/"))


@given(st.text(alphabet="abz09-._~/", max_size=30))
def test_escaping_unreserved_characters_changes_nothing(path: str) -> None:
    """A path whose unreserved characters are all escaped is the same path."""
    escaped = "".join(char if char == "/" else f"%{ord(char):02x}" for char in path)
    assert normalize_path(escaped) == normalize_path(path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/a/b?//../x", ("/a/b",)),
        ("/a/%2e%2e/b", ("/a/%2e%2e/b", "/b")),
        ("/a/b//../../c", ("/a/b//../../c", "/a/c", "/c")),
        ("/a/%2F../b", ("/a/%2F../b", "/b", "/a/b")),
        ("/a/..;x/b", ("/a/..;x/b", "/b")),
        ("//a", ("//a", "/a")),
        ("/.a", ("/.a",)),
    ],
)
def test_readings(path: str, found: tuple[str, ...]) -> None:
    """The readings of a path are those of servers that decode it, or not, and take double slashes for one, or not."""
    assert readings(path) == found


def as_by_nginx(path: str) -> str:
    """Return a path as nginx does: escapes decoded, slashes merged, and dot segments removed of what that leaves."""
    kept: list[str] = []
    segments = [each for each in unquote(path).split("/") if each]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


@given(
    st.lists(st.sampled_from(["/", "/", "a", "b", ".", "..", "%2e", "%2F", "%61"])).map(
        lambda found: "/" + "".join(found)
    )
)
def test_what_servers_read_is_among_the_readings(path: str) -> None:
    """What nginx serves, and what a server does that decodes without merging slashes, is among the readings."""
    known = [each.rstrip("/") for each in decoded(path)]
    assert as_by_nginx(path).rstrip("/") in known
    unmerged = normalize_path(unquote(path))
    assert re.sub("/{2,}", "/", unmerged).rstrip("/") in known


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/admin?x;y", ()),
        ("/admin;v=1?x=1", ("/admin",)),
        ("/a%3Bx/b;y;z/c", ("/a/b/c",)),
        ("/x/;/../admin", ("/admin", "/x/admin")),
    ],
)
def test_parameters_that_some_servers_cut_off(path: str, more: tuple[str, ...]) -> None:
    """Those who look for a denied path look there as well; what others read is not left out."""
    found = possible_readings(path)
    assert found[: len(readings(path))] == readings(path)
    assert set(more) <= set(found)
    assert bool(more) == (";" in path.partition("?")[0] or "%3B" in path)
