"""Tests for gateway.http2frames."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.http2frames import CONTINUATION, DATA, HEADERS, PREFACE, FrameHead, FrameHeads

FRAMES = st.lists(st.tuples(st.sampled_from([DATA, HEADERS, 4, CONTINUATION, 200]), st.integers(0, 300)), max_size=8)


def octets(kind: int, length: int) -> bytes:
    """Return a frame."""
    return length.to_bytes(3, "big") + bytes((kind, 0, 0, 0, 0, 1)) + bytes(length)


@given(FRAMES, st.integers(1, 40), st.sampled_from([PREFACE, b""]))
def test_frames_are_found_however_they_are_cut(frames: list[tuple[int, int]], step: int, before: bytes) -> None:
    """Each is found once, in order, after what comes before the first."""
    data = before + b"".join(octets(kind, length) for kind, length in frames)
    heads = FrameHeads(before)
    found = [head for at in range(0, len(data), step) for head in heads.read(data[at : at + step])]
    assert [(head.kind, head.length) for head in found] == frames


def test_a_header_block_is_added_up() -> None:
    """Continuations go on with it, other headers begin anew, and what is in between changes nothing."""
    frames = [(HEADERS, 10), (CONTINUATION, 20), (DATA, 7), (CONTINUATION, 1), (HEADERS, 5)]
    found = FrameHeads().read(b"".join(octets(kind, length) for kind, length in frames))
    assert [head.block for head in found] == [10, 30, 30, 31, 5]


def test_a_frame_is_told_as_soon_as_its_header_is_there() -> None:
    """It need not be complete: that is what this is for."""
    heads = FrameHeads()
    assert list(heads.read(b"\xff\xff\xff\0\0\0\0\0")) == []
    assert list(heads.read(b"\1")) == [FrameHead(0xFFFFFF, DATA, 0)]
