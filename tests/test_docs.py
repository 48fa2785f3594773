"""The documentation says everything there is to say, and what it shows works."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gateway.cli import main
from gateway.config import json_schema, load
from gateway.decision import Reason
from gateway.schema import PolicyFile

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = tuple(path for path in (ROOT / "README.md", ROOT / "ARCHITECTURE.md") if path.exists())
EXAMPLES = tuple(sorted((ROOT / "deploy" / "examples").glob("*.yaml")))


@pytest.mark.parametrize("reason", [reason.value for reason in Reason])
def test_reasons_are_explained(reason: str) -> None:
    """Every reason that a user may be given is in the README."""
    assert f"`{reason}`" in README


@pytest.mark.parametrize("key", list(PolicyFile.model_fields))
def test_keys_are_explained(key: str) -> None:
    """Every top-level key of the policy file is in the README, as a key or in an example."""
    assert re.search(rf"`{key}:?`|^ *{key}:", README, re.MULTILINE)


def commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    """Yield the names of the commands of a group, and of those below it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield prefix + name
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


@pytest.mark.parametrize("command", sorted(commands(main)))
def test_commands_are_explained(command: str) -> None:
    """Every command is in the README."""
    assert f"gateway {command}" in README


def blocks() -> Iterator[tuple[str, str]]:
    """Yield every YAML block of the documents that is a whole policy file, with where it is."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for found in re.finditer(r"^```ya?ml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            lines = [line for line in found[1].splitlines() if line.strip() and not line.lstrip().startswith("#")]
            if lines and lines[0].startswith("version: 1"):
                yield f"{document.name}:{text.count(chr(10), 0, found.start()) + 1}", found[1]


BLOCKS = list(blocks())


@pytest.mark.parametrize("block", [text for _, text in BLOCKS], ids=[where for where, _ in BLOCKS])
def test_policies_in_documents_load(block: str, tmp_path: Path) -> None:
    """A policy file that a document shows is good, and has no rule that can never match."""
    for catalogue in ROOT.glob("blocklists/*.yaml"):  # documents name the shipped catalogues
        (tmp_path / "blocklists").mkdir(exist_ok=True)
        (tmp_path / "blocklists" / catalogue.name).write_bytes(catalogue.read_bytes())
    path = tmp_path / "policy.yaml"
    path.write_text(block, encoding="utf-8")
    assert not load(path).warnings


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_examples_load(path: Path) -> None:
    """An example policy is good, and has no rule that can never match."""
    assert not load(path).warnings


def test_there_is_something_to_show() -> None:
    """There are examples, and a schema for editors."""
    assert EXAMPLES
    assert json_schema()["properties"]
