"""A detector with the shipped data, and what gets past it."""

import random

from gateway.tunnelling.accounts import Room, SharedTable
from gateway.tunnelling.data import character_model, popular, services
from gateway.tunnelling.detector import Detector, windows
from gateway.tunnelling.priors import Priors
from gateway.tunnelling.structure import Controls
from gateway.tunnelling.window import DEFAULT_BUDGET
from tests.tunnels import Encoder


def a_detector(exempt: tuple[str, ...] = (), room: Room | None = None, controls: Controls | None = None) -> Detector:
    """Return a detector with the shipped data."""
    return Detector(
        character_model(),
        Priors(popular(), [service.suffix for service in services()], exempt),
        controls=controls or Controls(),
        table=SharedTable.private(windows(DEFAULT_BUDGET), b"", room or Room()),
    )


class Leak:
    """What a tunnel got past a detector. With `only_until_denied`, it gives up at the first denial."""

    def __init__(self, encoder: Encoder, seed: int, *, only_until_denied: bool = False) -> None:
        detector = a_detector()
        self.queries = self.payload = self.answers = self.passed = 0
        denied = False
        for asked in encoder(random.Random(seed)):
            if denied and only_until_denied:
                break
            found = detector.query(asked.at, asked.client, asked.name, asked.qtype)
            denied |= found.denied
            if found.denied:
                continue
            self.queries += not denied
            self.payload += asked.payload
            if not detector.response(asked.at, asked.client, asked.name, asked.qtype, asked.answer).denied:
                self.answers += asked.answer
            else:
                denied = True
        self.denied = denied
