"""DNS over UDP: a bounded drain loop.

Each wake-up handles the datagrams that wait. What was asked in the same octets before is answered from the table of
such answers without a call; what else can be answered at once is answered there too; what an upstream has to be asked
for is answered by a callback.
"""

import asyncio
import contextlib
import socket
from functools import partial

from gateway.dns.datagrams import PLACES, PUT, ROOM, Batch, Sender
from gateway.dns.hot import TERMS, TTL, Block
from gateway.dns.replies import Miss
from gateway.dns.resolver import Resolver
from gateway.dns.tally import Source, Transport

_UDP, _HOT, _BLOCKED = int(Transport.UDP), int(Source.HOT), int(Source.BLOCKED)
_AT = -TERMS.size
"""Where the terms of an answer of the table are,"""
_LESS = TERMS.size - 2
"""and what it has more than goes out: its terms, but no id."""
_terms, _put_ttl = TERMS.unpack_from, TTL.pack_into


class UdpListener:
    """Serves one UDP socket, on one address or on all of the host's."""

    def __init__(self, sock: socket.socket, resolver: Resolver) -> None:
        self._sock = sock
        self._batch = Batch(sock)
        self._resolver = resolver
        self._tally = resolver.tally
        self._loop = asyncio.get_running_loop()
        self._waiting = 0
        self._closing = False
        self._answered = asyncio.Event()
        self._loop.add_reader(sock, self._drain)

    def _drain(self) -> None:
        batch = self._batch
        peers, ends = batch.receive()
        if not peers:
            return
        known_as, hot, pays, now, date, otherwise = self._resolver.burst()
        second = int(now)
        octets, answers = batch.octets, batch.answers
        gaps: list[int] = []
        aside = blocked = 0
        unseen = False
        for (slot, body, at_answer), end, known in zip(PLACES, ends, map(known_as, peers), strict=False):
            if known is not None and (known.credit or pays(known)):
                key = octets[body:end]
                found = known.view.get(key)
                if type(found) is bytes:
                    until, dies, at = _terms(found, _AT)
                    if until <= second and (found := hot.renew(known.view, key, now)) is not None:
                        _, dies, at = _terms(found, _AT)
                    if found is not None and (size := len(found)) <= ROOM:
                        PUT[size](octets, body, found)  # and its terms, which are not sent
                        if at:
                            _put_ttl(octets, body + at, dies - second)
                        answers[at_answer] = size - _LESS
                        known.credit -= 1
                        continue
                elif isinstance(found, Block) and (
                    found.own is known.own or isinstance(found := known.own.get(key), Block)
                ):
                    repeats, tail = found.repeats, found.tail
                    if repeats.open and 0 < (size := len(tail)) <= ROOM - 2:
                        PUT[size](octets, body, tail)
                        answers[at_answer] = size + 2
                        found.used = True
                        repeats.again(date)
                        known.credit -= 1
                        blocked += 1
                        continue
                else:
                    unseen = True
            aside += 1
            reply = otherwise(peers[slot], batch.datagram(slot), unseen)
            unseen = False
            if type(reply) is bytes and len(reply) <= ROOM:
                batch.write(slot, reply)
                continue
            gaps.append(slot)
            if type(reply) is bytes:
                batch.reply(batch.sender(slot), reply)
            elif isinstance(reply, Miss):
                self._waiting += 1
                self._resolver.begin(reply, partial(self._reply, batch.sender(slot)))
        batch.send_without(gaps, len(peers))
        self._count(len(peers), aside, blocked)

    def _count(self, queries: int, aside: int, blocked: int) -> None:
        """Count what a wake-up brought. Who was left aside for others to answer is counted by them."""
        tally = self._tally
        tally.queries[_UDP] += queries
        if queries != aside:
            answers = tally.answers
            answers[_HOT] += queries - aside - blocked
            answers[_BLOCKED] += blocked

    def _reply(self, sender: Sender, reply: bytes | None) -> None:
        self._waiting -= 1
        if not self._waiting and self._closing:
            self._answered.set()
        if reply is not None and self._sock.fileno() >= 0 and self._batch.gather(sender, reply):
            self._loop.call_soon(self._batch.flush)

    async def close(self, grace: float) -> None:
        """Stop reading, answer what is on its way if that is soon, and close."""
        self._loop.remove_reader(self._sock)
        self._closing = True
        if self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._answered.wait()
        self._batch.flush()
        self._sock.close()
