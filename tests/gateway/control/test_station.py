"""The pages: health for everybody, metrics for who has the token. Whole gateways are in tests/integration."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.control import station
from gateway.control.board import Board
from gateway.control.publisher import open_pen
from gateway.control.slots import Report
from gateway.control.station import Station
from gateway.control.token import FILE, TokenError
from gateway.feeds.status import FeedStatus, Status, save_status

POLICY = """version: 1
state_dir: .
control: {listen: "127.0.0.1:0"}
lists: {ours: {path: ours.txt, format: domains}}
"""


def a_config(folder: Path) -> Config:
    """Return a configuration with a list."""
    (folder / "gateway.yaml").write_text(POLICY)
    (folder / "ours.txt").write_text("bad.example\n")
    return load(folder / "gateway.yaml")


@pytest.fixture
def board() -> Board:
    """One worker that serves: this process."""
    made = Board.of([("dns", 0)])
    made.born("dns", 0, os.getpid())
    made.serves("dns", 0)
    return made


async def test_health_follows_what_workers_report(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a report it is bad, with one it is good, and what has just been found out is told again."""
    config = a_config(tmp_path)
    config.snapshot_path.write_bytes(b"lists")
    made = Station(config, board)
    try:
        answer = await made._health([])
        assert (answer.status, answer.body) == (503, b"unhealthy\ndns worker 0 does not report\n")
        pen = open_pen(os.dup(made.descriptor), 0)
        found = config.snapshot_path.stat()
        pen.write(Report({}, {}, {}, (found.st_ino, found.st_mtime_ns)), time.monotonic_ns())
        assert (await made._health([])).status == 503
        monkeypatch.setattr(station, "_FRESH", -1.0)
        assert (await made._health([])).body == b"ok\n"
        config.snapshot_path.unlink()
        assert b"there are no compiled lists" in (await made._health([])).body
    finally:
        await made.close()


async def test_metrics_are_for_who_has_the_token(tmp_path: Path, board: Board) -> None:
    """Without it: 401, with how to show it and where it is, and not the token itself."""
    made = Station(a_config(tmp_path), board)
    try:
        token = (tmp_path / FILE).read_bytes().strip()
        for shown in ([], [(b"authorization", b"Bearer " + token[:-1])], [(b"x-token", token)]):
            answer = await made._metrics(shown)
            assert answer.status == 401
            assert dict(answer.fields)[b"www-authenticate"].startswith(b"Bearer")
            assert b"egress_gateway" not in answer.body
            assert token not in answer.body
        answer = await made._metrics([(b"authorization", b"Bearer " + token)])
        assert answer.status == 200
        assert answer.content_type.startswith(b"text/plain; version=0.0.4")
        assert b"egress_gateway_build_info{" in answer.body
    finally:
        await made.close()


async def test_feeds_that_are_no_more_are_not_told_of(tmp_path: Path, board: Board) -> None:
    """The last refresh may have been by another configuration."""
    config = a_config(tmp_path)
    feeds = {name: FeedStatus(name=name, version="v", entries=3) for name in ("ours", "former")}
    save_status(tmp_path, Status(refreshed=1.0, feeds=feeds))
    made = Station(config, board)
    try:
        token = (tmp_path / FILE).read_bytes().strip()
        body = (await made._metrics([(b"authorization", b"Bearer " + token)])).body
        assert b'egress_gateway_feed_entries{feed="ours"} 3' in body
        assert b"former" not in body
    finally:
        await made.close()


async def test_a_reload_renews_the_token(tmp_path: Path, board: Board, caplog: pytest.LogCaptureFixture) -> None:
    """An administrator puts another in its place; one that is no good leaves the old one in use."""
    config = a_config(tmp_path)
    made = Station(config, board)
    try:
        (tmp_path / FILE).write_text("n" * 40)
        made.use(config)
        assert (await made._metrics([(b"authorization", b"Bearer " + b"n" * 40)])).status == 200
        (tmp_path / FILE).write_text("weak")
        made.use(config)
        assert (await made._metrics([(b"authorization", b"Bearer " + b"n" * 40)])).status == 200
        assert "the old token stays in use" in caplog.text
    finally:
        await made.close()


async def test_without_a_token_it_does_not_begin(tmp_path: Path, board: Board) -> None:
    """A token that is easy to guess is not worked with."""
    (tmp_path / FILE).write_text("weak")
    with pytest.raises(TokenError):
        Station(a_config(tmp_path), board)


async def test_it_answers_where_it_was_told_to(
    tmp_path: Path, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    """The place is in the log, and the two paths are there."""
    made = Station(a_config(tmp_path), board)
    with caplog.at_level("INFO"):
        await made.start()
    try:
        port = int(caplog.messages[-1].rpartition(":")[2])
        for path, status in ((b"/healthz", b"503"), (b"/metrics", b"401"), (b"/", b"404")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 " + status)
            writer.close()
    finally:
        await made.close()
