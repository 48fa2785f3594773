"""DNS over UDP: a bounded drain loop.

Each wake-up handles the datagrams that wait. What was asked in the same octets before is answered from the table of
such answers without a call; what else can be answered at once is answered there too; only what an upstream has to be
asked for becomes a task.
"""

import asyncio
import socket

from gateway.dns.datagrams import ROOM, Batch, Sender
from gateway.dns.hot import STAMP, Block
from gateway.dns.resolver import Miss, Reply, Resolver
from gateway.dns.transfer import Transfers

_STAMP = STAMP - 2
"""What an answer of the table has more than goes out: its stamp, but no id."""


class UdpListener:
    """Serves one UDP socket, on one address or on all of the host's."""

    def __init__(self, sock: socket.socket, resolver: Resolver, transfers: Transfers | None = None) -> None:
        self._sock = sock
        self._batch = Batch(sock)
        self._resolver = resolver
        self._transfers = transfers
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(sock, self._drain)

    def _drain(self) -> None:
        batch = self._batch
        places = batch.receive()
        if not places:
            return
        known_as, hot, now, stamp, date, otherwise = self._resolver.burst()
        find = hot.get
        zones = self._transfers if self._transfers is not None and self._transfers.has_zones else None
        octets, cuts, answers = batch.octets, batch.cuts, batch.answers
        unsent = 0
        for (slot, body, at_answer), peer, length in places:
            known = known_as(peer)
            if known is not None and known.credit:
                (question,) = cuts[length](octets, body)
                key = known.view + question
                found = find(key)
                if type(found) is bytes:
                    if found[-STAMP:] <= stamp:
                        found = hot.renew(key, now)
                    if found is not None and (size := len(found)) <= ROOM:
                        octets[body : body + size] = found  # and its stamp, which is not sent
                        answers[at_answer] = size - _STAMP
                        known.credit -= 1
                        continue
                elif isinstance(found, Block) and found.repeats.open and 0 < (size := len(found.tail)) <= ROOM - 2:
                    octets[body : body + size] = found.tail
                    answers[at_answer] = size + 2
                    found.used = True
                    found.repeats.again(date)
                    known.credit -= 1
                    continue
            data = batch.datagram(slot)
            reply: Reply
            if zones is not None and zones.concerns(data):
                reply = zones.datagram(_text(peer), data)
            else:
                reply = otherwise(peer, data)
            if type(reply) is bytes and len(reply) <= ROOM:
                batch.write(slot, reply)
                continue
            batch.send(unsent, slot)
            unsent = slot + 1
            if type(reply) is bytes:
                batch.reply(batch.sender(slot), reply)
            elif isinstance(reply, Miss):
                self._answer_later(reply, batch.sender(slot))
        batch.send(unsent, len(places))

    def _answer_later(self, miss: Miss, sender: Sender) -> None:
        # Kept in a set, because the loop holds tasks only weakly; a TaskGroup would end with its first error.
        task = self._loop.create_task(self._later(miss, sender))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _later(self, miss: Miss, sender: Sender) -> None:
        reply = await self._resolver.answer_later(miss)
        if reply is not None:
            self._batch.reply(sender, reply)

    async def close(self, grace: float) -> None:
        """Stop reading, answer what is on its way if that is soon, and close."""
        self._loop.remove_reader(self._sock)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._sock.close()


def _text(peer: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(peer) == 4 else socket.AF_INET6, peer)
