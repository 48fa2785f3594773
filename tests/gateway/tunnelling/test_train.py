"""Building the data files."""

import gzip
from pathlib import Path

import pytest

from gateway.tunnelling.train import build, main, read_names, write

NAMES = ["www.example.com", "cdn.example.com", "www.example.org", "www.other.net", "x.me.duckdns.org", "a.b.local"]


def test_popular_domains_keep_their_order_and_leave_out_what_is_shared() -> None:
    """Customers of hosting services and private names are never popular."""
    data = build(NAMES, ["more.example"])
    assert data.leading == ("example.com", "example.org", "other.net")
    assert data.usual["www"] < data.usual["_dmarc"]


def test_the_same_input_gives_the_same_octets(tmp_path: Path) -> None:
    """Files do not differ from one build to the next."""
    write(build(NAMES), tmp_path / "one")
    write(build(NAMES), tmp_path / "two")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["characters.bin", "labels.txt", "popular.txt.gz", "words.txt"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_names_are_read_packed_or_not(tmp_path: Path) -> None:
    """A gzipped file gives the same names; what is no name is left out."""
    (tmp_path / "plain").write_bytes(b"WWW.Example.com\nno name!\nexample.org\n")
    (tmp_path / "packed").write_bytes(gzip.compress(b"www.example.com\nexample.org\n"))
    assert read_names(tmp_path / "plain") == read_names(tmp_path / "packed") == ["www.example.com", "example.org"]


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments it says what it wants, exit code 2."""
    assert main([]) == 2
    assert "FQDNS" in capsys.readouterr().err
