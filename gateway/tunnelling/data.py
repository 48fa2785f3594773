"""The files that the detector's knowledge comes from, read when it is first wanted."""

import gzip
from functools import cache
from pathlib import Path

import yaml

from gateway.tunnelling.charmodel import CharacterModel
from gateway.tunnelling.priors import Popular, Service

_DATA = Path(__file__).parent / "known"


@cache
def character_model() -> CharacterModel:
    """Return the model of ordinary labels."""
    lines = (_DATA / "labels.txt").read_text(encoding="ascii").splitlines()
    usual = {label: float(bits) for label, _, bits in (line.partition(" ") for line in lines)}
    return CharacterModel((_DATA / "characters.bin").read_bytes(), usual)


@cache
def popular() -> Popular:
    """Return the popular domains."""
    text = gzip.decompress((_DATA / "popular.txt.gz").read_bytes()).decode("ascii")
    leading, _, others = text.partition("\n\n")
    return Popular.of(leading.splitlines(), others.splitlines())


@cache
def services() -> tuple[Service, ...]:
    """Return the shipped list of services whose names carry data."""
    path = Path(__file__).parents[2] / "blocklists" / "seed" / "dns-lookup-services.yaml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    return tuple(Service(**entry) for entry in entries)
