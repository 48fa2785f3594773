"""Opens a recording, whatever its format: the first octets tell."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from gateway.recordings.lines import Lines
from gateway.recordings.packets import MAGICS, PCAPNG, Capture
from gateway.tunnelling.analysis import Recorded


class Recording:
    """A file with queries: a ledger, JSON lines, Zeek's dns.log, or pcap; with gzip or without."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Lines | Capture | None = None

    @property
    def unreadable(self) -> int:
        """Lines or packets passed over so far."""
        return self._reader.unreadable if self._reader is not None else 0

    @property
    def flaw(self) -> str:
        """Where the first of them is, and what is wrong with it; empty without any."""
        return self._reader.flaw if self._reader is not None else ""

    def __iter__(self) -> Iterator[Recorded]:
        """Yield the queries.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged, or of a format that is not read.
        """
        with self._path.open("rb") as plain:
            packed = plain.peek(2)[:2] == b"\x1f\x8b"
            try:
                if packed:
                    with gzip.open(plain) as unpacked:
                        yield from self._queries(io.BufferedReader(unpacked))
                else:
                    yield from self._queries(plain)
            except EOFError as error:  # how gzip says that a file is cut short
                raise ValueError(str(error)) from None

    def _queries(self, stream: io.BufferedReader) -> Iterator[Recorded]:
        start = stream.peek(4)[:4]
        if start == PCAPNG:
            raise ValueError("pcapng is not read: make it pcap with 'editcap -F pcap'")
        if start in MAGICS:
            capture = self._reader = Capture()
            yield from capture.read(stream)
            return
        lines = self._reader = Lines()
        yield from lines.read(line.decode("utf-8", "replace") for line in stream)
