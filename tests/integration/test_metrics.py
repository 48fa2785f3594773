"""Health and metrics of whole gateways: read by the real Prometheus and by curl, after traffic of real clients."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.peers.namespace import ROOT, Internet, wait_until

POLICY = """
version: 1
state_dir: state
control: {listen: ["127.0.0.1:9353", "93.184.215.14:9353"]}
proxy: {workers: 2, ca_bundle: origin.pem}
dns: {workers: 2, rate_limit: null, records: {gw.example.com: [93.184.215.1]}}
lists:
  ours: {path: ours.txt, format: domains, categories: [blocked-by-us]}
policy:
  default: {proxy: deny, dns: allow}
  rules:
    - {name: ours, action: deny, to: {categories: [blocked-by-us]}}
    - {name: read-only, action: allow, to: {domains: [api.example.org]}, http: {methods: [GET]}}
    - {name: web, action: allow, to: {domains: [www.example.com]}}
    - {name: everything-here, action: allow, to: {addresses: [127.0.0.0/8, 93.184.215.14/32], ports: [443, 9353]}}
"""
HEALTH = "http://127.0.0.1:9353/healthz"
METRICS = "http://127.0.0.1:9353/metrics"


def token(world: Internet) -> str:
    """Return the token that the gateway made."""
    return (world.folder / "state/control.token").read_text().strip()


def health(world: Internet) -> tuple[int, str]:
    """Return status and text of /healthz; 0 when nobody answers."""
    done = world.run("curl", "-s", "-m", "10", "-w", "\n%{http_code}", HEALTH)
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def unfit(world: Internet) -> str:
    """Wait until the gateway says that it is not fit for use, and return all that it says."""
    said = ""

    def is_unfit() -> bool:
        nonlocal said
        status, said = health(world)
        assert status in (200, 503)
        return status == 503

    wait_until(is_unfit, "503", 40)
    return said


def metrics(world: Internet) -> dict[str, float]:
    """Return all numbers, by name with labels."""
    done = world.run("curl", "-sf", "-m", "10", "-H", f"Authorization: Bearer {token(world)}", METRICS)
    assert done.returncode == 0, done.stderr
    found = {}
    for family in text_string_to_metric_families(done.stdout):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('egress_gateway_')}{{{labels}}}"] = sample.value
    return found


def types(world: Internet) -> dict[str, str]:
    """Return the type of each family."""
    done = world.run("curl", "-sf", "-H", f"Authorization: Bearer {token(world)}", METRICS)
    return {family.name: family.type for family in text_string_to_metric_families(done.stdout)}


def settle(look: Callable[[], dict[str, float]], expected: dict[str, float], seconds: float = 20) -> None:
    """Wait until all numbers are what they have to be: workers report once a second."""
    end = time.monotonic() + seconds
    while (found := {key: value for key, value in look().items() if key in expected}) != expected:
        assert time.monotonic() < end, {
            key: (found.get(key), value) for key, value in expected.items() if found.get(key) != value
        }
        time.sleep(0.1)


def ask(world: Internet, *names: str, count: int = 1, tcp: bool = False) -> None:
    """Ask the resolver with dig, from ports of its own for each name, so that both workers are asked."""
    for _ in range(count):
        options = ["+tcp"] if tcp else []
        done = world.run("dig", "@127.0.0.1", "-p", "5335", "+tries=1", *options, *names)
        assert done.stdout.count("status: ") == len(names), done.stdout


def get(world: Internet, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Get something through the proxy with curl."""
    trust = str(world.folder / "both-ca.pem")
    return world.run("curl", "-s", "-m", "20", "--cacert", trust, "-x", "http://127.0.0.1:3128", *options, url)


def workers(world: Internet, role: str) -> list[int]:
    """Return the process ids of the workers of a role."""
    parent = str(world.processes[1].pid)
    found = subprocess.run(
        ["pgrep", "-P", parent, "-f", "--", f"--role {role}"], capture_output=True, text=True, check=False
    )
    return sorted(int(line) for line in found.stdout.split())


def served(world: Internet) -> Iterator[Internet]:
    """Serve with two workers for each role; curl trusts its certificates and the origins'."""
    (world.folder / "ours.txt").write_text("pastebin.com\n")
    world.serve(POLICY)
    ca = world.gateway("proxy", "ca", "--export", "--config", str(world.folder / "gateway.yaml")).stdout
    (world.folder / "both-ca.pem").write_text(world.ca.read_text() + ca)
    yield world
    assert token(world) not in (world.folder / "gateway.log").read_text()


@pytest.fixture
def serving(internet: Internet) -> Iterator[Internet]:
    """A gateway of one's own."""
    yield from served(internet)


@pytest.fixture(scope="module")
def steady(shared_internet: Internet) -> Iterator[Internet]:
    """One for all tests that leave everything as it was."""
    yield from served(shared_internet)


def traffic(world: Internet) -> dict[str, float]:
    """Let clients do all kinds of things once, and return what has to be told of it."""
    for name in ("www.example.com", "pastebin.com", "gw.example.com", "api.example.org"):
        ask(world, name, count=3)
    ask(world, "www.example.com", "pastebin.com", tcp=True)
    spliced = [get(world, "https://www.example.com/") for _ in range(3)]
    inspected = [get(world, "https://api.example.org/"), get(world, "https://api.example.org/", "-X", "POST")]
    denied = get(world, "https://pastebin.com/")
    assert [done.returncode for done in spliced] == [0] * 3, spliced
    assert [done.returncode for done in inspected] == [0] * 2, inspected
    assert denied.returncode == 56
    return {
        "dns_queries_total{transport=udp}": 12,
        "dns_queries_total{transport=tcp}": 2,
        "dns_answers_total{source=blocked}": 4,
        "dns_answers_total{source=local}": 3,
        "dns_answers_total{source=failed}": 0,
        "denials_total{enforced=true,point=dns,reason=listed}": 4,
        "denials_total{enforced=true,point=proxy,reason=listed}": 1,
        "denials_total{enforced=true,point=proxy,reason=method}": 1,
        "proxy_connections_total{}": 6,
        "proxy_open_connections{}": 0,
        "proxy_tunnels_total{mode=splice}": 3,
        "proxy_tunnels_total{mode=inspect}": 2,
        "proxy_open_tunnels{mode=splice}": 0,
        "proxy_open_tunnels{mode=inspect}": 0,
        "proxy_requests_total{scheme=https}": 1,
        "proxy_requests_total{scheme=http}": 0,
        "workers_serving{role=dns}": 2,
        "workers_serving{role=proxy}": 2,
    }


@pytest.mark.timeout(180)
def test_prometheus_sees_what_happened(serving: Internet) -> None:
    """Prometheus, configured as shipped, finds the numbers of known traffic, added up over the workers of a role."""
    if shutil.which("prometheus") is None and not os.environ.get("CI"):
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    folder = serving.folder / "prometheus"
    shutil.copytree(ROOT / "deploy/prometheus", folder)
    shutil.copy(serving.folder / "state/control.token", folder / "egress-gateway.token")
    shipped = (folder / "prometheus.yaml").read_text()
    assert "scrape_interval: 15s" in shipped
    (folder / "prometheus.yaml").write_text(shipped.replace("_interval: 15s", "_interval: 1s"))
    expected = traffic(serving)
    serving.start(
        *("prometheus", "--config.file", str(folder / "prometheus.yaml"), "--log.level=warn"),
        *("--storage.tsdb.path", str(folder / "data"), "--web.listen-address", "127.0.0.1:9090"),
        log="prometheus.log",
    )

    def asked(query: str) -> dict[str, float]:
        url = f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(query)}"
        done = serving.run("curl", "-s", "-m", "5", url)
        if not done.stdout.startswith("{"):
            return {}  # it has only just been started
        found = {}
        for row in json.loads(done.stdout)["data"]["result"]:
            name = row["metric"].pop("__name__", "").removeprefix("egress_gateway_")
            labels = sorted((k, v) for k, v in row["metric"].items() if k not in ("job", "instance"))
            found[f"{name}{{{','.join(f'{key}={value}' for key, value in labels)}}}"] = float(row["value"][1])
        return found

    wait_until(lambda: asked('up{job="egress-gateway"} == 1'), "Prometheus to scrape", 40)
    everything = '{job="egress-gateway"}'

    settle(lambda: asked(everything), expected)
    told = asked(everything)
    queries = sum(value for key, value in told.items() if key.startswith("dns_queries_total"))
    answers = sum(value for key, value in told.items() if key.startswith("dns_answers_total"))
    assert answers == queries == 14
    for key in ("out", "in"):
        assert told[f"proxy_bytes_total{{direction={key},mode=splice}}"] > 1000
    assert told["proxy_bytes_total{direction=in,mode=inspect}"] > 0
    upstream = {key: value for key, value in told.items() if "upstream=udp://9.9.9.9:53" in key}
    assert upstream["dns_upstream_queries_total{upstream=udp://9.9.9.9:53}"] >= 4
    assert (
        upstream["dns_upstream_seconds_count{upstream=udp://9.9.9.9:53}"]
        == upstream["dns_upstream_queries_total{upstream=udp://9.9.9.9:53}"]
    )
    assert told["feed_entries{feed=ours}"] == 1
    assert asked('ALERTS{alertstate="firing"}') == {}
    assert not [
        line for line in (serving.folder / "prometheus.log").read_text().splitlines() if "level=error" in line
    ]


@pytest.mark.timeout(180)
def test_no_number_goes_backwards_when_workers_are_killed(serving: Internet) -> None:
    """kill -9 of every worker in turn: counters never get smaller, and what was told before is kept."""
    before = traffic(serving)
    names = {name for name, kind in types(serving).items() if kind == "counter"}

    def counters() -> dict[str, float]:
        found = metrics(serving)
        return {
            key: value
            for key, value in found.items()
            if f"egress_gateway_{key.partition('{')[0].removesuffix('_total')}" in names
        }

    kept = {key: value for key, value in before.items() if "_total" in key}
    settle(counters, kept)
    last = counters()
    killed = workers(serving, "dns") + workers(serving, "proxy")
    assert len(killed) == 4
    for number, pid in enumerate(killed, 1):
        os.kill(pid, signal.SIGKILL)

        def restarted() -> bool:
            nonlocal last
            found = counters()
            assert set(last) <= set(found)
            assert not [key for key, value in last.items() if found[key] < value]
            last = found
            both = (found["worker_restarts_total{role=dns}"], found["worker_restarts_total{role=proxy}"])
            return sum(both) == number and health(serving)[0] == 200  # noqa: B023 -- called at once

        wait_until(restarted, "a new worker", 40)
    ask(serving, "pastebin.com", count=4)
    more = {"dns_queries_total{transport=udp}": 16.0, "denials_total{enforced=true,point=dns,reason=listed}": 8.0}
    settle(counters, more)


def test_metrics_are_for_who_has_the_token(steady: Internet) -> None:
    """Without it, with a wrong one, by another scheme or in the query: 401 or 404, and not a number."""
    good = token(steady)
    assert (steady.folder / "state/control.token").stat().st_mode & 0o777 == 0o600
    for options, status in (
        ([METRICS], "401"),
        (["-H", f"Authorization: Bearer {good[:-1]}", METRICS], "401"),
        (["-H", f"Authorization: Bearer {good}x", METRICS], "401"),
        (["-u", f"gateway:{good}", METRICS], "401"),
        ([f"{METRICS}?token={good}"], "404"),
        (["-X", "POST", "-d", good, METRICS], "405"),
        (["-H", f"Authorization: Bearer {good}", "http://127.0.0.1:9353/"], "404"),
        (["-H", f"Authorization: Bearer {good}", METRICS], "200"),
    ):
        done = steady.run("curl", "-s", "-m", "10", "-w", "\n%{http_code}", *options)
        assert done.stdout.rpartition("\n")[2] == status, options
        assert ("egress_gateway_" in done.stdout) == (status == "200")


def test_not_through_the_proxy(steady: Internet) -> None:
    """Not even where rules allow every address and port there: a client must not look at the gateway through it."""
    for place in ("127.0.0.1:9353", "93.184.215.14:9353"):
        reached = steady.run(
            "curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", f"http://{place}/healthz"
        )
        assert reached.stdout == "200"
        done = get(steady, f"http://{place}/healthz", "-D", "-")
        assert "403" in done.stdout.splitlines()[0]
        assert "X-Gateway-Reason: private-address" in done.stdout
        assert get(steady, f"http://{place}/healthz", "-p").returncode != 0


@pytest.mark.timeout(180)
def test_health_turns_and_comes_back(steady: Internet) -> None:
    """A worker that is stuck, lists that are gone: 503 and why; and 200 again when it is over."""
    assert health(steady) == (200, "ok\n")
    stuck = workers(steady, "dns")[0]
    os.kill(stuck, signal.SIGSTOP)
    try:
        text = unfit(steady)
        assert "dns worker" in text
        assert "has been stuck for" in text
    finally:
        os.kill(stuck, signal.SIGCONT)
    wait_until(lambda: health(steady) == (200, "ok\n"), "health")
    snapshot = steady.folder / "state/snapshot.egs"
    snapshot.rename(steady.folder / "aside.egs")
    text = unfit(steady)
    assert text == "unhealthy\nthere are no compiled lists: run gateway refresh\n"
    (steady.folder / "aside.egs").rename(snapshot)
    wait_until(lambda: health(steady) == (200, "ok\n"), "health")
    gateway_yaml = steady.folder / "gateway.yaml"
    gateway_yaml.write_text(POLICY + "bogus: 1\n")
    os.kill(steady.processes[1].pid, signal.SIGHUP)
    wait_until(lambda: "note: the policy file was refused" in health(steady)[1], "the note")
    assert health(steady)[0] == 200
    assert metrics(steady)["policy_last_reload_ok{}"] == 0
    gateway_yaml.write_text(POLICY)
    os.kill(steady.processes[1].pid, signal.SIGHUP)
    wait_until(lambda: health(steady) == (200, "ok\n"), "health")
    reloads = {"policy_reloads_total{outcome=ok}": 1.0, "policy_reloads_total{outcome=refused}": 1.0}
    settle(lambda: metrics(steady), reloads)


@pytest.mark.timeout(180)
def test_a_gateway_that_drains_is_not_healthy(serving: Internet) -> None:
    """A tunnel is told of while it is open, with its octets; after SIGTERM, new clients are sent elsewhere."""
    client = serving.start(
        *("openssl", "s_client", "-quiet", "-proxy", "127.0.0.1:3128", "-connect", "www.example.com:443"),
        *("-servername", "www.example.com"),
        log="tunnel.log",
        stdin=subprocess.PIPE,
    )
    open_now = "proxy_open_tunnels{mode=splice}"
    settle(lambda: metrics(serving), {open_now: 1, "proxy_open_connections{}": 1})
    octets = "proxy_bytes_total{direction=out,mode=splice}"
    wait_until(lambda: metrics(serving)[octets] > 200, "octets of a tunnel that is open")
    serving.processes[1].terminate()
    assert "the gateway is being stopped" in unfit(serving)
    client.terminate()
    client.communicate(timeout=10)
    assert serving.processes[1].wait(30) == 0
    assert health(serving)[0] == 0
