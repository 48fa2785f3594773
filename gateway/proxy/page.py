"""What a person sees in a browser when something was denied.

Pure: no I/O, no clock. One file without anything to fetch, and readable without its style. All that comes from the
network is escaped; the page may run nothing (see the policy that goes with it).
"""

from collections.abc import Iterable
from html import escape

SECURITY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy for the page: nothing runs, nothing is fetched."""

_LIGHT = "--ground:#f4f5f7;--card:#fff;--ink:#1c2430;--soft:#5b6675;--line:#e1e5ea;--mark:#b3261e"
_DARK = "--ground:#14181d;--card:#1d232a;--ink:#e8ecf1;--soft:#9aa7b5;--line:#313a44;--mark:#ff8a80"
_STYLE = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--ground);
color:var(--ink);font:1rem/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}}
main{{width:100%;max-width:38rem;background:var(--card);border:1px solid var(--line);
border-top:4px solid var(--mark);border-radius:.5rem;padding:1.75rem 2rem}}
h1{{margin:0 0 .25rem;font-size:1.35rem;line-height:1.3;overflow-wrap:anywhere}}
p{{margin:0 0 1.25rem;overflow-wrap:anywhere}}
dl{{display:grid;grid-template-columns:auto 1fr;gap:.4rem 1.25rem;margin:0;padding:1rem 0;
border:solid var(--line);border-width:1px 0}}
dt{{color:var(--soft)}}
dd{{margin:0;overflow-wrap:anywhere}}
code{{font:.9em/1.5 ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}}
footer{{margin-top:1.25rem;color:var(--soft);font-size:.9rem}}
@media (max-width:30rem){{dl{{grid-template-columns:1fr;gap:0}}dd{{margin-bottom:.6rem}}main{{padding:1.25rem}}}}
""".replace("\n", "")


def page(headline: str, why: str, facts: Iterable[tuple[str, str]], quote: str) -> str:
    """Return the page: a headline, the cause, facts with their names, and what to do about it.

    Every text may come from the network, and is escaped here.
    """
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>\n" for name, value in facts if value
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(headline)}</title>\n<style>{_STYLE}</style></head>\n"
        f"<body><main>\n<h1>{escape(headline)}</h1>\n<p>{escape(why)}</p>\n<dl>\n{rows}</dl>\n"
        f"<footer>{escape(quote)}</footer>\n</main></body>\n</html>\n"
    )
