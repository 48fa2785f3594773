"""Tests of `gateway.selfcheck.hello`."""

import pytest

from gateway.proxy.clienthello import Hello, HelloReader
from gateway.selfcheck.hello import a_hello, a_message, alpn, in_records, server_name, versions


@pytest.mark.parametrize("size", [1, 7, 16384])
def test_a_good_hello(size: int) -> None:
    """What is built right is read back, however it is cut into records."""
    sent = in_records(a_message(server_name(b"good.test"), alpn(b"h2"), versions(0x0304)), size)
    found = HelloReader().feed(sent)
    assert isinstance(found, Hello)
    assert (found.server_names, found.alpn, found.versions) == (("good.test",), (b"h2",), (0x0304,))


def test_one_record() -> None:
    """The usual hello is one record."""
    assert a_hello()[:3] == b"\x16\x03\x01"
    assert len(a_hello()) == 5 + int.from_bytes(a_hello()[3:5])
