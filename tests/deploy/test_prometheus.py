"""The scrape configuration and the alerts: good to Prometheus' own tool, and about numbers that the gateway tells."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.control.board import Board
from gateway.control.cells import COUNTERS, GAUGES, PREFIX
from gateway.control.slots import SIZE, Pen, Report, UpstreamFigures, read, words_of
from gateway.control.survey import Facts, Process, survey
from gateway.decision import Reason
from gateway.dns.tally import BOUNDS, FAILURES, Source
from gateway.feeds.status import FeedStatus, Status, metrics

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
ALERTS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


def told() -> set[str]:
    """Return the names of all families that a gateway tells."""
    board, memory = Board.of([("dns", 0), ("proxy", 0)]), memoryview(bytearray(SIZE * 2))
    figures = UpstreamFigures(1, 1, (0,) * len(FAILURES), (0,) * (len(BOUNDS) + 1))
    for number, post in enumerate(board.posts):
        board.born(post.role, post.index, 7)
        report = Report(dict.fromkeys(COUNTERS, 1), dict.fromkeys(GAUGES, 1), {"up": figures}, (1, 1))
        Pen(words_of(memory, number), 7).write(report, 1)
    status = Status(refreshed=1.0, feeds={"a": FeedStatus(name="a", version="v")})
    facts = Facts(
        version="1",
        python="3",
        started=1.0,
        feeds=tuple(metrics(status, 2.0)),
        processes=(Process("supervisor", "", 1, 1, 1, 1.0),),
    )
    readings = [read(words_of(memory, number)) for number in range(2)]
    return {PREFIX + family.name for family in survey(board, readings, facts) if family.samples}


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_alerts_are_about_what_there_is(alert: dict[str, Any]) -> None:
    """Each name is one that the gateway tells, and so is each reason and source."""
    names = set(re.findall(rf"{PREFIX}\w+", alert["expr"]))
    assert names <= told()
    assert names or "up{" in alert["expr"]
    for label, known in (("reason", set(Reason)), ("source", {source.name.lower() for source in Source})):
        for values in re.findall(rf'{label}=~?"([^"]*)"', alert["expr"]):
            assert set(values.split("|")) <= known


@promtool
def test_the_configuration_is_good(tmp_path: Path) -> None:
    """Prometheus' own check finds nothing, the token's file included."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "egress-gateway.token").write_text("x" * 43)
    result = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yaml"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(ALERTS)} rules found" in result.stdout


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """Return a series for promtool, a value a minute."""
    inside = ",".join(f'{key}="{value}"' for key, value in {"instance": "gw", **labels}.items())
    return {"series": f"{name}{{{inside}}}", "values": values}


TROUBLE: dict[str, list[dict[str, str]]] = {
    "EgressGatewayDown": [series("up", "0x60", job="egress-gateway")],
    "EgressGatewayWorkersMissing": [
        series("egress_gateway_workers_serving", "1x60", role="dns"),
        series("egress_gateway_workers", "2x60", role="dns"),
    ],
    "EgressGatewayWorkersRestarting": [series("egress_gateway_worker_restarts_total", "0+1x60", role="dns")],
    "EgressGatewayLedgerFailing": [series("egress_gateway_ledger_failing", "1x60", role="dns")],
    "EgressGatewayLedgerGaps": [series("egress_gateway_ledger_folded_total", "0+5x60", role="dns")],
    "EgressGatewayPolicyRefused": [series("egress_gateway_policy_last_reload_ok", "0x60")],
    "EgressGatewayListsOld": [series("egress_gateway_feed_stale", "1x120", feed="threats")],
    "EgressGatewayRefreshNotRun": [series("egress_gateway_refresh_timestamp_seconds", "-90000x60")],
    "EgressGatewayUpstreamFailing": [
        series("egress_gateway_dns_upstream_failures_total", "0+60x60", upstream="udp://9.9.9.9:53", cause="timeout"),
        series("egress_gateway_dns_upstream_queries_total", "0+100x60", upstream="udp://9.9.9.9:53"),
    ],
    "EgressGatewayDnsFailing": [
        series("egress_gateway_dns_answers_total", "0+10x60", source="failed"),
        series("egress_gateway_dns_queries_total", "0+100x60", transport="udp"),
    ],
    "EgressGatewayTunnel": [
        series("egress_gateway_denials_total", "0+1x60", point="dns", reason="dns-tunnel", enforced="true")
    ],
    "EgressGatewayInternalErrors": [
        series("egress_gateway_denials_total", "0+1x60", point="proxy", reason="internal-error", enforced="true")
    ],
    "EgressGatewayDescriptors": [
        series("egress_gateway_process_open_fds", "900x60", role="proxy", worker="0"),
        series("egress_gateway_process_max_fds", "1000x60", role="proxy", worker="0"),
    ],
}
"""Numbers under which one alert is raised."""
WELL = [
    series("up", "1x60", job="egress-gateway"),
    series("egress_gateway_workers_serving", "2x60", role="dns"),
    series("egress_gateway_workers", "2x60", role="dns"),
    series("egress_gateway_worker_restarts_total", "1x60", role="dns"),
    series("egress_gateway_ledger_failing", "0x60", role="dns"),
    series("egress_gateway_ledger_folded_total", "7x60", role="dns"),
    series("egress_gateway_policy_last_reload_ok", "1x60"),
    series("egress_gateway_feed_stale", "0x60", feed="threats"),
    series("egress_gateway_refresh_timestamp_seconds", "0x60"),
    series("egress_gateway_dns_upstream_failures_total", "0+1x60", upstream="udp://9.9.9.9:53", cause="timeout"),
    series("egress_gateway_dns_upstream_queries_total", "0+100x60", upstream="udp://9.9.9.9:53"),
    series("egress_gateway_dns_answers_total", "0+1x60", source="failed"),
    series("egress_gateway_dns_queries_total", "0+100x60", transport="udp"),
    series("egress_gateway_denials_total", "0+9x60", point="dns", reason="listed", enforced="true"),
    series("egress_gateway_denials_total", "3x60", point="dns", reason="dns-tunnel", enforced="true"),
    series("egress_gateway_process_open_fds", "90x60", role="proxy", worker="0"),
    series("egress_gateway_process_max_fds", "1000x60", role="proxy", worker="0"),
]


def alerts_raised(folder: Path, numbers: list[dict[str, str]], at: str) -> set[str]:
    """Return the alerts that Prometheus raises over such numbers."""
    case = {
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": numbers,
                "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": []} for alert in TROUBLE],
            }
        ],
    }
    (folder / "case.yaml").write_text(yaml.safe_dump(case))
    done = subprocess.run(
        ["promtool", "test", "rules", folder / "case.yaml"], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    raised = set(re.findall(r"alertname: *(\w+)", said))
    assert bool(raised) == bool(done.returncode), said
    return raised


def test_every_alert_has_its_trouble() -> None:
    """An alert that is added is tried as well."""
    assert {alert["alert"] for alert in ALERTS} == set(TROUBLE)


@promtool
@pytest.mark.parametrize("alert", TROUBLE)
def test_trouble_raises_its_alert(alert: str, tmp_path: Path) -> None:
    """Under the numbers of one kind of trouble, Prometheus raises the alert for it and no other."""
    assert alerts_raised(tmp_path, TROUBLE[alert], "90m" if alert == "EgressGatewayListsOld" else "30m") == {alert}


@promtool
def test_an_ordinary_day_raises_none(tmp_path: Path) -> None:
    """Denials are what a gateway is there for; some failures are life."""
    assert alerts_raised(tmp_path, WELL, "30m") == set()
