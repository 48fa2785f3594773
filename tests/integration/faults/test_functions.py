"""Every function of the proxy and its addons breaks once, wherever a client's way leads through it.

The table is made from the code: a function that is added is broken too. What is asserted follows from when it broke.
Before the last decision on a flow was made: nobody is served, nothing is sent, and the ledger has the denial.
Afterwards the verdict stands, and what may not happen is that the process, or another client, suffers.
"""

import gc
from inspect import CO_COROUTINE
from types import ModuleType

import pytest

import addons
import gateway.proxy
from tests.integration.faults.bench import KINDS, Bench, Course
from tests.integration.faults.injection import functions, modules
from tests.integration.faults.scenarios import SCENARIOS

pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets of what broke, closed by the collector
    # A transport whose `connection_made` raises at its beginning is shown to nobody: uvloop itself lets go of it,
    # which closes it, and warns that nobody had.
    "ignore:unclosed resource <TCPTransport:ResourceWarning",
)

MODULES: list[ModuleType] = [
    *(module for module in modules(addons.__name__) if not module.__name__.endswith((".standalone", ".egress"))),
    *modules(gateway.proxy.__name__),
]
POINTS = sorted(name for module in MODULES for name in functions(module))

GUARDS = {
    "addons.asked.blank_request": "what every record of a crash is made with",
    "gateway.proxy.arrivals.is_gone": "the connection has no object yet: it is cut off",
    "gateway.proxy.case.Case.__init__": "the connection has no object yet: it is cut off",
    "gateway.proxy.case.Case.refuse": "what every record of a crash is made with",
    "gateway.proxy.door.Door._begin": "the connection has no object yet: it is cut off",
    "gateway.proxy.lean.LeanHandler.hook_task": "catches what hooks raise; the flow waits for it until it is idle",
    "gateway.proxy.inspect.Handler.open_connection": "catches what connecting raises; then as above",
    "gateway.proxy.inspect.Handler.check": "the sweeper cuts the connection off",
    "gateway.proxy.listener.ClientConnection.__init__": "the connection has no object yet: it is cut off",
    "gateway.proxy.listener.ClientConnection._nowhere": "what every record of a crash is made with",
    "gateway.proxy.listener.ClientConnection.check": "the sweeper cuts the connection off",
    "gateway.proxy.listener.ClientConnection.connection_lost": "nobody is there any more; the loop logs",
    "gateway.proxy.listener.ClientConnection.connection_made": "catches what it calls raises; the loop logs the rest",
    "gateway.proxy.listener.ClientConnection.data_received": "catches what it calls raises; the loop closes",
    "gateway.proxy.listener.ClientConnection.eof_received": "catches what it calls raises; the loop closes",
    "gateway.proxy.listener.ClientConnection._prove": "ends when its time is over",
    "gateway.proxy.live.LiveTunnel._end_by": "ends tunnels; the sweeper cuts off",
    "gateway.proxy.live.LiveTunnel.check": "the sweeper cuts the tunnel off",
    "gateway.proxy.splice.Splice.check": "the sweeper cuts the tunnel off",
    "gateway.proxy.pipes.Pipe.connection_made": "nothing is sent to an origin that has no transport",
}
"""Where a fault at the very beginning is beyond the function's own guard: the flow ends, and may have no line."""
COUNTS = {
    "addons.volume.end_by",
    "gateway.proxy.desk.Desk.leave",
    "gateway.proxy.farewell.Farewell.connection_lost",
    "gateway.proxy.inspect.Inspector.take.<locals>.ended",
    "gateway.proxy.listener._count_out",
    "gateway.proxy.listener.ClientConnection._hand_over",
    "gateway.proxy.listener.ClientConnection._leave_to_inspector.<locals>.gone",
    "gateway.proxy.listener.ClientConnection.connection_lost",
    "gateway.proxy.splice.Half.connection_lost",
    "gateway.proxy.splice.Half.connection_made",
    "gateway.proxy.splice.Splice.lost",
    "gateway.proxy.splice.Splice._end",
}
"""These count connections out: one that is not counted out stays counted, and its client has one less to open."""
ENDS = {
    "addons.endings.Endings.blame": "what a crash is recorded with",
    "addons.endings.Endings.end_all": "what a crash is recorded with",
    "gateway.proxy.case.Case.flawed": "what ends what is under way",
    "gateway.proxy.splice.Splice.abort": "cuts a tunnel off; where that never works, nothing does",
}
"""Broken once, and not for good."""
AFTERTHOUGHTS = {
    "gateway.proxy.authentication.Authenticator._learn": "remembers that a password was right: it was",
    "gateway.proxy.authentication.Memory.add": "remembers that a password was right: it was",
    "gateway.proxy.authentication.Tries.give_back": "forgives a right password: it was one",
    "gateway.proxy.front.Front._look": "says whether many wait: they have come, and are served in that order",
    "gateway.proxy.front.waiting_in_kernel": "says how many wait: they have come, and are served in that order",
    "gateway.proxy.turns.Turns._renew": "says who is next: should it fail, everybody is",
}
"""Nothing that is decided depends on these: what they are called for goes on without them, and the log tells."""
NO_POINTS = {
    "gateway.proxy.arrivals.Arrivals._accept": "is called again by the event loop: nobody was accepted yet",
    "gateway.proxy.door.Door._go": "closes the socket in the end, whatever it calls does",
    "gateway.proxy.entrance.Entrance._next": "is the timer, and the guard of what it calls",
    "gateway.proxy.front.Front._welcome": "is the guard of accepting: there is nothing around it",
    "gateway.proxy.server.Proxy._welcome": "is itself the guard of accepting: there is nothing around it",
    "gateway.proxy.server.Proxy.certificate": "for tests and the command line",
    "gateway.proxy.server.Proxy.open_connections": "for tests and stopping",
    "gateway.proxy.sweeper.Sweeper._sweep": "is the timer: there is nothing around it",
    "gateway.proxy.turns.Turns._next": "is the timer, and the guard of what it calls: there is nothing around it",
}


def check(bench: Bench, point: str, scenario: str, kind: str, course: Course) -> None:
    """Assert what has to be true whatever broke, and what has to be true when it broke so early."""
    clean = bench.clean[scenario]
    assert course.forbidden == 0
    assert course.served <= clean.served
    assert course.ended or point in COUNTS
    if point in AFTERTHOUGHTS:
        assert course.logged
    if point in AFTERTHOUGHTS or not bench.before_the_verdict(scenario, course):
        return
    single = SCENARIOS[scenario].lines == 1
    assert not course.served or not single
    if single and bench.before_dialling(scenario, course) and "reload" not in scenario:
        assert course.octets == 0
    if kind == "cancelled by nobody" or point in GUARDS:
        return
    assert course.logged
    allowed = {"internal-error", *clean.denials}
    assert course.denials
    assert set(course.denials) <= allowed
    if single and not clean.denials:
        assert len(course.denials) == 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_broken(bench: Bench, name: str) -> None:
    """Every scenario is what its row says: what it is compared with when something breaks."""
    course, expected = bench.clean[name], SCENARIOS[name]
    assert (course.served, len(course.lines)) == (expected.served, expected.lines)
    assert course.ended
    assert not course.forbidden
    assert course.decisions or not course.lines


def test_the_tables_name_what_there_is() -> None:
    """A function that has another name now is not excused by its old one."""
    assert {*GUARDS, *COUNTS, *ENDS, *AFTERTHOUGHTS, *NO_POINTS} <= set(POINTS)


@pytest.mark.parametrize("point", [point for point in POINTS if point not in NO_POINTS])
def test_fails_closed(bench: Bench, point: str) -> None:
    """Whatever this function raises, nothing undecided passes, and the next client is served."""
    code = bench.codes[point]
    scenarios = bench.scenarios_of(code)
    for scenario in scenarios[:1]:
        for kind, begin in KINDS.items():
            if kind == "out of memory" or (kind == "cancelled by nobody" and not code.co_flags & CO_COROUTINE):
                continue
            if (point in GUARDS or point in ENDS) and kind != "an error":
                continue
            course = bench.play(scenario, [code], begin(), wait=0.2 if point in COUNTS else 5)
            if course.hits:
                check(bench, point, scenario, kind, course)
        bench.goes_on()
    if point in GUARDS:  # sockets that were cut off before anybody had them
        gc.collect()
