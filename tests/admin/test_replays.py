"""Replays over the admin API: what is asked wrongly is told, and nothing comes of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.relay import Relay


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    with Relay(tmp_path, {"hook": 'type = "webhook"\nsettings.url = "http://127.0.0.1:1/"'}) as relay:
        yield await relay.start()


def ask(relay: Relay, method: str, path: str, body: Any = None) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(relay.state / "relayd.sock"), verify=False)
    with httpx.Client(transport=transport, trust_env=False, timeout=10) as client:
        content = body if isinstance(body, bytes) else None
        return client.request(method, f"http://relayd{path}", content=content, json=None if content else body)


async def test_a_request_that_makes_no_sense_is_told_why(relay: Relay) -> None:
    for body, code, told in [
        (b"no json", 400, "malformed"),
        ({}, 400, "missing required field `spec`"),
        ({"spec": {}}, 400, "missing required field `destination`"),
        ({"spec": {"destination": "hook"}, "agian": True}, 400, "unknown field `agian`"),
        ({"spec": {"destination": "hook", "since": 5}}, 400, "unknown field `since`"),
        ({"spec": {"destination": "hook", "criteria": {"type": ["track"]}}}, 400, "unknown field `type`"),
        ({"spec": {"destination": "hook", "criteria": {"types": ["trak"]}}}, 400, "there is no event type 'trak'"),
        ({"spec": {"destination": "hook", "criteria": {"since": 2, "until": 1}}}, 400, "must lie before"),
        ({"spec": {"destination": "hook", "rate": 0}}, 400, "more than 0"),
        ({"spec": {"destination": "hook", "rate": -1}}, 400, "more than 0"),
        ({"spec": {"destination": "hok"}}, 409, 'there is no destination "hok"'),
        ({"spec": {"destination": "hook", "archive": "/nothing/here"}}, 409, "has no archived logs"),
    ]:
        answer = ask(relay, "POST", "/replays", body)
        assert (answer.status_code, told in answer.json()["message"]) == (code, True), answer.text
    assert ask(relay, "GET", "/replays").json() == []
    assert not list(relay.state.glob("replays/*"))


async def test_an_id_that_is_none_is_not_found(relay: Relay) -> None:
    for method, path in [
        ("GET", "/replays/00000000"),
        ("POST", "/replays/00000000/pause"),
        ("POST", "/replays/..%2F..%2Fetc/cancel"),
        ("POST", "/replays/00000000/delete"),
        ("DELETE", "/replays"),
    ]:
        answer = ask(relay, method, path, {} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (path, answer.text)


async def test_one_is_started_and_shown(relay: Relay) -> None:
    spec = {"destination": "hook", "criteria": {"types": ["track"], "user": "ada"}, "rate": 5.0}
    id_ = ask(relay, "POST", "/replays", {"spec": spec}).json()["id"]
    shown = ask(relay, "GET", f"/replays/{id_}").json()
    assert shown["spec"] == spec
    assert ask(relay, "GET", "/replays").json()[0]["id"] == id_
    again = ask(relay, "POST", "/replays", {"spec": spec})
    assert (again.status_code, again.json()["code"]) == (409, "refused")
    assert ask(relay, "POST", "/replays", {"spec": spec, "again": True}).status_code == 200
