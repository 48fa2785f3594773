"""Every number of the list of bypasses has its tests here: in the battery, or beside it."""

import ast
import re
from pathlib import Path

import pytest

from gateway.selfcheck.cases import NUMBERS, cases
from gateway.selfcheck.scripts import SCRIPTS

HERE = Path(__file__).parent


def found_tests() -> dict[int, set[str]]:
    """Return the tests of each number: those whose docstring begins with it, and the battery's attempts."""
    found: dict[int, set[str]] = {number: set() for number in NUMBERS}
    for case in cases():
        found[case.number].add(f"test_battery[{case}]")
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for number in re.findall(r"\d+", (ast.get_docstring(node) or "").partition(":")[0]):
                    if int(number) in found:
                        found[int(number)].add(f"{path.stem}::{node.name}")
    return found


@pytest.mark.parametrize("number", [number for number in NUMBERS if number])
def test_every_number_is_tested(number: int) -> None:
    """A number without a test that asserts its reason and its line in the ledger is a number that nobody resists."""
    assert found_tests()[number]


def test_the_list_has_thirty_three() -> None:
    """Numbers are never used again for something else."""
    assert set(NUMBERS) == set(range(34))
    assert {number for number, _, _ in SCRIPTS} <= set(NUMBERS)
