"""What the sections of the policy file are made of: their base, and the values that several of them have."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
)

from gateway.addresses import IPAddress, parse_address
from gateway.domainset import parse_pattern
from gateway.names import normalize


class Section(BaseModel):
    """A mapping in the file: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Conditions(Section):
    """A mapping of conditions. One left out means any; an empty list was meant to name some, so it is refused.

    A template that lost its values must not turn `domains: []` into a rule for every domain.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _names_something(cls, value: Any) -> Any:
        if value == []:
            raise ValueError("is empty, which would mean any: name something, or leave the key out")
        return value


def check_listener(value: str) -> str:
    """Return `address:port` as it is, if it is that.

    Raises:
        ValueError: it is not.
    """
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or parse_address(host.strip("[]")) is None:
        raise ValueError(f"{value!r} is no place to listen: give address:port, as in 127.0.0.1:3128 or [::1]:3128")
    return value


def _pattern(value: str) -> str:
    name, exact, below = parse_pattern(value)
    return ("." if exact else "*.") + name if below else name


def split_listener(value: str) -> tuple[IPAddress, int]:
    """Return address and port of what `check_listener` found good."""
    host, _, port = value.rpartition(":")
    address = parse_address(host.strip("[]"))
    assert address is not None
    return address, int(port)


def _network(value: Any) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value, strict=True)
    except ValueError as error:
        raise ValueError(f"{value!r} is no network: {error}") from None


def _workers(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 256):
        raise ValueError(f"expected 'auto' or a number from 1 to 256, not {value!r}")
    return value


def _file_name(value: str) -> str:
    if not value:
        raise ValueError("empty path")
    return value


type Address = IPv4Address | IPv6Address
type Network = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(_network), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
type FileName = Annotated[str, AfterValidator(_file_name)]
type Name = Annotated[str, AfterValidator(normalize)]
type Pattern = Annotated[str, AfterValidator(_pattern)]
type Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
type Workers = Annotated[int | Literal["auto"], BeforeValidator(_workers)]


class CertificateSection(Section):
    """A certificate with its key, PEM files; read again on SIGHUP."""

    cert: FileName
    """The certificate, followed by those that lead to its root."""
    key: FileName
    """Its private key, without a passphrase."""
