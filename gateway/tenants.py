"""Tenant restrictions: header fields by which cloud services let in the accounts of named organisations alone.

Pure: no I/O, no clock. The service enforces it; the gateway says it on every request to the hosts where people sign
in, and takes away what the client said. Spliced, such a host would never hear it, so it is always inspected.

Microsoft: "Restrict access to a tenant" (tenant restrictions v1) names the three hosts, their two fields, and
login.live.com for personal accounts. Google: "Block access to consumer accounts" names google.com and below.
"""

from dataclasses import dataclass

_MICROSOFT = ("login.microsoftonline.com", "login.microsoft.com", "login.windows.net")
_PERSONAL = "login.live.com"
_GOOGLE = "google.com"

OWN = frozenset(
    (
        "restrict-access-to-tenants",
        "restrict-access-context",
        "sec-restrict-tenant-access-policy",
        "x-googapps-allowed-domains",
        "x-goog-allowed-domains",
    )
)
"""Names of fields, in lower case, that are the gateway's alone to say to these hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """Which accounts may be signed in to."""

    microsoft: tuple[str, ...] = ()
    """Domains or ids of tenants; none: no restriction."""
    context: str = ""
    """Id of the directory that sets the restriction: its administrators see the sign-ins that were stopped."""
    block_personal: bool = False
    """Stop personal Microsoft accounts."""
    google: tuple[str, ...] = ()
    """Domains of Google Workspace; none: no restriction."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The hosts that have to be inspected."""
        return (
            *(_MICROSOFT if self.microsoft else ()),
            *((_PERSONAL,) if self.block_personal else ()),
            *((f".{_GOOGLE}",) if self.google else ()),
        )

    def fields(self, host: str) -> tuple[tuple[str, str], ...]:
        """Return what is said to a host, names in lower case as HTTP/2 wants them; nothing to most hosts."""
        if self.microsoft and host in _MICROSOFT:
            tenants = ",".join(self.microsoft)
            return (("restrict-access-to-tenants", tenants), ("restrict-access-context", self.context))
        if self.block_personal and host == _PERSONAL:
            return (("sec-restrict-tenant-access-policy", "restrict-msa"),)
        if self.google and (host == _GOOGLE or host.endswith(f".{_GOOGLE}")):
            return (("x-googapps-allowed-domains", ",".join(self.google)),)
        return ()
