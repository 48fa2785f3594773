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
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.dns.resolver import Resolver
from gateway.ledger import Ledger
from tests.gateway.dns.bombs import CLIENT, UPSTREAM
from tests.gateway.dns.mutations import check_query, check_response, mutated, seeds
from tests.gateway.dns.targets import a_ledger_judge, asked_by_client, told_by_upstream

GOAL = 5.0
"""Milliseconds."""


def main() -> None:
    """Print the table, the costliest last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fuzz", type=float, default=0, help="then mutate messages for so many seconds")
    parser.add_argument("--seed", type=int, default=0, help="where chance begins")
    options = parser.parse_args()
    rounds = options.rounds
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
    if options.fuzz:
        fuzz(options.fuzz, options.seed)


def fuzz(seconds: float, seed: int) -> None:
    """Send mutated messages until the time is over; the first that breaks a promise ends it with its octets."""
    random, known, resolver = Random(seed), seeds(), Resolver(a_ledger_judge())
    end, count, useful = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        query, response = (
            mutated(random, random.choice(known.queries)),
            mutated(random, random.choice(known.responses)),
        )
        try:
            check_query(resolver, query, stream=random.random() < 0.5)
            useful += check_response(response)
        except Exception:
            print(f"seed {seed}, message {count}\nquery {query.hex()}\nresponse {response.hex()}")
            raise
        count += 1
    print(f"{2 * count} messages from seed {seed}: every promise kept; {useful} responses were of use")


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
