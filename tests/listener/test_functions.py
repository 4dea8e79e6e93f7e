"""Source functions behind their route: events in the journal, errors counted, tries repeated across restarts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest
import structlog
import trio

from relayd.config import model
from relayd.config.units import Duration, Size
from relayd.journal.dedupe import Dedupe
from relayd.journal.log import Journal, open_journal
from relayd.journal.reader import Reader
from relayd.journal.segment import Folders
from relayd.listener import functions
from relayd.listener import retries as retries_module
from relayd.listener.accounts import Accounts
from relayd.listener.functions import Functions
from relayd.listener.message import Request, Response
from relayd.listener.retries import Retries
from relayd.listener.tracking import Tracking
from relayd.listener.webhooks import Webhooks, with_webhooks
from relayd.sources.function import MAX_BODY, next_wait
from tests.waiting import until

FUNCTION = """
from relayd.functions import *
import os, time
from pathlib import Path

KINDS = {each.__name__: each for each in (ValidationError, EventNotSupported, InvalidSettings, RetryError, DropEvent)}

async def on_request(request, settings):
    body = request.json()
    match body["do"]:
        case "track":
            return track("Did", user_id="u", properties={"n": body.get("n")}, message_id=body.get("id"))
        case "raise":
            raise KINDS[body["kind"]]("because")
        case "fail":
            return 1 / 0
        case "loop":
            while True: pass
        case "exit":
            os._exit(3)
        case "print":
            print("seen", settings["secret"])
        case "wait":
            time.sleep(body["seconds"])
        case "later":
            if not Path(body["file"]).exists(): raise RetryError("not yet")
            return [track("Later", user_id="u"), identify("u")]
"""


class Relay:
    """The listener's handler on a real journal, with a clock of the test's."""

    def __init__(self, journal: Journal, accounts: Accounts, tracking: Tracking, functions: Functions) -> None:
        self.journal, self.accounts, self.functions = journal, accounts, functions
        webhooks = Webhooks(tracking, sources=functions_sources(Path()), accounts=accounts, functions=functions)
        self.handler = with_webhooks(tracking, webhooks, max_body=1000)
        self.now = 1_764_000_000.0

    async def post(self, body: object, name: str = "shop", **headers: str) -> Response:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.handler(Request("POST", f"/v1/sources/{name}", "a=1", {"host": "relay", **headers}, raw))

    @property
    def rejected(self) -> dict[str, int]:
        return dict(self.accounts.rejected.get("shop", {}))

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.functions.wake()

    def events(self) -> list[dict[str, Any]]:
        reader, data = Reader(self.journal.folders, 0), b""
        while chunk := reader.read(self.journal.head):
            data += chunk.data
        reader.close()
        return [msgspec.json.decode(line) for line in data.splitlines()]


def functions_sources(path: Path) -> dict[str, model.Source]:
    settings = {"secret": "abc"}
    return {
        name: model.Source(
            type="function", file=str(path), timeout=Duration(0.5), settings=settings, enabled=name != "off"
        )
        for name in ("shop", "off")
    }


@asynccontextmanager
async def relay(root: Path, text: str = FUNCTION) -> AsyncIterator[Relay]:
    path = root / "shop.py"
    if not path.exists():
        path.write_text(dedent(text))
    journal = open_journal(
        Folders(root / "journal", root / "archive"),
        model.Journal(min_free=Size(0)),
        Dedupe(root / "dedupe", max_ids=1000, window=86400),
        cursor=0,
        max_buffered=2**20,
    )
    accounts = Accounts(root / "relayd.sqlite3")
    accounts.attach(journal)
    sources = functions_sources(path)
    tracking = Tracking(journal, sources=sources, limits=model.Listener(), accounts=accounts)
    holder: list[Relay] = []
    functions = Functions(
        tracking,
        Retries(root / "functions.sqlite3"),
        sources=sources,
        accounts=accounts,
        clock=lambda: holder[0].now,
        random=lambda: 0.5,
    )
    holder.append(Relay(journal, accounts, tracking, functions))
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        async with trio.open_nursery() as running:
            running.start_soon(functions.run)
            yield holder[0]
            running.cancel_scope.cancel()
        assert all(each.function.pid is None for each in functions._functions.values())
        await journal.close()
        await accounts.save()
        accounts.close()


async def test_what_a_function_makes_is_in_the_journal_when_it_is_answered(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        answer = await server.post({"do": "track", "n": 1})
        assert (answer.status, answer.body) == (200, b'{"success":true}')
        (event,) = server.events()
        assert (event["event"], event["projectId"], event["properties"]) == ("Did", "shop", {"n": 1})
        assert event["messageId"].endswith("/0")
        assert (await server.post({"do": "print"})).status == 200
        assert server.rejected == {}


async def test_the_same_request_twice_is_two_events_unless_the_function_names_them(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        for _ in range(2):
            await server.post({"do": "track"})
            await server.post({"do": "track", "id": "mine"})
        assert len(server.events()) == 3
        assert server.accounts.duplicates == {"shop": 1}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"do": "raise", "kind": "ValidationError"}, "validation_error"),
        ({"do": "raise", "kind": "EventNotSupported"}, "event_not_supported"),
        ({"do": "raise", "kind": "InvalidSettings"}, "invalid_settings"),
        ({"do": "raise", "kind": "DropEvent"}, "dropped"),
        ({"do": "fail"}, "function_error"),
        (b"no json", "validation_error"),
    ],
)
async def test_an_error_is_counted_by_its_kind_and_the_request_dropped(tmp_path: Path, body: object, code: str) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post(body)).status == 200
        assert server.rejected == {code: 1}
        assert (server.functions.retries.pending, server.events()) == (0, [])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"do": "raise", "kind": "RetryError"}, "retry_error"),
        ({"do": "loop"}, "function_timeout"),
        ({"do": "exit"}, "function_crashed"),
    ],
)
async def test_what_may_work_later_is_tried_seven_times_in_all_and_then_held(
    tmp_path: Path, body: object, code: str
) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post(body)).status == 200
        for tries, wait in enumerate((120, 240, 480, 960, 1200, 1200), start=1):
            assert server.functions.retries.pending == 1
            await server.pass_time(wait - 1)
            await trio.sleep(0.05)
            assert server.rejected[code] == tries
            await server.pass_time(1)
            await until(lambda: server.rejected[code] == tries + 1)  # noqa: B023
        await until(lambda: server.rejected == {code: 7, "retries_exhausted": 1})
        assert (server.functions.retries.pending, server.functions.retries.held) == (0, 1)
        await server.pass_time(86400)
        await trio.sleep(0.05)
        assert server.rejected[code] == 7


async def test_a_request_that_is_tried_again_survives_a_restart_and_is_kept_once(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    async with relay(tmp_path) as server:
        await server.post({"do": "later", "file": str(flag)}, authorization="Basic abc")
        assert server.functions.retries.pending == 1
    assert (tmp_path / "functions.sqlite3").stat().st_mode & 0o077 == 0
    flag.touch()
    async with relay(tmp_path) as server:
        assert server.functions.retries.pending == 1
        await server.pass_time(200)
        await until(lambda: not server.functions.retries.pending)
        events = server.events()
        assert [event["type"] for event in events] == ["track", "identify"]
        assert len({event["messageId"] for event in events}) == 2
        kept = await server.functions.retries.next_due("shop")
        assert kept is None


async def test_a_try_whose_events_were_kept_before_a_crash_does_not_double_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "flag"
    async with relay(tmp_path) as server:
        await server.post({"do": "later", "file": str(flag)})
        flag.touch()

        async def forget(id_: str) -> None:  # killed before it could
            await trio.sleep_forever()

        monkeypatch.setattr(server.functions.retries, "forget", forget)
        await server.pass_time(200)
        await until(lambda: len(server.events()) == 2)
    async with relay(tmp_path) as server:
        await server.pass_time(400)
        await until(lambda: not server.functions.retries.pending)
        assert len(server.events()) == 2
        assert server.accounts.duplicates["shop"] == 2


async def test_a_function_that_is_mended_takes_what_waited(tmp_path: Path) -> None:
    async with relay(tmp_path, "def on_request(request, settings) return") as server:
        assert (await server.post({"do": "track"})).status == 200
        assert server.rejected == {"function_unavailable": 1}
        (tmp_path / "shop.py").write_text(FUNCTION)
        await server.pass_time(200)
        await until(lambda: len(server.events()) == 1)


async def test_when_no_more_can_be_kept_the_app_is_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries_module, "MAX_REQUESTS", 2)
    async with relay(tmp_path) as server:
        retry = {"do": "raise", "kind": "RetryError"}
        assert [(await server.post(retry)).status for _ in range(3)] == [200, 200, 503]
        assert server.functions.retries.pending == 2


async def test_what_is_erased_leaves_no_trace(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        for user in ("ada-7", "bob-8"):
            await server.post({"do": "raise", "kind": "RetryError", "user": user})
        assert await server.functions.retries.erase(["ada-7", "nobody"]) == 1
        assert server.functions.retries.pending == 1
        left = b"".join(each.read_bytes() for each in tmp_path.glob("functions.sqlite3*"))
        assert b"ada-7" not in left
        assert b"bob-8" in left


async def test_a_body_of_512_kib_is_taken_and_a_larger_one_refused(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        start = b'{"do": "track", "pad": "'
        body = start + b"x" * (MAX_BODY - len(start) - 2) + b'"}'
        assert len(body) == MAX_BODY
        assert (await server.post(body)).status == 200
        answer = await server.post(body + b" ")
        assert (answer.status, msgspec.json.decode(answer.body)["code"]) == (400, "body_too_large")
        assert server.rejected == {"body_too_large": 1}
        tracking = await server.handler(Request("POST", "/v1/track", body=b"x" * 1001))
        assert msgspec.json.decode(tracking.body)["code"] == "body_too_large"


async def test_more_requests_than_may_wait_are_answered_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.listener.functions.MAX_WAITING", 3)
    async with relay(tmp_path) as server:
        await server.post({"do": "track"})
        found: list[int] = []

        async def post() -> None:
            found.append((await server.post({"do": "wait", "seconds": 0.1})).status)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(post)
                await trio.testing.wait_all_tasks_blocked()
        assert sorted(found) == [200] * 4 + [503] * 2


async def test_a_disabled_function_is_not_run(tmp_path: Path) -> None:
    async with relay(tmp_path) as server:
        assert (await server.post({"do": "track"}, "off")).status == 200
        assert server.accounts.rejected == {"off": {"source_disabled": 1}}


async def test_what_is_printed_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    structlog.reset_defaults()
    monkeypatch.setattr(functions, "_log", structlog.get_logger())  # one that no set-up before has bound
    async with relay(tmp_path) as server:
        with structlog.testing.capture_logs() as logs:
            await server.post({"do": "print"})
        assert [(each["event"], each["source"], each["text"]) for each in logs] == [
            ("a function printed", "shop", "seen abc\n")
        ]


def test_the_first_wait_is_1_to_3_minutes_and_none_is_longer_than_20() -> None:
    shares = iter((0.0, 0.5, 1.0))
    assert [next_wait(1, None, lambda: next(shares)) for _ in range(3)] == [60, 120, 180]
    waits, last = [], 180.0
    for tries in range(2, 9):
        found = next_wait(tries, last)
        waits.append(found)
        last = found or 0.0
    assert waits == [360, 720, 1200, 1200, 1200, None, None]
