"""The corpus of decisions, read: `corpora/decisions.yaml` says what is decided, this says what its words mean.

A row has a policy, a client, what is asked (`ask`, with one stage as its key) and what has to come out. Hosts are
given as text, as a client would send them, and read as the listeners read them, so that the rows can be replayed
through the real listeners: `ask` of kind `dns` as a query, `tunnel` as a CONNECT, `http` with an http:// URL as a
plain request.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from dnslib import QTYPE

from gateway.authority import split_authority
from gateway.config import load
from gateway.decision import Decision, Fact, Point, Reason, Tls, Verdict
from gateway.feeds.snapshot import Snapshot
from gateway.policy import Policy
from gateway.request import (
    Client,
    Dial,
    DnsAnswer,
    DnsQuery,
    Flaw,
    Host,
    HttpRequest,
    HttpResponse,
    Request,
    TlsHello,
    Tunnel,
)
from gateway.rule import ClientGroup
from tests.snapshots import snapshot_of

CORPUS = Path(__file__).parent / "corpora" / "decisions.yaml"

_URL = re.compile(r"([a-z]+)://([^/?#]*)(.*)", re.DOTALL)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class WrittenPolicy:
    """A policy of the corpus: the parts of a policy file that matter for decisions."""

    name: str
    policy: dict[str, Any]
    clients: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    lists: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Categories and entries (written as for `tests.snapshots`) of each list."""

    @property
    def needs_identities(self) -> bool:
        """Whether some group of clients is known by user or certificate."""
        return any(group.keys() - {"addresses"} for group in self.clients.values())

    def document(self, **others: Any) -> dict[str, Any]:
        """Return the policy file, with other top-level keys added. Users and certificates are not in it."""
        groups = {
            name: {"addresses": group.get("addresses", ["0.0.0.0/0", "::/0"])} for name, group in self.clients.items()
        }
        lists = {
            name: {"path": f"{name}.txt", "format": "domains", "categories": item.get("categories", [])}
            for name, item in self.lists.items()
        }
        return {"version": 1, "clients": groups, "lists": lists, "policy": self.policy, **others}

    def write(self, folder: Path, **others: Any) -> Path:
        """Write the policy file, and its lists as empty files: what is on them is in `snapshot`."""
        for name in self.lists:
            (folder / f"{name}.txt").touch()
        path = folder / "policy.yaml"
        path.write_text(yaml.safe_dump(self.document(**others), sort_keys=False), encoding="utf-8")
        return path

    def snapshot(self) -> Snapshot:
        """Return the compiled lists."""
        return snapshot_of({name: (item.get("categories", []), item["entries"]) for name, item in self.lists.items()})

    def compiled(self) -> Policy:
        """Return the policy, read by `gateway.config` like any other."""
        with tempfile.TemporaryDirectory() as folder:
            config = load(self.write(Path(folder)))
        groups = tuple(
            ClientGroup(
                name=group.name,
                addresses=group.addresses if "addresses" in self.clients[group.name] else (),
                users=frozenset(self.clients[group.name].get("users", ())),
                certificates=frozenset(self.clients[group.name].get("certificates", ())),
            )
            for group in config.clients
        )
        default = config.file.policy.default
        return Policy(
            rules=config.rules,
            clients=groups,
            default={Point.DNS: default.dns, Point.PROXY: default.proxy},
            report=config.file.policy.mode == "report",
            lists=self.snapshot(),
        )


@dataclass(frozen=True)
class Expectation:
    """What has to come out. None: not said."""

    verdict: Verdict
    reason: Reason
    rule: str | None
    tls: Tls | None
    pending: frozenset[Fact] | None
    enforced: bool
    matched: dict[str, Any] | None
    technique: list[str] | None
    reported: list[str] | None

    def differences(self, decision: Decision) -> dict[str, tuple[object, object]]:
        """Return what is not as it should be: what is, and what was expected."""
        pairs: dict[str, tuple[object, object]] = {
            "verdict": (decision.verdict, self.verdict),
            "reason": (decision.reason, self.reason),
            "enforced": (decision.enforced, self.enforced),
        }
        if self.rule is not None:
            pairs["rule"] = decision.rule, self.rule
        if self.tls is not None:
            pairs["tls"] = decision.tls, self.tls
        if self.pending is not None:
            pairs["pending"] = frozenset(decision.pending), self.pending
        if self.matched is not None:
            found = decision.matched
            pairs["matched"] = {key: getattr(found, key, None) for key in self.matched}, self.matched
        if self.technique is not None:
            pairs["technique"] = list(decision.technique), self.technique
        if self.reported is not None:
            pairs["reported"] = [item.rule for item in decision.reported], self.reported
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


@dataclass(frozen=True)
class Row:
    """One case."""

    name: str
    written: WrittenPolicy
    client: Client
    kind: str
    """`dns`, `answer`, `tunnel`, `hello`, `http`, `dial` or `response`."""
    ask: Mapping[str, Any]
    expect: Expectation

    def policy(self) -> Policy:
        """Return the compiled policy; rows of one policy share it."""
        return _compiled(self.written.name)

    def request(self) -> Request:
        """Return the request that the listener would make of this."""
        asker = _Asker(self.client)
        request: Request = getattr(asker, self.kind)(dict(self.ask))
        return request


def load_rows() -> list[Row]:
    """Return all rows, in order.

    Raises:
        ValueError: the corpus says something that has no meaning here.
    """
    policies, document = _policies(), _document()
    return [_row(entry, policies) for entry in document["rows"]]


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(CORPUS.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document


@cache
def _policies() -> dict[str, WrittenPolicy]:
    return {name: WrittenPolicy(name, **parts) for name, parts in _document()["policies"].items()}


@cache
def _compiled(name: str) -> Policy:
    return _policies()[name].compiled()


def _row(entry: dict[str, Any], policies: Mapping[str, WrittenPolicy]) -> Row:
    entry = dict(entry)
    name, written = entry.pop("name"), policies[entry.pop("policy")]
    client = entry.pop("client", "10.1.0.5")
    client = {"address": client} if isinstance(client, str) else client
    ((kind, ask),) = entry.pop("ask").items()
    tls, pending = entry.pop("tls", None), entry.pop("pending", None)
    expect = Expectation(
        verdict=Verdict(entry.pop("verdict")),
        reason=Reason(entry.pop("reason")),
        rule=entry.pop("rule", None),
        tls=None if tls is None else Tls(tls),
        pending=None if pending is None else frozenset(Fact(fact) for fact in pending),
        enforced=entry.pop("enforced", True),
        matched=entry.pop("matched", None),
        technique=entry.pop("technique", None),
        reported=entry.pop("reported", None),
    )
    if entry:
        raise ValueError(f"row {name!r} has keys without meaning: {', '.join(entry)}")
    if kind not in ("dns", "answer", "tunnel", "hello", "http", "dial", "response"):
        raise ValueError(f"row {name!r} asks {kind!r}")
    return Row(name, written, Client(**{**client, "address": ip_address(client["address"])}), kind, ask, expect)


class _Asker:
    """Makes requests of what is written, one method a kind of `ask`."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def dns(self, ask: dict[str, Any]) -> DnsQuery:
        name, qtype = _name(ask.pop("name")), _qtype(ask.pop("type", "A"))
        _nothing_left(ask)
        return DnsQuery(client=self.client, name=name, qtype=qtype)

    def answer(self, ask: dict[str, Any]) -> DnsAnswer:
        name, qtype = _name(ask.pop("name")), _qtype(ask.pop("type", "A"))
        chain = tuple(_name(target) for target in ask.pop("chain", ()))
        addresses = tuple(ip_address(text) for text in ask.pop("addresses", ()))
        trusted = ask.pop("trusted", False)
        _nothing_left(ask)
        return DnsAnswer(
            client=self.client, name=name, qtype=qtype, chain=chain, addresses=addresses, trusted=trusted
        )

    def tunnel(self, ask: dict[str, Any]) -> Tunnel:
        text, port = ask.pop("host"), ask.pop("port", 443)
        user_agent = ask.pop("user_agent", "")
        _nothing_left(ask)
        host, port, flaw = _host_and_port(f"{text}:{port}", None)
        return Tunnel(client=self.client, host=host, port=port, user_agent=user_agent, flaw=flaw)

    def hello(self, ask: dict[str, Any]) -> TlsHello:
        tunnel = self.tunnel({key: ask.pop(key) for key in ("host", "port", "user_agent") if key in ask})
        names = ask.pop("sni", tunnel.host if isinstance(tunnel.host, str) else None)
        names = () if names is None else (names,) if isinstance(names, str) else tuple(names)
        flaw, alpn = ask.pop("flaw", None), tuple(ask.pop("alpn", ("h2", "http/1.1")))
        hello = TlsHello(
            tunnel=tunnel,
            server_names=names,
            alpn=alpn,
            ech=ask.pop("ech", False),
            ja4=ask.pop("ja4", ""),
            tool=ask.pop("tool", ""),
            flaw=Flaw(Reason(flaw), "said by the reader") if flaw else None,
        )
        _nothing_left(ask)
        return hello

    def http(self, ask: dict[str, Any]) -> HttpRequest:
        matched = _URL.fullmatch(ask.pop("url"))
        assert matched is not None
        scheme, authority, path = matched.groups()
        host, port, flaw = _host_and_port(authority, _DEFAULT_PORTS[scheme])
        user_agent = ask.pop("user_agent", "")
        given = ask.pop("headers", {})
        pairs = given.items() if isinstance(given, dict) else [tuple(pair) for pair in given]
        headers = [(name.lower(), value) for name, value in pairs]
        if user_agent:
            headers.append(("user-agent", user_agent))
        hello = None
        if scheme == "https":
            inside = ask.pop("hello", {})
            destination = {"host": re.sub(r":\d+$", "", authority), "port": port}
            hello = self.hello({**destination, **inside})
        request = HttpRequest(
            client=self.client,
            host=host,
            port=port,
            scheme=ask.pop("scheme", scheme),
            method=ask.pop("method", "GET"),
            path=path or "/",
            authorities=tuple(ask.pop("authorities", (authority,))),
            headers=tuple(headers),
            user_agent=user_agent,
            body_length=ask.pop("body_length", 0),
            hello=hello,
            flaw=flaw,
        )
        _nothing_left(ask)
        return request

    def dial(self, ask: dict[str, Any]) -> Dial:
        address = ip_address(ask.pop("address"))
        chain = tuple(_name(target) for target in ask.pop("chain", ()))
        origin = self.http(ask) if "url" in ask else self.hello(ask)
        return Dial(origin=origin, address=address, chain=chain)

    def response(self, ask: dict[str, Any]) -> HttpResponse:
        types, files = ask.pop("types", ()), ask.pop("files", None)
        content = ask.pop("content", True)
        return HttpResponse(
            dial=self.dial({"address": "93.184.215.14", **ask}),
            content=content,
            media_types=tuple(types),
            file_types=None if files is None else frozenset(files),
        )


def _name(text: str) -> str:
    return text.lower().removesuffix(".")


def _qtype(text: str) -> int:
    return int(text.removeprefix("TYPE")) if text.startswith("TYPE") else int(QTYPE.reverse[text])


def _host_and_port(text: str, default: int | None) -> tuple[Host, int, Flaw | None]:
    try:
        host, port = split_authority(text, default)
    except ValueError as error:
        return text, default or 443, Flaw(Reason.MALFORMED, str(error))
    return host, port, None


def _nothing_left(ask: dict[str, Any]) -> None:
    if ask:
        raise ValueError(f"what is asked has keys without meaning: {', '.join(ask)}")
