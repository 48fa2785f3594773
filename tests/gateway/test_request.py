"""Requests: values, and the short ways to client and destination."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.request import DnsAnswer, DnsQuery
from tests.builders import a_client, a_dial, a_hello, a_query, a_request, a_tunnel, an_address


def test_a_hello_speaks_of_its_tunnel() -> None:
    """Client, host and port of a hello are those of its tunnel."""
    tunnel = a_tunnel("www.test", 8443, client=a_client("10.9.9.9"))
    hello = a_hello(tunnel=tunnel)
    assert (hello.client, hello.host, hello.port) == (tunnel.client, "www.test", 8443)


@pytest.mark.parametrize("origin", [a_tunnel("www.test"), a_hello("www.test"), a_request("www.test", port=443)])
def test_a_dial_speaks_of_its_origin(origin: object) -> None:
    """Client, host and port of a dial are those of the request that it is for, whichever kind that is."""
    dial = a_dial(origin=origin)  # type: ignore[arg-type]  # parametrised with objects
    assert (dial.client, dial.host, dial.port) == (a_client(), "www.test", 443)


def test_requests_are_values() -> None:
    """Requests are equal by content, hashable, without room for further attributes, and do not change."""
    assert a_query() == a_query()
    assert hash(a_query()) == hash(a_query())
    with pytest.raises(AttributeError):
        a_query().name = "other"  # type: ignore[misc]  # on purpose


def test_what_is_not_said_is_harmless() -> None:
    """The optional parts of a question and an answer are empty, untrusted and without flaw."""
    query = DnsQuery(client=a_client(), name="a.test", qtype=1)
    answer = DnsAnswer(client=a_client(), name="a.test", qtype=1)
    assert query.flaw is None
    assert (answer.chain, answer.addresses, answer.trusted) == ((), (), False)
    assert a_client().user is None
    assert a_client().address == an_address("10.1.0.5")


CHANGES: dict[Callable[..., object], dict[str, object]] = {
    a_client: {"user": "somebody"},
    a_tunnel: {"port": 8443},
    a_hello: {"ja4": "t13d000000_0_0"},
}


@pytest.mark.parametrize("make", CHANGES)
def test_a_hash_is_of_the_content(make: Callable[[], object]) -> None:
    """Worked out once, a hash is that of an equal request; a changed copy does not take it along."""
    first, second = make(), make()
    assert hash(first) == hash(first) == hash(second)
    changed = replace(first, **CHANGES[make])  # type: ignore[type-var]  # dataclasses, all of them
    assert changed != first
    assert hash(changed) != hash(first)
