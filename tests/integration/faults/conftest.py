"""One gateway for all faults: each has to leave it as it was."""

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Iterator

import pytest
import uvloop

from tests.integration.faults.bench import Bench
from tests.integration.faults.stand import a_stand

_KEPT: list[object] = []
"""The loop outlives the tests: collected in the middle of another, it would complain there."""


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The product's parts on the product's event loop, in this process, so that any function of it can be broken."""
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    context = a_stand(tmp_path_factory.mktemp("stand"))
    stand = runner.run(context.__aenter__())
    made = Bench(runner, stand)
    try:
        yield made
    finally:
        made.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sockets of what broke are open, and nobody has them any more
            runner.run(context.__aexit__(None, None, None))
            with contextlib.suppress(OSError):
                runner.close()
            gc.collect()
        _KEPT.append(runner)
