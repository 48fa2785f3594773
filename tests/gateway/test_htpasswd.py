"""Tests of `gateway.htpasswd`."""

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.htpasswd import Accounts, matches, parse_htpasswd

SHA = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="
APR1 = "$apr1$abc$PZF73YJz5hJ9yyI.7OP.R."
BCRYPT = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()

PASSWORDS = [
    ("bcrypt", BCRYPT, b"secret"),
    ("bcrypt as htpasswd writes it", BCRYPT.replace("$2b$", "$2y$"), b"secret"),
    # htpasswd -nbs u password
    ("SHA-1", SHA, b"password"),
    # openssl passwd -apr1 -salt abc secret; and the same of other lengths
    ("Apache's MD5", APR1, b"secret"),
    ("Apache's MD5 of nothing", "$apr1$abc$BfqKdn9xFDWJPa3kcp/PH0", b""),
    ("Apache's MD5 of 40 octets", "$apr1$12345678$g7mwQfxy1n1W6s22hSC070", b"0123456789" * 4),
]


@pytest.mark.parametrize(("stored", "password"), [row[1:] for row in PASSWORDS], ids=[row[0] for row in PASSWORDS])
def test_passwords(stored: str, password: bytes) -> None:
    """The password behind a hash matches, and one that differs in its last octet does not."""
    assert parse_htpasswd(f"user:{stored}") == ({"user": stored}, [])
    assert matches(stored, password)
    assert not matches(stored, password[:-1] + b"!")


def test_long_passwords() -> None:
    """bcrypt ends at 72 octets, as it does for everybody else who reads the file."""
    stored = bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode()
    assert matches(stored, b"a" * 100)
    assert not matches(stored, b"a" * 71)


@given(st.binary(max_size=100))
def test_a_decoy_matches_nothing(password: bytes) -> None:
    """No password is that of a user who does not exist, whatever the file's kind of hash is."""
    assert not matches(Accounts({}).decoy, password)
    assert not matches(Accounts({"user": BCRYPT}).decoy, password)


def test_a_decoy_takes_as_long() -> None:
    """The decoy costs what the costliest account does."""
    dear = BCRYPT.replace("$2b$04$", "$2b$11$")
    assert Accounts({"a": BCRYPT, "b": dear, "c": SHA}).decoy.startswith("$2b$11$")


def test_problems_and_their_lines() -> None:
    """Each bad line is told with its number; comments and empty lines are none."""
    text = "\n".join(
        [
            "# users",
            "",
            f"batch:{SHA}",
            "nothing",
            f":{SHA}",
            "plain:secret",
            "sha512:$6$salt$hash",
            f"batch:{APR1}",
            f"dear:{BCRYPT.replace('$2b$04$', '$2b$31$')}",
            f"\tbell\a:{SHA}",
            f"{'n' * 300}:{SHA}",
        ]
    )
    hashes, problems = parse_htpasswd(text)
    assert hashes == {"batch": SHA}
    assert [line for line, _ in problems] == [4, 5, 6, 7, 8, 9, 10, 11]
    messages = [message for _, message in problems]
    assert messages[0] == "expected user:hash, as htpasswd -B writes it"
    assert "no hash that the gateway reads; make one with htpasswd -B" in messages[2]
    assert "there twice" in messages[4]
    assert "cost 31, expected 4 to 16" in messages[5]
    assert not any("secret" in message for message in messages)


def test_hashes_are_not_shown() -> None:
    """Whoever prints the accounts prints no hash."""
    assert SHA not in repr(Accounts({"batch": SHA}))


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    """Whatever the file holds, the answer is accounts and problems."""
    hashes, problems = parse_htpasswd(text)
    assert len(hashes) + len(problems) <= len(text.splitlines())
