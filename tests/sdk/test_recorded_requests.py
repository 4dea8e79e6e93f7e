"""Every request that was recorded from an SDK is answered as that SDK needs it, and its events are kept."""

import base64
import zlib
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.relay import WRITE_KEY, Relay

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "sdk"
RECORDINGS = sorted(FIXTURES.glob("*.json"))


def relay_routes(request: dict[str, Any]) -> bool:
    """Jitsu's SDK is here to show what is not compatible; "/elsewhere" is where a redirect led."""
    path: str = request["path"]
    return request["method"] == "POST" and path.startswith("/v1/")


def body_of(request: dict[str, Any]) -> bytes:
    raw = request.get("raw_body_base64")
    return base64.b64decode(raw) if raw else request["body_text"].encode()


def events_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The events in a recorded body."""
    body = body_of(request)
    if request.get("raw_body_base64"):
        body = zlib.decompress(body, wbits=31)
    decoded = msgspec.json.decode(body)
    found: list[dict[str, Any]] = decoded.get("batch", [decoded])
    return found


def with_our_key(headers: list[list[str]]) -> list[tuple[str, str]]:
    """The recorded headers, with the tests' write key in Basic, and without what belongs to the connection."""
    ours = "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
    kept = [(name, value) for name, value in headers if name.lower() not in ("host", "content-length", "authorization")]
    return [*kept, ("Authorization", ours)]


@pytest.mark.skipif(not RECORDINGS, reason="the recorded requests (shared/fixtures/sdk) are not here")
async def test_recorded_requests_are_answered_200_and_kept_whole(tmp_path: Path) -> None:
    sent: dict[str, dict[str, Any]] = {}
    with Relay(tmp_path, {}) as relay, httpx.Client(trust_env=False) as client:
        await relay.start()
        for recording in RECORDINGS:
            for request in msgspec.json.decode(recording.read_bytes())["requests"]:
                if not relay_routes(request):
                    continue
                answer = client.post(
                    relay.url + request["path"], headers=with_our_key(request["headers"]), content=body_of(request)
                )
                assert (answer.status_code, answer.content) == (200, b'{"success":true}'), recording.name
                if request["path"] != "/v1/m":
                    for event in events_of(request):  # what the SDK sent again is a duplicate
                        sent.setdefault(event["messageId"], event)
        status = relay.status()
        assert await relay.stop() == 0
    kept = {event["messageId"]: event for event in relay.journal()}
    assert kept.keys() == sent.keys()
    assert len(sent) > 100
    assert status["sources"]["app"]["rejected"] == {}
    changed = {"timestamp", "originalTimestamp", "sentAt", "writeKey", "receivedAt", "projectId", "context"}
    for message_id, event in sent.items():
        before = {name: value for name, value in event.items() if name not in changed}
        after = {name: value for name, value in kept[message_id].items() if name not in changed}
        assert after == before
        assert (event.get("context") or {}).items() <= (kept[message_id].get("context") or {}).items()
