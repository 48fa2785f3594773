"""Bypasses 9 to 13: hosts in spellings that some programs read as an address, and addresses that are nowhere."""

from pathlib import Path

import pytest

from gateway.decision import Reason
from tests.integration.bypasses.world import a_world
from tests.integration.proxy_rig import a_proxy, allow

_ODD = [
    "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "0", "127.0.0.1.", "127.0.0.01",
    "[::ffff:127.0.0.1%25lo]", "[fe80::1%25lo]", "[good.test]", "[127.0.0.1]", "good..test", ".good.test",
    "good.test..", "good_.te st", "g\xf6\xf6d.test", "good.test%00", "good\uff0etest", "xn--\uff0e",
    "a" * 64 + ".good.test", "b." * 130 + "good.test", "good.test\\.evil",
]  # fmt: skip
_SPECIAL = {
    "0.0.0.0": Reason.PRIVATE_ADDRESS,
    "127.0.0.1": Reason.PRIVATE_ADDRESS,
    "10.0.0.1": Reason.PRIVATE_ADDRESS,
    "100.64.0.1": Reason.PRIVATE_ADDRESS,
    "224.0.0.1": Reason.PRIVATE_ADDRESS,
    "255.255.255.255": Reason.PRIVATE_ADDRESS,
    "169.254.169.254": Reason.METADATA_ADDRESS,
    "100.100.100.200": Reason.METADATA_ADDRESS,
    "192.0.0.192": Reason.METADATA_ADDRESS,
    "[::]": Reason.PRIVATE_ADDRESS,
    "[::1]": Reason.PRIVATE_ADDRESS,
    "[::ffff:127.0.0.1]": Reason.PRIVATE_ADDRESS,
    "[::ffff:7f00:1]": Reason.PRIVATE_ADDRESS,
    "[64:ff9b::7f00:1]": Reason.PRIVATE_ADDRESS,
    "[2002:7f00:1::]": Reason.PRIVATE_ADDRESS,
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]": Reason.PRIVATE_ADDRESS,
    "[fd00:ec2::254]": Reason.METADATA_ADDRESS,
    "8.8.8.8": Reason.DIRECT_ADDRESS,
    "[2606:4700:4700::1111]": Reason.DIRECT_ADDRESS,
}
_FORMS = {
    "CONNECT": "CONNECT {}:443 HTTP/1.1\r\nHost: {}:443\r\n\r\n",
    "absolute-form": "GET http://{}/ HTTP/1.1\r\nHost: {}\r\n\r\n",
}


@pytest.mark.parametrize("form", sorted(_FORMS))
@pytest.mark.parametrize("host", _ODD, ids=ascii)
async def test_odd_spelling(tmp_path: Path, host: str, form: str) -> None:
    """9 and 11: a host that can be read in two ways is malformed, and is never looked up."""
    async with a_world(tmp_path) as world:
        answer = await world.rig.ask(_FORMS[form].replace("{}", host).encode())
        await world.held(answer, Reason.MALFORMED)


@pytest.mark.parametrize("form", sorted(_FORMS))
@pytest.mark.parametrize("host", sorted(_SPECIAL))
async def test_special_address(tmp_path: Path, host: str, form: str) -> None:
    """10: an address is denied for what it is, without being dialled."""
    async with a_proxy(tmp_path, allow("good.test", addresses=(), ports=())) as rig:
        answer = await rig.ask(_FORMS[form].replace("{}", host).encode())
        assert f"X-Gateway-Reason: {_SPECIAL[host]}\r\n".encode() in answer
        assert rig.ledger.denials == [_SPECIAL[host]]
        assert len(rig.ledger.lines) == 1


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "LocalHost."])
async def test_localhost(tmp_path: Path, host: str) -> None:
    """9: the name of the own host is judged by what it stands for, and is not looked up."""
    async with a_world(tmp_path) as world:
        answer = await world.rig.ask(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        await world.held(answer, Reason.PRIVATE_ADDRESS)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.nip.io", "www.169-254-169-254.sslip.io", "7f000001.nip.io", "x.localtest.me"]
)
async def test_address_in_a_name(tmp_path: Path, host: str) -> None:
    """12: a name that only encodes an address is judged by the address, and is not looked up."""
    async with a_proxy(tmp_path, allow("*.nip.io", "*.sslip.io", "*.localtest.me", addresses=())) as rig:
        answer = await rig.ask(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        assert b"HTTP/1.1 403 " in answer
        assert len(rig.ledger.lines) == 1
        assert rig.ledger.denials[0] in (Reason.PRIVATE_ADDRESS, Reason.METADATA_ADDRESS)
        assert rig.names.asked == []


@pytest.mark.parametrize("host", ["good", "intranet"])
async def test_single_label(tmp_path: Path, host: str) -> None:
    """13: a single label is no abbreviation of anything."""
    async with a_world(tmp_path) as world:
        answer = await world.rig.ask(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        await world.held(answer, Reason.DEFAULT_DENY)
