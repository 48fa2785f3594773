"""How commands speak."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import console


@given(st.text())
def test_nothing_that_steers_a_terminal_gets_through(text: str) -> None:
    """Whatever a name from the network holds, only printable characters come out."""
    assert console.clean(text).isprintable()


def test_a_table_in_a_pipe_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there are columns, headings and nothing else."""
    console.table(("name", "n"), [("a\x1b[31m", 1), ("long-name", 22)])
    assert capsys.readouterr().out == "name       n\na\\x1b[31m  1\nlong-name  22\n"


def test_an_empty_table_is_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing found is shown as nothing found."""
    console.table(("name", "n"), [])
    assert capsys.readouterr().out == "name  n\n"


def test_a_terminal_too_narrow_for_a_table_gets_a_line_for_each_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No column but the last is ever folded: a name cut into syllables can be neither read nor copied."""
    rows = [["one-long-name-of-a-list", "unchanged", "a note of several words"], ["two", "fresh", ""]]
    monkeypatch.setenv("COLUMNS", "40")
    console._draw(("list", "state", "note"), rows)
    assert capsys.readouterr().out == (
        " list  one-long-name-of-a-list\nstate  unchanged\n note  a note of several words\n\n"
        " list  two\nstate  fresh\n\n"
    )
    monkeypatch.setenv("COLUMNS", "60")
    console._draw(("list", "state", "note"), rows)
    assert capsys.readouterr().out.splitlines()[1].startswith("one-long-name-of-a-list  unchanged  a note")


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """What goes out can be read back."""
    console.as_json([{"a": 1}])
    assert json.loads(capsys.readouterr().out) == [{"a": 1}]


def test_complaints_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Data and complaints do not mix."""
    console.say("data")
    console.complain("trouble\x07")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("data\n", "trouble\\x07\n")
