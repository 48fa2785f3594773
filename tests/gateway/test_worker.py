"""A worker's start: what stops it. What it does while it runs is in tests/integration/test_service.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.ports import free_port

AS_USUAL = ("-m", "gateway.worker")
TELL_COLLECTING = (
    "-c",
    "from gateway import garbage, worker\n"
    "garbage.Collector.end = lambda self: print('ends', self._measure().memory)\n"
    "worker.main()",
)
THEN_TELL = ("-c", "import sys\nfrom gateway import worker\nworker.main()\nprint(*sys.modules)")


def start(policy: Path, role: str = "dns", code: tuple[str, str] = AS_USUAL) -> subprocess.CompletedProcess[str]:
    """Run a worker whose supervisor has already gone; return how it ended."""
    read_end, write_end = os.pipe()
    try:
        return subprocess.run(
            [
                *(sys.executable, *code, "--config", str(policy)),
                *("--role", role, "--index", "0", "--ready-fd", str(write_end)),
            ],
            input="",  # a pipe that is at its end
            capture_output=True,
            text=True,
            pass_fds=(write_end,),
            timeout=30,
            check=False,
        )
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nbogus: 1\n", "bogus: unknown key"),
        ("version: 1\nlists: {a: {path: a.txt, format: domains}}\n", "gateway refresh"),
        ('version: 1\ndns: {listen: ["udp://198.51.100.77:5335"]}\n', "198.51.100.77"),
    ],
)
def test_what_it_cannot_serve_with_is_one_line_and_exit_code_2(tmp_path: Path, text: str, expected: str) -> None:
    """A bad policy, missing lists, an address that is not ours."""
    (tmp_path / "gateway.yaml").write_text(text)
    result = start(tmp_path / "gateway.yaml")
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("wanted", "limits", "expected"),
    [
        (2000, (1024, 4000), (2000, 4000)),
        (2000, (1024, 1500), (1500, 1500)),
        (2000, (1024, 1024), (1024, 1024)),
        (2000, (3000, 4000), (3000, 4000)),
    ],
    ids=["as many as wanted", "as many as there are", "none more", "more than wanted already"],
)
def test_it_takes_the_descriptors_that_it_may_have(
    wanted: int, limits: tuple[int, int], expected: tuple[int, int]
) -> None:
    """The usual soft limit is raised, the hard one is not, and a low one is told. All lower than in earnest."""
    code = """if True:
        import resource, sys
        from gateway import worker
        assert worker.DESCRIPTORS == 65536
        worker.DESCRIPTORS, worker._FEW_DESCRIPTORS = int(sys.argv[1]), int(sys.argv[1])
        worker.raise_descriptor_limit()
        print(*resource.getrlimit(resource.RLIMIT_NOFILE))
    """
    shell = f'ulimit -S -n {limits[0]} && ulimit -H -n {limits[1]} && exec "$0" -c "$1" {wanted}'
    done = subprocess.run(["sh", "-c", shell, sys.executable, code], capture_output=True, text=True, check=True)
    assert tuple(int(word) for word in done.stdout.split()) == expected
    assert (f"only {expected[0]} file descriptors" in done.stderr) == (expected[0] < wanted)


@pytest.mark.parametrize("role", ["dns", "proxy"])
def test_without_a_supervisor_it_ends_by_itself(tmp_path: Path, role: str) -> None:
    """The end of its standard input is the end of its supervisor."""
    (tmp_path / "gateway.yaml").write_text(
        'version: 1\nstate_dir: state\nproxy: {listen: ["127.0.0.1:0"]}\ndns: {listen: ["udp://127.0.0.1:0"]}\n'
    )
    result = start(tmp_path / "gateway.yaml", role)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("role", "without"),
    [
        ("dns", {"mitmproxy", "aiohttp", "cryptography", "requests", "tldextract", "click", "rich"}),
        ("proxy", {"aiohttp", "requests", "tldextract", "rich"}),
    ],
)
def test_it_imports_only_what_its_role_needs(tmp_path: Path, role: str, without: set[str]) -> None:
    """Libraries are a good part of what a worker weighs, and there is one for each core."""
    places = f'dns: {{listen: ["udp://127.0.0.1:{free_port()}"]}}\nproxy: {{listen: ["127.0.0.1:{free_port()}"]}}\n'
    (tmp_path / "gateway.yaml").write_text(f"version: 1\nstate_dir: state\n{places}")
    loaded = start(tmp_path / "gateway.yaml", role, THEN_TELL).stdout.split()
    assert f"gateway.{role}.server" in loaded
    assert not without.intersection(loaded)


def test_a_resolver_looks_for_garbage_as_it_serves(tmp_path: Path) -> None:
    """It takes that into its own hands, and knows what it takes itself."""
    (tmp_path / "gateway.yaml").write_text('version: 1\nstate_dir: state\ndns: {listen: ["udp://127.0.0.1:0"]}\n')
    said, memory = start(tmp_path / "gateway.yaml", "dns", TELL_COLLECTING).stdout.split()
    assert said == "ends"
    assert 5 << 20 < int(memory) < 500 << 20
