"""Tools: which program a User-Agent names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tools import KNOWN, claimed
from tests.builders import CHROME

AGENTS = [
    ("curl/8.5.0", ["curl"]),
    ("CURL/8", ["curl"]),
    ("  curl/8", ["curl"]),
    ("libcurl/7.88 OpenSSL/3", ["curl", "openssl"]),
    ("git/2.43.0 curl/8", ["curl", "git"]),
    ("Mozilla/5.0 (compatible; curl/8.5.0)", ["curl"]),
    ("curly/1", []),
    ("securl/1", []),
    ("Wget/1.24.5", ["wget"]),
    ("Wget2/2.1", ["wget"]),
    ("python-requests/2.32.3", ["python-requests"]),
    ("Python-urllib/3.13", ["python-urllib"]),
    ("python-urllib3/2.2", ["python-urllib"]),
    ("python-httpx/0.27", ["python-httpx"]),
    ("Python/3.12 aiohttp/3.10.5", ["python-aiohttp"]),
    ("pip/24.0 {}", ["pip"]),
    ("uv/0.5.1", ["pip"]),
    ("Debian APT-HTTP/1.3 (2.6.1)", ["apt"]),
    ("npm/10.2 node/v20 linux x64", ["npm", "node"]),
    ("git/2.43.0", ["git"]),
    ("Go-http-client/2.0", ["go"]),
    ("Java/17.0.2", ["java"]),
    ("Java-http-client/17.0.2", ["java"]),
    ("okhttp/4.12.0", ["java"]),
    ("node", ["node"]),
    ("axios/1.6", ["node"]),
    ("Ruby", ["ruby"]),
    ("libwww-perl/6.67", ["perl"]),
    ("PHP/8.2", ["php"]),
    ("reqwest/0.12", ["rust-reqwest"]),
    ("Mozilla/5.0 (Windows NT; Windows NT 10.0; de-DE) WindowsPowerShell/5.1.22621.963", ["powershell"]),
    ("Mozilla/5.0 (Windows NT 10.0; Microsoft Windows 10.0; en-US) PowerShell/7.4.0", ["powershell"]),
    ("Microsoft BITS/7.8", ["bits"]),
    ("Microsoft-CryptoAPI/10.0", ["certutil"]),
    ("CertUtil URL Agent", ["certutil"]),
    ("Microsoft-WebDAV-MiniRedir/10.0.19045", ["webdav"]),
    ("aria2/1.37.0", ["aria2"]),
    ("Axel/2.17", ["axel"]),
    ("Lynx/2.9", ["lynx"]),
    ("HTTPie/3.2", ["httpie"]),
    (CHROME, ["browser"]),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", ["browser"]),
    ("", []),
    ("Mozilla/5.0", []),
    ("acme-bot/1.0", []),
]


@pytest.mark.parametrize(("agent", "tools"), AGENTS, ids=[agent or "none" for agent, _ in AGENTS])
def test_agents(agent: str, tools: list[str]) -> None:
    """A User-Agent names the tools that it should, in any letter case, and no others."""
    assert list(claimed(agent)) == tools
    assert list(claimed(agent.upper())) == tools


def test_padding_does_not_hide_a_tool() -> None:
    """Blanks in front of a product do not count against the length that is looked at."""
    assert claimed(" \t" * 40_000 + "curl/8") == ("curl",)


def test_names_of_tools_are_unique() -> None:
    """No tool is in the table twice, and the tools that users were promised are in it."""
    assert len(set(KNOWN)) == len(KNOWN)
    promised = {"curl", "wget", "python-requests", "python-urllib", "go", "java", "powershell", "bits"}
    assert promised <= set(KNOWN)


@given(st.text() | st.text("cCuUrRlLmozilla/5.0 (;gecko", max_size=2000))
def test_any_text_names_known_tools_or_none(agent: str) -> None:
    """Whatever a client sends, only tools that a policy can name come out, in a bounded time."""
    assert set(claimed(agent)) <= set(KNOWN)
