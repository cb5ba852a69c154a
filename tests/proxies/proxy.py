"""A proxy in a process of its own, configured by the block that docs/serving.md prints for it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.require import require_openssl, skip_or_fail
from tests.support.server_process import REPOSITORY, free_port
from tests.support.waiting import until

__all__ = ["PROXIES", "Certificate", "Proxy"]

_PAGE = REPOSITORY / "docs" / "serving.md"
_UPSTREAM = "127.0.0.1:8000"
_MACHINES = ("10.0.0.11:8000", "10.0.0.12:8000")

PROXIES = ("nginx", "haproxy", "caddy")
"""The proxies; each is the name of its program, and of the language of its block in the page."""


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1.

    Attributes:
        certificate: The file with the certificate.
        key: The file with its key.
        both: The file with the two of them.
    """

    certificate: Path
    key: Path
    both: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Have openssl make one."""
        made = cls(folder / "site.crt", folder / "site.key", folder / "site.pem")
        command = [require_openssl(), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", str(made.key), "-out", str(made.certificate)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        made.both.write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
        return made

    def context(self) -> ssl.SSLContext:
        """Return what a client trusts that trusts this certificate only."""
        return ssl.create_default_context(cafile=str(self.certificate))


def _block(kind: str) -> str:
    """Return the configuration that the page prints for a proxy."""
    (block,) = re.findall(rf"^```{kind}\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


class Proxy:
    """A proxy in front of a server; start it with `start`, end it with `kill`.

    Attributes:
        kind: One of `PROXIES`.
        port: Where it listens, the same over restarts.
        url: Its address for clients.
    """

    def __init__(
        self,
        kind: str,
        server_port: int,
        certificate: Certificate,
        folder: Path,
        *,
        secure: bool,
        changes: tuple[tuple[str, str], ...] = (),
        second_port: int | None = None,
    ) -> None:
        """Write its configuration; skip the test if it is not installed.

        Args:
            kind: One of `PROXIES`.
            server_port: Where the server listens.
            certificate: The certificate of the site.
            folder: An empty folder for its files.
            secure: Whether it takes TLS and HTTP/2, as the page has it, or plain HTTP.
            changes: Texts of the page's block and what stands there instead.
            second_port: Where a second server listens, on another machine; the block for several machines is taken.
        """
        program = shutil.which(kind, path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            skip_or_fail(f"{kind} is not installed")
        self.kind = kind
        self.port = free_port()
        self.url = f"{'https' if secure else 'http'}://127.0.0.1:{self.port}"
        self._program = str(program)
        self._folder = folder
        self._admin = f"127.0.0.1:{free_port()}"
        self._file = folder / f"{kind}.conf"
        self._log = folder / f"{kind}.log"
        self._process: subprocess.Popen[bytes] | None = None
        text = _block(kind if second_port is None else f"{kind} machines")
        places = self._places(certificate, secure=secure)
        if second_port is None:
            places.append((_UPSTREAM, f"127.0.0.1:{server_port}"))
        else:
            for machine, port in zip(_MACHINES, (server_port, second_port), strict=True):
                text = text.replace(machine, f"127.0.0.1:{port}")
        for found, instead in (*changes, *places):
            assert text.count(found) == 1, f"{found!r} stands {text.count(found)} times in {kind}'s block"
            text = text.replace(found, instead)
        self._file.write_text(self._around(text))

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._spawn()
        await until(self._takes_connections, f"{self.kind} listens")

    async def kill(self) -> None:
        """End it with SIGKILL, and all its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)
            self._process = None

    async def restart(self) -> None:
        """Kill it, so that all connections through it break, and start it again."""
        await self.kill()
        await self.start()

    async def reload(self) -> None:
        """Have it read its configuration again, as an operator does, under whatever goes through it."""
        assert self._process is not None
        if self.kind == "caddy":
            command = (self._program, "reload", "--force", "--adapter", "caddyfile", "--config", str(self._file))
            done = await asyncio.create_subprocess_exec(
                *command, "--address", self._admin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            assert await done.wait() == 0, self.log()
        else:
            self._process.send_signal(signal.SIGHUP if self.kind == "nginx" else signal.SIGUSR2)

    def log(self) -> str:
        """Return all it has printed."""
        return self._log.read_text(errors="replace")

    def _spawn(self) -> None:
        command = {
            "nginx": ["-p", str(self._folder), "-c", str(self._file), "-e", "stderr"],
            "haproxy": ["-W", "-db", "-f", str(self._file)],
            "caddy": ["run", "--adapter", "caddyfile", "--config", str(self._file)],
        }[self.kind]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *command],
                env={**os.environ, "HOME": str(self._folder), "XDG_DATA_HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _takes_connections(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.kind} did not start:\n{self.log()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _places(self, certificate: Certificate, *, secure: bool) -> list[tuple[str, str]]:
        """Return what of the block is the site's own, and what a test has instead."""
        here = f"127.0.0.1:{self.port}"
        match self.kind:
            case "nginx":
                return [
                    ("listen 443 ssl http2;", f"listen {here}{' ssl http2' if secure else ''};"),
                    ("/etc/ssl/example.com.crt", str(certificate.certificate)),
                    ("/etc/ssl/example.com.key", str(certificate.key)),
                ]
            case "haproxy":
                found = "bind :443 ssl crt /etc/ssl/example.com.pem alpn h2,http/1.1"
                tls = f" ssl crt {certificate.both} alpn h2,http/1.1"
                return [(found, f"bind {here}{tls if secure else ''}")]
            case _:
                tls = f"https://{here} {{\n    tls {certificate.certificate} {certificate.key}\n"
                return [("example.com {\n", tls if secure else f"http://{here} {{\n")]

    def _around(self, block: str) -> str:
        """Return a whole configuration with a block in it."""
        match self.kind:
            case "nginx":
                folders = "".join(
                    f"    {what}_temp_path {self._folder}/{what};\n"
                    for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
                )
                user = "user root;\n" if os.geteuid() == 0 else ""
                head = f"daemon off;\n{user}pid {self._folder}/nginx.pid;\nerror_log stderr;\nworker_processes 2;\n"
                return f"{head}events {{}}\nhttp {{\n    access_log off;\n{folders}{block}}}\n"
            case "haproxy":
                return block
            case _:
                return f"{{\n    admin {self._admin}\n    auto_https disable_redirects\n}}\n{block}"
