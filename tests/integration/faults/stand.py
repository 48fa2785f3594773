"""A gateway to break: the real runtime, resolver, ledger and proxy on the event loop of the product, and origins."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import bcrypt
from cryptography import x509

from addons.pinning import pin_of
from gateway.dns.resolver import Resolver
from gateway.ledger import Ledger
from gateway.proxy import asked, dial
from gateway.proxy.server import Proxy
from gateway.proxy.tls import TlsFiles
from gateway.proxysection import ProxySection, ProxyTimeouts
from gateway.runtime import Runtime, State, load_state
from tests.peers.certificates import Authority
from tests.peers.http_origin import Origin
from tests.peers.parent import Parent
from tests.peers.tls_origin import TlsOrigin, make_certificate

HELLO = b"hello from the origin\n"
USERS = [f"u{number}" for number in range(2000)]
"""Enough for each fault to meet somebody whose password was not checked before."""
NAMES = (
    "good.test", "two.test", "seen.test", "capped.test", "looked.test", "users.test", "login.microsoftonline.com",
    "going.test", "tiny.test", "pinned.test", "other.test", "limited.test", "ours.test", "split.test",
)  # fmt: skip
POLICY = """\
version: 1
state_dir: ./state
clients:
  batch: {{users: [{users}]}}
proxy:
  listen: ["127.0.0.1:3128"]
  auth: {{htpasswd: {htpasswd}}}
  timeouts: {{head: 600ms, hello: 600ms, connect: 2s, idle: 1s, lifetime: 3s}}
  tenants: {{microsoft: {{tenants: [acme.example], context: 456ff232-3512-5823-b3b3-3236a0826f3d}}}}
dns:
  records:
    good.test: [127.0.0.1]
    two.test: [127.0.0.1, 127.0.0.3]
    seen.test: [127.0.0.1]
    capped.test: [127.0.0.1]
    looked.test: [127.0.0.1]
    users.test: [127.0.0.1]
    going.test: [127.0.0.1]
    login.microsoftonline.com: [127.0.0.1]
    tiny.test: [127.0.0.1]
    pinned.test: [127.0.0.1]
    other.test: [127.0.0.1]
    limited.test: [127.0.0.1]
    ours.test: [127.0.0.1]
    split.test: [127.0.0.1, 127.0.0.3]
    inside.test: [10.0.0.1]
    nowhere.test: [{{txt: no address}}]
    evil.test: [127.0.0.2]
policy:
  rules:
    - name: no-curl
      action: deny
      tools: [curl]
    - name: no-files
      action: deny
      to: {{domains: [looked.test]}}
      http: {{file_types: [executable]}}
    - name: capped
      action: allow
      to: {{domains: [capped.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
      upload: 100000B/1h
    - name: tiny
      action: allow
      to: {{domains: [tiny.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
      upload: 400B/1h
    - name: inside
      action: allow
      to: {{domains: [inside.test, nowhere.test], ports: [1-65535]}}
    - name: seen
      action: allow
      to: {{domains: [seen.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
      http: {{methods: [GET, HEAD, POST]}}
    - name: users
      action: allow
      clients: [batch]
      to: {{domains: [users.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
    - name: ours
      action: allow
      clients: [batch]
      to: {{domains: [ours.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
      tls: inspect
    - name: pinned
      action: allow
      to: {{domains: [pinned.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
      pins: ['pin-sha256="{pin}"']
    - name: other
      action: allow
      to: {{domains: [other.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
      pins: ['pin-sha256="{other}"']
    - name: limited
      action: allow
      to: {{domains: [limited.test], addresses: [127.0.0.0/8], ports: [1-65535]}}
      http: {{max_response: 60B}}
    - name: here
      action: allow
      to: {{domains: [split.test], addresses: [127.0.0.1/32], ports: [1-65535]}}
      http: {{paths: [/here]}}
    - name: there
      action: allow
      to: {{domains: [split.test], addresses: [127.0.0.3/32], ports: [1-65535]}}
      http: {{paths: [/there]}}
{going}
    - name: good
      action: allow
      to:
        domains: [good.test, two.test, looked.test, login.microsoftonline.com]
        addresses: [127.0.0.0/8]
        ports: [1-65535]
"""
HASTE = ProxyTimeouts.model_validate(
    dict.fromkeys(("head", "hello", "connect", "idle"), "300ms") | {"lifetime": "2s"}
)
"""Limits for what will not answer anyway."""
GOING = """\
    - name: going
      action: allow
      to: {domains: [going.test], addresses: [127.0.0.0/8], ports: [1-65535]}
"""


class Talking(Origin):
    """An origin that also speaks WebSocket."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client ends."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.octets += len(head)
            self.requests.append(head)
            if b"X-Test: hang up" in head:
                return
            if b"X-Test: strange" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 22\r\n\r\n" + HELLO)
                return
            if b"X-Test: chunked" in head:
                writer.write(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n" + HELLO + b"\r\n0\r\n\r\n"
                )
                continue
            if b"upgrade: websocket" in head.lower():
                await self._echo(reader, writer)
                return
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = await reader.readexactly(length)
            self.octets += len(body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body) + self.body)
            await writer.drain()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        while data := await reader.read(65536):
            self.octets += len(data)
            writer.write(b"\x88\x00" if data[0] & 0x0F == 8 else b"\x81\x16" + HELLO)
            await writer.drain()


@dataclass(slots=True)
class Stand:
    """Everything that a scenario needs."""

    runtime: Runtime
    proxy: Proxy
    doors: Proxy
    """Behind a TLS listener with client certificates (first) and one for load balancers (second)."""
    chained: Proxy
    """Goes through a parent."""
    resolver: Resolver
    good: Origin
    secure: TlsOrigin
    evil: Origin
    folder: Path
    origin_certificate: Path
    client_certificate: Path
    states: tuple[State, ...]
    """In force; without the rule `going`; with one that looks inside; with other passwords."""
    limits: Callable[[bool], None]
    """Makes all limits short, or as they were."""
    users: Iterator[int] = field(default_factory=count)
    _read: int = 0

    @property
    def port(self) -> int:
        """Of the plain listener."""
        return self.proxy.addresses[0][1]

    def context(self, *, seen: bool = False, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """Return the TLS settings of a client that trusts the origin, or the gateway's CA."""
        trust = self.proxy.certificate if seen else self.origin_certificate
        context = ssl.create_default_context(cafile=str(trust))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def lines(self, seconds: float = 10) -> list[dict[str, Any]]:
        """Return the lines of the ledger since the last time, decisions alone. Zero seconds: it cannot be written."""
        assert self.runtime.ledger.flush(seconds) or not seconds
        (path,) = (self.folder / "state/ledger").glob("proxy-0.jsonl")
        with path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        return [line for line in map(json.loads, data.splitlines()) if "gateway.verdict" in line]

    def forget(self) -> None:
        """Forget what was decided: it would not be decided again."""
        for state in self.states:
            policy = state.policy
            memories = (policy._known, policy._same, policy._queries, policy._answers, policy._names)
            for memory in (*memories, policy._walk._allowed):
                memory.clear()
        for proxy in (self.proxy, self.doors, self.chained):
            proxy._desk.dialer._known.clear()
        dial._texts.clear()
        asked._tunnels.clear()
        asked._hellos.clear()
        self.resolver._resolved.clear()

    @property
    def open_connections(self) -> int:
        """Of all listeners."""
        return self.proxy.open_connections + self.doors.open_connections + self.chained.open_connections

    async def forgive(self) -> None:
        """Forget connections that were never counted out, and end them: they must have no lines later."""
        for proxy in (self.proxy, self.doors, self.chained):
            for alive in tuple(proxy._sweeper.alive):
                alive.abort()
            proxy._sweeper.alive.clear()
            proxy._desk.per_client.clear()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def a_stand(folder: Path) -> AsyncIterator[Stand]:
    """Run all of it."""
    certificate = make_certificate(folder / "origin.pem", *NAMES)
    server = make_certificate(folder / "server.pem", "127.0.0.1")
    authority = Authority(folder)
    shown = authority.issue("batch", "Example")
    for file, password in (("htpasswd", b"secret"), ("changed", b"another")):
        known = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
        (folder / file).write_text("".join(f"{user}:{known}\n" for user in USERS))
    pin = pin_of(x509.load_pem_x509_certificate(certificate.read_bytes()))
    other = pin_of(x509.load_pem_x509_certificate(server.read_bytes()))
    states = []
    policies = (
        (GOING, "htpasswd"),
        ("", "htpasswd"),
        (GOING + "      tls: inspect\n", "htpasswd"),
        (GOING, "changed"),
    )
    for number, (going, htpasswd) in enumerate(policies):
        path = folder / f"policy-{number}.yaml"
        path.write_text(POLICY.format(going=going, htpasswd=htpasswd, users=", ".join(USERS), pin=pin, other=other))
        states.append(load_state(path, number + 1))
    state = states[0]
    with contextlib.ExitStack() as stack:
        ledger = Ledger(state.config.state_dir / "ledger", role="proxy", worker=0, clock=time.time)
        stack.callback(ledger.close)
        runtime = Runtime(state, ledger)
        resolver = Resolver.from_runtime(runtime)
        section = state.config.file.proxy.model_copy(update={"listen": ("127.0.0.1:0",)})
        async with (
            Talking() as good,
            TlsOrigin(certificate=certificate) as secure,
            Origin(host="127.0.0.2") as evil,
            Parent() as parent,
        ):
            hurry = [False]

            def limits(short: bool) -> None:
                hurry[0] = short

            balanced = type(section).model_validate(
                {
                    **section.model_dump(exclude={"listen", "auth", "tenants", "proxy_protocol_from", "timeouts"}),
                    "timeouts": section.timeouts,
                    "listen": ["127.0.0.1:0", "tls://127.0.0.1:0"],
                    "proxy_protocol_from": ["127.0.0.9/32"],
                }
            )
            through = section.model_copy(update={"parent": parent.url})

            def made(index: int, patient: ProxySection, tls: TlsFiles | None = None) -> Proxy:
                hasty = patient.model_copy(update={"timeouts": HASTE})
                return Proxy(
                    runtime,
                    lambda: hasty if hurry[0] else patient,
                    resolver,
                    folder=folder / "ca",
                    trust=certificate,
                    tick=0.02,
                    grace=0.2,
                    uploads=folder / f"uploads-{index}.bin",
                    accounts=lambda: runtime.state.config.accounts,
                    tls=tls,
                )

            files = TlsFiles(server, server, authority.file)
            proxies = made(0, section), made(1, balanced, files), made(2, through)
            for proxy in proxies:
                await proxy.start()
            try:
                yield Stand(
                    runtime, *proxies, resolver, good, secure, evil, folder, certificate, shown, tuple(states), limits
                )
            finally:
                for proxy in proxies:
                    await proxy.stop()
                await resolver.close()
