"""What lists cost: compiling, size, opening, look-ups. Run as `python -m tests.bench.lists [NAMES]`.

The names are made up, the same ones each time, and shaped like those on real lists: two to four labels, 22 octets.
"""

import argparse
import gc
import random
import resource
import statistics
import string
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

from gateway.decision import Point, Verdict
from gateway.feeds.compile import Source, compile_lists
from gateway.feeds.snapshot import Snapshot
from gateway.policy import Policy
from gateway.rule import Rule
from gateway.runtime import State

_SUFFIXES = ["com"] * 8 + ["net", "org", "info", "xyz", "top", "ru", "co.uk", "de", "cn"]
_SAMPLE = 50_000
_ROUNDS = 7


def make_names(count: int, seed: int = 1) -> list[str]:
    """Return names like those on lists of malware and trackers."""
    chance = random.Random(seed)
    words = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(3, 9))) for _ in range(20_000)]

    def make() -> str:
        number = str(chance.randint(0, 99)) if chance.random() < 0.3 else ""
        name = f"{chance.choice(words)}{chance.choice(['', '-', ''])}{chance.choice(words)}{number}"
        labels = chance.choices(words, k=chance.choices([0, 1, 2], [50, 35, 15])[0])
        return ".".join([*labels, name, chance.choice(_SUFFIXES)])

    return [make() for _ in range(count)]


def peak_memory() -> float:
    """Return the peak of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def microseconds[T](look_up: Callable[[T], object], items: Sequence[T]) -> float:
    """Return the time of one look-up: the best of several rounds, as the others measure the rest of the machine."""
    rounds = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        for item in items:
            look_up(item)
        rounds.append((time.perf_counter() - begin) / len(items) * 1e6)
    return min(rounds)


def write_list(path: Path, lines: Iterable[str]) -> bytes:
    """Write a list, and return it as a refresh would have it."""
    path.write_text("\n".join(lines) + "\n")
    return path.read_bytes()


def private_memory() -> float:
    """Return what this process has of its own, in MB: pages of a file that is mapped are shared by all workers."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not say what memory is private")


def cost_of_a_worker(path: Path, sample: Sequence[str]) -> list[tuple[str, str]]:
    """Return what lists cost a worker besides the shared pages, and how long a swap holds it up."""
    gc.collect()
    before = private_memory()
    snapshot = Snapshot.open(path)
    for name in sample:
        snapshot.lookup_name(name)
    gc.collect()
    rows = [("memory of a worker, shared pages aside", f"{private_memory() - before:.1f} MB")]
    rules = [
        Rule(name="lists", action=Verdict.DENY, lists=("names",)),
        Rule(name="rest", action=Verdict.ALLOW, domains=("a.example",)),
    ]
    defaults = dict.fromkeys(Point, Verdict.ALLOW)
    state = State(
        config=cast(Any, None),
        policy=Policy(rules=rules, clients=(), default=defaults, lists=snapshot),
        snapshot=snapshot,
    )
    swaps = []
    for _ in range(_ROUNDS):
        fresh = Snapshot.open(path)  # off the event loop, in the worker too
        policy = Policy(rules=rules, clients=(), default=defaults, lists=fresh)
        begin = time.perf_counter()
        state = replace(state, policy=policy, snapshot=fresh)
        fresh.lookup_name(sample[0])
        swaps.append(time.perf_counter() - begin)
    rows.append(("swap, first look-up included", f"{max(swaps) * 1000:.3f} ms at worst"))
    return rows


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", type=int, nargs="?", default=1_000_000)
    count: int = arguments.parse_args().names
    rows: list[tuple[str, str]] = []

    with tempfile.TemporaryDirectory() as folder:
        chance = random.Random(2)
        names = make_names(count)
        sample = chance.sample(names, min(_SAMPLE, count))
        data = write_list(Path(folder, "names.txt"), names)
        del names
        hosts = [
            f"198.{chance.randint(18, 19)}.{chance.randint(0, 255)}.{chance.randint(0, 255)}" for _ in range(20_000)
        ]
        addresses = write_list(Path(folder, "addresses.txt"), hosts)
        urls = write_list(Path(folder, "urls.txt"), [f"http://{name}/a/b{at}.bin" for at, name in enumerate(sample)])
        gc.collect()
        before = peak_memory()
        sources = [
            Source(name="names", version="0" * 12, format="domains", data=data),
            Source(name="addresses", version="0" * 12, format="addresses", data=addresses),
            Source(name="urls", version="0" * 12, format="urls", data=urls),
        ]
        begin = time.perf_counter()
        compiled = compile_lists(sources[:1], key=bytes(16), created=0.0)
        rows.append((f"compile {count:,} names", f"{time.perf_counter() - begin:.2f} s"))
        rows.append(("peak memory", f"{peak_memory():.0f} MB ({before:.0f} MB before, with the list in memory)"))
        rows.append(("octets for each name", f"{len(compiled.data) / compiled.accounts[0].entries:.2f}"))
        begin = time.perf_counter()
        compiled = compile_lists(sources, key=bytes(16), created=0.0)
        rows.append(
            (f"compile also {len(hosts):,} addresses, {len(sample):,} URLs", f"{time.perf_counter() - begin:.2f} s")
        )

        path = Path(folder, "snapshot.egs")
        path.write_bytes(compiled.data)
        opened = []
        for _ in range(_ROUNDS):
            begin = time.perf_counter()
            Snapshot.open(path).close()
            opened.append(time.perf_counter() - begin)
        rows.append(("open, checksum verified", f"{statistics.median(opened) * 1000:.1f} ms"))

        rows += cost_of_a_worker(path, sample)
        with Snapshot.open(path) as snapshot:
            unlisted = [f"a{at}.b{at}.c{at}.unlisted{at}.com" for at in range(_SAMPLE)]
            assert not any(snapshot.lookup_name(name)[0] for name in unlisted)
            assert all(snapshot.lookup_name(name)[0] for name in sample)
            targets = [(f"{name}", f"/a/b{at}.bin") for at, name in enumerate(sample)]
            others = [IPv4Address(chance.getrandbits(32)) for _ in range(_SAMPLE)]
            for title, time_of_one in (
                ("look up a name of 5 labels, not listed", microseconds(snapshot.lookup_name, unlisted)),
                ("look up a name, listed", microseconds(snapshot.lookup_name, sample)),
                ("look up a name below a listed one", microseconds(snapshot.lookup_name, [f"w.{n}" for n in sample])),
                ("look up an address", microseconds(snapshot.lookup_address, others)),
                ("look up a URL, listed", microseconds(lambda target: snapshot.lookup_path(*target), targets)),
                (
                    "look up a URL, not listed",
                    microseconds(lambda name: snapshot.lookup_path(name, "/x/y/z?q"), sample),
                ),
                ("find the entry of a name", microseconds(lambda name: snapshot.match_name(name, -1), sample)),
            ):
                rows.append((title, f"{time_of_one:.2f} us"))

    width = max(len(title) for title, _ in rows)
    for title, value in rows:
        print(f"{title:<{width}}  {value}")


if __name__ == "__main__":
    main()
