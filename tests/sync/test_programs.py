"""Programs that use the blocking client, and how they end: by themselves, soon, whatever they forget."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import waypost
from tests.support.waiting import DEADLINE_S
from waypost.testing import ThreadSite

BEGIN = "import threading, time, waypost.sync\nclient = waypost.sync.Client({url!r})\n"


def start(directory: Path, site: ThreadSite, program: str) -> subprocess.Popen[str]:
    script = directory / "program.py"
    script.write_text(BEGIN.format(url=site.url) + textwrap.dedent(program))
    command = [sys.executable, "-u", "-W", "always", str(script)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """Wait for the program to end by itself; one that hangs is killed, and the test fails."""
    try:
        output, errors = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return output, errors, process.returncode


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("client.connect(); print(client.call('echo', 1))", id="without leaving"),
        pytest.param(
            """
            begun = threading.Event()
            @client.on("number")
            def forever(number):
                print(number)
                begun.set()
                time.sleep(3600)
            client.connect()
            client.emit("count to", 1)
            begun.wait()
            """,
            id="with a handler that never ends",
        ),
        pytest.param(
            """
            client.connect()
            def call():
                try:
                    client.call("say nothing")
                except waypost.NotConnected:
                    pass
            threading.Thread(target=call, daemon=True).start()
            print(client.call("echo", 1))
            """,
            id="with a call under way",
        ),
    ],
)
def test_a_program_that_just_ends_ends(site: ThreadSite, tmp_path: Path, program: str) -> None:
    output, errors, code = finish(start(tmp_path, site, program))
    assert output == "1\n"
    assert (errors, code) == ("", 0)


def test_what_was_emitted_last_is_sent_before_the_end(site: ThreadSite, tmp_path: Path) -> None:
    seen: list[str] = []
    site.io.on("last words", lambda socket, words: seen.append(words))
    output, errors, code = finish(start(tmp_path, site, "client.connect(); client.emit('last words', 'goodbye')"))
    assert (output, errors, code) == ("", "", 0)
    assert seen == ["goodbye"]
    site.io.off("last words")


def test_what_is_in_the_outbox_at_the_end_is_sent_by_the_next_program(site: ThreadSite, tmp_path: Path) -> None:
    handled: list[int] = []
    site.io.on("order", lambda socket, number: handled.append(number))
    path = tmp_path / "orders.db"
    program = f"""
        first = waypost.sync.Client({site.url!r}, outbox={str(path)!r})
        first.connect()
        for n in range(100):
            first.emit("order", n)
        """
    # Many acknowledgements are on their way when it ends, each of which has something removed from the file.
    assert finish(start(tmp_path, site, program)) == ("", "", 0)
    with waypost.sync.Client(site.url, outbox=path) as client:
        client.outbox.drained(timeout_s=DEADLINE_S)
    assert handled == [*range(100)]
    site.io.off("order")


def test_ctrl_c_interrupts_a_call_and_leaves_the_client_usable(site: ThreadSite, tmp_path: Path) -> None:
    process = start(
        tmp_path,
        site,
        """
        client.connect()
        for _ in range(2):
            try:
                print("waiting")
                client.call("say nothing")
            except KeyboardInterrupt:
                print(client.call("echo", "interrupted"))
        """,
    )
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    assert finish(process) == ("", "", 0)


def test_ctrl_c_ends_a_program_in_a_loop(site: ThreadSite, tmp_path: Path) -> None:
    program = "client.connect()\nprint('waiting')\nfor event in client.events(): pass"
    process = start(tmp_path, site, program)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, errors, code = finish(process)
    assert code == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1


def test_ctrl_c_while_connecting_leaves_the_client_away(tmp_path: Path, site: ThreadSite) -> None:
    program = """
        import socket
        silent = socket.create_server(("127.0.0.1", 0))
        nobody = waypost.sync.Client(f"http://127.0.0.1:{silent.getsockname()[1]}")
        try:
            print("waiting")
            nobody.connect(retry=True)
        except KeyboardInterrupt:
            nobody.wait_closed()
            print(nobody.active)
        """
    process = start(tmp_path, site, program)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    output, _, code = finish(process)
    assert (output, code) == ("False\n", 0)
