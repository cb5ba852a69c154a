"""Batches over HTTP: each command has an outcome of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import waypost
from tests.operations.places import key, serving


def message(queue: str, **members: Any) -> dict[str, Any]:
    return {"publish": {"queue": queue, "message": {"event": "mail", **members}}}


@pytest.mark.parametrize("parallel", [False, True])
async def test_each_command_has_its_own_outcome(parallel: bool) -> None:
    io = waypost.Server(queues=waypost.QueueOptions(max_messages=2, overflow="refuse"))
    async with serving(io, [key(queues=["mails", "full"])]) as place:
        client = await place.site.connect()
        got: list[Any] = []
        client.on("news", got.append)
        commands = [
            {"emit": {"event": "news", "args": [1]}},
            message("mails", id="7"),
            {"emit": {"event": "connect"}},
            {"emit": {"event": "news", "namespace": "/nowhere"}},
            message("others"),
            {"join": {"rooms": [client.id], "change": ["vip", "a"]}},
            {"leave": {"rooms": [client.id], "change": ["vip"]}},
        ]
        status, answer = await place.ask("POST", "/batch", {"commands": commands, "parallel": parallel})
        assert status == 200
        outcomes = [(one["status"], one.get("problem", {}).get("code")) for one in answer["results"]]
        assert outcomes == [
            (200, None),
            (201, None),
            (422, "not_encodable"),
            (404, "unknown_namespace"),
            (403, "name_not_allowed"),
            (200, None),
            (200, None),
        ]
        assert answer["results"][1]["answer"] == {"id": "7", "offset": 1, "duplicate": False}
        assert answer["results"][0] == {"status": 200, "answer": {"duplicate": False}}
        status, answer = await place.ask("POST", "/batch", {"commands": [message("mails", id="7")]})
        assert answer["results"] == [{"status": 200, "answer": {"id": "7", "offset": 1, "duplicate": True}}]
        async with asyncio.timeout(60):
            while got != [1]:
                await asyncio.sleep(0.01)
        status, answer = await place.ask("POST", "/batch", {"commands": [message("full")] * 3})
        assert [one["status"] for one in answer["results"]] == [201, 201, 503]
        assert answer["results"][2]["problem"]["code"] == "queue_full"
        assert answer["results"][2]["problem"]["retry_after_s"] == 1


async def test_commands_in_order_are_done_in_order() -> None:
    async with serving(waypost.Server()) as place:
        commands = [message("mails", args=[number]) for number in range(100)]
        await place.ask("POST", "/batch", {"commands": commands})
        found = (await place.ask("GET", "/queues/mails/messages?limit=1000"))[1]["messages"]
        assert [one["args"] for one in found] == [[number] for number in range(100)]


async def test_each_command_needs_its_scope_and_counts_as_a_request() -> None:
    async with serving(waypost.Server(), [key(scopes=["emit"], requests_per_s=5)]) as place:
        commands: list[Any] = [{"emit": {"event": "news"}}, {"disconnect": {"rooms": None}}, message("mails")]
        _, answer = await place.ask("POST", "/batch", {"commands": commands})
        assert [one["status"] for one in answer["results"]] == [200, 403, 403]
        commands = [{"emit": {"event": "news"}}] * 1000
        _, answer = await place.ask("POST", "/batch", {"commands": commands})
        refused = [one for one in answer["results"] if one["status"] == 429]
        assert refused, "five requests per second are allowed, and a thousand came at once"
        assert refused[0]["problem"]["code"] == "too_many_requests"
        assert refused[0]["problem"]["retry_after_s"] == 1


@pytest.mark.parametrize(
    "wrong",
    [{}, {"emit": {"event": "news"}, "join": {"rooms": None, "change": ["a"]}}, {"emit": None}, {"purge": {}}],
)
async def test_a_batch_with_a_command_that_is_none_is_refused_whole(wrong: dict[str, Any]) -> None:
    async with serving(waypost.Server()) as place:
        status, problem = await place.ask("POST", "/batch", {"commands": [message("mails"), wrong]})
        assert (status, problem["code"]) == (422, "bad_body")
        assert "commands[" in problem["detail"]
        assert (await place.ask("GET", "/queues/mails"))[1]["queue"]["messages"] == 0


async def test_a_batch_has_no_id_of_its_own() -> None:
    async with serving(waypost.Server()) as place:
        body = {"commands": [{"emit": {"event": "news"}}]}
        status, problem = await place.ask("POST", "/batch", body, Idempotency_Key="7")
        assert (status, problem["code"]) == (422, "idempotency_not_supported")


async def test_a_defect_is_the_outcome_of_its_command(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server()

    def fail(name: str) -> Any:
        raise RuntimeError("a secret")

    io.queue = fail  # type: ignore[method-assign,assignment]  # stands for a defect
    async with serving(io) as place:
        body = {"commands": [message("mails"), {"emit": {"event": "news"}}]}
        _, answer = await place.ask("POST", "/batch", body)
        assert [one["status"] for one in answer["results"]] == [500, 200]
        assert "a secret" not in str(answer)
        assert "a secret" in caplog.text
