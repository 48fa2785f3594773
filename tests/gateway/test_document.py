"""YAML documents: every value knows its line, and every problem says where it is."""

from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gateway.document import ConfigError, Document, Problem, parse_document, read_document, validate

TEXT = """\
version: 1

policy:
  rules:
    - name: a
      to: {domains: [x.test,
                     y.test]}
    - name: b
"""


def problems_of(text: str) -> list[str]:
    """Return the problems of a text, as people see them."""
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


LINES = [
    ((), 1),
    (("version",), 1),
    (("policy",), 3),
    (("policy", "rules"), 4),
    (("policy", "rules", 0), 5),
    (("policy", "rules", 0, "to", "domains"), 6),
    (("policy", "rules", 0, "to", "domains", 1), 7),
    (("policy", "rules", 1, "name"), 8),
    (("policy", "rules", 1, "missing", "deeper"), 8),
    (("missing",), 1),
]


@pytest.mark.parametrize(("location", "line"), LINES, ids=[str(location) for location, _ in LINES])
def test_lines(location: tuple[str | int, ...], line: int) -> None:
    """A value is on its line; one that was not written, on that of the nearest thing around it."""
    assert parse_document(TEXT, "f.yaml").line(location) == line


def test_data_is_what_yaml_says() -> None:
    """The values are plain dictionaries, lists and scalars; nothing at all is None."""
    document = parse_document(TEXT, "f.yaml")
    assert document.data["policy"]["rules"][0]["to"]["domains"] == ["x.test", "y.test"]
    assert parse_document("# only a comment\n", "f.yaml").data is None


BROKEN = [
    ("a key twice", "a: 1\nb: 2\na: 3\n", ["f.yaml:3: a: is given twice; keep one of them"]),
    ("a key twice deep down", "x:\n  - {a: 1, a: 2}\n", ["f.yaml:2: x[0].a: is given twice; keep one of them"]),
    (
        "two keys twice",
        "a: 1\na: 2\nb: 1\nb: 2\n",
        ["f.yaml:2: a: is given twice; keep one of them", "f.yaml:4: b: is given twice; keep one of them"],
    ),
]


@pytest.mark.parametrize(("text", "problems"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_keys_given_twice(text: str, problems: list[str]) -> None:
    """A key that is given twice is a problem at its second line, and every one is told."""
    assert problems_of(text) == problems


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2\n",
        "a: b: c\n",
        "\tx: 1\n",
        "a: *nowhere\n",
        "a: !!python/object/apply:os.system [ls]\n",
        "--- 1\n--- 2\n",
        "a: 2024-13-45\n",
        "? [a, b]\n: 1\n",
        "x: \x01\n",
        "{{}: 1}\n",
        "[" * 5000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_yaml(text: str) -> None:
    """Broken, unsafe or several documents are one problem with a line, never another exception."""
    (problem,) = problems_of(text)
    assert problem.startswith("f.yaml:")
    assert "is not valid YAML" in problem


@given(st.text() | st.text("ab:-[]{}&*!|>#\"' \n\t?,%@`", max_size=60))
def test_any_text_is_a_document_or_a_config_error(text: str) -> None:
    """No text makes the reader raise anything but ConfigError."""
    try:
        document = parse_document(text, "f.yaml")
    except ConfigError:
        return
    assert document.line(()) >= 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is missing, a folder, or not UTF-8 is a problem that names it."""
    for path, why in ((tmp_path / "missing.yaml", "cannot be read"), (tmp_path, "cannot be read")):
        with pytest.raises(ConfigError, match=why) as caught:
            read_document(path)
        assert caught.value.problems[0].file == str(path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_document(latin)
    good = tmp_path / "good.yaml"
    good.write_text("a: é\n", encoding="utf-8")
    assert read_document(good) == Document(str(good), {"a": "é"}, {(): 1, ("a",): 1})


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int
    name: str = "x"

    @field_validator("name")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value) > 3:
            raise ValueError(f"{value!r} is too long: give three letters")
        return value


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: tuple[_Inner, ...] = ()
    more: dict[str, _Inner | None] = {}  # a field of a model, copied for each
    few: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("more: {a.b: {size: 1, siz: 2}}", ["more.a.b.siz: unknown key; did you mean 'size'?"]),
        ("more: {a: 1}", ["more.a: expected a mapping, not 1"]),
        ("inner: {size: 1}", ["inner: expected a list, not {'size': 1}"]),
        ("few: []", ["few: is empty"]),
        ("few: [a]", ["few[0]: expected a number, not 'a'"]),
    ],
    ids=["a key behind a name and a union", "no mapping", "no list", "an empty list", "nothing good in a list"],
)
def test_problems_are_in_the_words_of_the_file(text: str, problems: list[str]) -> None:
    """A key that is nearly one is told which; what is expected is no type of Python, and told once."""
    with pytest.raises(ConfigError) as caught:
        validate(_Outer, parse_document(text, "f.yaml"))
    assert [str(problem) for problem in caught.value.problems] == [f"f.yaml:1: {problem}" for problem in problems]


def test_validation_reports_everything_with_line_and_path() -> None:
    """Every problem that a model finds is told, with line, path, what is wrong and what was found."""
    document = parse_document("inner:\n  - size: many\n    name: abcd\n  - nam: y\nother: 1\n", "f.yaml")
    with pytest.raises(ConfigError) as caught:
        validate(_Outer, document)
    assert sorted(str(problem) for problem in caught.value.problems) == [
        "f.yaml:2: inner[0].size: expected a number, not 'many'",
        "f.yaml:3: inner[0].name: 'abcd' is too long: give three letters",
        "f.yaml:4: inner[1].nam: unknown key; did you mean 'name'?",
        "f.yaml:4: inner[1].size: is missing",
        "f.yaml:5: other: unknown key; there is: inner, more, few",
    ]
    assert str(caught.value).count("\n") == 4


def test_a_part_of_a_document_is_validated_with_its_own_lines() -> None:
    """A model may be read from a place in a document, and its problems still have the document's lines and paths."""
    document = parse_document("a: 1\nb:\n  inner:\n    - size: x\n", "f.yaml")
    with pytest.raises(ConfigError, match=r"f\.yaml:4: b\.inner\[0\]\.size: "):
        validate(_Outer, document, ("b",))
    assert validate(_Outer, parse_document("b:\n", "f.yaml"), ("b",)) == _Outer()


def test_problems_are_one_line_for_people() -> None:
    """A problem reads `file:line: path: message`, with a word in front when it is only a warning."""
    assert str(Problem("f", 3, "a.b[0]", "is wrong")) == "f:3: a.b[0]: is wrong"
    assert str(Problem("f", 1, "", "is empty")) == "f:1: is empty"
    assert str(Problem("f", 3, "a", "is odd", warning=True)) == "f:3: warning: a: is odd"
