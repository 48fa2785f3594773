"""Rules: what an empty one means, and globs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Point, Verdict
from gateway.rule import WEB_PORTS, ClientGroup, HttpConditions, Rule, glob_pattern

PATHS = [
    ("/a", "/a", True),
    ("/a", "/a/", False),
    ("/a", "/A", False),
    ("/a/*", "/a/b", True),
    ("/a/*", "/a/", True),
    ("/a/*", "/a/b/c", False),
    ("/a/*/c", "/a/b/c", True),
    ("/a/*/c", "/a/b/x/c", False),
    ("/a/**", "/a/b/c", True),
    ("/a/**", "/a/", True),
    ("/a/**", "/a", False),
    ("/a**", "/ab/c", True),
    ("**", "/anything/at/all", True),
    ("/a/**/z", "/a/b/c/z", True),
    ("/a/**/z", "/a/z", False),
    ("/a.b", "/aXb", False),
    ("/a[1]", "/a1", False),
    ("/a?", "/ab", False),
    ("/a\\d", "/a1", False),
    ("/a", "/a\n", False),
    ("/a/**", "/a/\nb", True),
]


@pytest.mark.parametrize(("glob", "path", "matches"), PATHS, ids=[f"{glob} {path!r}" for glob, path, _ in PATHS])
def test_path_globs(glob: str, path: str, matches: bool) -> None:
    """With a separator one star stays within a segment, two go on; all else stands for itself, in its case."""
    assert bool(glob_pattern(glob, "/").match(path)) is matches


TEXTS = [
    ("curl*", "CURL/8", True),
    ("*gecko*", "Mozilla Gecko/1", True),
    ("acme", "acme-prod", False),
    ("acme*", "evil acme", False),
    ("", "", True),
    ("", "x", False),
    ("*", "a\nb", True),
    ("a.c", "abc", False),
    ("application/*", "application/json", True),
]


@pytest.mark.parametrize(("glob", "text", "matches"), TEXTS, ids=[f"{glob} {text!r}" for glob, text, _ in TEXTS])
def test_text_globs(glob: str, text: str, matches: bool) -> None:
    """Without a separator a star matches anything, and letter case does not count."""
    assert bool(glob_pattern(glob).match(text)) is matches


@given(st.text("/a*.[(\\|^$+?\n"), st.text("/ab.[(\\|^$+?\n"))
def test_globs_without_stars_are_the_text_itself(glob: str, text: str) -> None:
    """No character but the star means anything."""
    if "*" not in glob:
        assert bool(glob_pattern(glob, "/").match(text)) == (glob == text)
        assert glob_pattern(glob, "/").match(glob)
    assert isinstance(glob_pattern(glob), re.Pattern)


def test_an_empty_rule_is_for_everybody_everywhere() -> None:
    """A rule has no condition that was not given, and holds at every enforcement point."""
    rule = Rule(name="all", action=Verdict.ALLOW)
    assert rule.via == frozenset(Point)
    assert not any((rule.clients, rule.domains, rule.addresses, rule.ports, rule.tools, rule.http, rule.report))
    assert ClientGroup(name="all").addresses == ()
    assert HttpConditions().max_body is None


def test_web_ports() -> None:
    """The ports that are open by themselves are 80 and 443."""
    assert set(WEB_PORTS) == {80, 443}
