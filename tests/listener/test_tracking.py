"""The Tracking API answers as SDKs need it, and 200 means that every event is on disk or counted."""

import base64
import gzip
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from relayd.config import model
from relayd.config.units import Size
from relayd.journal.dedupe import Dedupe
from relayd.journal.log import Journal, open_journal
from relayd.journal.reader import Reader
from relayd.journal.segment import Folders
from relayd.listener.accounts import Accounts
from relayd.listener.message import Request, Response
from relayd.listener.tracking import Tracking

SOURCES = {
    "app": model.Source(write_key="key"),
    "site": model.Source(type="web", write_key="site-key"),
    "old": model.Source(write_key="old-key", enabled=False),
}
BASIC = {"authorization": "Basic " + base64.b64encode(b"key:").decode(), "host": "relay.test"}


class Relay:
    """A listener's handler on a real journal."""

    def __init__(self, root: Path, journal: Journal, accounts: Accounts, tracking: Tracking) -> None:
        self.root, self.journal, self.accounts, self.tracking = root, journal, accounts, tracking

    async def post(
        self, path: str, body: Any, headers: dict[str, str] = BASIC, *, peer: str | None = "203.0.113.9"
    ) -> Response:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.tracking(Request(method="POST", path=path, headers=headers, body=raw, peer=peer))

    async def get(self, path: str, query: str = "", method: str = "GET", **headers: str) -> Response:
        return await self.tracking(Request(method=method, path=path, query=query, headers=headers, peer="127.0.0.1"))

    def events(self) -> list[dict[str, Any]]:
        """Everything in the journal."""
        reader, data = Reader(self.journal.folders, 0), b""
        while chunk := reader.read(self.journal.head):
            data += chunk.data
        reader.close()
        return [msgspec.json.decode(line) for line in data.splitlines()]


@asynccontextmanager
async def relay(root: Path, **settings: Any) -> AsyncIterator[Relay]:
    limits = model.Listener(**settings)
    dedupe = Dedupe(root / "dedupe", max_ids=1000, window=86400)
    journal = open_journal(
        Folders(root / "journal", root / "archive"),
        model.Journal(min_free=Size(0)),
        dedupe,
        cursor=0,
        max_buffered=limits.max_buffered,
    )
    accounts = Accounts(root / "relayd.sqlite3")
    accounts.attach(journal)
    tracking = Tracking(journal, sources=SOURCES, limits=limits, accounts=accounts)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        yield Relay(root, journal, accounts, tracking)
        await journal.close()
        await accounts.save()
        accounts.close()


def track(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "e", "userId": "u", "messageId": f"id-{number}"} | fields


@pytest.mark.parametrize(
    ("path", "kind"),
    [(f"/v1/{name}", name) for name in ("track", "identify", "page", "screen", "group", "alias")]
    + [("/v1/t", "track"), ("/v1/i", "identify"), ("/v1/p", "page"), ("/v1/s", "screen"), ("/v1/g", "group")]
    + [("/v1/a", "alias"), ("/v1/track/", "track")],
)
async def test_each_route_keeps_its_type_and_answers_exactly_200(tmp_path: Path, path: str, kind: str) -> None:
    async with relay(tmp_path) as server:
        sent = {"event": "e", "userId": "u", "groupId": "g", "previousId": "p"}
        answer = await server.post(path, sent)
        assert (answer.status, answer.body) == (200, b'{"success":true}')
        assert [event["type"] for event in server.events()] == [kind]


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/b", "/v1/import"])
async def test_a_batch_keeps_all_of_its_events(tmp_path: Path, path: str) -> None:
    async with relay(tmp_path) as server:
        batch = {"batch": [track(number) for number in range(5)], "context": {"locale": "de"}, "sentAt": None}
        assert (await server.post(path, batch)).status == 200
        assert [event["messageId"] for event in server.events()] == [f"id-{number}" for number in range(5)]
        assert all(event["context"] == {"locale": "de"} for event in server.events())
        assert server.journal.received == {"app": 5}


async def test_the_write_key_is_found_in_basic_then_the_body_then_the_first_event(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        await server.post("/v1/track", track(1, writeKey="site-key"), BASIC)
        await server.post("/v1/batch", {"batch": [track(2, writeKey="key")], "writeKey": "site-key"}, {})
        await server.post("/v1/batch", {"batch": [track(3, writeKey="site-key"), track(4)]}, {})
        await server.post("/v1/track", track(5, writeKey="site-key"), {"authorization": "Bearer token"})
        await server.post("/v1/track", track(6, writeKey="site-key"), {"authorization": "Basic ???"})
        assert [event["projectId"] for event in server.events()] == ["app", *["site"] * 5]


async def test_an_unknown_write_key_and_a_disabled_source_are_answered_200_and_counted(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post("/v1/batch", {"batch": [track(1), track(2)], "writeKey": "wrong"}, {})).status == 200
        assert (await server.post("/v1/track", track(3, writeKey="old-key"), {})).status == 200
        assert server.events() == []
        assert server.accounts.rejected == {"": {"unknown_source": 2}, "old": {"source_disabled": 1}}


async def test_bad_events_of_a_batch_are_counted_by_code_and_the_good_ones_kept(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        batch = [
            track(1),
            track(2, userId=None),
            track(3, event=None),
            track(4, own=[1]),
            5,
            track(6, userId=7),
            track(7),
        ]
        answer = await server.post("/v1/batch", {"batch": batch})
        assert (answer.status, answer.body) == (200, b'{"success":true}')
        assert [event["messageId"] for event in server.events()] == ["id-1", "id-4", "id-7"]
        assert server.events()[1]["own"] == [1]
        assert server.accounts.rejected["app"] == {
            "no_user_anon_id": 1,
            "event_not_defined": 1,
            "bad_request": 1,
            "id_not_string": 1,
        }


async def test_unknown_fields_stay_with_their_event_when_others_are_dropped(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        await server.post("/v1/track", track(3))
        batch = [
            track(1, x=1),
            track(2, userId=None, x=2),
            track(3, x=3),
            track(4),
            track(5, x="y" * 40_000),
            track(6, x=6),
        ]
        await server.post("/v1/batch", {"batch": batch})
        assert {event["messageId"]: event.get("x") for event in server.events()} == {
            "id-3": None,
            "id-1": 1,
            "id-4": None,
            "id-6": 6,
        }


async def test_duplicates_are_answered_200_and_kept_once(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        await server.post("/v1/track", track(1))
        await server.post("/v1/batch", {"batch": [track(1), track(2), track(2)]})
        assert (await server.post("/v1/track", track(2))).status == 200
        assert [event["messageId"] for event in server.events()] == ["id-1", "id-2"]
        assert server.accounts.duplicates["app"] == 3
    async with relay(tmp_path) as server:
        await server.post("/v1/track", track(1))
        assert len(server.events()) == 2
        assert server.accounts.duplicates["app"] == 4
        assert server.journal.received == {"app": 2}


async def test_one_id_in_two_spellings_is_one_id(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        for spelling in (b'"id-\\u0041"', b'"id-A"'):
            await server.post("/v1/track", b'{"event":"e","userId":"u","messageId":' + spelling + b"}")
        assert len(server.events()) == 1


async def test_a_duplicate_of_what_is_not_yet_on_disk_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async with relay(tmp_path) as server:
        real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", refuse)
        answers: list[int] = []

        async def send() -> None:
            answers.append((await server.post("/v1/track", track(1))).status)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(send)
        monkeypatch.setattr(os, "fdatasync", real)
        assert answers == [503, 503, 503]
        await send()
        assert answers[-1] == 200
        assert len(server.events()) == 1


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
async def test_the_body_is_json_whatever_its_content_type_says(tmp_path: Path, content_type: str) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post("/v1/track", track(), BASIC | {"content-type": content_type})).status == 200
        assert len(server.events()) == 1


async def test_gzip_is_undone_and_a_bomb_is_refused(tmp_path: Path) -> None:
    async with relay(tmp_path, max_inflated=Size(10_000)) as server:
        headers = BASIC | {"content-encoding": "gzip"}
        assert (await server.post("/v1/track", gzip.compress(msgspec.json.encode(track())), headers)).status == 200
        bomb = await server.post("/v1/batch", gzip.compress(b" " * 10_000_000), headers)
        assert bomb.status == 400
        assert msgspec.json.decode(bomb.body)["code"] == "bad_request"
        assert (await server.post("/v1/track", b"not gzip", headers)).status == 400
        assert len(server.events()) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"batch":{}}', b'{"batch":[{]}', b"\xff\xfe", b'{"batch":["\xff"]}', b"[" * 100_000, b"nul"],
)
async def test_what_is_no_batch_is_answered_400_with_code_and_message(tmp_path: Path, body: bytes) -> None:
    async with relay(tmp_path) as server:
        answer = await server.post("/v1/batch", body)
        assert answer.status == 400
        decoded = msgspec.json.decode(answer.body)
        assert decoded["success"] is False
        assert decoded["code"]
        assert decoded["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_what_is_no_json_is_answered_400(tmp_path: Path, body: bytes) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post("/v1/track", body)).status == 400


async def test_too_large_events_and_batches(tmp_path: Path) -> None:
    async with relay(tmp_path, max_event=Size(2000), max_batch=3) as server:
        assert (await server.post("/v1/track", track(properties={"x": "y" * 3000}))).status == 400
        batch = [track(1), track(2, properties={"x": "y" * 3000}), track(3)]
        assert (await server.post("/v1/batch", {"batch": batch})).status == 200
        assert server.accounts.rejected["app"] == {"message_too_large": 1}
        assert (await server.post("/v1/batch", {"batch": [track(number) for number in range(4)]})).status == 400
        assert [event["messageId"] for event in server.events()] == ["id-1", "id-3"]


async def test_an_empty_batch_is_counted(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post("/v1/batch", {"batch": []})).status == 200
        assert server.accounts.rejected["app"] == {"empty_batch": 1}


async def test_when_the_journal_can_not_take_more_the_answer_is_503_with_both_headers(tmp_path: Path) -> None:
    async with relay(tmp_path, max_buffered=Size(1_000_000)) as server:
        server.journal._refusing, server.journal._next_look = "the disk reserve is gone", float("inf")
        answer = await server.post("/v1/track", track())
        assert answer.status == 503
        headers = dict(answer.headers)
        assert headers["Retry-After"] == headers["X-RateLimit-Reset"] == "5"
        server.journal._refusing = None
        assert (await server.post("/v1/track", track())).status == 200
        assert len(server.events()) == 1


async def test_metrics_of_the_sdks_are_accepted_and_dropped(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post("/v1/m", {"series": []}, {})).status == 200
        assert server.events() == []


async def test_preflights_allow_what_analytics_js_sends(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        answer = await server.get("/v1/t", method="OPTIONS", origin="https://shop.test")
        headers = dict(answer.headers)
        assert answer.status == 204
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in headers["Access-Control-Allow-Methods"]
        for name in ("authorization", "content-type", "x-retry-count"):
            assert name in headers["Access-Control-Allow-Headers"]
        sent = dict((await server.post("/v1/t", track())).headers)
        assert sent["Access-Control-Allow-Origin"] == "*"
        assert sent["Access-Control-Expose-Headers"] == "Retry-After, X-RateLimit-Reset"


async def test_settings_send_analytics_js_here_and_its_metrics_nowhere(tmp_path: Path) -> None:
    async with relay(tmp_path, trusted_proxies=("127.0.0.1",)) as server:
        answer = await server.get("/v1/projects/site-key/settings", host="relay.test", **{"x-forwarded-proto": "https"})
        decoded = msgspec.json.decode(answer.body)
        segment = decoded["integrations"]["Segment.io"]
        assert (segment["apiKey"], segment["apiHost"], segment["protocol"]) == ("site-key", "relay.test/v1", "https")
        assert decoded["metrics"] == {"sampleRate": 0}
        assert (await server.get("/v1/projects/wrong/settings")).status == 404


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, lambda raw: raw])
async def test_the_pixel_keeps_an_event_and_always_shows_an_image(tmp_path: Path, encode: Any) -> None:
    async with relay(tmp_path) as server:
        raw = encode(msgspec.json.encode(track(writeKey="site-key", properties={"x": "~~~???>>>"})))
        answer = await server.get("/v1/pixel/track", f"data={raw.decode().replace('?', '%3F')}")
        assert answer.status == 200
        assert answer.body.startswith(b"GIF89a")
        assert [event["projectId"] for event in server.events()] == ["site"]
        assert (await server.get("/v1/pixel/page", "data=%%%")).status == 200
        assert (await server.get("/v1/pixel/page")).status == 200


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),
        (None, "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
    ],
)
async def test_only_trusted_proxies_are_believed(
    tmp_path: Path, peer: str | None, forwarded: str, expected: str
) -> None:
    async with relay(tmp_path, trusted_proxies=("10.0.0.0/8",)) as server:
        await server.post("/v1/track", track(writeKey="site-key"), {"x-forwarded-for": forwarded}, peer=peer)
        assert server.events()[0]["context"]["ip"] == expected


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/", 404),
        ("GET", "/v1/track", 405),
        ("PUT", "/v1/batch", 405),
        ("POST", "/v2/track", 404),
        ("GET", "/v1/pixel/nonsense", 404),
        ("POST", "/", 404),
    ],
)
async def test_other_requests_get_a_plain_answer_and_never_a_redirect(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with relay(tmp_path) as server:
        assert (await server.get(path, method=method)).status == status


async def test_received_is_exact_after_a_kill_that_saved_nothing(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        for number in range(10):
            await server.post("/v1/track", track(number))
        await server.accounts.save()
        await server.post("/v1/batch", {"batch": [track(number) for number in range(10, 15)]})
        await server.post("/v1/track", track(99, writeKey="site-key"), {})
        server.accounts._saved |= {
            ("app", "received"): 15,
            ("site", "received"): 1,
            ("", "offset"): server.journal.written,
        }  # so that nothing is saved at the end
    async with relay(tmp_path) as server:
        assert server.journal.received == {"app": 15, "site": 1}
