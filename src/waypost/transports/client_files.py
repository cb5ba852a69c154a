"""Serves the official JavaScript client at Socket.IO's path, as Node's server does.

The files come from the npm package ``socket.io-client``. ``make web`` copies them here, and the wheel includes them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from waypost.logs import get_logger
from waypost.transports.http_answer import TEXT, Headers, Send, choose_encoding, compress, respond

__all__ = ["FOLDER", "ClientFiles", "client_file"]

logger = get_logger("waypost.asgi")

FOLDER = Path(__file__).parent / "static"

_BUNDLES = ("socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js")
_NAMES = frozenset({*_BUNDLES, *(f"{name}.map" for name in _BUNDLES)})
_NOT_BUILT = b"The JavaScript client is not built. Run `make web`, or install the wheel, which has it.\n"


def client_file(path: str, root_path: str, wanted: str) -> str | None:
    """Return which file of the client a request asks for.

    Args:
        path: The request's path, from the ASGI scope.
        root_path: The prefix at which the application is mounted, from the ASGI scope.
        wanted: Waypost's path.

    Returns:
        The file's name, one of eight; ``None`` for all other requests.
    """
    folder, _, name = path.rpartition("/")
    if name not in _NAMES:
        return None
    root, wanted = root_path.rstrip("/"), wanted.rstrip("/")
    rest = folder.removeprefix(root)
    return name if rest == wanted or (rest == "" and root.endswith(wanted)) else None


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    tag: str
    kind: str
    encoding: str | None


class ClientFiles:
    """Answers requests for the client's files. Each file is read and compressed once.

    Args:
        folder: The directory of the files.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files: dict[tuple[str, str | None], _File] = {}

    async def answer(self, name: str, method: str, headers: Mapping[str, str], send: Send, cors: Headers) -> None:
        """Answer a request for a file.

        Args:
            name: The file's name, from `client_file`.
            method: The request's method.
            headers: The request's headers, with lower-case names.
            send: ASGI's send.
            cors: The headers that let a foreign page read the file.
        """
        if method not in ("GET", "HEAD"):
            await respond(send, 405, b"", [("allow", "GET, HEAD"), *cors])
            return
        try:
            file = await self._file(name, choose_encoding(headers.get("accept-encoding", "")))
        except FileNotFoundError:
            logger.warning("%s was asked for, and is not built: run `make web`", name)
            await respond(send, 404, _NOT_BUILT, [("content-type", TEXT), *cors])
            return
        vary = ", ".join(["Accept-Encoding", *(value for header, value in cors if header == "Vary")])
        answer = [("etag", file.tag), ("cache-control", "public, max-age=0"), ("vary", vary)]
        answer += [(header, value) for header, value in cors if header != "Vary"]
        if _matches(headers.get("if-none-match", ""), file.tag):
            await respond(send, 304, b"", answer)
            return
        answer += [("content-type", file.kind), ("x-content-type-options", "nosniff")]
        if file.encoding is not None:
            answer.append(("content-encoding", file.encoding))
        await respond(send, 200, file.body, answer, is_head=method == "HEAD")

    async def _file(self, name: str, encoding: str | None) -> _File:
        file = self._files.get((name, encoding))
        if file is None:
            body = await asyncio.to_thread((self._folder / name).read_bytes)
            tag = hashlib.sha256(body).hexdigest()[:20]
            kind = "application/json" if name.endswith(".map") else "text/javascript; charset=utf-8"
            if encoding is not None:
                body = await compress(body, encoding)
                tag = f"{tag}-{encoding}"
            file = self._files[name, encoding] = _File(body, f'"{tag}"', kind, encoding)
        return file


def _matches(if_none_match: str, tag: str) -> bool:
    tags = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return tag in tags or "*" in tags
