"""A destination function: what it does with an event is the delivery's outcome, and it delays nobody but itself."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import structlog
import trio

from relayd.config import model
from relayd.config.units import Duration
from relayd.delivery import function_transport
from relayd.delivery.attempt import Attempt
from relayd.delivery.function_transport import FunctionTransport
from relayd.delivery.outbox import Delivery
from relayd.delivery.outcome import Event, Outcome
from relayd.destinations import get
from relayd.destinations.function import Settings
from relayd.destinations.subscription import compile_subscriptions
from tests.events import line

FUNCTION = """
from relayd.functions import *
import os

KINDS = {each.__name__: each for each in (
    ValidationError, InvalidEventPayload, EventNotSupported, InvalidSettings, RetryError, DropEvent)}

def on_track(event, settings):
    number = event["properties"]["number"]
    print(settings.get("word"), number)
    what = settings.get(str(number), "")
    if what == "loop":
        while True: pass
    if what == "exit": os._exit(1)
    if what == "bug": return {}["x"]
    if what: raise KINDS[what]("because")
"""
BATCHES = """
from relayd.functions import *

def on_batch(events, settings):
    numbers = [event["properties"]["number"] for event in events]
    print(numbers)
    for number in numbers:
        if str(number) in settings: raise ValidationError(f"bad {number}")
"""
Send = Callable[..., Any]


@pytest.fixture
async def send(tmp_path: Path) -> AsyncIterator[Send]:
    """Sends events by their numbers, once, and gives the outcomes."""
    path = tmp_path / "fun ction#ä.py"
    transport = FunctionTransport("fun")

    async def send(
        numbers: Sequence[int], text: str = FUNCTION, *, kind: str = "track", within: float = 10, **settings: Any
    ) -> list[Outcome]:
        if not path.exists() or path.read_text() != dedent(text):
            path.write_text(dedent(text))
        options = model.Delivery(batch_size=len(numbers))
        configured = Settings(file=str(path), timeout=Duration(0.5), settings=settings)
        subscriptions = compile_subscriptions(get("function"), configured, (), options)
        attempt = Attempt(
            "fun",
            subscriptions,
            senders={"function": transport},
            timeout=within,
            redact=lambda text: text,
            clock=lambda: 0.0,
            pace=trio.lowlevel.checkpoint,
            judge=lambda outcome: None,
            base_url="",
            ordered=False,
        )
        batch = [
            Delivery(number, f"id-{number}", None, 0, line(number, type=kind).strip(), subscription="All events")
            for number in numbers
        ]
        return await attempt.send(batch)

    async with transport:
        yield send
    assert all(each.pid is None for each in transport._functions.values())


@pytest.mark.parametrize(
    ("what", "event", "reason"),
    [
        ("", Event.DELIVER, ""),
        ("DropEvent", Event.DELIVER, ""),
        ("RetryError", Event.FAIL, "RETRY"),
        ("loop", Event.FAIL, "ETIMEDOUT"),
        ("exit", Event.FAIL, "EPROTO"),
        ("ValidationError", Event.REFUSE, "MESSAGE_REJECTED"),
        ("InvalidEventPayload", Event.REFUSE, "MESSAGE_REJECTED"),
        ("EventNotSupported", Event.REFUSE, "UNSUPPORTED_EVENT_TYPE"),
        ("InvalidSettings", Event.REFUSE, "INVALID_SETTINGS"),
        ("bug", Event.REFUSE, "FUNCTION_ERROR"),
    ],
)
async def test_what_the_function_does_is_the_outcome(send: Send, what: str, event: Event, reason: str) -> None:
    (outcome,) = await send([1], **{"1": what})
    assert (outcome.event, outcome.reason) == (event, reason)
    if what not in ("", "DropEvent"):
        assert outcome.detail
    (after,) = await send([2])
    assert after.event is Event.DELIVER


async def test_an_event_without_a_handler_is_held(send: Send) -> None:
    (outcome,) = await send([1], kind="page")
    assert (outcome.event, outcome.reason) == (Event.REFUSE, "UNSUPPORTED_EVENT_TYPE")


async def test_each_event_of_a_batch_has_its_own_outcome(send: Send) -> None:
    outcomes = await send([1, 2, 3, 4], **{"2": "ValidationError", "3": "RetryError"})
    assert [each.event for each in outcomes] == [Event.DELIVER, Event.REFUSE, Event.FAIL, Event.DELIVER]


async def test_a_batch_that_is_refused_is_halved_until_the_bad_event_stands_alone(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    structlog.reset_defaults()
    monkeypatch.setattr(function_transport, "_log", structlog.get_logger())  # one that no set-up before has bound
    with structlog.testing.capture_logs() as logs:
        outcomes = await send([0, 1, 2, 3], BATCHES, **{"2": True})
    assert [each.event for each in outcomes] == [Event.DELIVER, Event.DELIVER, Event.REFUSE, Event.DELIVER]
    assert (outcomes[2].reason, "bad 2" in outcomes[2].detail) == ("MESSAGE_REJECTED", True)
    printed = [each["text"].strip() for each in logs if each["event"] == "a function printed"]
    assert printed == ["[0, 1, 2, 3]", "[0, 1]", "[2, 3]", "[2]", "[3]"]


async def test_a_file_that_can_not_be_imported_is_like_a_host_that_is_down(send: Send) -> None:
    (outcome,) = await send([1], "def on_track(event, settings) return")
    assert (outcome.event, outcome.alive) == (Event.FAIL, False)
    assert "SyntaxError" in outcome.detail
    (outcome,) = await send([1])
    assert outcome.event is Event.DELIVER


async def test_the_delivery_s_own_timeout_ends_the_call_too(send: Send) -> None:
    (outcome,) = await send([1], within=0.2, **{"1": "loop"})
    assert (outcome.event, outcome.reason) == (Event.FAIL, "ETIMEDOUT")
    (outcome,) = await send([2])
    assert outcome.event is Event.DELIVER
