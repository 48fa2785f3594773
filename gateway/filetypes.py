"""What a file is, by its first octets: executables, scripts, archives, documents.

Pure: no I/O, no clock. Only the first octets are judged, because the rest has not come yet when the verdict is due.
What hides behind them is not found: a zip appended to a picture, a file inside an archive, an ISO image (whose mark
is 32 KiB away).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from gateway.codings import UNPACKERS

LOOK = 262
"""Octets that have to be seen: the mark of tar ends there."""

HELD = 65536
"""Octets of a body that may be held back to see them: a compressed one may be padded in front."""

UNREADABLE = "unreadable"
"""The format of a body whose first octets cannot be seen: encoded in a way that is not read, or from its middle."""

OTHER = "other"
"""The format of a body that no mark tells."""


class Kind(StrEnum):
    """Sets of formats that rules may name."""

    EXECUTABLE = "executable"
    SCRIPT = "script"
    ARCHIVE = "archive"
    DOCUMENT = "document"


class Mark(NamedTuple):
    """Octets at a place of a file that tell its format."""

    format: str
    kind: Kind
    octets: bytes
    offset: int = 0


MARKS = (
    # PE Format, "MS-DOS Stub (Image Only)": every image begins with a program for MS-DOS.
    Mark("pe", Kind.EXECUTABLE, b"MZ"),
    # System V ABI, "ELF Header", e_ident.
    Mark("elf", Kind.EXECUTABLE, b"\x7fELF"),
    # <mach-o/loader.h> MH_MAGIC, MH_CIGAM, MH_MAGIC_64, MH_CIGAM_64; <mach-o/fat.h> FAT_MAGIC, FAT_MAGIC_64.
    Mark("mach-o", Kind.EXECUTABLE, b"\xfe\xed\xfa\xce"),
    Mark("mach-o", Kind.EXECUTABLE, b"\xce\xfa\xed\xfe"),
    Mark("mach-o", Kind.EXECUTABLE, b"\xfe\xed\xfa\xcf"),
    Mark("mach-o", Kind.EXECUTABLE, b"\xcf\xfa\xed\xfe"),
    # Java classes share it (Java Virtual Machine Specification section 4.1): both are programs.
    Mark("mach-o", Kind.EXECUTABLE, b"\xca\xfe\xba\xbe"),
    Mark("mach-o", Kind.EXECUTABLE, b"\xca\xfe\xba\xbf"),
    # Dalvik executable format, DEX_FILE_MAGIC.
    Mark("dex", Kind.EXECUTABLE, b"dex\n"),
    # WebAssembly Core Specification section 5.5.16.
    Mark("wasm", Kind.EXECUTABLE, b"\x00asm"),
    # [MS-SHLLINK] section 2.1: HeaderSize and LinkCLSID. A shortcut holds a command line.
    Mark("lnk", Kind.EXECUTABLE, b"L\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00F"),
    # execve(2), "Interpreter scripts"; shells run it behind a byte order mark too.
    Mark("script", Kind.SCRIPT, b"#!"),
    Mark("script", Kind.SCRIPT, b"\xef\xbb\xbf#!"),
    # APPNOTE.TXT sections 4.3.7, 4.3.16 (empty), 8.5.4 (in several parts). Also jar, apk, docx, wheels.
    Mark("zip", Kind.ARCHIVE, b"PK\x03\x04"),
    Mark("zip", Kind.ARCHIVE, b"PK\x05\x06"),
    Mark("zip", Kind.ARCHIVE, b"PK\x07\x08"),
    # RFC 1952 section 2.3.1.
    Mark("gzip", Kind.ARCHIVE, b"\x1f\x8b"),
    # compress(1): the mark that gzip(1) and file(1) know.
    Mark("compress", Kind.ARCHIVE, b"\x1f\x9d"),
    # The manual of bzip2, "Header": BZ, h for Huffman.
    Mark("bzip2", Kind.ARCHIVE, b"BZh"),
    # The .xz File Format section 2.1.1.1.
    Mark("xz", Kind.ARCHIVE, b"\xfd7zXZ\x00"),
    # The manual of lzip, "File format".
    Mark("lzip", Kind.ARCHIVE, b"LZIP"),
    # RFC 8878 section 3.1.1.
    Mark("zstd", Kind.ARCHIVE, b"\x28\xb5\x2f\xfd"),
    # LZ4 Frame Format, "Magic Number".
    Mark("lz4", Kind.ARCHIVE, b"\x04\x22\x4d\x18"),
    # 7zFormat.txt, "SignatureHeader".
    Mark("7z", Kind.ARCHIVE, b"7z\xbc\xaf\x27\x1c"),
    # RAR 5.0 archive format, "RAR 5.0 signature"; 1.5 to 4 end in 00.
    Mark("rar", Kind.ARCHIVE, b"Rar!\x1a\x07"),
    # [MS-CAB] section 2.1, CFHEADER.
    Mark("cab", Kind.ARCHIVE, b"MSCF"),
    # POSIX pax, "ustar Interchange Format": the field magic.
    Mark("tar", Kind.ARCHIVE, b"ustar", 257),
    # POSIX pax, "cpio Interchange Format"; cpio(5) for the newer ones.
    Mark("cpio", Kind.ARCHIVE, b"07070"),
    # ar(5). Debian packages are such archives (deb(5)).
    Mark("ar", Kind.ARCHIVE, b"!<arch>\n"),
    # RPM file format, "The Lead".
    Mark("rpm", Kind.ARCHIVE, b"\xed\xab\xee\xdb"),
    # The xar archive format, "The Header": packages of macOS.
    Mark("xar", Kind.ARCHIVE, b"xar!"),
    # [MS-CFB] section 2.2: MSI packages, and Office files with their macros.
    Mark("ole", Kind.DOCUMENT, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    # ISO 32000-1 section 7.5.2.
    Mark("pdf", Kind.DOCUMENT, b"%PDF-"),
    # Rich Text Format Specification 1.9.1, "File Contents"; readers take less for it.
    Mark("rtf", Kind.DOCUMENT, b"{\\rt"),
)

FORMATS = tuple(dict.fromkeys(mark.format for mark in MARKS))
"""The formats that are told apart, in the order of the table."""

NAMES = (*Kind, *(name for name in FORMATS if name not in tuple(Kind)), OTHER)
"""What a rule may name."""


def formats_of(names: Iterable[str]) -> frozenset[str]:
    """Return the formats that some names stand for; a kind stands for all of its formats.

    >>> sorted(formats_of(["script", "zip"]))
    ['script', 'zip']
    """
    found = set(names)
    for mark in MARKS:
        if mark.kind in found:
            found.add(mark.format)
    return frozenset(found - (set(Kind) - set(FORMATS)))


def detect(first: bytes) -> frozenset[str]:
    """Return every format that the first octets of a body stand for; at least one (`other`).

    Several are possible, since a tar tells itself by its middle: the reader chooses, so a deny rule looks at each.
    """
    found = {mark.format for mark in MARKS if first.startswith(mark.octets, mark.offset)}
    return frozenset(found) or frozenset((OTHER,))


class Look:
    """The first octets of a body, without its content coding (RFC 9110 section 8.4.1).

    At most `LOOK` octets come out, however much is packed into what is given, and at most `HELD` are asked for.
    """

    def __init__(self, codings: Iterable[str] = (), *, partial: bool = False) -> None:
        """Look at a body with these Content-Encoding values. `partial`: what comes is not its beginning."""
        named = [coding.strip().lower() for value in codings for coding in value.split(",")]
        named = [coding for coding in named if coding not in ("", "identity")]
        self._unpacker = UNPACKERS[named[0]]() if len(named) == 1 and named[0] in UNPACKERS else None
        self._failed = partial or bool(named and self._unpacker is None)
        self._given = 0
        self._seen = b""
        self._ended = False

    def feed(self, data: bytes) -> bool:
        """Take what has come; return whether that is enough."""
        self._given += len(data)
        self._see(data, last=self._given >= HELD)
        if self._given >= HELD and len(self._seen) < LOOK:
            self._failed = True  # padded, so that it takes for ever
        return self._failed or len(self._seen) >= LOOK

    def end(self) -> None:
        """Take note that nothing more comes."""
        if not self._ended:
            self._ended = True
            self._see(b"", last=True)

    def formats(self) -> frozenset[str]:
        """Return what was found, `unreadable` where too little was seen to say."""
        packed = self._unpacker is not None and self._given and not self._unpacker.ended and not self._seen
        if self._failed or packed or (len(self._seen) < LOOK and not self._ended):
            return frozenset((UNREADABLE,))
        return detect(self._seen)

    def _see(self, data: bytes, *, last: bool) -> None:
        room = LOOK - len(self._seen)
        if self._failed or not room:
            return
        if self._unpacker is not None:
            try:
                data = self._unpacker.unpack(data, room, last=last)
            except ValueError:
                self._failed = True
                return
        self._seen += data[:room]


def readable_codings(values: Iterable[str]) -> str:
    """Return those of some Accept-Encoding values that a look can read; `identity` when there is none.

    >>> readable_codings(["br, gzip;q=0.8", "compress"])
    'br, gzip;q=0.8'
    """
    offered = [coding.strip() for value in values for coding in value.split(",")]
    kept = [coding for coding in offered if coding.partition(";")[0].strip().lower() in UNPACKERS]
    return ", ".join(kept) or "identity"
