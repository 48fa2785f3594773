"""Who asks: from what a request carries to a proven identity.

Checking a password is slow by design: it is done in threads, a few at a time, and what came of it is remembered under
a keyed hash, so that no reader of a timing learns a password, and none is kept for this. (Short request heads are, as
they were sent: `gateway.proxy.head`.) Guessing is slowed down: each source has a few tries, which it earns back with
time. The same wrong guess again costs no try: a program that was not told of a new password must not lock its whole
network out.
"""

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from gateway.addresses import IPAddress
from gateway.decision import Reason
from gateway.htpasswd import Accounts, matches
from gateway.proxy.credentials import Credentials, read_credentials
from gateway.request import Client, Flaw

_THREADS = 2
_AT_ONCE = 64
"""Checks that may wait for a thread; more are turned away, not queued for minutes."""
_REMEMBERED = 8192
"""Outcomes kept, of each kind: about 1.5 MB."""
_GOOD_SECONDS = 300.0
_BAD_SECONDS = 60.0
_TRIES = 10
_SECONDS_PER_TRY = 5.0
_SOURCES = 16384

_WRONG = Flaw(Reason.AUTH_FAILED, "wrong user name or password")
_MISSING = Flaw(Reason.AUTH_REQUIRED, "user name and password are needed")
_BUSY = Flaw(Reason.RATE_LIMIT, "too many passwords are being checked")


class Tries:
    """A bucket of tries for each source (GCRA). Bounded: two generations, who is forgotten begins with all tries."""

    def __init__(self, tries: int = _TRIES, seconds: float = _SECONDS_PER_TRY, sources: int = _SOURCES) -> None:
        self._interval = seconds
        self._tolerance = tries * seconds
        self._room = sources
        self._young: dict[int, float] = {}
        self._old: dict[int, float] = {}

    def take(self, source: int, now: float) -> bool:
        """Take a try; False when there is none left."""
        if source not in self._young:
            if len(self._young) >= self._room:
                self._old, self._young = self._young, {}
            self._young[source] = self._old.pop(source, 0.0)
        paid = max(self._young[source], now) + self._interval
        if paid - now > self._tolerance + 1e-9:
            return False
        self._young[source] = paid
        return True

    def give_back(self, source: int) -> None:
        """Return a try that turned out to be no guess."""
        if source in self._young:
            self._young[source] -= self._interval


class Memory:
    """Outcomes for some time, the oldest forgotten first."""

    def __init__(self, seconds: float, entries: int = _REMEMBERED) -> None:
        self._seconds = seconds
        self._entries = entries
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def holds(self, seal: bytes, now: float) -> bool:
        """Say whether this was remembered, and is not too old."""
        until = self._until.get(seal)
        return until is not None and now < until

    def __len__(self) -> int:
        return len(self._until)

    def add(self, seal: bytes, now: float) -> None:
        """Remember."""
        self._until[seal] = now + self._seconds
        self._until.move_to_end(seal)
        if len(self._until) > self._entries:
            self._until.popitem(last=False)


class Authenticator:
    """Proves users by the accounts in force. `accounts` is asked anew each time; None: there are none to prove."""

    def __init__(self, accounts: Callable[[], Accounts | None], clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._key = os.urandom(32)
        self._good = Memory(_GOOD_SECONDS)
        self._bad = Memory(_BAD_SECONDS)
        self._tries = Tries()
        self._checking: dict[bytes, asyncio.Future[bool]] = {}
        self._threads: ThreadPoolExecutor | None = None

    @property
    def wanted(self) -> bool:
        """Whether requests can prove anything at all."""
        return self._accounts() is not None

    def standing(self, client: Client) -> str | None:
        """Return what a client's identity rests on now: it changes with the password, and with whether one is due."""
        accounts = self._accounts()
        if accounts is None:
            return None
        if client.user is None:
            return _MISSING.detail if accounts.required else None
        return accounts.hashes.get(client.user)

    def doubt(self, client: Client, before: str | None) -> Flaw | None:
        """Return why a client that was let in is no longer who it was, or None. `before`: its standing then."""
        now = self.standing(client)
        if now == before and (client.user is None or now is not None):
            return None
        if client.user is None:
            return _MISSING
        return Flaw(Reason.AUTH_FAILED, f"the account of {client.user!r} was removed or has another password")

    def recall(self, client: Client, values: Sequence[str]) -> Client | Flaw | None:
        """Return who a client is by its Proxy-Authorization, or why not; None when that takes a check."""
        found = self._recall(client, values)
        return None if isinstance(found, _Question) else found

    async def prove(self, client: Client, values: Sequence[str]) -> Client | Flaw:
        """Return who a client is by its Proxy-Authorization, or why not."""
        found = self._recall(client, values)
        if not isinstance(found, _Question):
            return found
        checking = self._checking.get(found.seal)
        if checking is None:
            source = _source(client.address)
            if len(self._checking) >= _AT_ONCE:
                return _BUSY
            if not self._tries.take(source, self._clock()):
                return Flaw(Reason.RATE_LIMIT, f"too many failed log-ins from {client.address}")
            checking = self._check(found, source)
        # Others may wait for the same check, and its outcome is remembered: who leaves does not end it.
        if not await asyncio.shield(checking):
            return _WRONG
        proven = replace(client, user=found.credentials.user)
        return self.doubt(proven, found.stored) or proven

    def close(self) -> None:
        """Check no more."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _recall(self, client: Client, values: Sequence[str]) -> "Client | Flaw | _Question":
        accounts = self._accounts()
        if accounts is None:
            return client
        if not values:
            return _MISSING if accounts.required else client
        try:
            credentials = read_credentials(values)
        except ValueError as error:
            return Flaw(Reason.AUTH_FAILED, str(error))
        stored = accounts.hashes.get(credentials.user)
        # The stored hash is part of it: a password that was changed, or an account that was removed, is forgotten.
        sealed = f"{credentials.user}\0{stored or ''}\0".encode() + credentials.password
        seal = hashlib.blake2b(sealed, key=self._key, digest_size=32).digest()
        now = self._clock()
        if self._good.holds(seal, now):
            return replace(client, user=credentials.user)
        if self._bad.holds(seal, now):
            return _WRONG
        return _Question(credentials, seal, stored, stored or accounts.decoy)

    def _check(self, question: "_Question", source: int) -> asyncio.Future[bool]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")
        loop = asyncio.get_running_loop()
        checking = loop.run_in_executor(self._threads, _verify, question)
        self._checking[question.seal] = checking
        checking.add_done_callback(partial(self._learn, question.seal, source))
        return checking

    def _learn(self, seal: bytes, source: int, checking: asyncio.Future[bool]) -> None:
        del self._checking[seal]
        if checking.cancelled() or checking.exception() is not None:  # whoever waits for it hears of that
            return
        if checking.result():
            self._tries.give_back(source)
            self._good.add(seal, self._clock())
        else:
            self._bad.add(seal, self._clock())


class _Question:
    """A password to check."""

    __slots__ = ("against", "credentials", "seal", "stored")

    def __init__(self, credentials: Credentials, seal: bytes, stored: str | None, against: str) -> None:
        self.credentials = credentials
        self.seal = seal
        self.stored = stored
        """None of a user who does not exist."""
        self.against = against


def _verify(question: _Question) -> bool:
    """Check a password; of a user who does not exist too, which then is wrong whatever it is."""
    return matches(question.against, question.credentials.password) and question.stored is not None


def status_of(flaw: Flaw) -> int | None:
    """Return the HTTP status for what could not be proven: too many tries are no request for another one."""
    return 429 if flaw.reason is Reason.RATE_LIMIT else None


def _source(address: IPAddress) -> int:
    """Return what shares tries: an address, or the /64 of an IPv6 one, which is one host's to choose from."""
    return int(address) if address.version == 4 else int(address) >> 64 | 1 << 64
