"""Webhooks of apps over the listener's handler: 200 only for what is in the journal, each refusal counted."""

import gzip
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
from relayd.listener.webhooks import Webhooks, with_webhooks
from relayd.sources import APPS
from tests.sources import bodies
from tests.sources.bodies import NOW, SECRET


def cloud(app: str, *, enabled: bool = True, mapping: Any = None, **settings: Any) -> model.Source:
    converted = APPS[app].settings(**settings)
    return model.Source(type="cloud_app", app=app, enabled=enabled, mapping=mapping, settings=converted)


SOURCES = {
    "app": model.Source(write_key="key"),
    "payments": cloud("stripe", secret=SECRET),
    "tickets": cloud("zendesk", secret=SECRET),
    "mail": cloud("braze", secret=SECRET),
    "open": cloud("webhook", mapping={"@path": "$.body"}),
    "off": cloud("stripe", secret=SECRET, enabled=False),
}


class Relay:
    """The listener's handler on a real journal."""

    def __init__(self, journal: Journal, accounts: Accounts, tracking: Tracking) -> None:
        self.journal, self.accounts = journal, accounts
        webhooks = Webhooks(tracking, sources=SOURCES, accounts=accounts, clock=lambda: NOW)
        self.handler = with_webhooks(tracking, webhooks, max_body=100_000)

    async def post(self, name: str, body: object, headers: dict[str, str] | None = None, **more: Any) -> Response:
        raw = body if isinstance(body, bytes) else bodies.encode(body)
        return await self.handler(Request("POST", f"/v1/sources/{name}", headers=headers or {}, body=raw, **more))

    async def stripe(self, body: object, name: str = "payments") -> Response:
        raw = bodies.encode(body)
        return await self.post(name, raw, bodies.stripe_headers(raw))

    def events(self) -> list[dict[str, Any]]:
        reader, data = Reader(self.journal.folders, 0), b""
        while chunk := reader.read(self.journal.head):
            data += chunk.data
        reader.close()
        return [msgspec.json.decode(line) for line in data.splitlines()]


@asynccontextmanager
async def relay(root: Path) -> AsyncIterator[Relay]:
    limits = model.Listener()
    journal = open_journal(
        Folders(root / "journal", root / "archive"),
        model.Journal(min_free=Size(0)),
        Dedupe(root / "dedupe", max_ids=1000, window=86400),
        cursor=0,
        max_buffered=limits.max_buffered,
    )
    accounts = Accounts(root / "relayd.sqlite3")
    accounts.attach(journal)
    tracking = Tracking(journal, sources=SOURCES, limits=limits, accounts=accounts, clock=lambda: NOW)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        yield Relay(journal, accounts, tracking)
        await journal.close()
        await accounts.save()
        accounts.close()


async def test_a_webhook_that_is_answered_200_is_in_the_journal(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        answer = await server.stripe(bodies.stripe("customer.created", bodies.CUSTOMER))
        assert (answer.status, answer.body) == (200, b'{"success":true}')
        track, identify = server.events()
        assert (track["type"], identify["type"]) == ("track", "identify")
        assert (track["projectId"], track["userId"], track["messageId"]) == (
            "payments",
            "cus_N1",
            "payments/customer-events/evt_1",
        )
        assert track["timestamp"] == track["originalTimestamp"] == "2025-11-24T15:59:59.000Z"
        assert track["receivedAt"] == "2025-11-24T16:00:00.000Z"
        assert "ip" not in track["context"]
        assert server.journal.received == {"payments": 2}
        assert server.accounts.rejected == {}


async def test_every_app_gets_in(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        raw = bodies.encode(bodies.zendesk("user.created", bodies.USER, subject="zen:user:1"))
        assert (await server.post("tickets", raw, bodies.zendesk_headers(raw))).status == 200
        opened = {"events": [bodies.OPENED, bodies.OPENED_FLAT]}
        assert (await server.post("mail", opened, {"authorization": f"Bearer {SECRET}"})).status == 200
        assert (await server.post("open", {"event": "e", "userId": "u", "messageId": "m"})).status == 200
        assert server.journal.received == {"tickets": 3, "mail": 2, "open": 1}


async def test_a_webhook_that_is_sent_again_is_known(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        for _ in range(3):
            assert (await server.stripe(bodies.stripe("customer.created", bodies.CUSTOMER))).status == 200
        assert len(server.events()) == 2
        assert server.accounts.duplicates == {"payments": 4}
        await server.stripe(bodies.stripe("customer.created", bodies.CUSTOMER, number=2))
        assert len(server.events()) == 4


async def test_the_same_id_in_two_sources_is_two_events(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        await server.post("open", {"event": "e", "userId": "u", "messageId": "evt_1"})
        await server.stripe(bodies.stripe("invoice.paid", bodies.INVOICE))
        assert len(server.events()) == 2


async def test_what_is_forged_or_stale_is_401_and_counted_and_nowhere(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        raw = bodies.encode(bodies.stripe("invoice.paid", bodies.INVOICE))
        forged = await server.post("payments", raw, bodies.stripe_headers(raw, secret="guess"))
        unsigned = await server.post("payments", raw)
        stale = await server.post("payments", raw, bodies.stripe_headers(raw, at=NOW - 301))
        for answer, code in (
            (forged, "invalid_signature"),
            (unsigned, "invalid_signature"),
            (stale, "stale_signature"),
        ):
            assert answer.status == 401
            assert msgspec.json.decode(answer.body)["code"] == code
            assert SECRET.encode() not in answer.body
        assert (await server.post("mail", raw, {"authorization": "Bearer guess"})).status == 401
        assert server.events() == []
        assert server.accounts.rejected == {
            "payments": {"invalid_signature": 2, "stale_signature": 1},
            "mail": {"invalid_signature": 1},
        }


async def test_a_body_that_is_no_json_is_400(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        for body in (b"{", b"", b"\xff", b"a=b", b"[" * 100_000):
            answer = await server.post("open", body)
            assert (answer.status, msgspec.json.decode(answer.body)["code"]) == (400, "bad_request")
        assert server.accounts.rejected == {"open": {"bad_request": 5}}


async def test_a_compressed_body_is_signed_as_it_is_sent(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        raw = gzip.compress(bodies.encode(bodies.stripe("invoice.paid", bodies.INVOICE)))
        assert (
            await server.post("payments", raw, bodies.stripe_headers(raw) | {"content-encoding": "gzip"})
        ).status == 200
        assert len(server.events()) == 1


async def test_what_will_never_be_an_event_is_counted_and_answered_200(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        for body in (
            {"event": "e"},
            "text",
            {"userId": "u"},
            {"type": "nope", "userId": "u"},
            {"userId": 1.5, "event": "e"},
        ):
            assert (await server.post("open", body)).status == 200
        big = {"event": "e", "userId": "u", "properties": {"x": "x" * 40_000}}
        assert (await server.post("open", big)).status == 200
        assert server.events() == []
        assert server.accounts.rejected["open"] == {
            "no_user_anon_id": 1,
            "bad_request": 2,
            "event_not_defined": 1,
            "id_not_string": 1,
            "message_too_large": 1,
        }


async def test_a_large_webhook_is_mapped_aside_and_one_of_too_many_parts_refused(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        one = {"event": "e", "userId": "u"}
        assert (await server.post("open", [one] * 2500)).status == 200
        assert server.journal.received == {"open": 2500}
        answer = await server.post("open", [one] * 2501)
        assert (answer.status, msgspec.json.decode(answer.body)["code"]) == (400, "batch_too_large")
        assert (await server.post("open", [])).status == 200
        assert server.accounts.rejected == {"open": {"batch_too_large": 1, "empty_batch": 1}}
        assert (await server.post("open", b"[" + b" " * 40_000)).status == 400


async def test_however_deep_a_body_is_it_gets_an_answer(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        found = set()
        for depth in (1, 50, *range(150, 260), *range(950, 1050), 5000):
            body = b'{"event":"e","userId":"u","properties":{"x":' + b"[" * depth + b"]" * depth + b"}}"
            found.add((await server.post("open", body)).status)
        assert found == {200, 400}


async def test_a_disabled_source_is_answered_200_and_counted(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        assert (await server.stripe(bodies.stripe("invoice.paid", bodies.INVOICE), "off")).status == 200
        assert server.accounts.rejected == {"off": {"source_disabled": 1}}
        assert server.events() == []


@pytest.mark.parametrize("name", ["nope", "app", "", "../payments", "payments/more", "PAYMENTS"])
async def test_what_is_no_such_source_is_404(tmp_path: Path, name: str) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post(name, {})).status == 404


async def test_only_post_is_taken_and_the_tracking_api_is_still_there(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        answer = await server.handler(Request("GET", "/v1/sources/payments"))
        assert (answer.status, dict(answer.headers)["Allow"]) == (405, "POST")
        body = bodies.encode({"event": "e", "userId": "u", "writeKey": "key"})
        assert (await server.handler(Request("POST", "/v1/track", body=body))).status == 200
        assert server.journal.received == {"app": 1}
        no_key = bodies.encode({"event": "e", "userId": "u", "writeKey": ""})
        await server.handler(Request("POST", "/v1/track", body=no_key))
        assert server.accounts.rejected == {"": {"unknown_source": 1}}


async def test_a_journal_that_can_take_no_more_is_503_and_the_webhook_can_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relay(tmp_path) as server:
        monkeypatch.setattr(server.journal, "_max_buffered", 10)
        answer = await server.stripe(bodies.stripe("invoice.paid", bodies.INVOICE))
        assert answer.status == 503
        assert int(dict(answer.headers)["Retry-After"]) < 60
        monkeypatch.undo()
        assert (await server.stripe(bodies.stripe("invoice.paid", bodies.INVOICE))).status == 200
        assert len(server.events()) == 1
