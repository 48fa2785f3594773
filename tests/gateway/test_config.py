"""The policy file as a whole: every problem at its line, and rules as the policy gets them."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from gateway.config import Config, json_schema, load
from gateway.decision import Point, Reason, Tls, Verdict
from gateway.document import ConfigError
from gateway.rule import HttpConditions
from gateway.schema import PolicyFile
from tests.builders import a_hello, a_tunnel
from tests.peers.tls_origin import make_certificate


def write(folder: Path, text: str, **files: str) -> Path:
    """Write a policy file, and other files beside it."""
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(content, encoding="utf-8")
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(folder: Path, text: str, **files: str) -> list[str]:
    """Return the problems of a policy file, without the name of the folder."""
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text, **files))
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def rules(*lines: str) -> str:
    """Return a policy file with some rules, one a line, the first on line 5."""
    return "version: 1\nclients: {web: {addresses: [10.0.0.0/8]}}\npolicy:\n  rules:\n" + "".join(
        f"    - {line}\n" for line in lines
    )


def test_encrypted_listeners_need_a_certificate(tmp_path: Path) -> None:
    """DoT and DoH without a certificate are a problem each, at its line; its files are beside the policy."""
    listen = (
        'version: 1\ndns:\n  listen:\n    - "udp://[::1]:53"\n    - "tls://[::1]:853"\n    - "https://[::1]:443/q"\n'
    )
    assert problems_of(tmp_path, listen) == [
        "policy.yaml:5: dns.listen[1]: tls://[::1]:853 needs dns.certificate: {cert: file, key: file}",
        "policy.yaml:6: dns.listen[2]: https://[::1]:443/q needs dns.certificate: {cert: file, key: file}",
    ]
    certificate = "  certificate: {cert: dns.pem, key: /etc/dns.key}\n"
    assert load(write(tmp_path, listen + certificate)).dns_certificate == (tmp_path / "dns.pem", Path("/etc/dns.key"))
    assert load(write(tmp_path, "version: 1\ndns:\n" + certificate)).dns_certificate is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        ("no certificate", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ],
    ids=["missing", "something else", "damaged"],
)
def test_authorities_have_to_be_there(tmp_path: Path, content: str | None, why: str) -> None:
    """A file of authorities that cannot be used is a problem of its line, with what is expected."""
    files = {} if content is None else {"ca": content}
    (problem,) = problems_of(tmp_path, "version: 1\ndns:\n  upstream_ca: ca.yaml\n", **files)
    assert problem.startswith("policy.yaml:3: dns.upstream_ca: ")
    assert why in problem
    assert problem.endswith("give certificates of authorities in PEM form")


def test_other_authorities_are_another_configuration(tmp_path: Path) -> None:
    """What the file holds belongs to the configuration, so that a reload sees a change of it."""
    policy = write(tmp_path, "version: 1\ndns: {upstream_ca: ca.pem}\n")
    seen = set()
    for name in ("one.test", "two.test"):
        text = make_certificate(tmp_path / "ca.pem", name).read_text() + "# Główny urząd\n"
        (tmp_path / "ca.pem").write_text(text, encoding="utf-8")
        found = load(policy).upstream_ca
        assert found == text.encode("ascii", "ignore").decode()
        seen.add(found)
    assert len(seen) == 2


def test_tls_listeners_need_a_certificate(tmp_path: Path) -> None:
    """So do the proxy's; authorities for client certificates are of no use without one."""
    assert problems_of(tmp_path, 'version: 1\nproxy:\n  listen: ["tls://127.0.0.1:3129"]\n') == [
        "policy.yaml:3: proxy.listen[0]: tls://127.0.0.1:3129 needs proxy.certificate: {cert: file, key: file}"
    ]
    assert problems_of(tmp_path, "version: 1\nproxy:\n  client_ca: ca.pem\n") == [
        "policy.yaml:3: proxy.client_ca: is for tls:// listeners, and proxy.listen has none"
    ]
    text = 'version: 1\nproxy: {listen: ["tls://127.0.0.1:3129"], certificate: {cert: c, key: /k}, client_ca: ca}\n'
    assert load(write(tmp_path, text)).proxy_tls == (tmp_path / "c", Path("/k"), tmp_path / "ca")
    assert load(write(tmp_path, "version: 1\nproxy: {certificate: {cert: c, key: k}}\n")).proxy_tls is None


def test_identities_need_somebody_who_proves_them(tmp_path: Path) -> None:
    """A group that nobody could ever prove to be in is a mistake, told where it is."""
    text = "version: 1\nclients:\n  batch:\n    users: [batch]\n    certificates: [CN=batch]\n"
    assert problems_of(tmp_path, text) == [
        "policy.yaml:4: clients.batch.users: nobody can prove to be one: needs proxy.auth: {htpasswd: file}",
        "policy.yaml:5: clients.batch.certificates: nobody can show one: needs proxy.client_ca and a tls:// listener",
    ]


_AUTH = "version: 1\nclients: {batch: {users: [batch, anna]}}\nproxy:\n  auth: {htpasswd: users, required: true}\n"


def test_accounts(tmp_path: Path) -> None:
    """Users come from the file beside the policy; one that it does not have is worth a warning."""
    (tmp_path / "users").write_text("batch:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    config = load(write(tmp_path, _AUTH))
    assert config.accounts is not None
    assert set(config.accounts.hashes) == {"batch"}
    assert config.accounts.required
    assert config.clients[0].users == {"batch", "anna"}
    assert [problem.message for problem in config.warnings] == [f"no user 'anna' in {tmp_path / 'users'}"]
    assert "W6ph5" not in repr(config)


def test_problems_of_accounts(tmp_path: Path) -> None:
    """What is wrong with the file of users is told with its own name and lines, all at once."""
    assert problems_of(tmp_path, _AUTH) == [
        "policy.yaml:4: proxy.auth.htpasswd: users: cannot be read: No such file or directory"
    ]
    (tmp_path / "users").write_text("batch:plain\n\nanna\n")
    assert problems_of(tmp_path, _AUTH) == [
        "users:1: user 'batch': no hash that the gateway reads; make one with htpasswd -B (bcrypt)",
        "users:3: expected user:hash, as htpasswd -B writes it",
    ]
    (tmp_path / "users").write_bytes(b"\xff")
    assert "it is not UTF-8 text" in problems_of(tmp_path, _AUTH)[0]


def test_a_rule_is_read_whole(tmp_path: Path) -> None:
    """Every condition of a rule in the file is in the rule that the policy gets."""
    whole = """{name: r, action: allow, via: [proxy], clients: [web], tools: [curl], tls: inspect, technique: [T1105],
        to: {domains: ['*.a.test'], registered_domains: [a.test], addresses: [192.0.2.0/24],
             address_class: [reserved], ports: [443, 8000-8100], categories: [x], lists: [mine]},
        http: {methods: [GET], paths: [/a], user_agents: ['b*'], headers: {X-Y: z}, content_types: [Text/*],
               max_body: 1KiB, response_types: [Image/*], file_types: [script, zip],
               buckets: [s3:acme]}}"""
    text = rules(whole, "{name: s, action: deny, mode: report, qtypes: [TXT]}")
    config = load(write(tmp_path, text + "lists: {mine: {path: mine.txt, format: domains, categories: [x]}}\n"))
    rule, other = config.rules
    assert rule.via == frozenset([Point.PROXY])
    assert (rule.clients, rule.tools, rule.tls, rule.technique) == (("web",), ("curl",), Tls.INSPECT, ("T1105",))
    assert (rule.domains, rule.registered_domains) == (("*.a.test",), ("a.test",))
    assert (rule.addresses, rule.address_classes) == ((ip_network("192.0.2.0/24"),), ("reserved",))
    assert (rule.ports, rule.categories, rule.lists) == (((443, 443), (8000, 8100)), ("x",), ("mine",))
    assert rule.http == HttpConditions(
        methods=frozenset(["GET"]),
        paths=("/a",),
        user_agents=("b*",),
        headers=(("x-y", "z"),),
        content_types=("text/*",),
        max_body=1024,
        buckets=frozenset(["s3:acme"]),
        response_types=("image/*",),
        file_types=frozenset(["script", "zip"]),
    )
    assert (other.action, other.report, other.qtypes, other.via) == (Verdict.DENY, True, (16,), frozenset(Point))
    assert [group.name for group in config.clients] == ["web"]
    assert config.feeds["mine"].path == tmp_path / "mine.txt"


def test_places_are_beside_the_file(tmp_path: Path) -> None:
    """Relative paths start at the folder of the policy file, wherever the command was given."""
    config = load(write(tmp_path, "version: 1\nstate_dir: var/state\n"))
    assert config.state_dir == tmp_path / "var/state"
    assert config.path == tmp_path / "policy.yaml"
    assert load(write(tmp_path, "version: 1\nstate_dir: /var/lib/x\n")).state_dir == Path("/var/lib/x")


def test_health_and_metrics_are_off_unless_asked_for(tmp_path: Path) -> None:
    """No key, no port; a key alone is loopback."""
    assert load(write(tmp_path, "version: 1\n")).control_places == ()
    assert load(write(tmp_path, "version: 1\ncontrol: {}\n")).control_places == ((ip_address("127.0.0.1"), 9353),)
    config = load(write(tmp_path, 'version: 1\ncontrol: {listen: "[::1]:99"}\n'))
    assert (config.control_places, config.control_listen) == (((ip_address("::1"), 99),), ("[::1]:99",))


def test_a_policy_is_made_of_it(tmp_path: Path) -> None:
    """Defaults and mode of the file are those of the policy."""
    closed = load(write(tmp_path, "version: 1\n")).policy(None)
    assert closed.decide(a_tunnel()).reason is Reason.DEFAULT_DENY
    text = "version: 1\npolicy: {mode: report, default: {proxy: allow}, rules: [{name: r, action: deny}]}\n"
    decision = load(write(tmp_path, text)).policy(None).decide(a_tunnel())
    assert (decision.verdict, decision.enforced) == (Verdict.DENY, False)


def test_tunnelling_names_groups_that_exist(tmp_path: Path) -> None:
    """A group that does not exist would be held to nothing."""
    text = "version: 1\ntunnelling: {clients: {nobody: off}}\n"
    (problem,) = problems_of(tmp_path, text)
    assert problem.endswith("tunnelling.clients.nobody: no client group 'nobody'; there is: none")


def test_every_problem_is_told(tmp_path: Path) -> None:
    """Problems of several kinds in several places are all told, each with line and path."""
    text = rules(
        "{name: a, action: allow, clients: [nobody]}",
        "{name: a, action: deny, to: {categories: [malware], lists: [feed]}}",
        "{name: b, action: deny, tls: splice}",
    )
    assert problems_of(tmp_path, text) == [
        "policy.yaml:5: policy.rules[0].clients: no client group 'nobody'; there is: web",
        "policy.yaml:6: policy.rules[1].name: two rules are called 'a'",
        "policy.yaml:6: policy.rules[1].to.categories: no enabled feed or list has category 'malware'; "
        "none is configured under feeds: or lists:",
        "policy.yaml:6: policy.rules[1].to.lists: no enabled feed or list 'feed'; "
        "none is configured under feeds: or lists:",
        "policy.yaml:7: policy.rules[2].tls: says how an allowed tunnel is carried; a deny rule has none",
    ]


PIN = f"sha256//{'A' * 43}="

CONTRADICTIONS = [
    ("an allow rule on trial", "action: allow, mode: report", "mode: only deny rules can be on trial"),
    (
        "a deny rule with a budget",
        "action: deny, upload: 1MiB/1h",
        "upload: says how much an allowed client may send",
    ),
    (
        "a budget for what only the answer allows",
        "action: allow, upload: 1MiB/1h, http: {file_types: [other]}",
        "upload: is spent before the answer shows",
    ),
    (
        "a file type that nobody knows",
        "action: deny, http: {file_types: [virus]}",
        "http.file_types[0]: 'virus' is no type of file that the gateway knows",
    ),
    ("a deny rule that is carried", "action: deny, tls: inspect", "tls: says how an allowed tunnel is carried"),
    (
        "splicing what has to be seen",
        "action: allow, tls: splice, http: {methods: [GET]}",
        "tls: 'splice' hides the requests",
    ),
    ("a largest body that is denied", "action: deny, http: {max_body: 1KiB}", "http.max_body: is for allow rules"),
    (
        "a largest answer that is denied",
        "action: deny, http: {max_response: 1KiB}",
        "http.max_response: is for allow rules",
    ),
    ("pins of what is denied", f"action: deny, pins: ['{PIN}']", "pins: say what an allowed origin has to prove"),
    (
        "pins that nobody can see",
        f"action: allow, tls: splice, pins: ['{PIN}']",
        "tls: 'splice' hides the certificates that 'pins' have to see",
    ),
    (
        "pins for what only the answer allows",
        f"action: allow, pins: ['{PIN}'], http: {{file_types: [other]}}",
        "pins: are proven before the answer shows",
    ),
    ("pins for DNS alone", f"action: allow, via: [dns], pins: ['{PIN}']", "via: the resolver never sees ports"),
    ("requests without condition", "action: allow, http: {}", "http: has no condition"),
    ("ports for DNS alone", "action: deny, via: [dns], to: {ports: [22]}", "via: the resolver never sees ports"),
    ("tools for DNS alone", "action: deny, via: [dns], tools: [curl]", "via: the resolver never sees ports"),
    (
        "query types for the proxy",
        "action: deny, via: [proxy], qtypes: [TXT]",
        "qtypes: only the resolver sees query types",
    ),
    (
        "query types and ports",
        "action: deny, qtypes: [TXT], to: {ports: [53]}",
        "qtypes: only the resolver sees query types",
    ),
    ("an empty condition", "action: allow, to: {domains: []}", "to.domains: is empty, which would mean any"),
]


@pytest.mark.parametrize(("text", "why"), [row[1:] for row in CONTRADICTIONS], ids=[row[0] for row in CONTRADICTIONS])
def test_contradictions(tmp_path: Path, text: str, why: str) -> None:
    """What cannot be true together is refused at its place."""
    (problem,) = problems_of(tmp_path, rules(f"{{name: r, {text}}}"))
    assert problem.startswith(f"policy.yaml:5: policy.rules[0].{why}")


def test_files_that_are_no_policy(tmp_path: Path) -> None:
    """An empty file, a list and a missing file are refused in one line each."""
    for text in ("", "# nothing\n", "- a\n", "just words\n"):
        (problem,) = problems_of(tmp_path, text)
        assert problem == "policy.yaml:1: is empty or no mapping; it begins with 'version: 1'"
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "missing.yaml")


def test_rules_that_can_never_match_are_warnings(tmp_path: Path) -> None:
    """A rule behind one that covers it is told, and the file is good all the same."""
    config = load(
        write(tmp_path, rules("{name: all, action: allow}", "{name: bad, action: deny, to: {domains: [b.test]}}"))
    )
    (warning,) = config.warnings
    assert warning.warning
    assert (warning.line, warning.path) == (6, "policy.rules[1]")
    assert "'bad' can never match: 'all'" in warning.message


CATALOGUE = """\
urlhaus:
  url: https://urlhaus.test/hosts
  format: hosts
  categories: [malware]
unused:
  url: https://unused.test/hosts
  format: hosts
  categories: [spam]
  enabled: false
keep:
  path: keep.txt
  format: domains
  categories: [kept]
  never_block: true
"""


def test_catalogues_give_lists_and_categories(tmp_path: Path) -> None:
    """Rules may speak of the feeds of a catalogue, by name and by category."""
    text = rules("{name: r, action: deny, to: {categories: [malware], lists: [urlhaus]}}") + "feeds: [feeds.yaml]\n"
    config = load(write(tmp_path, text, feeds=CATALOGUE))
    assert set(config.feeds) == {"urlhaus", "unused", "keep"}
    assert set(config.active_feeds) == {"urlhaus", "keep"}


def test_lists_that_say_nothing_cannot_be_named(tmp_path: Path) -> None:
    """A feed that is off and a list of what is never denied are nothing that a rule could speak of."""
    text = rules("{name: r, action: deny, to: {lists: [unused, keep], categories: [spam]}}") + "feeds: [feeds.yaml]\n"
    assert problems_of(tmp_path, text, feeds=CATALOGUE) == [
        "policy.yaml:5: policy.rules[0].to.categories: no enabled feed or list has category 'spam'; "
        "there is: malware",
        "policy.yaml:5: policy.rules[0].to.lists: no enabled feed or list 'keep'; there is: urlhaus",
        "policy.yaml:5: policy.rules[0].to.lists: no enabled feed or list 'unused'; there is: urlhaus",
    ]


def test_problems_of_catalogues_are_told_too(tmp_path: Path) -> None:
    """A catalogue that is missing, broken or repeats a feed is a problem at the line that names it, or at its."""
    missing = problems_of(tmp_path, "version: 1\nfeeds:\n  - none.yaml\n")
    assert missing[0].startswith("policy.yaml:3: feeds[0]: cannot be read")
    broken = problems_of(tmp_path, "version: 1\nfeeds: [bad.yaml]\n", bad="x:\n  url: ftp://x\n  format: hosts\n")
    assert any(problem.startswith("bad.yaml:2: x.url") for problem in broken)
    twice = problems_of(tmp_path, "version: 1\nfeeds: [a.yaml, b.yaml]\n", a=CATALOGUE, b=CATALOGUE)
    assert "policy.yaml:2: feeds[1]: feed 'urlhaus' is in two catalogues" in twice
    text = "version: 1\nfeeds: [a.yaml]\nlists:\n  urlhaus: {path: x.txt, format: domains}\n"
    assert problems_of(tmp_path, text, a=CATALOGUE) == [
        "policy.yaml:4: lists.urlhaus: a feed of this name is in a catalogue; give the list another name"
    ]


def test_the_schema_knows_every_key() -> None:
    """The JSON Schema has every top-level key, refuses others, and says what keys are for."""
    schema = json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["title"] == "Egress gateway policy"
    assert set(schema["properties"]) == set(PolicyFile.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["version"]
    assert "First match wins." in str(schema)


def test_configurations_are_values(tmp_path: Path) -> None:
    """A configuration does not change after it was loaded."""
    config: Config = load(write(tmp_path, "version: 1\n"))
    with pytest.raises(AttributeError):
        config.rules = ()  # type: ignore[misc]  # on purpose


ZONES = """
version: 1
dns:
  rpz_zones:
    RPZ.example: {key: xfr.key, lists: [ours]}
    open.example: {allow: [10.0.0.0/8], categories: [malware]}
lists:
  ours: {path: a.txt, format: domains, categories: [malware]}
  other: {path: b.txt, format: domains, categories: [ads]}
"""
XFR_KEY = 'key "xfr" { algorithm hmac-sha256; secret "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="; };'


def test_zones_for_other_resolvers(tmp_path: Path) -> None:
    """A zone has its lists by name or category, and its keys are read from the folder of the policy file."""
    (tmp_path / "gateway.yaml").write_text(ZONES)
    (tmp_path / "xfr.key").write_text(XFR_KEY)
    config = load(tmp_path / "gateway.yaml")
    assert {name: list(zone.keys) for name, zone in config.rpz_zones.items()} == {
        "rpz.example": ["xfr"],
        "open.example": [],
    }
    for zone in config.rpz_zones.values():
        assert [name for name, feed in config.feeds.items() if zone.holds(name, feed)] == ["ours"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("lists: [ours]", "lists: [theirs]", "dns.rpz_zones.rpz.example.lists: no enabled list has 'theirs'"),
        ("[malware]}\nlists", "[c2]}\nlists", "open.example.categories: no enabled list has 'c2'"),
        ("{key: xfr.key, ", "{", "says nobody who may have it: give allow, key, or both"),
        ("xfr.key", "none.key", "key: cannot be read: No such file"),
        ("xfr.key", "gateway.yaml", "key: expected what tsig-keygen writes"),
    ],
)
def test_zones_that_cannot_be_served(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """A zone of lists that do not exist, for nobody, or with keys that are none, is a problem of the policy file."""
    (tmp_path / "xfr.key").write_text(XFR_KEY)
    (tmp_path / "gateway.yaml").write_text(ZONES.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "gateway.yaml")
    assert problem in "\n".join(str(each) for each in error.value.problems)


@pytest.mark.parametrize(
    ("text", "why"), [(None, "cannot be read"), ("no PEM", "holds no certificate")], ids=["missing", "not PEM"]
)
def test_a_bad_ca_bundle(tmp_path: Path, text: str | None, why: str) -> None:
    """A bundle that nothing can be verified with is an error, not an empty list of authorities."""
    if text is not None:
        (tmp_path / "roots.pem").write_text(text)
    (tmp_path / "policy.yaml").write_text("version: 1\nproxy: {ca_bundle: roots.pem}\n")
    with pytest.raises(ConfigError, match=f"proxy.ca_bundle: roots.pem {why}"):
        load(tmp_path / "policy.yaml")


def test_webdav_is_a_set_of_methods(tmp_path: Path) -> None:
    """`webdav` stands for the methods that WebDAV adds, beside others."""
    (rule,) = load(write(tmp_path, rules("{name: r, action: deny, http: {methods: [POST, webdav]}}"))).rules
    assert rule.http is not None
    assert rule.http.methods >= {"POST", "PROPFIND", "VERSION-CONTROL"}
    assert not rule.http.methods & {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "webdav"}


def test_tenants_are_inspected(tmp_path: Path) -> None:
    """A host where the file restricts sign-ins is inspected, whatever its rule says."""
    text = rules("{name: g, action: allow, to: {domains: [.google.com]}, tls: splice}")
    config = load(write(tmp_path, text + "proxy: {tenants: {google: [acme.example]}}\n"))
    assert config.policy(None).decide(a_hello("accounts.google.com")).tls is Tls.INSPECT
    assert load(write(tmp_path, text)).policy(None).decide(a_hello("accounts.google.com")).tls is Tls.SPLICE
    (problem,) = problems_of(tmp_path, text + "proxy: {tenants: {microsoft: {tenants: [a.test], context: me}}}\n")
    assert "proxy.tenants.microsoft.context" in problem
