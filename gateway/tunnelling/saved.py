"""The detector's state as octets, for restarts.

Pure: no I/O, no clock. What is restored counts as if it had just been seen: windows keep their times. A state that
cannot be read is refused, and the detector begins with nothing.
"""

import base64
import json
import zlib
from array import array
from typing import Any

from gateway.tunnelling.detector import Detector
from gateway.tunnelling.state import Account, Client, Trip, Zone
from gateway.tunnelling.window import Window

_VERSION = 1
_MOST = 256 * 1024 * 1024
"""Octets of a state when it is unpacked: more is not one of ours."""


def save(detector: Detector) -> bytes:
    """Return the state."""
    tables = detector.tables
    zones = [
        {
            "key": zone.key,
            "prior": zone.prior.value,
            "reverse": zone.reverse,
            "times": [zone.first, zone.last, zone.until],
            "counts": [zone.queries, zone.new, zone.heavy, zone.replies, zone.nxdomain, zone.answers, zone.days],
            "apex": zone.apex,
            "clients": zone.clients,
            "types": list((zone.types or {}).items()),
            "site": _entries(zone.site),
            "names": base64.b85encode(array("Q", zone.known()).tobytes()).decode(),
        }
        for zone in tables.zones.values()
    ]
    clients = [
        {
            "key": key,
            "all": _entries(client.all),
            "accounts": [
                [zone, _entries(found.up), _entries(found.down), found.new, found.heavy, found.samples]
                for zone, found in client.accounts.items()
            ],
        }
        for key, client in tables.clients.items()
        if client.accounts or client.all
    ]
    state = {
        "version": _VERSION,
        "key": detector.key.hex(),
        "zones": zones,
        "clients": clients,
        "trips": [list(trip) for trip in tables.trips.values()],
    }
    return zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 3)


def key_in(data: bytes) -> bytes:
    """Return the key of the hashes in a state: a detector that is to take it over needs it.

    Raises:
        ValueError: it is no state of this version.
    """
    return bytes.fromhex(_read(data)["key"])


def restore(detector: Detector, data: bytes) -> None:
    """Take over a state.

    Raises:
        ValueError: it is no state of this version, or of another key; the detector is as it was.
    """
    state = _read(data)
    if bytes.fromhex(state["key"]) != detector.key:
        raise ValueError("the state of a detector with another key")
    tables = detector.tables
    try:
        zones = [_zone(detector, found) for found in state["zones"]]
        clients = [
            (found["key"], _window(found["all"]), [(row[0], _account(row)) for row in found["accounts"]])
            for found in state["clients"]
        ]
        trips = [_trip(row) for row in state["trips"]]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not the state of a detector: {error!r}") from None
    for zone, names in zones:
        tables.adopt_zone(zone, names)
    for key, whole, accounts in clients:
        client = Client()
        client.all = whole
        tables.adopt_client(key, client, accounts)
    for trip in trips:
        tables.trip(trip)


def _read(data: bytes) -> dict[str, Any]:
    try:
        unpack = zlib.decompressobj()
        state = json.loads(unpack.decompress(data, _MOST))
    except (zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not the state of a detector: {error}") from None
    if not isinstance(state, dict) or state.get("version") != _VERSION or not isinstance(state.get("key"), str):
        raise ValueError(f"not the state of a detector of version {_VERSION}")
    return state


def _entries(window: Window | None) -> list[tuple[float, float]] | None:
    return window.entries() if window is not None else None


def _window(entries: Any) -> Window | None:
    if entries is None:
        return None
    window = Window()
    window.restore(entries)
    return window


def _zone(detector: Detector, found: dict[str, Any]) -> tuple[Zone, list[int]]:
    zone = detector.make_zone(found["times"][0], found["key"], found["reverse"], found["prior"])
    _, zone.last, zone.until = found["times"]
    zone.queries, zone.new, zone.heavy, zone.replies, zone.nxdomain, zone.answers, zone.days = found["counts"]
    zone.apex, zone.clients = bool(found["apex"]), tuple(found["clients"])
    zone.types = {int(qtype): int(count) for qtype, count in found["types"]}
    zone.site = _window(found["site"])
    names = array("Q")
    names.frombytes(base64.b85decode(found["names"]))
    return zone, names.tolist()


def _account(row: list[Any]) -> Account:
    account = Account()
    _, up, down, account.new, account.heavy, samples = row
    account.up, account.down, account.samples = _window(up) or Window(), _window(down), tuple(samples)
    return account


def _trip(row: list[Any]) -> Trip:
    trip = Trip(*row)
    return trip._replace(samples=tuple(trip.samples), curve=tuple((time, octets) for time, octets in trip.curve))
