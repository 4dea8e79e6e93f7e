"""A destination whose events are mapped, and the vendor behind it, in the test's hands."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import trio

from relayd.config import model
from relayd.config.model import Section
from relayd.config.units import Duration
from relayd.delivery.connection import Answer
from relayd.destinations import Request
from relayd.destinations.action import (
    DELIVERED,
    Action,
    ActionDestination,
    Batching,
    InvalidPayload,
    Payload,
    Preset,
    Verdict,
)
from relayd.destinations.fields import at, text
from tests.delivery.stand import Destination

MAX_BODY = 2000
"""Bytes of the body of a batch, at most."""


class Settings(Section, frozen=True):
    """There are none."""


def _request(path: str, body: object) -> Request:
    return Request("POST", f"http://vendor.test/v1/{path}?key=1", {"x-tool": "yes"}, msgspec.json.encode(body))


def _one(settings: Settings, payload: Payload, now: float) -> list[Request]:
    match payload.get("list"):
        case "unsendable":
            raise InvalidPayload("list is unsendable")
        case "bug":
            raise KeyError(payload["mail"])
        case "nothing":
            return []
        case "elsewhere":
            return [Request("POST", "gopher://vendor.test/", {}, b"{}")]
        case "shouting":
            return [Request("POST", "HTTP://VENDOR.TEST/v1/one", {}, msgspec.json.encode(payload))]
    return [_request("one", payload)]


def _two(settings: Settings, payload: Payload, now: float) -> list[Request]:
    return [_request("profile", payload), _request("event", payload)]


def _many(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    if any(each.get("list") == "unsendable" for each in payloads):
        raise InvalidPayload("list is unsendable")
    return [_request("many", list(payloads))]


def _verdict(code: str) -> Verdict:
    match code:
        case "ok":
            return DELIVERED
        case "busy" | "429":
            return Verdict("retry", code, f"the vendor said {code}")
    return Verdict("hold", code, f"the vendor said {code}")


def _verdicts(payloads: Sequence[Payload], status: int, body: bytes) -> Sequence[Verdict] | None:
    """A list of codes in the body, or nothing. It is not as careful as it should be."""
    return [_verdict(each) for each in msgspec.json.decode(body, type=list[str])] if body else None


MESSAGE_ID = at("messageId")
FIELDS = {
    "messageId": text(MESSAGE_ID, required=True),
    "list": text(at("properties.list")),
    "mail": text(at("properties.mail"), format="email"),
    "pad": text(at("properties.pad")),
    "batch_keys": text(multiple=True),
}
ONE = Action(
    "one", "One", FIELDS, _one, verdicts=lambda payload, status, body: _verdict(body.decode()) if body else None
)
TWO = Action("two", "Two", FIELDS, _two)
MANY = Action(
    "many",
    "Many",
    FIELDS,
    _one,
    Batching(perform=_many, size=10, max_size=100, max_bytes=MAX_BODY, keys=("list",), verdicts=_verdicts),
)


class Tool(ActionDestination[Settings]):
    """Takes events one by one, with two requests, or many at once."""

    type = "tool"
    names = ("Tool",)
    settings = Settings
    actions = {each.name: each for each in (ONE, TWO, MANY)}  # noqa: RUF012  a ClassVar of the base
    presets = (
        Preset("Orders", "many", 'event = "Order Completed"'),
        Preset("People", "one", 'type = "identify"', {"messageId": {"@path": "$.messageId"}}),
    )


def subscription(name: str, action: str, **others: object) -> model.Subscription:
    return model.Subscription(name=name, action=action, **others)  # type: ignore[arg-type]


ONE_BY_ONE = subscription("one by one", "one")
TWO_EACH = subscription("two each", "two")
TOGETHER = subscription("together", "many")


def configuration(*subscriptions: model.Subscription, **delivery: object) -> model.Destination:
    """The tool, retried quickly; ``delivery`` overrides its delivery section."""
    return model.Destination(
        type="tool",
        settings=Settings(),
        subscriptions=subscriptions,
        retry=model.Retry(initial_wait=Duration(0.01), max_wait=Duration(0.05), jitter=0.0),
        delivery=model.Delivery(**({"concurrency": 4} | delivery)),  # type: ignore[arg-type]
    )


class Sent(NamedTuple):
    """A request as the vendor got it."""

    url: str
    ids: list[str]
    payloads: list[dict[str, str]]
    size: int
    """Bytes of the body."""
    at: float
    """By trio's clock."""

    @property
    def path(self) -> str:
        return self.url.partition("/v1/")[2].partition("?")[0]


class Reply(NamedTuple):
    """What the vendor answers."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


class Vendor(Destination):
    """Records requests, and answers as ``answer`` says: a status or more; or raises what it gives."""

    def __init__(self, answer: Callable[[Sent], int | Reply | Exception] = lambda sent: 200) -> None:
        super().__init__()
        self.answer = answer
        self.sent: list[Sent] = []

    @property
    def batches(self) -> list[list[str]]:
        """The messageIds of each request."""
        return [each.ids for each in self.sent]

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        decoded = msgspec.json.decode(body)
        payloads = decoded if isinstance(decoded, list) else [decoded]
        sent = Sent(url, [each["messageId"] for each in payloads], payloads, len(body), trio.current_time())
        self.sent.append(sent)
        await self.gate.wait()
        await trio.lowlevel.checkpoint()
        reply = self.answer(sent)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, int):
            reply = Reply(reply)
        raw = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        return Answer(reply.status, raw, reply.body, http_version="1.1", truncated=False)


def verdicts(*codes: str) -> Reply:
    """What the tool's vendor says of each event of a batch: ok, busy, 429, or why it does not take it."""
    return Reply(200, msgspec.json.encode(codes))
