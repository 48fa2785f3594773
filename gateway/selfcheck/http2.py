"""HTTP/2 frames written and read by hand: what no library would send, and what came back.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable

from hpack import Decoder, Encoder, HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

type Fields = tuple[tuple[bytes, bytes], ...]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = 9
"""Octets of a frame's own head (RFC 9113 section 4.1)."""


def begin(settings: dict[int, int] | None = None) -> bytes:
    """Return what a client says first."""
    return PREFACE + SettingsFrame(0, settings=settings or {}).serialize()


def requests(*each: Fields, ended: bool = True) -> bytes:
    """Return HEADERS frames for requests on streams 1, 3, ..."""
    encoder = Encoder()
    frames = b""
    for number, fields in enumerate(each):
        flags = ["END_HEADERS", "END_STREAM"] if ended else ["END_HEADERS"]
        frame = HeadersFrame(2 * number + 1, data=encoder.encode(fields), flags=flags)
        frames += frame.serialize()
    return frames


def data(content: bytes, stream: int = 1, *, ended: bool = False) -> bytes:
    """Return a DATA frame."""
    return DataFrame(stream, data=content, flags=["END_STREAM"] if ended else []).serialize()


def read_frames(octets: bytes) -> Iterable[Frame]:
    """Yield the frames in what was received, up to the first that is cut off or none."""
    at = 0
    while at + _HEAD <= len(octets):
        try:
            frame, length = Frame.parse_frame_header(memoryview(octets[at : at + _HEAD]))
            if at + _HEAD + length > len(octets):
                return
            frame.parse_body(memoryview(octets[at + _HEAD : at + _HEAD + length]))
        except (HyperframeError, ValueError):
            return
        yield frame
        at += _HEAD + length


def ended(octets: bytes) -> bool:
    """Say whether a stream, or the connection, has come to its end."""
    return any(
        isinstance(frame, RstStreamFrame | GoAwayFrame) or "END_STREAM" in frame.flags
        for frame in read_frames(octets)
    )


def told(octets: bytes) -> bytes:
    """Return answers as HTTP/1 would write them, stream by stream; a reset or the end as a line of its own."""
    decoder, said = Decoder(), b""
    for frame in read_frames(octets):
        match frame:
            case HeadersFrame():
                try:
                    fields = [(bytes(name), bytes(value)) for name, value in decoder.decode(frame.data, raw=True)]
                except HPACKError:
                    return said
                said += (
                    b"HTTP/2 "
                    + b"".join(
                        value + b"\r\n" if name == b":status" else name + b": " + value + b"\r\n"
                        for name, value in fields
                    )
                    + b"\r\n"
                )
            case DataFrame():
                said += frame.data
            case RstStreamFrame():
                said += b"RST_STREAM %d\r\n" % frame.error_code
            case GoAwayFrame():
                said += b"GOAWAY %d\r\n" % frame.error_code
            case _:
                pass
    return said
