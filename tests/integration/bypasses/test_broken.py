"""Bypass 33: something in the gateway breaks. Each function on its own: `tests/integration/faults`."""

import asyncio
import time
from pathlib import Path

import pytest

from addons.gate import Gate
from gateway.decision import Reason, Verdict
from gateway.ledger import Ledger
from gateway.request import Client, Tunnel
from gateway.runtime import Runtime, load_state
from gateway.selfcheck.http2 import begin
from gateway.worker import Worker
from tests.builders import an_address
from tests.integration.bypasses.world import a_world


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, RecursionError, asyncio.CancelledError])
async def test_broken_addon(tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """33: an addon that raises ends the request with one line that says so, and the next client is served."""

    def fail(*_: object) -> None:
        raise error("injected")

    async with a_world(tmp_path) as world:
        request = f"GET http://{world.target}/ HTTP/1.1\r\nHost: {world.target}\r\nConnection: close\r\n\r\n".encode()
        with monkeypatch.context() as patch:
            patch.setattr(Gate, "_decide", fail)
            answer = await world.rig.ask(request)
            await world.rig.settled()
        assert b"200 OK" not in answer
        assert world.rig.ledger.denials == [Reason.INTERNAL_ERROR]
        assert len(world.rig.ledger.lines) == 1
        assert world.good.untouched
        assert (await world.rig.ask(request)).startswith(b"HTTP/1.1 200 ")


async def test_wrong_preface(tmp_path: Path) -> None:
    """33: HTTP/2 where HTTP/1 was agreed on is no request."""
    async with a_world(tmp_path) as world:
        await world.held(await world.rig.ask(begin()), Reason.MALFORMED)


POLICY = """\
version: 1
state_dir: ./state
proxy: {auth: {htpasswd: htpasswd}}
policy:
  rules:
    - {name: not-there, action: deny, to: {domains: [bad.good.test]}}
    - {name: good, action: allow, to: {domains: [.good.test]}}
"""
LISTS = "lists:\n  ours: {path: ours.txt, format: domains, categories: [ours]}\n"
BROKEN: dict[str, str | None] = {
    **{f"half written, {at} of {len(POLICY)}": POLICY[:at] for at in range(0, len(POLICY) - 30, 23)},
    "an unknown key": POLICY + "bogus: 1\n",
    "binary": "\0\1\2",
    "no version": POLICY.replace("version: 1\n", ""),
    "a list that is missing": POLICY + LISTS,
    "a file of users that is missing": POLICY.replace("htpasswd: htpasswd", "htpasswd: elsewhere"),
    "gone": None,
}


def asking(host: str) -> Tunnel:
    """Return a CONNECT."""
    return Tunnel(client=Client(address=an_address("192.0.2.1")), host=host, port=443)


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_reload(tmp_path: Path, name: str) -> None:
    """33: whatever becomes of the policy file, the policy in force stays, whole; the ledger has a line about it."""
    (tmp_path / "htpasswd").write_text("anna:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n")
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    state = load_state(path, 1)
    with Ledger(state.config.state_dir / "ledger", role="proxy", worker=0, clock=time.time) as ledger:
        worker = Worker("proxy", 0, Runtime(state, ledger), lambda: None)
        broken = BROKEN[name]
        if broken is None:
            path.unlink()
        else:
            path.write_text(broken)
        await worker._reload()
        kept = worker.runtime.state is state
        assert kept or name.startswith("half written")  # the beginning of a good file may be one too: with less in it
        if kept:
            assert worker.runtime.decide(asking("www.good.test")).verdict is Verdict.ALLOW
        assert worker.runtime.decide(asking("bad.good.test")).verdict is Verdict.DENY
        assert worker.runtime.decide(asking("evil.test")).verdict is Verdict.DENY
        assert ledger.flush()
        text = (state.config.state_dir / "ledger" / "proxy-0.jsonl").read_text()
        assert text.count("policy-refused") == int(kept)
        path.write_text(POLICY)
        await worker._reload()
        assert worker.runtime.decide(asking("www.good.test")).verdict is Verdict.ALLOW
