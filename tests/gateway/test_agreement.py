"""One name, four proofs. The reasons are in the corpus; here is what they say and what is compared."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.agreement import http_flaw, sni_flaw
from gateway.decision import Reason
from gateway.names import normalize
from tests.builders import a_hello, a_request, an_address


def test_agreeing_names_have_no_flaw() -> None:
    """A hello and a request that name their destination are without flaw, for names and addresses."""
    for host in ("www.example.com", an_address("192.0.2.1"), an_address("2001:db8::1")):
        assert sni_flaw(a_hello(host)) is None
        assert http_flaw(a_request(host)) is None
        assert http_flaw(a_request(host, scheme="https", port=8443)) is None


def test_flaws_say_what_was_seen() -> None:
    """The detail of a flaw holds both names, so that the ledger shows the attempt."""
    flaw = sni_flaw(replace(a_hello("good.test"), server_names=("evil.test",)))
    assert flaw is not None
    assert flaw.detail == "SNI evil.test in a tunnel to good.test"
    flaw = http_flaw(replace(a_request("good.test"), authorities=("evil.test:81",)))
    assert flaw is not None
    assert flaw.detail == "Host 'evil.test:81' in a request to good.test:80"


def test_the_tunnel_binds_its_requests() -> None:
    """A request whose own names agree is denied when its tunnel leads elsewhere, by host or by port."""
    request = a_request("good.test", scheme="https")
    for hello in (a_hello("evil.test"), a_hello("good.test", 8443), a_hello(an_address("192.0.2.1"))):
        flaw = http_flaw(replace(request, hello=hello))
        assert flaw is not None
        assert flaw.reason is Reason.HOST_MISMATCH


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("ws", 80), ("https", 443), ("wss", 443)])
def test_default_ports(scheme: str, port: int) -> None:
    """A Host field without a port means the port of the scheme."""
    request = replace(a_request(), scheme=scheme, port=port, authorities=("www.example.com",))
    assert http_flaw(request) is None
    assert http_flaw(replace(request, port=8080)) is not None


@given(st.text())
def test_no_text_but_the_name_itself_passes_for_the_name(text: str) -> None:
    """A server name passes only when it is ASCII and names the host of the tunnel."""
    hello = replace(a_hello("good.test"), server_names=(text,))
    flaw = sni_flaw(hello)
    if flaw is None:
        assert text.isascii()
        assert normalize(text) == "good.test"
    else:
        assert flaw.reason is Reason.SNI_MISMATCH


@given(
    st.lists(
        st.sampled_from(("good.test", "GOOD.test.", "good.test:80", "evil.test", "", "good.test:443")), max_size=3
    )
)
def test_every_authority_counts(authorities: list[str]) -> None:
    """A request passes only when there is a Host and each one names the destination."""
    flaw = http_flaw(replace(a_request("good.test"), authorities=tuple(authorities)))
    right = {"good.test", "GOOD.test.", "good.test:80"}
    assert (flaw is None) == (bool(authorities) and set(authorities) <= right)
