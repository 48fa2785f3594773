"""The place that every bypass is tried in: an allowed origin, a forbidden one, names for both, and a policy."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.decision import Reason
from gateway.rule import HttpConditions, Rule
from tests.integration.proxy_rig import Rig, a_proxy, allow
from tests.peers.http_origin import Origin


@dataclass(slots=True)
class World:
    """What a bypass is tried on."""

    rig: Rig
    good: Origin
    evil: Origin

    @property
    def target(self) -> str:
        """The allowed destination."""
        return f"good.test:{self.good.port}"

    async def held(self, answer: bytes, reason: Reason, *, lookups: tuple[str, ...] = ()) -> None:
        """Assert that an attempt was denied for a reason, told so, recorded once, and reached nobody."""
        told = f"x-gateway-reason: {reason}\r\n".encode() in answer.lower()
        told = told or (reason is Reason.MALFORMED and answer.startswith(b"GOAWAY "))
        assert told or answer.endswith(bytes.fromhex("15030300020231")), answer
        assert self.rig.ledger.denials == [reason]
        assert len(self.rig.ledger.lines) == 1
        assert tuple(self.rig.names.asked) == lookups
        assert self.good.untouched
        assert self.evil.untouched


@contextlib.asynccontextmanager
async def a_world(
    folder: Path,
    *first: Rule,
    inspected: bool = False,
    bare: bool = False,
    narrowed: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[World]:
    """Run both origins and a proxy that allows `good.test`, and `seen.test` where it can look inside; `narrowed`.

    `first` come other rules. `bare`: under a policy that names no addresses and ports.
    """
    changes: dict[str, Any] = {**({"addresses": (), "ports": ()} if bare else {}), **(narrowed or {})}
    zones = ("*.nip.io", "*.sslip.io", "*.localtest.me") if bare else ()
    rules = (
        *first,
        allow(
            "good.test", "*.good.test", *zones, http=HttpConditions(paths=("/**",)) if inspected else None, **changes
        ),
        allow("seen.test", name="seen", http=HttpConditions(paths=("/**",)), **changes),
    )
    names = {"evil.test": "127.0.0.2", **more.pop("names", {})}
    async with (
        Origin() as good,
        Origin(host="127.0.0.2") as evil,
        a_proxy(folder, *rules, names=names, **more) as rig,
    ):
        yield World(rig, good, evil)
