"""Every place in the proxy that asks for a decision gets an exception instead of one.

The places are read from the code: one that is added is broken too, and fails here until a scenario comes through it.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import addons
import gateway.proxy
from gateway.proxy.case import Case
from gateway.proxy.dial import Dialer
from gateway.runtime import Runtime
from tests.integration.faults.bench import KINDS, Bench, Fault
from tests.integration.faults.test_functions import ENDS, check

pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets of what broke, closed by the collector
)

ASKED = {
    "decide": (Runtime.decide, Case.decide),
    "judge": (Runtime.judge, Dialer.judge),
    "decide_dial": (Case.decide_dial,),
    "decide_response": (Case.decide_response,),
    "refuse": (Case.refuse,),
    "flawed": (Case.flawed,),
    "refuse_dial": (Case.refuse_dial,),
    "report_dial": (Case.report_dial,),
    "approve": (Dialer.approve,),
}
"""What decides or records a denial, by the name it is called by."""
ELSEWHERE = {
    "addons.standalone": "tests/addons/test_standalone.py",
    "addons.gate.Gate._fail": "says what broke: broken itself, test_functions breaks it for good",
    "addons.endings.Endings.blame": "says what broke",
    "gateway.proxy.listener.ClientConnection._crashed": "says what broke",
    "gateway.proxy.listener.ClientConnection.connection_lost": "says what broke",
    "gateway.proxy.listener.ClientConnection._enter": "tests/gateway/proxy/test_listener.py: a thousand connections",
    "gateway.proxy.inspect.Handler._is_let_in": "tests/integration/test_proxy_hostile_inspect.py: only a flood waits",
    "gateway.proxy.entrance.Entrance._tell": "tests/gateway/proxy/test_entrance.py: only a flood is turned away",
    "gateway.proxy.door.Door._refuse": "tests/integration/bypasses/test_identity.py: there is nobody to answer",
}
"""Places that no scenario comes to while nothing is broken, or where one that breaks is one that denies."""


def _places() -> Iterator[tuple[str, str]]:
    """Yield the functions that ask, and the name of what they call."""
    for package in (addons, gateway.proxy):
        for path in sorted(Path(package.__path__[0]).glob("*.py")):
            module = f"{package.__name__}.{path.stem}"
            yield from _within(ast.parse(path.read_text(encoding="utf-8")), module)


def _within(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _within(child, f"{name}.{child.name}")
        else:
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in ASKED:
                yield name, child.func.attr
            yield from _within(child, name)


PLACES = sorted(set(_places()))


def test_the_table_names_what_there_is() -> None:
    """A function that has another name now is not excused by its old one."""
    for name in ELSEWHERE:
        assert any(caller == name or caller.startswith(f"{name}.") for caller, _ in PLACES), name


def _elsewhere(caller: str) -> bool:
    return any(caller == name or caller.startswith(f"{name}.") for name in ELSEWHERE)


@pytest.mark.parametrize(("caller", "called"), [place for place in PLACES if not _elsewhere(place[0])])
def test_no_decision(bench: Bench, caller: str, called: str) -> None:
    """Where a decision was asked for and none came, the answer is no."""
    codes = [function.__code__ for function in ASKED[called]]
    mine = bench.codes[caller]
    scenarios = [name for name in bench.reached.get(mine, ()) if bench.reached]
    reached = False
    for scenario in scenarios:
        for kind in ("an error", "an error each time", "cancelled by nobody"):
            if caller in ENDS and kind == "an error each time":
                continue
            begin = KINDS[kind]()

            def act(code: CodeType, begin=begin) -> None:  # type: ignore[no-untyped-def]
                if sys._getframe(4).f_code is mine:
                    nonlocal reached
                    reached = True
                    begin(code)

            course = bench.play(scenario, codes, act)
            if not reached:
                break
            check(bench, caller, scenario, kind, course)
            clean = bench.clean[scenario]
            # Of two requests one may be denied anyway, and is when this breaks; the other has nothing to do with it.
            assert course.served < max(clean.served, 1) or "Dial" in caller or (clean.served and clean.denials)
        if reached:
            break
    assert reached, f"no scenario comes to where {caller} calls {called}"
    bench.goes_on()


def test_the_policy_itself(bench: Bench) -> None:
    """A policy that breaks inside denies, at every stage, as an internal error."""
    from gateway.policy import Policy

    for scenario in ("plain", "spliced", "inspected", "answer looked at", "upload, plain"):
        for stage in ("_decide_tunnel", "_decide_hello", "_decide_http", "_decide_dial"):
            code = getattr(Policy, stage).__code__
            if scenario not in bench.reached[code]:
                continue
            course = bench.play(scenario, [code], KINDS["an error each time"]())
            assert course.hits
            assert (course.served, course.octets) == (0, 0)
            assert course.denials == ["internal-error"]
    bench.goes_on()


def _raise(error: BaseException) -> None:
    raise error


RESOURCES: dict[str, tuple[str, str]] = {
    "the resolver": ("plain", "gateway.dns.resolver.Resolver.lookup"),
    "the resolver, spliced": ("spliced", "gateway.dns.resolver.Resolver.lookup"),
    "local records": ("spliced", "gateway.dns.forwarder.Forwarder.all_at_hand"),
    "zones that are closed": ("spliced", "gateway.dns.leakage.Leakage.closures"),
    "the account of an upload": ("upload, plain", "gateway.proxy.uploads.Uploads.open"),
    "the table of uploads": ("upload, plain", "gateway.proxy.budget.BudgetTable.room"),
    "the table of uploads, taking": ("too much, in pieces", "gateway.proxy.budget.BudgetTable.take"),
    "the account of a tunnel": ("upload, spliced", "gateway.proxy.uploads.Uploads.open"),
    "the table for a tunnel": ("too much, spliced", "gateway.proxy.budget.BudgetTable.take"),
    "passwords": ("password, plain", "gateway.htpasswd.matches"),
    "passwords, CONNECT": ("password, CONNECT", "gateway.htpasswd.matches"),
    "the table of tools": ("spliced", "gateway.proxy.fingerprint.tool_of"),
    "fingerprints": ("spliced", "gateway.proxy.fingerprint.ja4"),
    "client certificates": ("client certificate", "gateway.proxy.tls.proven"),
    "PROXY headers": ("load balancer", "gateway.proxy.proxyprotocol.HeaderReader.feed"),
    "a parent": ("parent, spliced", "gateway.proxy.parent.Asking.tunnel"),
    "tenants": ("tenants", "gateway.tenants.Tenants.fields"),
    "the head": ("plain", "gateway.proxy.head.read_head"),
    "the ClientHello": ("spliced", "gateway.proxy.clienthello.HelloReader.feed"),
    "dialling": ("spliced", "gateway.proxy.dial.Dialer.connect"),
    "dialling, plain": ("plain", "gateway.proxy.dial.Dialer.connect"),
}
"""What a decision needs: a scenario that needs it, and the function that breaks."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resource", RESOURCES)
def test_without_what_it_needs(bench: Bench, resource: str, kind: str) -> None:
    """What a decision cannot be made without breaks: nothing is sent, and one line says why."""
    scenario, name = RESOURCES[resource]
    course = bench.play(scenario, [bench.codes[name]], KINDS[kind]())
    assert course.hits
    assert (course.served, course.octets, course.forbidden) == (0, 0, 0)
    assert course.ended
    if kind != "cancelled by nobody":
        assert course.denials == ["internal-error"]
        assert len(course.lines) == 1
        assert course.logged
    bench.goes_on()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cancelled by nobody"])
@pytest.mark.parametrize(
    "name", ["gateway.filetypes.Look.feed", "gateway.filetypes.detect", "gateway.filetypes.Look.formats"]
)
def test_a_file_that_cannot_be_looked_at(bench: Bench, name: str, kind: str) -> None:
    """An answer whose first octets nobody could look at does not reach the client."""
    course = bench.play("answer looked at", [bench.codes[name]], KINDS[kind]())
    assert course.hits
    assert not course.served
    assert len(course.denials) == 1
    assert set(course.denials) <= {"internal-error", "file-type"}
    bench.goes_on()


LEDGER = {
    "making a line": ("gateway.ledger.event.event", Fault("injected")),
    "the queue": ("gateway.ledger.backlog.Backlog.put", Fault("injected")),
}


@pytest.mark.parametrize("scenario", ["plain", "denied, plain", "denied inside"])
@pytest.mark.parametrize("name", LEDGER)
def test_a_ledger_that_cannot_be_written(bench: Bench, name: str, scenario: str) -> None:
    """Verdicts stay what they are: decisions that cannot be written are counted, and the log says so."""
    function, error = LEDGER[name]
    course = bench.play(scenario, [bench.codes[function]], lambda _: _raise(error))
    assert course.hits
    assert course.served == bench.clean[scenario].served
    assert not course.forbidden
    assert course.logged
    bench.stand.lines()
    bench.goes_on()


@pytest.mark.parametrize("scenario", ["plain", "denied, plain", "denied inside"])
def test_a_full_disk(bench: Bench, scenario: str) -> None:
    """Verdicts do not wait for the disk, and what could not be written is written when it can be."""
    append = bench.codes["gateway.ledger.file.LedgerFile.append"]
    course = bench.play(scenario, [append], lambda _: _raise(OSError(28, "No space left on device")), written=False)
    assert course.served == bench.clean[scenario].served
    assert course.lines == []
    assert len(bench.stand.lines()) == 1
    bench.goes_on()
