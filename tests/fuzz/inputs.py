"""What is thrown at the server: proper requests, frames and packets, and what chance makes of them."""

from __future__ import annotations

import base64
import json
import struct
from random import Random
from typing import Any
from urllib.parse import quote

from tests.support.raw import PATH

TOKENS = [
    "", "0", "1", "2", "3", "4", "5", "6", "40", "41", "42", "43", "44", "45", "46", "2probe", "3probe", "4294967296",
    "-1", "1e999", "NaN", "null", "true", "[]", "{}", "[[[[", '"', "\\", "\\ud800", "\x1e", "\x00", "\r\n", ",", "/",
    "/other", "/nowhere?x=1", "__proto__", "constructor", "_placeholder", '{"_placeholder":true,"num":0}', "b",
    "connect", "disconnect", "error", "é", "\U0001f600", "x" * 300, "9" * 40, "%00", "%0d%0a", "..%2f", "bAAA=",
]  # fmt: skip

EVENTS = ["echo", "slow", "join", "say", "leave", "none", "connect", "error", "__proto__"]

HEADERS = [
    ("Host", "localhost"), ("Origin", "https://evil.example"), ("Origin", "null"), ("Cookie", "io=x; a=b"),
    ("Content-Type", "application/octet-stream"), ("Content-Type", "application/x-www-form-urlencoded"),
    ("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked"), ("Expect", "100-continue"),
    ("Accept-Encoding", "gzip;q=0, deflate"), ("X-Forwarded-For", "1.2.3.4, ,x"), ("If-None-Match", "*"),
    ("Access-Control-Request-Headers", "a,b\tc"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"), ("Content-Length", "3"),
]  # fmt: skip

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


class Inputs:
    """Makes input by chance; the same chance makes the same input.

    Args:
        rng: The chance.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    # -- packets --------------------------------------------------------------------------------------------

    def value(self, depth: int = 3) -> Any:
        """Make a value that JSON can carry."""
        kind = self._rng.randrange(9 if depth else 6)
        if kind == 0:
            return self._rng.choice(TOKENS)
        if kind == 1:
            return self._rng.choice([0, -1, 2**31, 2**63, 2**64, 0.1, 1e308])
        if kind == 2:
            return self._rng.choice([None, True, False])
        if kind == 3:
            return {"_placeholder": True, "num": self._rng.choice([0, 1, -1, 0.5, "x", 99])}
        if kind < 6:
            return "".join(self._rng.choices('abc"\\é\x1e', k=self._rng.randrange(20)))
        if kind == 6:
            return {self._rng.choice(TOKENS): self.value(depth - 1) for _ in range(self._rng.randrange(4))}
        return [self.value(depth - 1) for _ in range(self._rng.randrange(4))]

    def packet(self) -> str | bytes:
        """Make an Engine.IO packet with, mostly, a Socket.IO packet in it."""
        chance = self._rng.random()
        if chance < 0.1:
            return self._rng.randbytes(self._rng.randrange(60))
        if chance < 0.2:
            return self._rng.choice(TOKENS)
        kind = self._rng.choice("022222223455667")
        namespace = self._rng.choice(["", "", "", "/other,", "/nowhere,", "/"])
        number = self._rng.choice(["", "", "7", "0", "99999999999999999999"])
        attachments = self._rng.choice(["", "0-", "1-", "2-", "10-", "11-", "x-"]) if kind in "56" else ""
        data: Any = [self._rng.choice(EVENTS), *(self.value() for _ in range(self._rng.randrange(4)))]
        if kind in "014" or self._rng.random() < 0.1:
            data = self._rng.choice([None, {}, {"refuse": 1}, {"pid": "x", "offset": "y.1"}, self.value()])
        text = "" if data is None else json.dumps(data)
        return self.mutated_text(f"4{kind}{attachments}{namespace}{number}{text}", 0.2)

    def payload(self) -> bytes:
        """Make the body of a POST."""
        packets = [self.packet() for _ in range(self._rng.choice([1, 1, 2, 5]))]
        texts = [
            "b" + base64.b64encode(packet).decode() if isinstance(packet, bytes) else packet for packet in packets
        ]
        return self.mutated("\x1e".join(texts).encode("utf-8", "surrogatepass"), 0.2)

    def payload_3(self) -> bytes:
        """Make the body of a POST of revision 3, of text or of bytes."""
        packets = [self.packet() for _ in range(self._rng.choice([1, 1, 2, 5]))]
        if self._rng.random() < 0.5:
            texts = ["b4" + base64.b64encode(raw).decode() if isinstance(raw, bytes) else raw for raw in packets]
            body = "".join(f"{len(text)}:{text}" for text in texts).encode("utf-8", "surrogatepass")
        else:
            raws = [
                (1, b"\x04" + packet) if isinstance(packet, bytes) else (0, packet.encode("utf-8", "surrogatepass"))
                for packet in packets
            ]
            body = b"".join(bytes((kind, *map(int, str(len(raw))), 255)) + raw for kind, raw in raws)
        return self.mutated(body, 0.3)

    def form(self, body: bytes) -> bytes:
        """Make a form as JSONP posts it."""
        escaped = body.decode("utf-8", "surrogateescape").replace("\\n", "\\\\n").replace("\n", "\\n")
        return self.mutated(b"d=" + quote(escaped, errors="surrogateescape").encode(), 0.2)

    # -- WebSocket ------------------------------------------------------------------------------------------

    def frame(self, payload: str | bytes) -> bytes:
        """Make a client's frame; a wrong one now and then."""
        raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
        opcode = 1 if isinstance(payload, str) else 2
        first = 0x80 | opcode
        if self._rng.random() < 0.1:
            first = self._rng.randrange(256)
        size = len(raw)
        if self._rng.random() < 0.03:
            size = self._rng.choice([0, 125, 126, 65_535, 65_536, 2**31, 2**63 - 1])
        mask = self._rng.randbytes(4)
        if size < 126:
            head = bytes((first, 0x80 | size))
        elif size < 65_536:
            head = bytes((first, 0xFE)) + struct.pack("!H", size)
        else:
            head = bytes((first, 0xFF)) + struct.pack("!Q", size)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(raw))
        return self.mutated(head + mask + masked, 0.05)

    # -- HTTP -----------------------------------------------------------------------------------------------

    def target(self, sid: str | None = None, transport: str = "polling", revision: str = "4") -> str:
        """Make the target of a request."""
        parameters = [("EIO", revision), ("transport", transport)]
        if sid is not None:
            parameters.append(("sid", sid))
        if self._rng.random() < 0.3:
            parameters.append((self._rng.choice(["j", "t", "EIO", "sid", "transport", "b64", "x[]"]), self.odd()))
        if self._rng.random() < 0.1:
            self._rng.shuffle(parameters)
            parameters.pop()
        path = PATH if self._rng.random() < 0.9 else self._rng.choice(["/socket.io", PATH + "socket.io.js", "/", "*"])
        return path + "?" + "&".join(f"{name}={value}" for name, value in parameters)

    def odd(self) -> str:
        """Make the value of a parameter."""
        return self._rng.choice(TOKENS).replace("\r\n", "%0d").replace(" ", "+").replace("\x00", "%00")

    def request(self, sid: str | None = None, body: bytes | None = None) -> bytes:
        """Make a request; most are proper, but for what is odd in them."""
        method = "POST" if body is not None else "GET"
        if self._rng.random() < 0.1:
            method = self._rng.choice(["PUT", "OPTIONS", "HEAD", "DELETE", "POST", "PRI", "get"])
        lines = [f"{method} {self.target(sid)} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in self._rng.sample(HEADERS, self._rng.choice([0, 0, 1, 2, 4]))]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        return self.mutated(head.encode("utf-8", "surrogatepass") + (body or b""), 0.15)

    def upgrade(self, sid: str | None = None, revision: str = "4") -> bytes:
        """Make the handshake of a WebSocket."""
        head = f"GET {self.target(sid, 'websocket', revision)} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n"
        return self.mutated(head.encode("utf-8", "surrogatepass"), 0.05)

    # -- mutations ------------------------------------------------------------------------------------------

    def mutated_text(self, text: str, chance: float) -> str:
        """Change text by chance."""
        if self._rng.random() >= chance:
            return text
        at = self._rng.randrange(len(text) + 1)
        return text[:at] + self._rng.choice(TOKENS) + text[at + self._rng.randrange(4) :]

    def mutated(self, raw: bytes, chance: float) -> bytes:
        """Change bytes by chance: others in their place, some more, some twice, or an early end."""
        if self._rng.random() >= chance or not raw:
            return raw
        at = self._rng.randrange(len(raw))
        kind = self._rng.randrange(4)
        if kind == 0:
            return raw[:at] + self._rng.randbytes(1) + raw[at + 1 :]
        if kind == 1:
            return raw[:at] + self._rng.choice(TOKENS).encode("utf-8", "surrogatepass") + raw[at:]
        if kind == 2:
            return raw[: at + 1] + raw[max(at - 20, 0) :]
        return raw[:at]
