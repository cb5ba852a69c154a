"""Follows the README: its server by ``waypost serve``, its Python client, the files for browsers, and the demo.

It needs nothing but the installed package, and the path of the README as its argument.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

_DEADLINE_S = 60
_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINTED_URL = "http://127.0.0.1:8000"


def main() -> None:
    """Run all of it in the current directory."""
    server, client = _FENCE.findall(Path(sys.argv[1]).read_text(encoding="utf-8"))[:2]
    Path("parcels.py").write_text(server, encoding="utf-8")
    with _serve() as url:
        for name in ("socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"):
            with urllib.request.urlopen(f"{url}/socket.io/{name}", timeout=_DEADLINE_S) as answer:
                assert answer.status == 200
                assert len(answer.read()) > 10_000
        assert _PRINTED_URL in client
        Path("driver.py").write_text(client.replace(_PRINTED_URL, url), encoding="utf-8")
        with subprocess.Popen([sys.executable, "-u", "driver.py"], stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            assert {driver.stdout.readline() for _ in range(2)} == {"accepted\n", "load {'id': 13}\n"}
            driver.kill()
    subprocess.run([sys.executable, "-m", "waypost", "demo", "--headless"], check=True, timeout=2 * _DEADLINE_S)


@contextlib.contextmanager
def _serve() -> Iterator[str]:
    command = [sys.executable, "-m", "waypost", "serve", "parcels:io", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            said = []
            for line in server.stdout:
                said.append(line)
                if found := _LISTENING.search(line):
                    yield found[1]
                    break
            else:
                raise AssertionError("the server did not start:\n" + "".join(said))
        finally:
            server.terminate()
            assert server.wait(_DEADLINE_S) == 0


if __name__ == "__main__":
    main()
