"""What the tunnelling detector costs: CPU of a cache miss, and memory under a flood of junk.

Run: `python tests/bench/tunnelling.py`. The names are made up; every one of them is new, which is the dear case.
"""

import random
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.tunnelling.data import character_model, popular, services
from gateway.tunnelling.detector import Detector
from gateway.tunnelling.priors import Priors
from tests.benign import SITES

FLOOD = 1_000_000
CLIENTS = 100_000


def a_detector() -> Detector:
    """Return a detector with the shipped data."""
    return Detector(character_model(), Priors(popular(), [service.suffix for service in services()]), key=b"bench")


def memory() -> float:
    """Return the resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def cost(site: str) -> list[float]:
    """Return microseconds of CPU for each query of a day."""
    detector, spent = a_detector(), []
    for query in SITES[site](random.Random(1)):
        begun = time.thread_time_ns()
        detector.query(query.at, query.client, query.name, query.qtype)
        spent.append((time.thread_time_ns() - begun) / 1000)
    return spent


def main() -> None:
    """Print both."""
    before = memory()
    a_detector().query(0, "10.0.0.1", "www.example.com", 1)
    print(f"data of the detector: {memory() - before:.1f} MB")
    for site in SITES:
        spent = sorted(cost(site))
        median, tail = statistics.median(spent), spent[int(len(spent) * 0.99)]
        print(f"{site}: {len(spent)} queries, median {median:.1f} us, 99 % below {tail:.1f} us")
    before, detector, random_ = memory(), a_detector(), random.Random(1)
    begun = time.process_time()
    for index in range(FLOOD):
        client = f"10.{index % CLIENTS // 65536}.{index % CLIENTS // 256 % 256}.{index % 256}"
        name = f"{random_.choice('abcdefgh')}{index % 7919}q.junk{index}.com"
        detector.query(index / 100, client, name, 16 if index % 3 else 1)
    took = time.process_time() - begun
    print(
        f"{FLOOD} zones from {CLIENTS} clients: {memory() - before:.0f} MB, {took / FLOOD * 1e6:.1f} us a query; "
        f"{len(detector.tables.zones)} zones, {detector.tables.names} names, {len(detector.tables.clients)} clients, "
        f"{detector.tables.accounts} accounts kept"
    )


if __name__ == "__main__":
    main()
