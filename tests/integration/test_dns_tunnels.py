"""Real tunnels through the resolver: none stands, and none gets more than 200 octets out."""

import signal
from typing import Any

import pytest

from tests.peers.namespace import wait_until
from tests.peers.tunnels_live import CLIENT, HEX, HEX_FILE, RESOLVER, TOOLS, UPSTREAM, ZONE, Lab, Tool

POLICY = f"""
version: 1
state_dir: state
dns:
  listen: ["udp://{RESOLVER}:53", "tcp://{RESOLVER}:53"]
  workers: WORKERS
  upstreams: ["udp://{UPSTREAM}"]
proxy: {{listen: []}}
tunnelling: {{TUNNELLING}}
policy: {{default: {{proxy: deny, dns: allow}}}}
"""
ENOUGH = 20_000
"""Octets of a file that show that a tunnel works: a hundred times what may get out of one."""
NO_CONTROLS = "controls: {types: false, octets: false, tlds: false, min_ttl: 0s}"


def policy(tunnelling: str, workers: int = 1) -> str:
    """Return a policy with a tunnelling section."""
    return POLICY.replace("{TUNNELLING}", "{" + tunnelling + "}").replace("WORKERS", str(workers))


def alerts(lab: Lab) -> list[dict[str, Any]]:
    """Return what the ledger says about tunnels."""
    return [line for line in lab.outside.ledger() if line.get("event.reason") in ("dns-tunnel", "leak-budget")]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("tool", TOOLS, ids=str)
def test_without_the_detector_the_tunnel_works(tunnel_lab: Lab, tool: Tool) -> None:
    """With the detector off, a file and a chat come out: or the next test would prove nothing.

    dns2tcp goes straight to the name server: it needs letters to keep their case, and this resolver never keeps it.
    """
    server = RESOLVER if tool.program == "iodine" else UPSTREAM
    tunnel_lab.outside.serve(policy(f"action: off, {NO_CONTROLS}"))
    leak = tunnel_lab.try_out(tool, server, patience=10, size=ENOUGH, tries=3)
    assert leak.established
    assert leak.arrived > ENOUGH
    assert leak.octets > ENOUGH, "that is counted where it leaves, too"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("tool", TOOLS, ids=str)
def test_with_the_detector_it_does_not(tunnel_lab: Lab, tool: Tool) -> None:
    """It never stands, hardly anything leaves, and the ledger names client, zone and techniques."""
    tunnel_lab.outside.serve(policy("action: deny"))
    leak = tunnel_lab.try_out(tool, patience=3)
    assert not leak.established
    assert leak.arrived == 0
    assert leak.octets <= 200, "not even with the framing of names"
    first = wait_until(lambda: alerts(tunnel_lab), "a line in the ledger")[0]
    assert first["source.ip"] == CLIENT
    assert f"zone {ZONE}" in first["gateway.detail"]
    assert first["threat.technique.id"] == ["T1071.004", "T1048.003", "T1572"]
    assert first["event.kind"] == "alert"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool.qtype in ("NULL", "KEY")], ids=str)
def test_accounting_alone_is_enough(tunnel_lab: Lab, tool: Tool) -> None:
    """Without the controls that refuse NULL, KEY and odd octets, what is told is still bounded."""
    tunnel_lab.outside.serve(policy(f"action: deny, {NO_CONTROLS}"))
    leak = tunnel_lab.try_out(tool, patience=3)
    assert not leak.established
    assert leak.arrived == 0
    assert leak.octets <= 200


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("action", "least", "most"), [("off", HEX_FILE, HEX_FILE), ("deny", 1, 200)])
def test_a_loop_in_a_shell(tunnel_lab: Lab, action: str, least: int, most: int) -> None:
    """A file in hexadecimal names gets out as a whole without the detector, and at most 200 octets of it with it."""
    tunnel_lab.outside.serve(policy(f"action: {action}"))
    assert least <= tunnel_lab.try_out(HEX).arrived <= most


def closed(lab: Lab) -> str:
    """Ask for an ordinary name of the zone; return what is denied of it, or the rcode."""
    shown = lab.inside.run("dig", f"@{RESOLVER}", "+tries=1", f"www.{ZONE}").stdout
    return "denied" if "EDE: 15" in shown else shown.partition("status: ")[2].partition(",")[0]


@pytest.mark.timeout(120)
def test_a_suspect_is_shown_and_released(tunnel_lab: Lab) -> None:
    """`gateway tunnels` shows the tunnel; what `release` prints, and SIGHUP, open the zone again in every worker."""
    text = policy("action: deny", workers=2)
    gateway = tunnel_lab.outside.serve(text)
    config = str(tunnel_lab.outside.folder / "gateway.yaml")
    for index in range(12):  # from a new port each time, so that both workers get their share
        name = f"k2bdxqvwzjhnfpyrtmlsacgu3e4i5o6u7k2bdxqvwzjhnfp{index}yrtmlsacgu3e4i.{ZONE}"
        tunnel_lab.inside.run("dig", f"@{RESOLVER}", "+tries=1", name)
    assert {closed(tunnel_lab) for _ in range(6)} == {"denied"}
    wait_until(lambda: alerts(tunnel_lab), "a line in the ledger")
    shown = tunnel_lab.outside.gateway("tunnels", "-c", config)
    assert shown.returncode == 1, shown.stderr
    assert f"{CLIENT}  {ZONE}  closed" in shown.stdout
    printed = tunnel_lab.outside.gateway("tunnels", "release", "-c", config, CLIENT, ZONE).stdout
    released = text.replace("tunnelling: {action: deny}\n", printed)
    assert released != text
    (tunnel_lab.outside.folder / "gateway.yaml").write_text(released)
    gateway.send_signal(signal.SIGHUP)
    wait_until(lambda: [closed(tunnel_lab) for _ in range(6)] == ["NXDOMAIN"] * 6, "the zone to be open")
