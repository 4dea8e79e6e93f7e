"""What every destination that passes events on as they are keeps, whatever it talks to."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.cli.config import load_checked
from relayd.config.errors import ConfigError
from relayd.config.model import Section
from relayd.config.toml import render
from relayd.destinations import CATALOG, Destination, InvalidSettings, Request, get
from relayd.testing import bodies

SECRET = "s3cr3t"
SETTINGS: dict[str, dict[str, Any]] = {
    # type: settings with SECRET in every secret
    "webhook": {
        "url": "https://hooks.example/in?team=1",
        "headers": {"Authorization": f"Bearer {SECRET}"},
        "sharedSecret": SECRET,
    },
    "segment": {"source_write_key": SECRET},
    "file": {"path": "/var/lib/relayd/events.jsonl"},
}
NOW = 1_764_000_000.25
PASSING_ON = sorted(name for name, each in CATALOG.items() if each.passes_on)
EVERY = pytest.mark.parametrize("type_", PASSING_ON)
BOTH = pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])


def settings_of(type_: str) -> Section:
    return msgspec.convert(SETTINGS[type_], get(type_).settings)


def send(type_: str, events: list[bytes], *, batch: bool) -> list[Request]:
    destination: Destination[Any] = get(type_)
    return destination.requests(destination.action, settings_of(type_), None, events, batch=batch, now=NOW)


def received(requests: list[Request]) -> list[bytes]:
    """The events that a receiver finds in these requests."""
    return [
        event
        for request in requests
        for event in bodies.events(request.body, encoding=request.headers.get("content-encoding", ""))
    ]


def event(number: int, **fields: object) -> bytes:
    return msgspec.json.encode({"type": "track", "event": "Viewed", "messageId": f"m-{number}", **fields})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {"messageId": st.text(min_size=1, max_size=99), "type": st.sampled_from(["track", "identify", "page"])},
        optional={
            "properties": st.dictionaries(st.text(), JSON, max_size=5),
            "traits": st.dictionaries(st.text(), JSON, max_size=5),
            "userId": st.text(),
            "batch": JSON,
        },
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: str(each["messageId"]),
)


@EVERY
def test_every_setting_is_documented_and_example_settings_pass_the_check(type_: str) -> None:
    destination = get(type_)
    for name, hint in get_type_hints(destination.settings, include_extras=True).items():
        (meta,) = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, msgspec.Meta)]
        assert meta.description, name
    assert inspect.getdoc(destination)
    assert inspect.getdoc(destination.settings)
    destination.check(settings_of(type_))


@EVERY
def test_limits_fit_each_other(type_: str) -> None:
    destination = get(type_)
    assert destination.type == type_
    assert 1 <= destination.batch_size <= destination.max_batch_size
    assert destination.batch_bytes >= 32 * 1024, "one event of the largest size fits"


@EVERY
@BOTH
@settings(max_examples=40, deadline=None)
@given(payloads=EVENTS)
def test_every_event_arrives_exactly_once_unchanged_and_in_order(
    type_: str, batch: bool, payloads: list[Mapping[str, object]]
) -> None:
    events = [msgspec.json.encode(each) for each in payloads]
    assert received(send(type_, events, batch=batch)) == events


@EVERY
@BOTH
def test_same_events_make_the_same_requests(type_: str, batch: bool) -> None:
    events = [event(number) for number in range(3)]
    kept = list(events)
    assert send(type_, events, batch=batch) == send(type_, events, batch=batch)
    assert events == kept


@EVERY
def test_a_batch_is_one_request_also_with_one_event_and_also_when_full(type_: str) -> None:
    destination = get(type_)
    for size in (1, destination.batch_size, destination.max_batch_size):
        events = [event(number) for number in range(size)]
        requests = send(type_, events, batch=True)
        assert len(requests) == 1
        assert received(requests) == events


@EVERY
def test_without_batch_each_event_has_a_request_of_its_own(type_: str) -> None:
    events = [event(number) for number in range(5)]
    assert [received([request]) for request in send(type_, events, batch=False)] == [[each] for each in events]


@EVERY
@BOTH
def test_no_events_make_no_request(type_: str, batch: bool) -> None:
    assert send(type_, [], batch=batch) == []


@EVERY
@BOTH
@pytest.mark.parametrize(
    "fields",
    [
        {"properties": {}},
        {"properties": {"naïve": "日本語 🎉", "\u2028": "\u0000", "": ""}},
        {"properties": {"note": "x" * 30_000}},
        {"properties": {"batch": [], "nested": {"a": [{}, [], None]}}},
        {"userId": None, "traits": None},
    ],
    ids=["empty", "unicode", "large", "nested", "nulls"],
)
def test_unusual_events_pass(type_: str, batch: bool, fields: dict[str, object]) -> None:
    events = [event(1), event(2, **fields), event(3)]
    assert received(send(type_, events, batch=batch)) == events


@EVERY
@BOTH
def test_a_huge_event_passes_or_is_refused_by_name(type_: str, batch: bool) -> None:
    """A refusal is a ``ValueError``: delivery then finds the event that is at fault and holds it."""
    events = [event(1), event(2, properties={"note": "x" * 1_000_000}), event(3)]
    refusal = ""
    try:
        requests = send(type_, events, batch=batch)
    except ValueError as error:
        refusal = str(error)
        del events[1]
        requests = send(type_, events, batch=batch)
    assert received(requests) == events
    assert not refusal or ("'m-2'" in refusal and len(refusal) < 200)


@EVERY
@BOTH
def test_a_request_can_be_recognised_when_it_comes_again(type_: str, batch: bool) -> None:
    """By its key where the type has a field for one, else by the messageIds in its body."""
    keys = []
    for events in ([event(1), event(2)], [event(3), event(4)], [event(1), event(2)]):
        for request in send(type_, events, batch=batch):
            ids = tuple(bodies.message_id(each) for each in received([request]))
            keys.append(request.headers.get("idempotency-key", repr(ids)))
    again = len(keys) // 3
    assert keys[:again] == keys[-again:]
    assert len(set(keys)) == len(keys) - again


@EVERY
@BOTH
def test_what_is_sent_is_well_formed(type_: str, batch: bool) -> None:
    for request in send(type_, [event(1), event(2)], batch=batch):
        assert urlsplit(request.url).scheme in {"http", "https", "file"}
        for name, value in request.headers.items():
            assert name == name.lower()
            assert (name + value).isascii()
            assert (name + value).isprintable()
        assert "content-length" not in request.headers, "the transport's"
        if request.url.startswith("http"):
            assert request.headers["user-agent"].startswith("relayd/")
            assert request.headers["content-type"] == "application/json"


@EVERY
def test_secrets_are_in_no_text_of_the_settings_and_in_no_url(type_: str) -> None:
    configured = settings_of(type_)
    assert SECRET not in repr(configured)
    assert SECRET not in f"{configured} {[configured]}"
    for request in send(type_, [event(1)], batch=False):
        assert SECRET not in request.url


@EVERY
def test_a_configuration_with_its_settings_loads_and_an_unknown_one_is_refused(type_: str, tmp_path: Path) -> None:
    path = tmp_path / "relayd.toml"
    lines = [f'[destinations.it]\ntype = "{type_}"\n[destinations.it.settings]']
    lines += [f"{key} = {render(value)}" for key, value in SETTINGS[type_].items()]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert load_checked(path).config.destinations["it"].settings == settings_of(type_)
    path.write_text("\n".join([*lines, 'colour = "red"']), encoding="utf-8")
    with pytest.raises(ConfigError, match="colour"):
        load_checked(path)


@pytest.mark.parametrize("type_", [name for name in PASSING_ON if name != "file"])
@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example", "ftp://hooks.example/", "file:///etc/passwd", "https://", "https:///path",
        "https://user:s3cr3t@hooks.example/", "https://hooks.example/a b", "https://hooks.example/\r\nHost: x",
        "https://hooks.example:port/", "https://[::1/", "https://hooks.example/#part", "https://hööks.example/",
    ],
)  # fmt: skip
def test_what_is_no_callable_url_is_refused_without_being_quoted(type_: str, url: str) -> None:
    destination: Destination[Any] = get(type_)
    setting = "url" if type_ == "webhook" else "endpoint"
    with pytest.raises(InvalidSettings, match=f"^{setting} ") as refusal:
        destination.check(msgspec.convert(SETTINGS[type_] | {setting: url}, destination.settings))
    assert SECRET not in str(refusal.value)


def test_all_types_are_covered_here() -> None:
    assert set(SETTINGS) == set(PASSING_ON)
    with pytest.raises(KeyError):
        get("nothing")


def test_json_is_what_other_tools_read() -> None:
    (request,) = send("webhook", [event(1, properties={"é": 1})], batch=True)
    assert json.loads(request.body)[0]["properties"] == {"é": 1}
