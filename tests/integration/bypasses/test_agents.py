"""Bypass 29: programs that claim to be another, or nothing."""

from pathlib import Path

import pytest

from gateway.decision import Reason, Verdict
from gateway.rule import Rule
from tests.builders import CHROME
from tests.gateway.proxy.samples import a_hello
from tests.integration.bypasses.world import World, a_world
from tests.integration.proxy_rig import client_context, until
from tests.peers.tls_origin import TlsOrigin, make_certificate, start_tls

NO_CURL = Rule(name="no-curl", action=Verdict.DENY, tools=("curl",))


def asking(world: World, method: str, *agents: str) -> bytes:
    """Return a request for the allowed place that claims to come from these programs."""
    target = world.target if method == "CONNECT" else f"http://{world.target}/"
    fields = [f"User-Agent: {agent}" for agent in agents]
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {world.target}", *fields, "", ""]).encode()


AGENTS: dict[str, tuple[list[str], Reason]] = {
    "upper case": (["CURL/8"], Reason.TOOL),
    "padded": (["   \t curl/8.5.0 \t  "], Reason.TOOL),
    "behind a browser": ([f"{CHROME} curl/8.5.0"], Reason.TOOL),
    "in a comment": (["Mozilla/5.0 (curl/8.5.0)"], Reason.TOOL),
    "twice, the first a browser": ([CHROME, "curl/8.5.0"], Reason.TOOL),
    "twice, the second a browser": (["curl/8.5.0", CHROME], Reason.TOOL),
    "64 KB": (["Mozilla/5.0 " + "x" * 65536], Reason.MALFORMED),
    "not ASCII": (["cürl/8"], Reason.MALFORMED),
    "folded": (["Mozilla/5.0\r\n curl/8"], Reason.MALFORMED),
}


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
@pytest.mark.parametrize("name", AGENTS)
async def test_user_agents(tmp_path: Path, name: str, method: str) -> None:
    """29: a tool that a rule denies is denied however its name is written, and beside whatever else."""
    agents, reason = AGENTS[name]
    async with a_world(tmp_path, NO_CURL) as world:
        await world.held(await world.rig.ask(asking(world, method, *agents)), reason)


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
@pytest.mark.parametrize("agents", [[], [""], [" "]], ids=["missing", "empty", "blank"])
async def test_nobody_in_particular(tmp_path: Path, agents: list[str], method: str) -> None:
    """29: who does not say what it is matches no rule that allows a tool, and so has no port to go to."""
    async with a_world(tmp_path, narrowed={"tools": ("wget",)}) as world:
        data = asking(world, method, *agents)
        answer = await world.rig.ask(data + a_hello(b"good.test") if method == "CONNECT" else data)
        await world.held(answer, Reason.PORT)


@pytest.mark.parametrize("inspected", [False, True], ids=["spliced", "inspected"])
@pytest.mark.parametrize("agent", [CHROME, "", "Wget/1.24"], ids=["a browser", "nothing", "wget"])
async def test_curl_in_disguise(tmp_path: Path, agent: str, inspected: bool) -> None:
    """29: curl that claims to be something else is known by its ClientHello (JA4)."""
    async with a_world(tmp_path, NO_CURL, inspected=inspected) as world:
        answer = await world.rig.curl("-A", agent, "-k", f"https://{world.target}/")
        assert answer.code
        await until(lambda: world.rig.ledger.lines)
        assert world.rig.ledger.denials == [Reason.TOOL]
        assert len(world.rig.ledger.lines) == 1
        assert world.rig.names.asked == []
        assert world.good.untouched


async def test_another_agent_inside(tmp_path: Path) -> None:
    """29: a tool that shows itself only inside the tunnel is denied there."""
    certificate = make_certificate(tmp_path / "origin.pem", "good.test")
    async with TlsOrigin(certificate=certificate) as origin, a_world(tmp_path, NO_CURL, inspected=True) as world:
        target = f"good.test:{origin.port}"
        reader, writer = await world.rig.connect()
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {CHROME}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await start_tls(writer, client_context(world.rig.proxy.certificate), "good.test")
        writer.write(f"GET / HTTP/1.1\r\nHost: {target}\r\nUser-Agent: curl/8.5.0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"X-Gateway-Reason: tool\r\n" in answer
        assert world.rig.ledger.denials == [Reason.TOOL]
        assert len(world.rig.ledger.lines) == 1
        assert origin.untouched
