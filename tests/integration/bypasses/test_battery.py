"""Every attempt of the battery that is mere octets: verdict, reason, nothing at any origin, one ledger line."""

import re
from pathlib import Path

import pytest

from gateway.selfcheck.cases import Case, Where, cases
from gateway.selfcheck.client import Target
from tests.integration.bypasses.world import a_world

CASES = tuple(cases())


@pytest.mark.parametrize("case", CASES, ids=[ascii(str(case))[1:-1] for case in CASES])
async def test_resisted(tmp_path: Path, case: Case) -> None:
    """It is denied for what it is."""
    async with a_world(tmp_path, bare=case.bare) as world:
        target = Target("127.0.0.1", world.rig.port, world.good.port, world.evil.port)
        answer = await target.attempt(case, 10)
        if case.where is Where.INSIDE:
            assert f"X-Gateway-Reason: {case.reason}\r\n".encode() in answer
        assert len(re.findall(rb"^HTTP/1\.1 \d{3} ", answer, re.MULTILINE)) <= 1
        await world.held(answer, case.reason)
