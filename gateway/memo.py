"""What was worked out before: dictionaries with an end.

Pure: no I/O, no clock. Keys come from clients, who may make up as many as they like.
"""

from collections.abc import Hashable


class Memo[Key: Hashable, Value](dict[Key, Value]):
    """A dictionary that `keep` fills up to `room` entries. Then all go at once: what is needed often is soon back,
    and looking up costs what it costs in any dictionary. To note what was used last would cost more each time.

    >>> memo = Memo[str, int](2)
    >>> [memo.keep(key, number) for number, key in enumerate("abbc")], memo
    ([0, 1, 2, 3], {'c': 3})
    """

    __slots__ = ("_room",)

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def keep(self, key: Key, value: Value) -> Value:
        """Keep a value, and return it."""
        if len(self) >= self._room and key not in self:
            self.clear()
        self[key] = value
        return value
