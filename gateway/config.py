"""From the policy file to a validated configuration, and from that to a policy.

Reports every problem at once, each with file, line and path. What a value may look like is in `gateway.schema`; here
is what values mean together: unknown names, contradictions, rules that can never match.
"""

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from gateway.addresses import IPAddress
from gateway.decision import Point, Tls, Verdict
from gateway.dnssection import RpzZoneSection
from gateway.document import ConfigError, Document, Location, Problem, read_document, validate
from gateway.domainset import Lists
from gateway.feeds.catalog import Feed, load_catalog
from gateway.filetypes import formats_of
from gateway.htpasswd import Accounts, parse_htpasswd
from gateway.policy import Policy
from gateway.rule import WEBDAV, ClientGroup, HttpConditions, Rule
from gateway.schema import HttpSection, PolicyFile, RuleSection
from gateway.section import split_listener
from gateway.shadowing import shadowed
from gateway.tsigkey import Key, parse_keys

EXIT_CONFIG = 2
"""Exit code of a process that could not start because of its configuration or its ports."""


@dataclass(frozen=True, slots=True)
class RpzZone:
    """A zone for other resolvers, and the keys that they have to have."""

    section: RpzZoneSection
    keys: Mapping[str, Key] = field(default_factory=dict, repr=False)

    def holds(self, name: str, feed: Feed) -> bool:
        """Say whether a list is in the zone."""
        wanted = self.section
        if not (wanted.lists or wanted.categories):
            return True
        return name in wanted.lists or not set(wanted.categories).isdisjoint(feed.categories)


_ENCRYPTED = ("tls://", "https://")


@dataclass(frozen=True, slots=True)
class Config:
    """A policy file that was found good."""

    path: Path
    file: PolicyFile
    feeds: dict[str, Feed] = field(repr=False)
    """Feeds of all catalogues and local lists, by name; their paths are absolute."""
    rules: tuple[Rule, ...] = ()
    clients: tuple[ClientGroup, ...] = ()
    rpz_zones: Mapping[str, RpzZone] = field(default_factory=dict, repr=False)
    """Zones for other resolvers."""
    warnings: tuple[Problem, ...] = ()
    upstream_ca: str = field(default="", repr=False)
    """What `dns.upstream_ca` holds: the text and not the place, so that another content is another configuration."""
    accounts: Accounts | None = field(default=None, repr=False)
    """Users of the proxy; None without `proxy.auth`."""

    @property
    def state_dir(self) -> Path:
        """Where snapshot, feeds, ledger and CA are kept."""
        return self.path.parent / self.file.state_dir

    @property
    def ca_bundle(self) -> Path | None:
        """The authorities that origins are verified with; None for the public ones."""
        name = self.file.proxy.ca_bundle
        return self.path.parent / name if name is not None else None

    @property
    def control_places(self) -> tuple[tuple[IPAddress, int], ...]:
        """Where health and metrics are answered, if anywhere."""
        return tuple(split_listener(place) for place in self.control_listen)

    @property
    def control_listen(self) -> tuple[str, ...]:
        """The same, as it is written."""
        return () if self.file.control is None else self.file.control.listen

    @property
    def dns_certificate(self) -> tuple[Path, Path] | None:
        """Certificate and key of the resolver's encrypted listeners; None when it has none of those."""
        section = self.file.dns.certificate
        if section is None or not any(place.startswith(_ENCRYPTED) for place in self.file.dns.listen):
            return None
        return self.path.parent / section.cert, self.path.parent / section.key

    @property
    def proxy_tls(self) -> tuple[Path, Path, Path | None] | None:
        """Certificate, key and client authorities of the proxy's TLS listeners; None when it has none of those."""
        proxy = self.file.proxy
        if proxy.certificate is None or not any(place.startswith("tls://") for place in proxy.listen):
            return None
        folder = self.path.parent
        authorities = None if proxy.client_ca is None else folder / proxy.client_ca
        return folder / proxy.certificate.cert, folder / proxy.certificate.key, authorities

    @property
    def active_feeds(self) -> dict[str, Feed]:
        """Feeds and lists that are enabled."""
        return {name: feed for name, feed in self.feeds.items() if feed.enabled}

    @property
    def snapshot_path(self) -> Path:
        """The compiled lists."""
        return self.state_dir / "snapshot.egs"

    @property
    def ledger_folder(self) -> Path:
        """The ledger's files."""
        return self.state_dir / "ledger"

    def policy(self, lists: Lists | None) -> Policy:
        """Compile the rules, bound to a snapshot of the lists."""
        default = self.file.policy.default
        return Policy(
            rules=self.rules,
            clients=self.clients,
            default={Point.DNS: default.dns, Point.PROXY: default.proxy},
            report=self.file.policy.mode == "report",
            lists=lists,
            inspected=tenants.restrictions.patterns if (tenants := self.file.proxy.tenants) is not None else (),
        )

    def preceded_by(self, section: RuleSection) -> "Config":
        """Return this configuration with another rule before all others."""
        return replace(self, rules=(_rule(section), *self.rules))


def load(path: Path) -> Config:
    """Read and check a policy file.

    Raises:
        ConfigError: with everything that is wrong with it and with the catalogues that it names.
    """
    document = read_document(path)
    if not isinstance(document.data, dict):
        raise ConfigError([document.problem((), "is empty or no mapping; it begins with 'version: 1'")])
    file = validate(PolicyFile, document)
    feeds, problems = _load_feeds(document, file, path.resolve().parent)
    problems += _check_rules(document, file, feeds)
    problems += _check_listeners(document, file)
    accounts, found, warnings = _load_accounts(document, file, path.resolve().parent)
    problems += found
    upstream_ca, unreadable = _read_authorities(document, file, path.resolve().parent)
    zones, unknown = _load_zones(document, file, feeds, path.resolve().parent)
    problems += unreadable + unknown
    problems += _check_ca_bundle(document, file, path.resolve().parent)
    if problems:
        raise ConfigError(problems)
    rules = tuple(_rule(section) for section in file.policy.rules)
    clients = tuple(
        ClientGroup(
            name=name,
            addresses=group.addresses,
            users=frozenset(group.users),
            certificates=frozenset(group.certificates),
        )
        for name, group in file.clients.items()
    )
    warnings += _check_shadowed(document, rules, clients)
    return Config(path.resolve(), file, feeds, rules, clients, zones, tuple(warnings), upstream_ca, accounts)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the policy file, from the models that check it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **TypeAdapter(PolicyFile).json_schema(),
        "title": "Egress gateway policy",
    }


def _load_feeds(document: Document, file: PolicyFile, folder: Path) -> tuple[dict[str, Feed], list[Problem]]:
    feeds: dict[str, Feed] = {}
    problems: list[Problem] = []
    for position, name in enumerate(file.feeds):
        catalogue = folder / name
        try:
            found = load_catalog(catalogue)
        except ConfigError as error:
            unreadable = len(error.problems) == 1 and not error.problems[0].path
            problems += (
                [document.problem(("feeds", position), error.problems[0].message)] if unreadable else error.problems
            )
            continue
        for feed_name, feed in found.items():
            if feed_name in feeds:
                problems.append(document.problem(("feeds", position), f"feed {feed_name!r} is in two catalogues"))
            feeds[feed_name] = feed
    for name, feed in file.lists.items():
        if name in feeds:
            where: Location = ("lists", name)
            problems.append(
                document.problem(where, "a feed of this name is in a catalogue; give the list another name")
            )
        feeds[name] = feed.located(folder)
    return feeds, problems


def _load_zones(
    document: Document, file: PolicyFile, feeds: dict[str, Feed], folder: Path
) -> tuple[dict[str, RpzZone], list[Problem]]:
    zones: dict[str, RpzZone] = {}
    problems: list[Problem] = []
    active = {name: feed for name, feed in feeds.items() if feed.enabled and not feed.never_block}
    categories = {category for feed in active.values() for category in feed.categories}
    for name, section in file.dns.rpz_zones.items():
        where: Location = ("dns", "rpz_zones", name)
        for key, given, known in (
            ("categories", section.categories, categories),
            ("lists", section.lists, set(active)),
        ):
            problems += [
                document.problem((*where, key), f"no enabled list has {unknown!r}; {_known(known)}")
                for unknown in sorted(set(given) - known)
            ]
        keys: Mapping[str, Key] = {}
        if section.key is not None:
            try:
                keys = parse_keys((folder / section.key).read_text(encoding="ascii", errors="replace"))
            except OSError as error:
                problems.append(document.problem((*where, "key"), f"cannot be read: {error.strerror or error}"))
            except ValueError as error:
                problems.append(document.problem((*where, "key"), str(error)))
        zones[name] = RpzZone(section, keys)
    return zones, problems


def _check_ca_bundle(document: Document, file: PolicyFile, folder: Path) -> list[Problem]:
    """A bundle that cannot be read would leave every inspected tunnel without an origin, or with any."""
    name = file.proxy.ca_bundle
    if name is None:
        return []
    try:
        found = b"-----BEGIN CERTIFICATE-----" in (folder / name).read_bytes()
        why = "" if found else "holds no certificate: give a PEM file"
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}"
    return [document.problem(("proxy", "ca_bundle"), f"{name} {why}")] if why else []


def _check_listeners(document: Document, file: PolicyFile) -> list[Problem]:
    problems: list[Problem] = []
    for name, section in (("dns", file.dns), ("proxy", file.proxy)):
        encrypted = [(at, place) for at, place in enumerate(section.listen) if place.startswith(_ENCRYPTED)]
        if section.certificate is None:
            message = f"needs {name}.certificate: {{cert: file, key: file}}"
            problems += [document.problem((name, "listen", at), f"{place} {message}") for at, place in encrypted]
    if file.proxy.client_ca is not None and not any(place.startswith("tls://") for place in file.proxy.listen):
        message = "is for tls:// listeners, and proxy.listen has none"
        problems.append(document.problem(("proxy", "client_ca"), message))
    for client, group in file.clients.items():
        if group.users and file.proxy.auth is None:
            message = "nobody can prove to be one: needs proxy.auth: {htpasswd: file}"
            problems.append(document.problem(("clients", client, "users"), message))
        if group.certificates and file.proxy.client_ca is None:
            message = "nobody can show one: needs proxy.client_ca and a tls:// listener"
            problems.append(document.problem(("clients", client, "certificates"), message))
    return problems


def _load_accounts(
    document: Document, file: PolicyFile, folder: Path
) -> tuple[Accounts | None, list[Problem], list[Problem]]:
    """Return the accounts of the proxy's users, problems and warnings."""
    auth = file.proxy.auth
    if auth is None:
        return None, [], []
    path, where = folder / auth.htpasswd, ("proxy", "auth", "htpasswd")
    try:
        hashes, found = parse_htpasswd(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return None, [document.problem(where, f"{path}: cannot be read: {reason}")], []
    warnings = [
        document.problem(("clients", client, "users"), f"no user {user!r} in {path}", warning=True)
        for client, group in file.clients.items()
        for user in group.users
        if user not in hashes
    ]
    return Accounts(hashes, auth.required), [Problem(str(path), line, "", text) for line, text in found], warnings


def _read_authorities(document: Document, file: PolicyFile, folder: Path) -> tuple[str, list[Problem]]:
    if file.dns.upstream_ca is None:
        return "", []
    path = folder / file.dns.upstream_ca
    try:
        text = path.read_text(encoding="ascii", errors="ignore")  # comments may be in any language
        if "-----BEGIN CERTIFICATE-----" in text:
            ssl.create_default_context(cadata=text)
            return text, []
        why = "holds no certificate"
    except ssl.SSLError:
        why = "holds a certificate that cannot be read"
    except OSError as error:
        why = error.strerror or str(error)
    message = f"{path}: {why}; give certificates of authorities in PEM form"
    return "", [document.problem(("dns", "upstream_ca"), message)]


def _check_rules(document: Document, file: PolicyFile, feeds: dict[str, Feed]) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[str] = set()
    active = {name: feed for name, feed in feeds.items() if feed.enabled and not feed.never_block}
    categories = {category for feed in active.values() for category in feed.categories}
    for group in file.tunnelling.clients:
        if group not in file.clients:
            known = ", ".join(file.clients) or "none"
            message = f"no client group {group!r}; there is: {known}"
            problems.append(document.problem(("tunnelling", "clients", group), message))
    for position, rule in enumerate(file.policy.rules):
        where: Location = ("policy", "rules", position)
        if rule.name in seen:
            problems.append(document.problem((*where, "name"), f"two rules are called {rule.name!r}"))
        seen.add(rule.name)
        for client in set(rule.clients) - set(file.clients):
            known = ", ".join(file.clients) or "none"
            problems.append(document.problem((*where, "clients"), f"no client group {client!r}; there is: {known}"))
        for category in sorted(set(rule.to.categories) - categories):
            message = f"no enabled feed or list has category {category!r}; {_known(categories)}"
            problems.append(document.problem((*where, "to", "categories"), message))
        for name in sorted(set(rule.to.lists) - set(active)):
            message = f"no enabled feed or list {name!r}; {_known(set(active))}"
            problems.append(document.problem((*where, "to", "lists"), message))
        problems += [document.problem((*where, *step), message) for step, message in contradictions(rule)]
    return problems


def _known(names: set[str]) -> str:
    return f"there is: {', '.join(sorted(names))}" if names else "none is configured under feeds: or lists:"


def contradictions(rule: RuleSection) -> Iterator[tuple[Location, str]]:
    """Yield what a rule says that cannot be true together: where in the rule, and why."""
    deny = rule.action is Verdict.DENY
    needs_proxy = bool(rule.http or rule.tools or rule.tls or rule.upload or rule.pins or rule.to.ports)
    if rule.mode == "report" and not deny:
        yield ("mode",), "only deny rules can be on trial; leave out the allow rule instead"
    if rule.tls is not None and deny:
        yield ("tls",), "says how an allowed tunnel is carried; a deny rule has none"
    if rule.tls is Tls.SPLICE and rule.http is not None:
        yield ("tls",), "'splice' hides the requests that 'http' has to see: use 'inspect', or leave 'tls' out"
    if rule.http is not None and rule.http.max_body is not None and deny:
        yield ("http", "max_body"), "is for allow rules: larger bodies are then denied"
    if rule.http is not None and rule.http.max_response is not None and deny:
        yield ("http", "max_response"), "is for allow rules: larger answers are then denied"
    if rule.http is not None and rule.http == HttpSection():
        yield ("http",), "has no condition"
    if rule.upload is not None and deny:
        yield ("upload",), "says how much an allowed client may send; a deny rule lets nothing through"
    if rule.upload is not None and rule.http is not None and (rule.http.response_types or rule.http.file_types):
        yield ("upload",), "is spent before the answer shows whether the rule matches; use a rule of its own"
    if rule.pins and deny:
        yield ("pins",), "say what an allowed origin has to prove; a deny rule lets nothing through"
    if rule.pins and rule.tls is Tls.SPLICE:
        yield ("tls",), "'splice' hides the certificates that 'pins' have to see: use 'inspect', or leave 'tls' out"
    if rule.pins and rule.http is not None and (rule.http.response_types or rule.http.file_types):
        yield ("pins",), "are proven before the answer shows whether the rule matches; use a rule of its own"
    if rule.via == (Point.DNS,) and needs_proxy:
        yield ("via",), "the resolver never sees ports, tools, TLS or requests; drop those conditions or 'via'"
    if rule.qtypes and (needs_proxy or (rule.via and Point.DNS not in rule.via)):
        yield (
            ("qtypes",),
            "only the resolver sees query types; use a rule of their own for ports, tools, TLS and HTTP",
        )


def _check_shadowed(document: Document, rules: tuple[Rule, ...], groups: tuple[ClientGroup, ...]) -> list[Problem]:
    positions = {rule.name: position for position, rule in enumerate(rules)}
    return [
        document.problem(
            ("policy", "rules", positions[rule.name]),
            f"rule {rule.name!r} can never match: {earlier.name!r} before it covers all of it",
            warning=True,
        )
        for rule, earlier in shadowed(rules, groups)
    ]


def _rule(section: RuleSection) -> Rule:
    to = section.to
    return Rule(
        name=section.name,
        action=section.action,
        report=section.mode == "report",
        via=frozenset(section.via or Point),
        clients=section.clients,
        domains=to.domains,
        registered_domains=to.registered_domains,
        addresses=to.addresses,
        address_classes=to.address_class,
        ports=to.ports,
        categories=to.categories,
        lists=to.lists,
        tools=section.tools,
        qtypes=section.qtypes,
        http=_http(section.http) if section.http is not None else None,
        tls=Tls.INSPECT if section.pins else section.tls,
        upload=section.upload,
        pins=section.pins,
        technique=section.technique,
    )


def _http(section: HttpSection) -> HttpConditions:
    return HttpConditions(
        methods=frozenset(section.methods) - {"webdav"} | (WEBDAV if "webdav" in section.methods else frozenset()),
        buckets=frozenset(section.buckets),
        paths=section.paths,
        user_agents=section.user_agents,
        headers=tuple((name.lower(), glob) for name, glob in section.headers.items()),
        content_types=tuple(kind.lower() for kind in section.content_types),
        max_body=section.max_body,
        max_response=section.max_response,
        response_types=tuple(kind.lower() for kind in section.response_types),
        file_types=formats_of(section.file_types),
    )
