"""Refreshes two lists again and again until it is killed; a new process for each line that comes in.

Lists of one generation belong together: whoever finds names of two in one snapshot has found a mixed one.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from gateway.feeds.catalog import Feed
from gateway.feeds.refresh import refresh

SIZE = 2000
LISTS = ("one", "two")


def text_of(name: str, generation: int) -> str:
    """Return a list of a generation."""
    return "".join(f"{name}{number}.g{generation}.example\n" for number in range(SIZE))


def feeds(folder: Path) -> dict[str, Feed]:
    """Return the lists."""
    return {name: Feed.model_validate({"path": str(folder / name), "format": "domains"}) for name in LISTS}


def run(folder: Path, generation: int) -> None:
    """Refresh for ever, each time with another generation of both lists."""
    while True:
        generation += 1
        for name in LISTS:
            (folder / name).write_text(text_of(name, generation))
        report = asyncio.run(refresh(feeds(folder), folder / "state", now=time.time()))
        if report.problem:
            sys.exit(report.problem)


def main() -> None:
    """Start a process for each line: the generation to begin with. Say its id, and its exit status when it ends."""
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.alarm(30)  # nobody is to be left behind
            run(folder, int(line))
        print(child, flush=True)  # noqa: T201  # to the test
        print(os.waitpid(child, 0)[1], flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
