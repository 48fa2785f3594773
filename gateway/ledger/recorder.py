"""The ledger of one process, as those who decide see it: takes records at any moment, and loses no count.

`record` neither waits nor raises: it builds the line and puts it into a bounded backlog, which a thread writes. When
the disk is full, stalled or gone, denials are counted by verdict, reason, rule and client: counts become gap lines.
"""

import json
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import count
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path

from gateway.decision import Decision, Match, Verdict, with_evidence
from gateway.ledger.backlog import LIMIT, Backlog
from gateway.ledger.event import Event, Outcome, event
from gateway.ledger.file import LedgerFile
from gateway.ledger.losses import Loss, Span
from gateway.ledger.notice import CHANGE, change_event, gap_event, rolled_up
from gateway.ledger.pattern import BlockLine, Patterns, kind_of
from gateway.ledger.rollup import Repeats, Rollup
from gateway.ledger.tally import Denial, Tally, denials_of
from gateway.ledger.writer import Writer
from gateway.memo import Memo
from gateway.request import Client, DnsAnswer, DnsQuery, Request, TlsHello

_LOG = logging.getLogger(__name__)
_make = tuple.__new__

_ALPHABET = "0123456789abcdefghijkmnpqrstuvwx"  # 32, so that a random octet picks evenly
_CLIENTS_KEPT = 8192
_DNS = DnsQuery, DnsAnswer  # a union in its place would be made anew each time
_AT_ONCE = 64  # windows closed while `record` has to wait: some 20 us


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStatus:
    """How a ledger is doing: for health checks and metrics."""

    written: int
    """Lines written since the start."""
    queued: int
    """Lines waiting."""
    folded: int
    """Decisions that were only counted, in gap lines."""
    trouble: str
    """Why writing fails at present; empty when it does not."""


class Ledger:
    """Records decisions and changes. One for each process; made after forking, because it has a thread.

    Args:
        directory: the folder of the ledger; created 0700 if need be.
        role: `dns`, `proxy`, `refresh` ...
        rotate: octets after which a file is put aside.
        keep: seconds after which files are removed.
        allowed_dns: record DNS requests that were allowed, too.
        clock: seconds since the epoch.
        backlog: lines that may wait to be written.
    """

    def __init__(
        self,
        directory: Path,
        role: str,
        worker: int = 0,
        *,
        rotate: int = 256 << 20,
        keep: float = 30 * 86400.0,
        allowed_dns: bool = False,
        clock: Callable[[], float] = time.time,
        backlog: int = LIMIT,
    ) -> None:
        self.generation = 0
        """Generation of the policy in force; recorded with each decision when it is not zero."""
        self.role = role
        self.tally = Tally()
        """What was told so far, but for repeats of DNS blocks; see `denials`."""
        self._allowed_dns = allowed_dns
        self._clock = clock
        # Ids are unique over processes and restarts without asking the kernel each time: 35 random bits and a
        # counter in hexadecimal. No sign in them needs quoting anywhere.
        self._prefix = "".join(_ALPHABET[octet % 32] for octet in os.urandom(7))
        self._numbers = count(1)
        self._lock = threading.Lock()  # of the roll-up
        self._rollup = Rollup()
        self._patterns = Patterns(role)
        self._clients = Memo[int, tuple[Client, str]](_CLIENTS_KEPT)
        self._backlog = Backlog(backlog)
        file = LedgerFile(directory, role, worker, rotate=rotate, keep=keep)
        self._writer = Writer(file, self._backlog, clock=clock, prepare=self._close_windows, describe=self._describe)

    def record(self, request: Request, decision: Decision, outcome: Outcome | None = None) -> str:
        """Record a decision if it is to be recorded, and return its id. Never waits, never raises.

        Recorded are: every denial, enforced or not; what a rule in report mode would have denied; with an outcome, an
        allowed tunnel or request; with `allowed_dns`, allowed DNS requests. For a repeat of a DNS block that was
        written less than a minute ago the id is that of the written one; the repeat is counted.
        """
        return self.enter(request, decision, outcome).id

    def enter(self, request: Request, decision: Decision, outcome: Outcome | None = None) -> Repeats:
        """Record a decision as `record` does. While what is returned is open, the one thread that records may count
        the same block again there, under the same id, and need not record it.
        """
        try:
            return self._enter(request, decision, outcome)
        except Exception as error:
            # Whatever was wrong with it, a decision is counted; and traffic goes on.
            return _single(self._count_unreadable(decision, error))

    def enter_query(self, request: DnsQuery, decision: Decision, matched: Match | None) -> Repeats:
        """Record a decision that may have a blank for the evidence, as `Policy.decide_query` returns them."""
        try:
            if matched is None:
                return self._enter(request, decision, None)
            return self._enter_query(request, decision, None, matched)
        except Exception as error:
            return _single(self._count_unreadable(decision, error))

    def change(self, action: str, message: str, **fields: object) -> None:
        """Record a change to the policy, a feed or the gateway itself. Never waits, never raises."""
        try:
            now = self._clock()
            made = change_event(action, message, id=self._next_id(), now=now, role=self.role, **fields)
            if not self._backlog.put(made):
                self._backlog.fold(
                    Loss(verdict="", enforced=True, reason=CHANGE, rule="", client="", span=Span.one(now))
                )
        except Exception:
            _LOG.exception("ledger: change %r could not be recorded", action)

    def status(self) -> LedgerStatus:
        """Return how the ledger is doing."""
        writer, backlog = self._writer, self._backlog
        return LedgerStatus(
            written=writer.written, queued=len(backlog), folded=backlog.folded, trouble=writer.trouble
        )

    def denials(self) -> Counter[Denial]:
        """Return how many denials there were, repeats included, enforced or not."""
        with self._lock:
            entries = self._rollup.entries()
        repeats: dict[tuple[Denial, ...], int] = {}
        for each in entries:  # up to 10,000, most of which came once
            if each.count:
                repeats[each.denials] = repeats.get(each.denials, 0) + each.count
        return self.tally.denials(repeats)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything recorded so far is written; repeats whose minute is not over stay counted.

        Returns whether it is; false when the time was not enough.
        """
        return self._writer.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Write everything, repeats included, and stop. Returns whether all of it was written."""
        written = self._writer.close(timeout)
        with self._lock:
            left = sum(repeats.count for repeats in self._rollup.expired(math.inf, len(self._rollup)))
        if left:  # the backlog was full to the end, so they were never put into it
            _LOG.error("ledger: stopped with %s repeats of DNS blocks that could not be written", left)
        return written and not left

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter(self, request: Request, decision: Decision, outcome: Outcome | None) -> Repeats:
        notable = decision.verdict is Verdict.DENY or bool(decision.reported)
        if isinstance(request, _DNS):
            if notable:
                if isinstance(request, DnsQuery) and outcome is None:
                    return self._enter_query(request, decision, decision.detail, decision.matched)
                return self._enter_block(request, decision, outcome)
            if not self._allowed_dns:
                return _single(self._next_id())
        elif not notable and outcome is None:
            return _single(self._next_id())
        self.tally.note(request, decision, outcome)
        now = self._clock()
        id = self._next_id()
        made: Event | bytes | None
        if not self._backlog.full:
            generation, made = self.generation, None
            if outcome is not None and isinstance(request, TlsHello):
                made = self._patterns.end(request, decision, outcome, id=id, now=now, generation=generation)
            if made is None:
                made = event(
                    request, decision, id=id, now=now, role=self.role, outcome=outcome, generation=generation
                )
            if self._backlog.put(made):
                return _single(id)
        self._backlog.fold(_loss(request, decision, _span(outcome, now)))
        return _single(id)

    def _enter_query(
        self, request: DnsQuery, decision: Decision, detail: str | None, matched: Match | None
    ) -> Repeats:
        """Record a DNS query that is denied or would be; `detail` and `matched` are those of the decision. Where that
        has blanks, `detail` is None, and `matched` is what belongs there.
        """
        client, name, _, _ = request
        alike = None
        if client.user is None and client.certificate is None:  # or a pattern would say the same of others
            alike = self._patterns.blocks(request, decision, detail, matched, self.generation)
        if alike is None or not alike.pattern:
            return self._enter_block(request, with_evidence(decision, matched if detail is None else None), None)
        now, address = self._clock(), self._known(client)
        key = f"{alike.kind}{address}{name}"  # one text: its hash is worked out once
        if (repeats := self._rollup.repeat(key, now)) is not None:
            return repeats
        id = self._next_id()
        line = _make(BlockLine, (alike, address, name, detail, matched, id, now))  # as BlockLine() does, but quicker
        return self._first(key, request, decision, alike.denials, id, now, line)

    def _enter_block(self, request: DnsQuery | DnsAnswer, decision: Decision, outcome: Outcome | None) -> Repeats:
        now, generation = self._clock(), self.generation
        answer = (request.chain, request.addresses) if isinstance(request, DnsAnswer) else ()
        key = kind_of(request, decision, generation), self._known(request.client), request.name, *answer
        if (repeats := self._rollup.repeat(key, now)) is not None:
            return repeats
        id, made = self._next_id(), None
        if not self._backlog.full:
            made = event(request, decision, id=id, now=now, role=self.role, outcome=outcome, generation=generation)
        return self._first(key, request, decision, tuple(denials_of(decision)), id, now, made)

    def _first(
        self,
        key: Hashable,
        request: Request,
        decision: Decision,
        denials: tuple[Denial, ...],
        id: str,
        now: float,
        line: Event | BlockLine | None,
    ) -> Repeats:
        """Have the first of a kind written, and begin to count repeats; without room for it, fold it."""
        self.tally.count(denials)
        if line is None or not self._backlog.put(line):
            self._backlog.fold(_loss(request, decision, Span.one(now)))
            return _single(id)
        repeats = Repeats(id, line, now, denials)
        with self._lock:
            closed = self._rollup.begin(key, repeats)
        if closed is not None:
            self._put_repeats(closed, now)
        return repeats

    def _known(self, client: Client) -> str:
        """Return what is recorded of a client, for keys; if that is the address alone, as it stands in a line."""
        known = self._clients.get(id(client))
        if known is None or known[0] is not client:  # an id is used again once its object is gone
            text = quoted(str(client.address))
            if client.user is not None or client.certificate is not None:
                text = repr((text, client.user, client.certificate))
            known = self._clients.keep(id(client), (client, text))
        return known[1]

    def _count_unreadable(self, decision: Decision, error: Exception) -> str:
        id = self._next_id()
        try:
            span = Span.one(self._clock())
            verdict, reason = decision.verdict.value, decision.reason.value
            loss = Loss(verdict=verdict, enforced=decision.enforced, reason=reason, rule="", client="", span=span)
            self._backlog.fold(loss)
        except Exception as second:
            error = second
        _LOG.error("ledger: decision %s could not be recorded in full: %r", id, error)
        return id

    def _next_id(self) -> str:
        return f"{self._prefix}{next(self._numbers):05x}"

    def _put_repeats(self, repeats: Repeats, now: float) -> None:
        with self._lock:
            self.tally.put_aside(repeats.denials, repeats.count)
        line, span, id = repeats.line, repeats.span, self._next_id()
        if isinstance(line, BlockLine):
            try:
                if not self._backlog.put(line.rolled_up(id=id, now=now, span=span)):
                    self._backlog.fold(_loss_again(json.loads(line.encode()), span))
            except Exception as error:
                self._backlog.fold(line.unreadable(span))
                _LOG.error("ledger: repeats of decision %s could not be recorded in full: %r", line.id, error)
            return
        if not self._backlog.put(rolled_up(line, id=id, now=now, span=span)):
            self._backlog.fold(_loss_again(line, span))

    def _close_windows(self, every: bool) -> bool:
        """Put the repeats whose window is over, or all of them, into the backlog. Called by the writer."""
        now = math.inf if every else self._clock()
        due = True
        while due and not self._backlog.full:
            with self._lock:
                closed = self._rollup.expired(now, _AT_ONCE)
                due = self._rollup.due(now)
            for repeats in closed:
                self._put_repeats(repeats, self._clock())
        return due

    def _describe(self, loss: Loss) -> Event:
        return gap_event(loss, id=self._next_id(), now=self._clock(), role=self.role)


def _single(id: str) -> Repeats:
    """Return the record of what is not rolled up."""
    return Repeats(id, {}, 0.0, open=False)


def _span(outcome: Outcome | None, now: float) -> Span:
    """Return what a record stands for."""
    if outcome is None or outcome.count == 1:
        return Span.one(now)
    return Span(count=outcome.count, first=now - outcome.seconds, last=now)


def _loss(request: Request, decision: Decision, span: Span) -> Loss:
    return Loss(
        verdict=decision.verdict.value,
        enforced=decision.enforced,
        reason=decision.reason.value,
        rule=decision.rule,
        client=str(request.client.address),
        span=span,
    )


def _loss_again(first: Event, span: Span) -> Loss:
    """Return the loss of repeats, from the line of the first."""
    return Loss(
        verdict=str(first["gateway.verdict"]),
        enforced=bool(first["gateway.enforced"]),
        reason=str(first["event.reason"]),
        rule=str(first.get("rule.name", "")),
        client=str(first["source.ip"]),
        span=span,
    )
