"""ClientHellos for tests: real ones, and ones built field by field."""

from pathlib import Path

from gateway.selfcheck.hello import Extension, a_hello, a_message, alpn, in_records, numbers, server_name, versions

__all__ = [
    "CAPTURED",
    "Extension",
    "a_hello",
    "a_message",
    "alpn",
    "in_records",
    "numbers",
    "server_name",
    "versions",
]

CAPTURED: dict[str, bytes] = {
    name: bytes.fromhex(octets)
    for name, octets in (
        line.split() for line in (Path(__file__).parent / "hellos.txt").read_text().splitlines() if line[0] != "#"
    )
}
"""What real programs sent, by program."""
