"""What of Windows can be tried elsewhere: imports without what Windows lacks, and what the demo says there."""

from __future__ import annotations

import subprocess
import sys

_AS_ON_WINDOWS = """
import asyncio, importlib, multiprocessing, os, pkgutil, signal, socket, sys, sysconfig, tempfile, zoneinfo

# The libraries are not tried here; they choose by the platform when they are imported.
import aiohttp, cronsim, filelock, httptools, msgspec, orjson, pytest, pytest_asyncio, sqlite3, starlette
import uvicorn, uvicorn.lifespan.on, uvicorn.protocols.http.httptools_impl, websockets
import uvicorn.protocols.websockets.websockets_sansio_impl

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "grp", "pwd", "pty", "resource", "syslog", "termios", "tty", "uvloop"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "grp", "pwd", "pty", "resource", "syslog", "termios", "tty", "uvloop"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
for name in ("chown", "fork", "geteuid", "getuid", "pathconf", "register_at_fork", "sched_getaffinity", "statvfs"):
    delattr(os, name)
os.O_BINARY = 0
for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK"):
    delattr(os, name)
sys.platform = "win32"
"""

_IMPORTS_ALL = """
import waypost
for module in pkgutil.walk_packages(waypost.__path__, "waypost."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("all")
"""

_DEMO = """
from waypost.cli import main
sys.exit(main(["demo", "--headless"]))
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _AS_ON_WINDOWS + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_each_module_is_imported() -> None:
    done = run(_IMPORTS_ALL)
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr


def test_the_demo_says_what_it_needs() -> None:
    done = run(_DEMO)
    assert done.returncode == 1
    assert done.stderr == "waypost demo: expected Linux or macOS; it kills its server, in a way that Windows lacks\n"
