"""What the supervisor knows of its workers and of itself: written where it happens, read when somebody asks.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Post:
    """The place of one worker, whichever process fills it."""

    role: str
    index: int
    pid: int = 0
    """Of the process; 0 while there is none."""
    serving: bool = False
    starts: int = 0

    @property
    def name(self) -> str:
        """As it is called in messages."""
        return f"{self.role} worker {self.index}"

    @property
    def restarts(self) -> int:
        """How often another process had to take the place."""
        return max(0, self.starts - 1)


@dataclass(slots=True)
class Board:
    """All of it."""

    posts: tuple[Post, ...] = ()
    reloads: int = 0
    """Policies that were put in force since the start."""
    refused: int = 0
    """Those that were not good."""
    last_refused: bool = False
    draining: bool = False
    _by_place: dict[tuple[str, int], Post] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Iterable[tuple[str, int]]) -> "Board":
        """Return the board for workers by role and number."""
        posts = tuple(Post(role, index) for role, index in plan)
        return cls(posts, _by_place={(post.role, post.index): post for post in posts})

    def number(self, role: str, index: int) -> int:
        """Return where a worker stands among all."""
        return self.posts.index(self._by_place[role, index])

    def born(self, role: str, index: int, pid: int) -> None:
        """Note that a worker has been started."""
        post = self._by_place[role, index]
        post.pid, post.serving = pid, False
        post.starts += 1

    def serves(self, role: str, index: int) -> None:
        """Note that it serves."""
        self._by_place[role, index].serving = True

    def died(self, role: str, index: int) -> None:
        """Note that it is gone."""
        post = self._by_place[role, index]
        post.pid, post.serving = 0, False

    def reloaded(self, *, refused: bool) -> None:
        """Note what became of a reload."""
        self.last_refused = refused
        if refused:
            self.refused += 1
        else:
            self.reloads += 1
