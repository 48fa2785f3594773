"""Tools: which program a User-Agent names.

Pure: no I/O, no clock. A User-Agent is a claim, so a deny rule acts on any evidence and an allow rule demands that
all evidence agrees (see `gateway.policy`).
"""

import re
from functools import lru_cache

# One row a tool: the name a policy uses, and what its default User-Agent begins with or contains. Matched without
# regard to case, because `CURL/8` is curl with one keystroke of disguise.
_AGENTS: tuple[tuple[str, str], ...] = (
    ("curl", r"(?:^|[\s(;])(?:lib)?curl(?:/|\b)"),
    ("wget", r"(?:^|[\s(;])wget2?(?:/|\b)"),
    ("python-requests", r"python-requests\b"),
    ("python-urllib", r"python-urllib\d?\b|\burllib3?/"),
    ("python-httpx", r"python-httpx\b"),
    ("python-aiohttp", r"\baiohttp/"),
    ("pip", r"(?:^|\s)pip/|(?:^|\s)uv/"),
    ("apt", r"\bdebian apt-http\b|\bapt-http/|\bubuntu apt-http\b"),
    ("npm", r"(?:^|\s)npm/|\byarn/|\bpnpm/"),
    ("git", r"(?:^|\s)git/|\bjgit/"),
    ("go", r"\bgo-http-client/|(?:^|\s)go-resty\b"),
    ("java", r"(?:^|\s)java(?:-http-client)?/|\bapache-httpclient/|\bokhttp/"),
    ("node", r"(?:^|\s)node(?:-fetch)?(?:/|\b)|\bundici\b|\baxios/|\bgot\s*\("),
    ("ruby", r"(?:^|\s)ruby\b|\bfaraday\b"),
    ("perl", r"\blibwww-perl\b|\blwp::|\bhttp-tiny/"),
    ("php", r"(?:^|\s)php/|\bguzzlehttp/"),
    ("rust-reqwest", r"\breqwest/"),
    ("powershell", r"powershell/"),
    ("bits", r"\bmicrosoft bits/"),
    ("certutil", r"\bmicrosoft-cryptoapi/|\bcertutil url agent\b"),
    ("webdav", r"\bmicrosoft-webdav-miniredir/|\bdavclnt\b"),
    ("aria2", r"\baria2/"),
    ("axel", r"(?:^|\s)axel[ /]"),
    ("lynx", r"(?:^|\s)lynx/"),
    ("httpie", r"\bhttpie/"),
    ("openssl", r"\bopenssl\b"),
    ("busybox", r"\bbusybox\b"),
    ("browser", r"^mozilla/5\.0 .*(?:gecko|applewebkit|trident)"),
)

KNOWN = tuple(name for name, _ in _AGENTS)
"""Names that `tools:` in a policy accepts."""

_PATTERNS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _AGENTS)
_LONGEST = 1024  # what is beyond is no product token; bounds the time that a 64 KB header can cost


@lru_cache(maxsize=4096)
def claimed(user_agent: str) -> tuple[str, ...]:
    """Return the tools that a User-Agent names, in the order of `KNOWN`.

    >>> claimed("  CURL/8.5.0"), claimed("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/130.0")
    (('curl',), ('browser',))
    """
    text = user_agent.strip()[:_LONGEST]
    return tuple(name for name, pattern in _PATTERNS if pattern.search(text))
