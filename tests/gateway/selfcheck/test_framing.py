"""Tests of `gateway.selfcheck.framing`. That each head is refused for what it is: see `test_head.py`."""

from gateway.selfcheck.framing import CHUNKS, HEADS


def test_they_are_complete() -> None:
    """A head that is refused only because its end never comes would prove nothing."""
    assert [name for name, (head, _, _) in HEADS.items() if b"\r\n\r\n" not in head] == ["only LF", "TLS"]


def test_chunks_are_not_plain() -> None:
    """No chunk size is what RFC 9112 section 7.1 asks for and small enough to be read."""
    for body in CHUNKS.values():
        size, end, _ = body.partition(b"\r\n")
        assert not end or not size.isalnum() or len(size) > 16 or not all(c in b"0123456789abcdef" for c in size)
