"""Zones as files: serials that grow, and differences between them."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.feeds.export import Exported
from gateway.feeds.zones import KEPT, PASSES, difference, read_index, read_owners, write_zone, zone_folder


def write(folder: Path, names: dict[str, int], now: float = 1e9, **more: dict[str, int]) -> int:
    """Write a zone; return its serial."""
    found = Exported(names=names, holes=more.get("holes", {}))
    return write_zone(folder, found, made_of=str(names), now=now, longest=30).serial


def test_serials(tmp_path: Path) -> None:
    """Another content has a higher serial, whatever the clock says; the same content keeps its own."""
    folder = zone_folder(tmp_path, "rpz.example")
    assert read_index(folder) is None
    assert write(folder, {"a.example": 3}) == 1_000_000_000
    assert write(folder, {"a.example": 3}, 2e9) == 1_000_000_000
    assert write(folder, {"b.example": 1}, 5e8) == 1_000_000_001
    index = read_index(folder)
    assert index is not None
    assert index.serials == (1_000_000_000, 1_000_000_001)
    assert list(read_owners(folder, 1_000_000_000)) == [b"*.a.example", b"a.example"]


def test_old_serials_go(tmp_path: Path) -> None:
    """Only so many are kept."""
    for number in range(KEPT + 3):
        write(tmp_path, {f"a{number}.example": 1}, 1e9 + number)
    assert len(list(tmp_path.glob("*.owners"))) == KEPT


def test_names_that_are_too_long(tmp_path: Path) -> None:
    """What has no room in front of the zone's name is not in the zone; exceptions are marked."""
    serial = write(tmp_path, {"a" * 40 + ".example": 1, "b.example": 2}, holes={"c.b.example": 1})
    assert list(read_owners(tmp_path, serial)) == [b"*.b.example", b"c.b.example" + PASSES]


def test_a_damaged_index_is_none(tmp_path: Path) -> None:
    """What cannot be read is written anew."""
    write(tmp_path, {"a.example": 1})
    (tmp_path / "index.json").write_text("{")
    assert read_index(tmp_path) is None


names = st.dictionaries(
    st.from_regex(r"[a-d]{1,3}\.example", fullmatch=True), st.sampled_from([1, 2, 3]), max_size=12
)


@given(names, names)
def test_differences(tmp_path_factory: object, old: dict[str, int], new: dict[str, int]) -> None:
    """What is in one and not in the other is what sets say."""
    folder = tmp_path_factory.mktemp("zone")  # type: ignore[attr-defined]  # hypothesis calls it many times
    first, second = write(folder, old), write(folder, new, 1e9 + 1)
    before, after = set(read_owners(folder, first)), set(read_owners(folder, second))
    assert list(difference(folder, first, second)) == sorted(before - after)
    assert list(difference(folder, second, first)) == sorted(after - before)
