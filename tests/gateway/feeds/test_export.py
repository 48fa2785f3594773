"""Lists in force, for other programs: the same names, nothing wider, and accepted by the programs themselves."""

import os
import shutil
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.addresses import IPAddress, unmap
from gateway.feeds.catalog import Feed
from gateway.feeds.entry import ParseReport
from gateway.feeds.export import (
    FORMATS,
    Exported,
    ExportError,
    ExportFormat,
    collect,
    owners,
    render,
    rpz_ip,
    write_export,
)
from gateway.feeds.formats import parse
from gateway.feeds.refresh import refresh
from gateway.feeds.snapshot import Snapshot
from gateway.feeds.store import Store

NOW = 1_700_000_000.0
LISTS = {
    "trees": ("domains", ["malware"], "evil.example\ncdn.evil.example\nsafe.example\nco.uk\n"),
    "hosts": ("hosts", ["c2"], "0.0.0.0 one.example\n0.0.0.0 www.evil.example\n"),
    "filters": ("adblock", ["ads"], "||ads.example^\n||gone.example^\n@@||gone.example^\n@@||good.ads.example^\n"),
    "addresses": ("addresses", ["c2"], "192.0.2.0/24\n198.51.100.7\n198.51.100.8\n2001:db8::/32\n"),
    "paths": ("urls", ["malware"], "http://shared.example/bad\n"),
}


async def exported(folder: Path, **wanted: str) -> Exported:
    """Compile the lists, with one name that must not be denied, and collect what is in force."""
    feeds = {}
    for name, (format, categories, text) in LISTS.items():
        (folder / name).write_text(text)
        feeds[name] = Feed.model_validate({"path": str(folder / name), "format": format, "categories": categories})
    (folder / "never").write_text("safe.example\n")
    feeds["never"] = Feed.model_validate({"path": str(folder / "never"), "format": "domains", "never_block": True})
    await refresh(feeds, folder / "state", now=NOW)
    with Snapshot.open(folder / "state/snapshot.egs") as snapshot:
        return collect(snapshot, feeds, Store(folder / "state"), lambda name, _: name in wanted or not wanted)


async def text_of(folder: Path, format: ExportFormat, **wanted: str) -> tuple[list[str], dict[str, int]]:
    """Return an export without its comments, and what it left out."""
    found = await exported(folder, **wanted)
    lines = [line for line in render(found, format, title="t") if not line.startswith(("#", ";"))]
    return lines, dict(found.left_out)


async def test_what_is_in_force(tmp_path: Path) -> None:
    """Guarded entries and those that a list takes back are out; what a list lets through below a name is a hole."""
    found = await exported(tmp_path)
    assert found.names == {
        "evil.example": 3,
        "cdn.evil.example": 3,
        "one.example": 1,
        "www.evil.example": 1,
        "ads.example": 3,
    }
    assert found.holes == {"good.ads.example": 3}
    assert [str(network) for network in found.networks] == [
        "192.0.2.0/24",
        "198.51.100.7/32",
        "198.51.100.8/32",
        "2001:db8::/32",
    ]


async def test_hosts(tmp_path: Path) -> None:
    """Names alone: a hosts file has no trees."""
    lines, left_out = await text_of(tmp_path, "hosts")
    assert lines == [f"0.0.0.0 {name}" for name in (
        "ads.example", "cdn.evil.example", "evil.example", "one.example", "www.evil.example")]  # fmt: skip
    assert left_out == {"URLs": 1, "networks": 4, "names below a name": 3}


async def test_domains(tmp_path: Path) -> None:
    """Only names that are meant with all below them, because that is how such a list is read."""
    lines, left_out = await text_of(tmp_path, "domains")
    assert lines == ["ads.example", "cdn.evil.example", "evil.example"]
    assert left_out["names without those below, or the other way round"] == 2


async def test_squid(tmp_path: Path) -> None:
    """No name that another one covers: Squid takes that for an error."""
    assert (await text_of(tmp_path, "squid"))[0] == [".ads.example", ".evil.example", "one.example"]


async def test_rpz_is_read_back_as_it_was(tmp_path: Path) -> None:
    """A response policy zone says everything but URLs, and our own reader understands it the same."""
    lines, left_out = await text_of(tmp_path, "rpz")
    assert "*.good.ads.example CNAME rpz-passthru." in lines
    assert "24.0.2.0.192.rpz-ip CNAME ." in lines
    assert left_out == {"URLs": 1}
    report = ParseReport()
    entries = list(parse("\n".join(lines).encode(), "rpz", report))
    assert not report.rejected
    assert len(entries) == 5 + 3 + 4 + 2


async def test_some_lists(tmp_path: Path) -> None:
    """An export may be of some lists alone."""
    assert (await text_of(tmp_path, "hosts", hosts=""))[0] == ["0.0.0.0 one.example", "0.0.0.0 www.evil.example"]


async def test_copies_that_are_gone(tmp_path: Path) -> None:
    """A refresh at the same moment is told as what it is."""
    await exported(tmp_path)
    next((tmp_path / "state/feeds/trees").glob("*.list")).unlink()
    feeds = {"trees": Feed.model_validate({"path": "x", "format": "domains"})}
    with Snapshot.open(tmp_path / "state/snapshot.egs") as snapshot, pytest.raises(ExportError, match="try again"):
        collect(snapshot, feeds, Store(tmp_path / "state"))


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program that may not be there."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if shutil.which(argv[0], path=path) is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI installs {argv[0]}")
        pytest.skip(f"{argv[0]} is not installed")
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "PATH": path}
    )


async def save(folder: Path, format: ExportFormat) -> Path:
    """Export into a file."""
    path = folder / f"export.{format}"
    write_export(path, render(await exported(folder), format, title="t"), lambda _: None)
    return path


async def test_unbound_accepts_it(tmp_path: Path) -> None:
    """unbound-checkconf finds nothing wrong with an export that is included."""
    path = await save(tmp_path, "unbound")
    assert 'local-zone: "evil.example." always_nxdomain' in path.read_text()
    assert "cdn.evil.example" not in path.read_text()
    result = run("unbound-checkconf", str(path))
    assert result.returncode == 0, result.stderr


async def test_nft_accepts_it(tmp_path: Path) -> None:
    """`nft -c -f` finds nothing wrong with an export."""
    result = run("nft", "-c", "-f", str(await save(tmp_path, "nft")))
    if "Operation not permitted" in result.stderr:
        pytest.skip("nft needs root")
    assert (result.returncode, result.stderr) == (0, "")


async def test_bind_accepts_it(tmp_path: Path) -> None:
    """named-checkzone finds nothing wrong with an export."""
    result = run("named-checkzone", "-i", "none", "rpz.example", str(await save(tmp_path, "rpz")))
    assert result.returncode == 0, result.stdout


async def test_squid_accepts_it(tmp_path: Path) -> None:
    """`squid -k parse` takes an export without a warning about it; a list with a name below another gets one."""
    export = await save(tmp_path, "squid")
    (tmp_path / "squid.conf").write_text(f'acl listed dstdomain "{export}"\nhttp_access deny listed\n')
    result = run("squid", "-k", "parse", "-f", str(tmp_path / "squid.conf"))
    assert result.returncode == 0, result.stderr
    told = [line for line in result.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
    assert [line for line in told if "listed" in line] == []
    with export.open("a") as file:
        file.write("x.ads.example\n")
    assert (
        "You should remove 'x.ads.example'" in run("squid", "-k", "parse", "-f", str(tmp_path / "squid.conf")).stderr
    )


MAPPED = st.ip_addresses(v=4).map(lambda address: ip_address(f"::ffff:{address}"))


@given(st.ip_addresses() | MAPPED)
@example(ip_address("::ffff:192.0.2.1"))
def test_address_triggers_are_read_back(address: IPAddress) -> None:
    """Every address survives the way into an owner name and back, an IPv4-mapped one as what it stands for."""
    network = ip_network(str(address))
    zone = f"{rpz_ip(network)} CNAME .\n".encode()
    (entry,) = list(parse(zone, "rpz", ParseReport()))
    assert str(entry)  # a range of that one address
    assert entry[1] == int(unmap(address))


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """When an export fails half-way, the file that was there stays."""
    path = tmp_path / "out"
    write_export(path, ["one"], lambda _: None)

    def failing() -> object:
        yield "two"
        raise ExportError("gone")

    with pytest.raises(ExportError):
        write_export(path, failing(), lambda _: None)  # type: ignore[arg-type]  # a generator of lines
    assert path.read_text() == "one\n"
    assert list(tmp_path.iterdir()) == [path]


def test_all_formats_of_nothing() -> None:
    """Empty lists are valid in every format."""
    for format in FORMATS:
        assert list(render(Exported(), format, title="t"))  # type: ignore[arg-type]  # they are what is listed
    assert list(owners(Exported())) == []


def test_what_is_no_ordinary_file_is_written_to(tmp_path: Path) -> None:
    """A pipe or device in the place of the file stays what it is, and gets the lines; so does a link."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_export(pipe, ["one", "two"], lambda _: None)
        assert os.read(reader, 100) == b"one\ntwo\n"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_text("old")
    write_export(tmp_path / "link", ["new"], lambda _: None)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new\n"


def test_a_link_of_another_user_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that others write to, one of them could have root overwrite any file."""
    (tmp_path / "target").write_text("precious")
    (tmp_path / "out").symlink_to(tmp_path / "target")
    if os.geteuid():
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    else:
        os.lchown(tmp_path / "out", 4242, 4242)
    with pytest.raises(OSError, match="is a link that belongs to another user"):
        write_export(tmp_path / "out", ["one"], lambda _: None)
    assert (tmp_path / "target").read_text() == "precious"


def test_nothing_is_written_through_a_link_in_place_of_the_temporary_file(tmp_path: Path) -> None:
    """Its name can be guessed."""
    (tmp_path / "target").write_text("precious")
    (tmp_path / ".tmp-out").symlink_to(tmp_path / "target")
    write_export(tmp_path / "out", ["one"], lambda _: None)
    assert (tmp_path / "target").read_text() == "precious"
    assert (tmp_path / "out").read_text() == "one\n"
    assert not (tmp_path / "out").is_symlink()


def test_what_stands_in_a_redirected_output_stays(tmp_path: Path) -> None:
    """`-o /dev/stdout >> all.txt` adds to the file, and does not put another in its place."""
    with (tmp_path / "all").open("a") as out:
        out.write("before\n")
        out.flush()
        write_export(Path(f"/dev/fd/{out.fileno()}"), ["one"], lambda _: None)
        out.write("after\n")
    assert (tmp_path / "all").read_text() == "before\none\nafter\n"


def test_a_missing_folder_is_named_and_no_file_in_it(tmp_path: Path) -> None:
    """The user gave the folder; the temporary file in it is ours."""
    with pytest.raises(OSError, match="there is no such folder") as caught:
        write_export(tmp_path / "none/out", ["one"], lambda _: None)
    assert caught.value.filename == str(tmp_path / "none")
