"""A node in a process of its own, for tests that kill and freeze it: obeys lines of its input, says what it hears.

Run as ``python -m tests.storage.postgres.node_child URL NAME``; see `NodeProcess`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from tests.storage.postgres.bare_nodes import BareNode, close_node, open_node
from waypost.errors import StorageError


def _say(*words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def _obey(node: BareNode, command: str, arguments: list[Any]) -> None:
    if command == "claim":
        try:
            _say("owner", await node.nodes.claim_consumer(*arguments))
        except StorageError as problem:
            _say("refused", str(problem))
    elif command == "release":
        await node.nodes.release_consumer(*arguments)
        _say("released")
    elif command == "stick":
        time.sleep(arguments[0])  # noqa: ASYNC251 - the event loop is to stand still
        _say("awake")
    elif command == "check":
        await node.value(
            "SELECT waypost.node_check_1($1, $2)", node.nodes.identity.id, node.nodes.identity.incarnation
        )
        _say("fine", node.nodes.identity.incarnation)
    else:
        raise AssertionError(command)


async def main(url: str, name: str) -> None:
    """Be a node until the input ends."""
    node = await open_node(url, name)
    node.nodes.watch(lambda other, is_there: _say("came" if is_there else "gone", other))
    node.when_freed = lambda queue, consumer: _say("freed", queue, consumer)
    _say("open", [*node.nodes.others])
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command, *arguments = json.loads(line)
        await _obey(node, command, arguments)
    await close_node(node)
    _say("closed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
