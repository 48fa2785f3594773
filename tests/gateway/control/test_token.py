"""The token: made once, for its owner alone, and never told."""

import logging
from pathlib import Path

import pytest

from gateway.control.token import FILE, TokenError, ensure_token, is_shown


def test_it_is_made_once(tmp_path: Path) -> None:
    """The first start makes it, later ones read it, and it is another one elsewhere."""
    token = ensure_token(tmp_path)
    path = tmp_path / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == token + b"\n"
    assert len(token) >= 43
    assert ensure_token(tmp_path) == token
    (tmp_path / "other").mkdir()
    assert ensure_token(tmp_path / "other") != token


def test_an_own_token_is_taken(tmp_path: Path) -> None:
    """White space around it does not count, as it does not for Prometheus."""
    (tmp_path / FILE).write_text("  0123456789abcdefghijklmnopqrstuv\n")
    (tmp_path / FILE).chmod(0o600)
    assert ensure_token(tmp_path) == b"0123456789abcdefghijklmnopqrstuv"


@pytest.mark.parametrize("content", ["", "short", "x" * 40 + " " + "y" * 40, "ü" * 40, "x" * 31])
def test_one_that_is_easy_to_guess_is_refused(tmp_path: Path, content: str) -> None:
    """And the message does not tell it."""
    (tmp_path / FILE).write_text(content)
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(TokenError) as error:
        ensure_token(tmp_path)
    assert "a new one is made" in str(error.value)
    assert not content or content not in str(error.value)


def test_one_that_others_could_read_is_closed_to_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on to count, and the log says what to do about it, but not the token."""
    (tmp_path / FILE).write_text("x" * 43)
    (tmp_path / FILE).chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert ensure_token(tmp_path) == b"x" * 43
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert "restart for a new token" in caplog.text
    assert "xxx" not in caplog.text


def test_no_way_around_through_a_link(tmp_path: Path) -> None:
    """A link is not followed: it could lead anywhere."""
    (tmp_path / "elsewhere").write_text("x" * 43)
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TokenError):
        ensure_token(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(TokenError, match=FILE):
        ensure_token(tmp_path / "nowhere")


TOKEN = b"A" * 43


@pytest.mark.parametrize(
    ("shown", "good"),
    [
        ([b"Bearer " + TOKEN], True),
        ([b"bearer " + TOKEN], True),
        ([], False),
        ([b"Bearer " + TOKEN, b"Bearer " + TOKEN], False),
        ([b"Bearer " + TOKEN[:-1]], False),
        ([b"Bearer " + TOKEN + b"A"], False),
        ([b"Bearer "], False),
        ([b"Bearer"], False),
        ([TOKEN], False),
        ([b"Basic " + TOKEN], False),
        ([b"Bearer \xff\xfe"], False),
    ],
)
def test_who_shows_it(shown: list[bytes], good: bool) -> None:
    """The whole token, once, and by the scheme that it belongs to."""
    assert is_shown(TOKEN, shown) is good
