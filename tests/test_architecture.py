"""The shape of the source: what may import what, what files are called, and that each has its tests.

Reads the source with `ast` and imports none of it, so that a module is judged by what it says, not by what happens to
be installed.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PACKAGES = ("gateway", "addons", "blocklists")

IMPURE = frozenset(
    [
        "asyncio",
        "socket",
        "ssl",
        "aiohttp",
        "mitmproxy",
        "sqlite3",
        "subprocess",
        "logging",
        "time",
        "os",
        "select",
        "selectors",
        "threading",
    ]
)
"""What pure modules do without: time and randomness are arguments, and bytes are given to them."""

PURE = [
    "names",
    "suffixlist",
    "addresses",
    "authority",
    "buckets",
    "agreement",
    "request",
    "decision",
    "domainset",
    "rule",
    "ruleindex",
    "rulewalk",
    "conditions",
    "policy",
    "techniques",
    "tsigkey",
    "tenants",
    "tools",
    "shadowing",
    "urlpaths",
    "units",
    "memo",
    "http2frames",
    "explain",
    "remedy",
    "filetypes",
    "codings",
    "control.cells",
    "control.slots",
    "control.board",
    "control.exposition",
    "control.survey",
    "control.health",
    "feeds.entry",
    "feeds.layout",
    "feeds.formats.*",
    "feeds.runs",
    "feeds.protected",
    "feeds.packing",
    "feeds.verification",
    "feeds.publickeys",
    "feeds.impact",
    "feeds.hunt",
    "dns.wire",
    "dns.answers",
    "dns.cache",
    "dns.message",
    "dns.bailiwick",
    "dns.local",
    "dns.ratelimit",
    "dns.records",
    "dns.servicebinding",
    "dns.tsig",
    "dns.tally",
    "tunnelling.zones",
    "tunnelling.labels",
    "tunnelling.charmodel",
    "tunnelling.window",
    "tunnelling.priors",
    "tunnelling.structure",
    "tunnelling.assessment",
    "tunnelling.state",
    "tunnelling.news",
    "tunnelling.limits",
    "tunnelling.downloads",
    "tunnelling.detector",
    "tunnelling.evidence",
    "tunnelling.analysis",
    "recordings.lines",
    "recordings.packets",
    "ledger.suspects",
    "htpasswd",
    "proxy.credentials",
    "proxy.budget",
    "tunnelling.accounts",
    "proxy.fairqueue",
    "proxy.head",
    "proxy.proxyprotocol",
    "proxy.clienthello",
    "proxy.fingerprint",
    "proxy.responses",
    "proxy.accept",
    "proxy.page",
    "proxy.tally",
    "selfcheck.cases",
    "selfcheck.framing",
    "selfcheck.hello",
    "ledger.event",
    "ledger.pattern",
    "ledger.rollup",
    "ledger.tally",
    "ledger.text",
]
"""Modules of `gateway` that are pure."""

LAYERS = (
    "core",
    "feeds ledger",
    "config",
    "runtime",
    "dns",
    "proxy",
    "service",
    "cli",
)
"""From the bottom up: a module imports from its own layer and those below."""

LAYER_OF = {
    "feeds": "feeds ledger",
    "ledger": "feeds ledger",
    # Both know the shape of the files that they read, and each other's: one layer.
    "document": "feeds ledger",
    "section": "config",
    "controlsection": "config",
    "dnssection": "config",
    "proxysection": "config",
    "tunnellingsection": "config",
    "schema": "config",
    "config": "config",
    "runtime": "runtime",
    "dns": "dns",
    "proxy": "proxy",
    "selfcheck": "service",
    "control": "service",
    "garbage": "service",
    "service": "service",
    "upkeep": "service",
    "worker": "service",
    "cli": "cli",
    "commands": "cli",
    "console": "cli",
    "reports": "cli",
}
"""Layers of the modules and folders of `gateway`; what is not named is core."""

BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "shared"}


def modules(package: str) -> Iterator[str]:
    """Yield the dotted names of the modules of a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


ALL = tuple(name for package in PACKAGES for name in modules(package))


def path_of(module: str) -> Path:
    """Return the file of a module."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imports(module: str) -> frozenset[str]:
    """Return every module that a module imports anywhere in it, except for type checkers alone."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in _running(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            name = node.module or ""
            # `from gateway.dns import wire` imports the module; `from gateway.names import normalize` a name of it.
            found |= {f"{name}.{alias.name}" if f"{name}.{alias.name}" in ALL else name for alias in node.names}
    return frozenset(found)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _running(child)


def reached(module: str) -> Iterator[tuple[str, str]]:
    """Yield what a module and all modules of ours below it import: who, and what."""
    seen, waiting = {module}, [module]
    while waiting:
        name = waiting.pop()
        for imported in imports(name):
            if imported in ALL:
                if imported not in seen:
                    seen.add(imported)
                    waiting.append(imported)
            else:
                yield name, imported


def pure_modules() -> Iterator[str]:
    """Yield the pure modules that there are."""
    for name in PURE:
        if name.endswith(".*"):
            yield from (module for module in ALL if module.startswith(f"gateway.{name[:-2]}"))
        else:
            yield f"gateway.{name}"


@pytest.mark.parametrize("module", list(pure_modules()))
def test_pure_modules_do_nothing_to_the_world(module: str) -> None:
    """A pure module imports, itself or through modules of ours, nothing that does I/O, logs or tells the time."""
    assert path_of(module).exists(), f"{module} is in the list of pure modules, and there is no such file"
    bad = [(who, what) for who, what in reached(module) if what.partition(".")[0] in IMPURE]
    assert not bad


@pytest.mark.parametrize("module", [name for name in ALL if "Pure: no I/O" in path_of(name).read_text("utf-8")])
def test_who_says_pure_is_pure(module: str) -> None:
    """A module whose docstring says that it is pure imports nothing of the kind itself."""
    assert not [name for name in imports(module) if name.partition(".")[0] in IMPURE]


def layer(module: str) -> int:
    """Return the layer of a module of `gateway`."""
    part = ([*module.split("."), ""])[1]
    return LAYERS.index(LAYER_OF.get(part, "core"))


@pytest.mark.parametrize("module", [name for name in ALL if name.startswith("gateway.")])
def test_imports_go_downwards(module: str) -> None:
    """A module imports from its own layer and from those below it, never from above."""
    upwards = [name for name in imports(module) if name.startswith("gateway.") and layer(name) > layer(module)]
    assert not upwards


@pytest.mark.parametrize("module", ALL)
def test_addons_are_on_top(module: str) -> None:
    """Of the gateway, `proxy.inspect` alone imports addons; data import nothing; and nothing imports the commands."""
    found = imports(module)
    if module.startswith("gateway") and not module.startswith("gateway.proxy.inspect"):
        assert not [name for name in found if name.partition(".")[0] == "addons"]
    if module.startswith("blocklists"):
        assert not [name for name in found if name.partition(".")[0] in PACKAGES]
    assert "gateway.cli" not in found
    assert not [name for name in found if name.partition(".")[0] == "tests"]


@pytest.mark.parametrize("module", ALL)
def test_names_say_what_is_inside(module: str) -> None:
    """No module is called after what it is not: `utils`, `helpers`, `common`, `manager`."""
    assert not BANNED_NAMES & set(module.split("."))


def mirror_of(module: str) -> Path:
    """Return the test file of a module: the same path, `test_` in front of the name."""
    parts = module.split(".")
    return ROOT.joinpath("tests", *parts[:-1], f"test_{parts[-1]}.py")


def has_content(module: str) -> bool:
    """Say whether there is anything in a module but its docstring."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in tree.body)


@pytest.mark.parametrize("module", [name for name in ALL if has_content(name)])
def test_every_module_has_its_tests(module: str) -> None:
    """Each source file has a test file of its own, at the mirrored path."""
    assert mirror_of(module).exists(), f"{mirror_of(module).relative_to(ROOT)} is missing"


def test_every_test_file_has_its_module() -> None:
    """No test file of the mirror outlived its source; the corpus is tested beside the policy."""
    stray = []
    for package in ("gateway", "addons"):  # blocklists is data, tested by what the data are
        for path in (ROOT / "tests" / package).rglob("test_*.py"):
            parts = path.relative_to(ROOT / "tests").with_suffix("").parts
            module = ".".join((*parts[:-1], parts[-1].removeprefix("test_")))
            if module not in ALL and module != "gateway.corpus":
                stray.append(str(path.relative_to(ROOT)))
    assert not stray


def test_every_test_says_what_is_true() -> None:
    """Each test has a docstring of one sentence."""
    silent = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                doc = ast.get_docstring(node)
                if not doc or not doc.rstrip().endswith("."):
                    silent.append(f"{path.relative_to(ROOT)}::{node.name}")
    assert not silent


def test_top_level_is_what_was_agreed() -> None:
    """The folders of the repository are the agreed ones, hidden ones and what tools leave behind aside."""
    agreed = {"gateway", "addons", "blocklists", "deploy", "tests"}
    made = {"state", "dist", "build", "__pycache__"}
    assert {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - made == agreed
