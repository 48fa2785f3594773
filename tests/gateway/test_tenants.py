"""Tenant restrictions: what is said to which host."""

import pytest

from gateway.domainset import DomainMap
from gateway.tenants import OWN, Tenants

ALL = Tenants(microsoft=("a.test", "b.test"), context="id", block_personal=True, google=("a.test", "c.test"))
TO_MICROSOFT = (("restrict-access-to-tenants", "a.test,b.test"), ("restrict-access-context", "id"))
TO_PERSONAL = (("sec-restrict-tenant-access-policy", "restrict-msa"),)
TO_GOOGLE = (("x-googapps-allowed-domains", "a.test,c.test"),)

SAID = {
    "login.microsoftonline.com": TO_MICROSOFT,
    "login.microsoft.com": TO_MICROSOFT,
    "login.windows.net": TO_MICROSOFT,
    "login.live.com": TO_PERSONAL,
    "google.com": TO_GOOGLE,
    "accounts.google.com": TO_GOOGLE,
    "a.b.google.com": TO_GOOGLE,
    "notgoogle.com": (),
    "google.com.evil.test": (),
    "www.example.com": (),
    # Clients show a certificate of their own there, which inspection cannot.
    "device.login.microsoftonline.com": (),
    "": (),
}


@pytest.mark.parametrize("host", SAID)
def test_what_is_said_to_a_host(host: str) -> None:
    """Each host hears its own restriction, all others nothing."""
    assert ALL.fields(host) == SAID[host]


@pytest.mark.parametrize("host", SAID)
def test_nothing_is_said_without_a_restriction(host: str) -> None:
    """Without tenants or domains there is nothing to say, and nothing to inspect."""
    assert Tenants().fields(host) == ()
    assert Tenants().patterns == ()


def test_personal_accounts_are_a_choice() -> None:
    """Personal accounts may be let in beside the tenants."""
    open_to_all = Tenants(microsoft=("a.test",), context="id")
    assert open_to_all.fields("login.live.com") == ()
    assert "login.live.com" not in open_to_all.patterns


@pytest.mark.parametrize("host", [host for host in SAID if host])
def test_who_hears_something_is_inspected(host: str) -> None:
    """The hosts that are inspected for it are those to which something is said."""
    inspected = DomainMap()
    for pattern in ALL.patterns:
        inspected.add(pattern, 1)
    assert bool(inspected.lookup(host)) is bool(SAID[host])


def test_only_own_fields_are_said() -> None:
    """Whatever is said is on the list of what clients cannot say."""
    assert {name for said in SAID.values() for name, _ in said} <= OWN
