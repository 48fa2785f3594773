"""A TLS web server for the files of a folder: what package managers and git fetch from."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from tests.peers.tls_origin import TlsOrigin

_TYPES = {".html": "text/html", ".json": "application/json", ".txt": "text/plain"}


@dataclass(slots=True)
class FileOrigin(TlsOrigin):
    """Serves `folder`; a path that ends in a slash is its `index.html`. What is not there is 404."""

    folder: Path = field(default_factory=Path)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the client ends."""
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            self.requests.append(head)
            method, target = head.decode("ascii").split(" ", 2)[:2]
            name = unquote(target.partition("?")[0]).lstrip("/")
            path = self.folder / (f"{name}index.html" if not name or name.endswith("/") else name)
            found = ".." not in path.parts and path.is_file()
            body = path.read_bytes() if found else b"no such file\n"
            kind = _TYPES.get(path.suffix, "application/octet-stream")
            status = "200 OK" if found else "404 Not Found"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            if method != "HEAD":
                writer.write(body)
            await writer.drain()
