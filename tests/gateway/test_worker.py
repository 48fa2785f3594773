"""A worker's start: what stops it. What it does while it runs is in tests/integration/test_service.py."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest


def start(policy: Path, role: str = "dns") -> subprocess.CompletedProcess[str]:
    """Run a worker whose supervisor has already gone; return how it ended."""
    read_end, write_end = os.pipe()
    try:
        return subprocess.run(
            [
                *(sys.executable, "-m", "gateway.worker", "--config", str(policy)),
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
    ("limits", "expected"),
    [
        ((1024, 1 << 19), (65536, 1 << 19)),
        ((1024, 20_000), (20_000, 20_000)),
        ((1024, 4096), (4096, 4096)),
        ((100_000, 1 << 19), (100_000, 1 << 19)),
    ],
)
def test_it_takes_the_descriptors_that_it_may_have(limits: tuple[int, int], expected: tuple[int, int]) -> None:
    """The usual soft limit is raised, the hard one is not, and a low one is told."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < limits[1]:
        pytest.skip(f"needs a hard limit of {limits[1]} file descriptors")
    code = """if True:
        import resource
        from gateway.worker import raise_descriptor_limit
        raise_descriptor_limit()
        print(*resource.getrlimit(resource.RLIMIT_NOFILE))
    """
    shell = f'ulimit -S -n {limits[0]} && ulimit -H -n {limits[1]} && exec "$0" -c "$1"'
    done = subprocess.run(["sh", "-c", shell, sys.executable, code], capture_output=True, text=True, check=True)
    assert tuple(int(word) for word in done.stdout.split()) == expected
    assert ("only 4096 file descriptors" in done.stderr) == (expected[0] < 10_000)


@pytest.mark.parametrize("role", ["dns", "proxy"])
def test_without_a_supervisor_it_ends_by_itself(tmp_path: Path, role: str) -> None:
    """The end of its standard input is the end of its supervisor."""
    (tmp_path / "gateway.yaml").write_text(
        'version: 1\nstate_dir: state\nproxy: {listen: ["127.0.0.1:0"]}\ndns: {listen: ["udp://127.0.0.1:0"]}\n'
    )
    result = start(tmp_path / "gateway.yaml", role)
    assert result.returncode == 0, result.stderr
