"""The files that the detector's knowledge comes from, read when it is first wanted."""

import gzip
from functools import cache
from pathlib import Path

import yaml

from gateway.tunnelling.charmodel import CharacterModel
from gateway.tunnelling.priors import Popular, Service

_DATA = Path(__file__).parent / "known"
_SERVICES = Path(__file__).parents[2] / "blocklists" / "seed" / "dns-lookup-services.yaml"


@cache
def character_model() -> CharacterModel:
    """Return the model of ordinary labels."""
    return CharacterModel((_DATA / "characters.bin").read_bytes(), _prices("labels.txt"), _prices("words.txt"))


def _prices(title: str) -> dict[str, float]:
    lines = (_DATA / title).read_text(encoding="ascii").splitlines()
    return {text: float(bits) for text, _, bits in (line.partition(" ") for line in lines)}


@cache
def popular() -> Popular:
    """Return the popular domains."""
    text = gzip.decompress((_DATA / "popular.txt.gz").read_bytes()).decode("ascii")
    leading, _, others = text.partition("\n\n")
    operated = yaml.safe_load(_SERVICES.read_text(encoding="utf-8"))["operated"]
    return Popular.of(leading.splitlines(), others.splitlines(), operated)


@cache
def services() -> tuple[Service, ...]:
    """Return the shipped list of services whose names carry data."""
    entries = yaml.safe_load(_SERVICES.read_text(encoding="utf-8"))["services"]
    return tuple(Service(**entry) for entry in entries)
