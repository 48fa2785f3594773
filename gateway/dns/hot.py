"""Answers given before, found again by the octets of the question.

Pure: no I/O; the time is an argument. A decision is a function of policy generation, client view, name and type, so
what was decided for the same four once holds until one of them changes. An entry is found by view and packet and used
only in the generation that it was made in; the policy is thereby asked first here as well, only not again.

What has to be recorded each time (a denial) keeps its decision for that; allowed answers that have to be recorded, or
that a rule on trial would have denied, are never kept here.
"""

from dataclasses import dataclass
from typing import NamedTuple

from gateway.decision import Decision
from gateway.dns.answers import Block
from gateway.dns.message import Answer, aged
from gateway.dns.wire import HEADER

MAX_PACKET = 300
"""Longer questions are asked too seldom to be kept."""
_ROOM = 32768


@dataclass(slots=True)
class HotAnswer:
    """An allowed answer, encoded for one kind of client."""

    generation: object
    answer: Answer
    stored: float
    expires: float
    head: bytes
    opt: bytes
    age: int = 0
    body: bytes = b""

    def render(self, data: bytes, end: int, now: float) -> bytes:
        """Return the answer to a packet whose question ends at `end`."""
        age = int(now - self.stored)
        if age != self.age or not self.body:
            self.age = age
            self.body = aged(self.answer.records, self.answer.ttls, age) + self.opt
        return data[:2] + self.head + data[HEADER:end] + self.body


class HotBlock(NamedTuple):
    """A denial, to be recorded anew each time."""

    generation: object
    name: str
    qtype: int
    decision: Decision
    block: Block


type Hot = HotAnswer | HotBlock


class HotAnswers:
    """Two generations of entries: when the young ones fill their half, they become the old, and the old are dropped.

    That keeps what is used, in bounded memory, at the price of one dictionary look-up.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._young: dict[bytes, Hot] = {}
        self._old: dict[bytes, Hot] = {}

    def get(self, key: bytes) -> Hot | None:
        """Return the entry."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: bytes, entry: Hot) -> None:
        """Keep an entry."""
        if len(self._young) >= self._room:
            self._old, self._young = self._young, {}
        self._young[key] = entry


def hot_key(view: bytes, data: bytes, name_end: int) -> bytes:
    """Return the key of a packet: all of it but its id and the letter case of the name, whose last octet is at
    `name_end`.

    Lower-casing leaves the lengths of labels alone, since they are below the letters; so packets with equal keys have
    equal questions, and only packets that were read and found good ever get a key into the table.
    """
    return view + data[2:HEADER] + data[HEADER:name_end].lower() + data[name_end:]
