"""DNS over UDP: a bounded drain loop.

Each wake-up handles the datagrams that wait. What was asked in the same octets before is answered from the table of
such answers without a call; what else can be answered at once is answered there too; only what an upstream has to be
asked for becomes a task.
"""

import asyncio
import socket

from gateway.dns.datagrams import ROOM, Batch, Sender
from gateway.dns.resolver import Miss, Reply, Resolver
from gateway.dns.transfer import Transfers

_ROOM = ROOM - 2
"""Octets that an answer may have besides its id to be sent from where it was asked."""


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
        known_as, find, now, date, otherwise = self._resolver.burst()
        zones = self._transfers if self._transfers is not None and self._transfers.has_zones else None
        octets, cuts, answers = batch.octets, batch.cuts, batch.answers
        unsent = 0
        for (slot, body, at_answer), peer, length in places:
            known = known_as(peer)
            if known is not None and known.credit:
                (question,) = cuts[length](octets, body)
                found = find(known.view + question)
                if found is not None and (now < found.until or found.renew(now)):
                    repeats = found.repeats
                    if repeats is None or repeats.open:
                        known.credit -= 1
                        found.used = True
                        if repeats is not None:
                            repeats.again(date)
                        if (tail := found.tail) is not None and (size := len(tail)) <= _ROOM:
                            octets[body : body + size] = tail
                            answers[at_answer] = size + 2
                            continue
                        batch.send(unsent, slot)
                        unsent = slot + 1
                        if tail is not None:
                            batch.reply(batch.sender(slot), batch.datagram(slot)[:2] + tail)
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
