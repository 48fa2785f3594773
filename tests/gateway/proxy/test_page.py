"""Tests of `gateway.proxy.page`."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.page import SECURITY, page


class Reader(HTMLParser):
    """Collects the tags, and the text outside of the style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Remember text."""
        self.said.append(data)


PLAIN = Reader(page("a", "b", [("c", "d")], "e"))


@given(st.text(), st.text(), st.text(min_size=1), st.text())
def test_texts_are_texts(headline: str, why: str, value: str, quote: str) -> None:
    """No text adds a tag, and none is lost."""
    read = Reader(page(headline, why, [("name", value)], quote))
    assert read.tags == PLAIN.tags
    said = "".join(read.said)
    for text in (headline, why, value, quote):
        assert text.replace("\r\n", "\n").replace("\r", "\n") in said.replace("\r\n", "\n").replace("\r", "\n")


def test_facts_that_are_not_there() -> None:
    """What is empty has no row."""
    assert "List" not in page("a", "b", [("List", ""), ("Rule", "x")], "e")


def test_nothing_to_fetch() -> None:
    """The page has no link, image or script, and its policy would let none of them work."""
    assert set(PLAIN.tags) == {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "p",
        "dl",
        "dt",
        "dd",
        "code",
        "footer",
    }
    assert SECURITY.startswith("default-src 'none'")
