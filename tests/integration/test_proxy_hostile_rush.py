"""A real `gateway proxy` under more new connections than it can serve: who comes seldom is served all the same."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.hostile_rig import Gateway, a_gateway, polite
from tests.peers.namespace import ROOT, wait_until

ADDRESSES = 50
NAMES = 5000
"""Names of the flood that lead somewhere."""
CONTENDED = 2.0
"""How much longer others may wait while the gateway shares two processors with the flood, the origins, other tests:
each step of a connection waits for one then. On a machine with nothing else to do, 100 ms are kept; without turns for
those who come, it is 400 to 1,000.
"""
KEPT = 64 << 20
"""Octets that the process may have more than before, when all is over."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all floods: what one leaves behind, the next would show."""
    records = "\n".join(f"    n{number:07d}.spliced.test: [127.0.0.1]" for number in range(NAMES))
    with a_gateway(tmp_path_factory.mktemp("gateway"), timeouts="head: 3s", records=records) as made:
        with polite(made, "quiet"):
            time.sleep(0.1)
        yield made


@contextmanager
def flooding(name: str, *arguments: object, nice: int = 0) -> Iterator[dict[str, Any]]:
    """Run one of the floods meanwhile. What it tells is there when it has ended.

    With `nice`, it leaves the processor to the gateway, as those do who flood from elsewhere.
    """
    told: dict[str, Any] = {}
    process = subprocess.Popen(
        ["nice", "-n", str(nice), sys.executable, str(ROOT / f"tests/peers/{name}.py"), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield told
    finally:
        output, _ = process.communicate(timeout=30)
    told.update(json.loads(output))
    sys.stderr.write(f"{told}\n")  # for the reader


@pytest.mark.parametrize("what", ["closes", "halves", "stays"])
def test_connections_that_ask_for_nothing(gateway: Gateway, what: str) -> None:
    """As many as there is time for: others wait no longer than they may, and the memory is free again afterwards."""
    before, most, lines = gateway.memory, 8000 if what == "stays" else 4 * ADDRESSES, len(gateway.ledger)
    with (
        polite(gateway, f"connections without a request: {what}", CONTENDED),
        flooding("connection_flood", gateway.port, ADDRESSES, most, what, nice=10) as told,
    ):
        time.sleep(8)
    assert told["opened"] > 5000
    wait_until(
        lambda: gateway.reasons(lines)["rate-limit"] >= told["refused"], "the lines of who was turned away", 10
    )
    wait_until(lambda: gateway.memory < before + KEPT, "the memory to be free again", 15)


@pytest.mark.parametrize("suffix", ["spliced.test", "unknown.spliced.test"])
def test_names_that_are_passed_on(gateway: Gateway, suffix: str) -> None:
    """As many tunnels to new names as there is time for, whether they lead anywhere or not."""
    before = gateway.memory
    with (
        polite(gateway, f"names below {suffix}", CONTENDED),
        flooding(
            *("name_flood", gateway.port, gateway.echo, ADDRESSES, 4 * ADDRESSES, suffix, "waits", NAMES)
        ) as told,
    ):
        time.sleep(8)
    assert told["answered" if suffix == "spliced.test" else "refused"] > 1000
    assert not told["lost"]
    wait_until(lambda: gateway.memory < before + KEPT, "the memory to be free again", 15)
