"""Recordings by their first octets."""

import gzip
from pathlib import Path

import pytest

from gateway.recordings.files import Recording
from tests.gateway.recordings.test_packets import FOUND, PAIR, pcap

LINE = b'{"t": 1, "client": "c", "qname": "a.com", "qtype": "A"}\n'


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_formats(tmp_path: Path, pack: "type[bytes]") -> None:
    """Text and captures are told apart, packed or not."""
    path = tmp_path / "recording"
    path.write_bytes(pack(LINE + b"torn"))
    recording = Recording(path)
    assert [query.name for query in recording] == ["a.com"]
    assert (recording.unreadable, recording.flaw) == (1, "line 2: neither JSON nor under a heading")
    path.write_bytes(pack(pcap(*PAIR).getvalue()))
    assert list(Recording(path)) == [FOUND]


def test_damage(tmp_path: Path) -> None:
    """A file cut short, and a format that is not read, are errors that say so."""
    path = tmp_path / "recording"
    path.write_bytes(gzip.compress(LINE * 99)[:-9])
    with pytest.raises(ValueError, match="end-of-stream"):
        list(Recording(path))
    path.write_bytes(b"\x0a\x0d\x0d\x0a" + bytes(20))
    with pytest.raises(ValueError, match="editcap"):
        list(Recording(path))
