"""The schedules call commands that exist, with options that exist, and spread their load."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from gateway.cli import main
from gateway.units import parse_duration

DEPLOY = Path(__file__).parents[2] / "deploy"
CRON = (DEPLOY / "cron/gateway-refresh").read_text()
SERVICE = (DEPLOY / "systemd/gateway-refresh.service").read_text()
TIMER = (DEPLOY / "systemd/gateway-refresh.timer").read_text()
CRONJOB = yaml.safe_load((DEPLOY / "kubernetes/refresh-cronjob.yaml").read_text())


def check(argv: list[str]) -> dict[str, object]:
    """Parse a command line as the program would; return its options."""
    command = main.get_command(click.Context(main), argv[0])
    assert command is not None
    context = command.make_context(argv[0], argv[1:])
    return dict(context.params)


def test_cron() -> None:
    """One line, in the form of /etc/cron.d: five times, a user, a command; it waits, is quiet and gives way."""
    lines = [line for line in CRON.splitlines() if line and not line.startswith("#") and "=" not in line.split()[0]]
    (line,) = lines
    *times, user, command = line.split(None, 6)
    assert len(times) == 5
    assert all(re.fullmatch(r"[0-9*/,-]+", each) for each in times)
    assert user == "gateway"
    nice, how, much, program, *argv = shlex.split(command)
    assert (nice, how, program) == ("nice", "-n", "gateway")
    assert 0 < int(much) < 19, "it gives way, but is not starved on a busy host"
    options = check(argv)
    assert (options["quiet"], options["jitter"]) == (True, parse_duration("10m"))


def test_systemd() -> None:
    """The unit calls a command that exists, knows its exit codes, and the timer spreads hosts."""
    found = re.search(r"^ExecStart=/usr/local/bin/gateway (.*)$", SERVICE, re.MULTILINE)
    assert found is not None
    assert check(shlex.split(found[1]))["quiet"]
    assert "SuccessExitStatus=1" in SERVICE
    weight = re.search(r"^CPUWeight=(\d+)$", SERVICE, re.MULTILINE)
    assert weight is not None
    assert int(weight[1]) < 100, "it gives way to whoever has the usual weight"
    assert "RandomizedDelaySec=10min" in TIMER


def test_systemd_accepts_it(tmp_path: Path) -> None:
    """systemd-analyze finds nothing wrong with the units."""
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs systemd")
        pytest.skip("systemd-analyze is not installed")
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text().replace("/usr/local/bin/gateway", "/bin/true")
        (tmp_path / path.name).write_text(text)
    command = [program, "verify", "--man=no", str(tmp_path / "gateway-refresh.timer")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    ours = [line for line in result.stderr.splitlines() if "gateway-refresh" in line]
    assert ours == []


def test_kubernetes() -> None:
    """One refresh at a time, unprivileged, on a command line that exists."""
    spec = CRONJOB["spec"]
    assert (CRONJOB["kind"], spec["concurrencyPolicy"]) == ("CronJob", "Forbid")
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert check(container["args"])["jitter"] == parse_duration("10m")
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
