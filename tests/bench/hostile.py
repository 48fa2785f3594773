"""What the costliest messages cost: CPU from packet to reply, for each of `tests/gateway/dns/bombs.py`.

Run `python tests/bench/hostile.py`. The goal is 5 ms for each, on one core, whatever is in it. Time is that of the
thread, and the least of several rounds, which is steady on a busy machine too. Nothing is asserted: the tests assert
the work done, which does not depend on the machine.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.dns.resolver import Resolver
from gateway.ledger import Ledger
from tests.gateway.dns.bombs import CLIENT, UPSTREAM
from tests.gateway.dns.targets import a_ledger_judge, asked_by_client, told_by_upstream

GOAL = 5.0
"""Milliseconds."""


def main() -> None:
    """Print the table, the costliest last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rows: list[tuple[float, str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), "dns")
        judge = a_ledger_judge(ledger)
        resolver = Resolver(judge)
        for name, make in UPSTREAM.items():
            rows.append((*least(partial(told_by_upstream, make(), judge), rounds), "upstream", name))
        for name, packet in CLIENT.items():
            rows.append((*least(partial(asked_by_client, packet(), resolver), rounds), "client", name))
        ledger.close()
    print(f"{'ms':>8}  {'from':8}  {'what':48}  outcome")
    for taken, outcome, whose, name in sorted(rows):
        print(f"{taken:8.2f}{'!' if taken > GOAL else ' '} {whose:8}  {name:48}  {outcome}")


def least(do: Callable[[], str], rounds: int) -> tuple[float, str]:
    """Return the least time of several rounds in milliseconds, and what came of it."""
    outcome = do()
    taken = []
    for _ in range(rounds):
        start = time.thread_time()
        do()
        taken.append(time.thread_time() - start)
    return min(taken) * 1000, outcome


if __name__ == "__main__":
    main()
