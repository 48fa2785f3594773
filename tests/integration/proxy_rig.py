"""A proxy in the test's own event loop, with a policy, a name table and a ledger that the test can look into."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gateway.addresses import IPAddress
from gateway.decision import Decision, Reason, Verdict
from gateway.dns.forwarder import Resolution, ResolutionError
from gateway.htpasswd import Accounts
from gateway.ledger import Outcome
from gateway.policy import Policy
from gateway.proxy.server import Proxy
from gateway.proxy.tls import TlsFiles
from gateway.proxysection import ProxySection
from gateway.request import Client, Request
from gateway.rule import ClientGroup, HttpConditions, Rule
from tests.builders import an_address, networks

LOOPBACK = networks("127.0.0.0/8")
ANY_PORT = ((1, 65535),)


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the ledger."""

    request: Request
    decision: Decision
    outcome: Outcome | None


@dataclass(slots=True)
class Records:
    """A ledger in memory."""

    lines: list[Line] = field(default_factory=list)

    def record(self, request: Request, decision: Decision, outcome: Outcome | None = None) -> str:
        """Keep an entry."""
        self.lines.append(Line(request, decision, outcome))
        return f"id-{len(self.lines)}"

    @property
    def denials(self) -> list[Reason]:
        """The reasons of everything denied."""
        return [line.decision.reason for line in self.lines if line.decision.denied]

    @property
    def ended(self) -> list[Line]:
        """What was allowed, and has ended."""
        return [line for line in self.lines if line.outcome is not None]


@dataclass(slots=True)
class Bench:
    """Decides by a policy, and records."""

    policy: Policy
    ledger: Records = field(default_factory=Records)
    generation: int = 1

    def decide(self, request: Request) -> Decision:
        """Return the verdict."""
        return self.policy.decide(request)

    def judge(self, request: Request) -> tuple[Decision, str]:
        """Decide and record."""
        decision = self.decide(request)
        if decision.denied or not decision.enforced or decision.reported:
            return decision, self.ledger.record(request, decision)
        return decision, ""


@dataclass(slots=True)
class Names:
    """A resolver that knows a few names, and remembers what it was asked for."""

    table: Mapping[str, tuple[IPAddress, ...]]
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], Any] | None = None
    """Called at every look-up; what it returns is awaited."""
    remembers: ClassVar[bool] = False
    """Whether it tells at once, as the gateway's resolver does what it was asked a second ago."""

    def recall(self, host: str, client: Client) -> Resolution | None:
        """Return what is known of a name."""
        if not self.remembers or self.before is not None or host not in self.table:
            return None
        self.asked.append(host)
        return Resolution(self.table[host])

    async def lookup(self, host: str, client: Client | None = None) -> Resolution:
        """Look a name up."""
        self.asked.append(host)
        if self.before is not None and (waiting := self.before(host)) is not None:
            await waiting
        if host not in self.table:
            raise ResolutionError(f"{host} does not exist")
        return Resolution(self.table[host])


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Rig:
    """A running proxy and everything around it."""

    proxy: Proxy
    judge: Bench
    names: Names
    port: int

    @property
    def ledger(self) -> Records:
        """What was recorded."""
        return self.judge.ledger

    async def curl(self, *arguments: str) -> Ran:
        """Run curl through the proxy."""
        return await run("curl", "-sS", "--max-time", "20", "-x", f"http://127.0.0.1:{self.port}", *arguments)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the proxy."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, data: bytes) -> bytes:
        """Send octets, and return everything that comes until the proxy closes."""
        reader, writer = await self.connect()
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 20)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def tunnel(self, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a tunnel: read the answer up to its end."""
        reader, writer = await self.connect()
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return reader, writer

    async def in_tunnel(self, target: str, data: bytes) -> bytes:
        """Send octets through a tunnel, and return everything that comes back until it closes."""
        reader, writer = await self.tunnel(target)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def settled(self) -> None:
        """Wait until every connection is gone, and its end recorded."""
        await until(lambda: not self.proxy.open_connections)


async def run(*command: str, seconds: float = 40, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await asyncio.wait_for(process.communicate(), seconds)
    return Ran(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- the conditions are other people's state
            await asyncio.sleep(0.005)


def allow(*names: str, **changes: Any) -> Rule:
    """Return a rule that allows names at loopback addresses, on any port."""
    given: dict[str, Any] = {"name": "allowed", "addresses": LOOPBACK, "ports": ANY_PORT, "domains": names, **changes}
    return Rule(action=Verdict.ALLOW, **given)


def inspect(*names: str, **conditions: Any) -> Rule:
    """Return a rule that allows some requests to names at loopback addresses, and so has to see them."""
    return allow(*names, name="inspected", http=HttpConditions(**(conditions or {"paths": ("/**",)})))


@contextlib.asynccontextmanager
async def a_proxy(
    folder: Path,
    *rules: Rule,
    names: Mapping[str, str | Iterable[str]] | None = None,
    trust: Path | None = None,
    section: Mapping[str, Any] | None = None,
    judge: Bench | None = None,
    grace: float = 0.2,
    clients: Iterable[ClientGroup] = (),
    accounts: Callable[[], Accounts | None] = lambda: None,
    tls: TlsFiles | None = None,
) -> AsyncIterator[Rig]:
    """Run a proxy. `names` maps names to addresses; names under `.test` that rules allow are at 127.0.0.1."""
    table: dict[str, tuple[IPAddress, ...]] = {
        name: (an_address("127.0.0.1"),) for rule in rules for name in rule.domains if rule.action is Verdict.ALLOW
    }
    for name, found in (names or {}).items():
        table[name] = tuple(an_address(each) for each in ([found] if isinstance(found, str) else found))
    resolver = Names(table)
    bench = judge or Bench(Policy(rules=rules, clients=clients))
    settings = ProxySection.model_validate({"listen": ["127.0.0.1:0"], **(section or {})})
    proxy = Proxy(
        bench,
        lambda: settings,
        resolver,
        folder=folder / "ca",
        trust=trust,
        tick=0.02,
        grace=grace,
        accounts=accounts,
        tls=tls,
    )
    await proxy.start()
    try:
        yield Rig(proxy, bench, resolver, proxy.addresses[0][1])
    finally:
        await proxy.stop()


def client_context(trust: Path, *, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return the TLS settings of a client that trusts one certificate."""
    context = ssl.create_default_context(cafile=str(trust))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
