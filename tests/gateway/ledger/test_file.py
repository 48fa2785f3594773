"""The file: appending, rotating, retention, and every trouble."""

import errno
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.ledger.file import DAY, LedgerFile, stream_of
from gateway.ledger.text import timestamp

NOW = 1_000_000_000.0


def _file(directory: Path, *, rotate: int = 1 << 20, keep: float = 30 * DAY) -> LedgerFile:
    return LedgerFile(directory, "dns", 0, rotate=rotate, keep=keep)


def _line(number: int, now: float = NOW) -> bytes:
    return b'{"@timestamp":"%s","n":%d}\n' % (timestamp(now).encode(), number)


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_folder_and_file_are_private(tmp_path: Path) -> None:
    """The folder is made 0700 and the file 0600: destinations of people are in it."""
    file = _file(tmp_path / "state" / "ledger")
    assert file.append(_line(1), NOW) == len(_line(1))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    file.close()


def test_a_role_is_a_word(tmp_path: Path) -> None:
    """A role that would lead out of the folder, or could not be read back, is refused."""
    for role in ("../x", "a.b", "", "A"):
        with pytest.raises(ValueError, match="role"):
            LedgerFile(tmp_path, role, 0, rotate=1, keep=1)


def test_a_full_file_is_moved_aside(tmp_path: Path) -> None:
    """At its size a file gets the time into its name, never replaces another, and no line is split or lost."""
    file = _file(tmp_path, rotate=100)
    for number in range(10):
        file.append(_line(number), NOW)
    file.close()
    names = _names(tmp_path)
    assert names[-1] == "dns-0.jsonl"
    assert names[0] == "dns-0.20010909T014640000000Z.jsonl"
    assert len(names) == 5
    assert b"".join((tmp_path / name).read_bytes() for name in names) == b"".join(map(_line, range(10)))
    assert all((stream_of(name) or ("",))[0] == "dns-0" for name in names)


def test_a_file_is_moved_aside_each_day(tmp_path: Path) -> None:
    """A quiet worker's file is rotated when it is a day old, also by another process than the one that began it."""
    file = _file(tmp_path)
    file.append(_line(1), NOW)
    file.close()
    later = _file(tmp_path)
    later.maintain(NOW + DAY - 1)
    assert len(_names(tmp_path)) == 1
    later.maintain(NOW + DAY)
    assert len(_names(tmp_path)) == 1
    later.append(_line(2, NOW + DAY), NOW + DAY)
    later.append(_line(3, NOW + 2 * DAY), NOW + 2 * DAY)
    later.close()
    assert len(_names(tmp_path)) == 3


def test_old_files_are_removed(tmp_path: Path) -> None:
    """Files older than `keep` go, those of workers that are no more included; others stay, and so do foreign ones."""
    for name, age in (
        ("dns-0.20000101T000000000000Z.jsonl", 31),
        ("proxy-7.jsonl", 31),
        ("dns-1.jsonl", 29),
        ("x.txt", 99),
    ):
        (tmp_path / name).write_bytes(b"{}\n")
        os.utime(tmp_path / name, (NOW - age * DAY,) * 2)
    file = _file(tmp_path)
    file.maintain(NOW)
    assert _names(tmp_path) == ["dns-0.jsonl", "dns-1.jsonl", "x.txt"]
    os.utime(tmp_path / "dns-1.jsonl", (NOW - 31 * DAY,) * 2)
    file.maintain(NOW + 3599)
    assert (tmp_path / "dns-1.jsonl").exists()
    file.maintain(NOW + 3600)
    assert not (tmp_path / "dns-1.jsonl").exists()
    file.close()


def test_a_torn_line_is_left_alone(tmp_path: Path) -> None:
    """After a crash in the middle of a line the next one starts on a line of its own."""
    (tmp_path / "dns-0.jsonl").write_bytes(_line(1) + b'{"@timest')
    file = _file(tmp_path)
    file.append(_line(2), NOW)
    file.close()
    assert (tmp_path / "dns-0.jsonl").read_bytes() == _line(1) + b'{"@timest\n' + _line(2)


def test_a_removed_folder_comes_back(tmp_path: Path) -> None:
    """When file or folder are removed or moved away, the next line goes to a new one."""
    file = _file(tmp_path / "ledger")
    file.append(_line(1), NOW)
    (tmp_path / "ledger").rename(tmp_path / "away")
    file.append(_line(2), NOW)
    file.path.unlink()
    file.append(_line(3), NOW)
    assert file.path.read_bytes() == _line(3)
    file.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link under our name leads nowhere: the ledger is not written into other files."""
    (tmp_path / "dns-0.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        _file(tmp_path).append(_line(1), NOW)
    assert not (tmp_path / "victim").exists()


def test_failing_to_rotate_does_not_stop_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be moved aside grows on, and the log says so."""
    file = _file(tmp_path, rotate=10)
    file.append(_line(1), NOW)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Path, "rename", _refuse)
        file.append(_line(2), NOW)
    assert file.path.read_bytes() == _line(1) + _line(2)
    assert "cannot rotate" in caplog.text
    file.close()


def test_failing_to_remove_does_not_stop_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An old file that cannot be removed is named in the log."""
    (tmp_path / "dns-9.jsonl").touch()
    monkeypatch.setattr(Path, "unlink", _refuse)
    file = _file(tmp_path, keep=-1e12)
    file.maintain(NOW)
    assert "cannot remove" in caplog.text
    file.close()


def _refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EACCES, "Permission denied")


_LIMITED = """
import resource, sys
from pathlib import Path
from gateway.ledger.file import LedgerFile
file = LedgerFile(Path(sys.argv[1]), "dns", 0, rotate=1 << 30, keep=1e9)
file.append(b"first\\n", 1e9)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
lines = b"second\\nthird line is too long\\n"
taken = file.append(lines, 1e9)
assert lines[:taken] == b"second\\n", taken
try:
    file.append(lines[taken:], 1e9)
except OSError:
    pass
else:
    raise AssertionError("there was room")
assert Path(sys.argv[1], "dns-0.jsonl").read_bytes() == b"first\\nsecond\\n"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert file.append(lines[taken:], 1e9) == len(lines) - taken
assert Path(sys.argv[1], "dns-0.jsonl").read_bytes() == b"first\\n" + lines
"""


def test_a_write_cut_short_leaves_whole_lines(tmp_path: Path) -> None:
    """When space ends in the middle of a line, whole lines stay, the half one is taken back."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_half_a_line_that_cannot_be_taken_back_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When not even truncating works, the next write starts on a line of its own."""
    file = _file(tmp_path)
    file.append(_line(1), NOW)
    write = os.write
    answers = iter((5, errno.ENOSPC))

    def cut_short(fd: int, data: bytes | memoryview) -> int:
        answer = next(answers)
        if answer == errno.ENOSPC:
            raise OSError(answer, "No space left on device")
        return write(fd, data[:answer])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", cut_short)
        patch.setattr(os, "ftruncate", _refuse)
        with pytest.raises(OSError, match="No space"):
            file.append(_line(2), NOW)
    file.append(_line(2), NOW)
    file.close()
    assert file.path.read_bytes() == _line(1) + _line(2)[:5] + b"\n" + _line(2)
