"""PostHog: what its actions send, what its stand-in says to that, and what is read of the answer."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import pytest

from relayd.actions.fields import FieldError
from relayd.actions.trigger import compile_trigger
from relayd.destinations import InvalidSettings, get
from relayd.destinations.action import InvalidPayload, defaults
from relayd.destinations.base import Request
from relayd.destinations.posthog import MAX_BODY, PostHog, Settings
from relayd.listener.message import Request as Arrived
from relayd.listener.message import Response
from relayd.testing.vendors.posthog import PostHog as Vendor

POSTHOG = PostHog()
KEY = "phc_key-of-the-project"
SETTINGS = {"api_key": KEY, "project_id": "7"}
NOW = 1_790_000_000.5


def event(kind: str = "track", number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "messageId": f"message-{number}",
        "userId": f"customer-{number}",
        "anonymousId": f"browser-{number}",
        "timestamp": "2026-09-01T10:00:00.250Z",
        "receivedAt": "2026-09-01T10:00:01.000Z",
        "context": {"ip": "192.0.2.7", "page": {"url": "https://shop.example/chairs"}},
        **({"event": "Chair Rotated", "properties": {"turns": 3}} if kind == "track" else {}),
        **({"name": "Chairs"} if kind in ("page", "screen") else {}),
        **({"traits": {"plan": "gold"}} if kind == "identify" else {}),
        **fields,
    }


def requests(
    action: str, *events: dict[str, Any], batch: bool = False, settings: dict[str, Any] = SETTINGS, **mapping: Any
) -> list[Request]:
    """By the default mapping, with ``mapping`` over it."""
    mapped = defaults(POSTHOG.actions[action].fields, **mapping)
    return POSTHOG.requests(action, settings, mapped, events, batch=batch, now=NOW)


def sent(action: str, *events: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The one event that is sent."""
    (request,) = requests(action, *events, **more)
    body: dict[str, Any] = msgspec.json.decode(request.body)
    if action == "identify":
        return body
    (made,) = body["batch"]
    found: dict[str, Any] = made
    return found


def ask(vendor: Vendor, request: Request) -> Response:
    return vendor.answer(
        Arrived(request.method, urlsplit(request.url).path, headers=dict(request.headers), body=request.body)
    )


def test_it_is_in_the_catalog_and_presets_use_actions_that_exist() -> None:
    assert get("posthog").type == "posthog"
    assert all(preset.action in POSTHOG.actions for preset in POSTHOG.presets)


@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify"])
@pytest.mark.parametrize("user", ["customer-1", None])
def test_what_a_preset_makes_of_the_events_it_is_for_is_accepted(kind: str, user: str | None) -> None:
    vendor = Vendor(KEY)
    (preset,) = [each for each in POSTHOG.presets if compile_trigger(each.trigger)(event(kind))]
    mapping = preset.mapping
    for request in POSTHOG.requests(preset.action, SETTINGS, mapping, [event(kind, userId=user)], batch=False, now=NOW):
        assert ask(vendor, request).status == 200
    (kept,) = vendor.accepted
    assert kept["distinct_id"] == (user or "browser-1")
    assert vendor.warnings == []


def test_an_event_has_its_name_its_properties_and_the_time_it_came() -> None:
    made = sent("event", event())
    assert (made["event"], made["timestamp"]) == ("Chair Rotated", "2026-09-01T10:00:01.000Z")
    assert made["properties"] == {
        "turns": 3,
        "distinct_id": "customer-1",
        "$process_person_profile": False,
        "$ip": "192.0.2.7",
    }


def test_pages_and_screens_have_posthogs_names() -> None:
    page = sent("event", event("page"), event_type="page", event_name="seen")
    assert (page["event"], page["properties"]["$current_url"]) == ("$pageview", "https://shop.example/chairs")
    screen = sent("event", event("screen"), event_type="screen", event_name="seen")
    assert (screen["event"], screen["properties"]["$screen_name"]) == ("$screen", "Chairs")
    assert "$current_url" not in screen["properties"]


@pytest.mark.parametrize("capture", [False, True])
def test_an_event_without_a_user_is_anonymous_whatever_the_mapping_says(capture: bool) -> None:
    made = sent("event", event(userId=None), anonymous_event_capture=capture)
    assert made["properties"]["distinct_id"] == "browser-1"
    assert made["properties"]["$process_person_profile"] is False


@pytest.mark.parametrize("capture", [False, True])
def test_a_persons_event_makes_a_profile_when_the_mapping_says_so(capture: bool) -> None:
    made = sent("event", event(), anonymous_event_capture=capture)
    assert made["properties"]["$process_person_profile"] is capture


def test_in_a_batch_persons_and_anonymous_ones_keep_apart() -> None:
    vendor = Vendor(KEY)
    (request,) = requests("event", event(), event(number=2, userId=None), event(number=3, userId=""), batch=True)
    assert ask(vendor, request).status == 200
    assert [kept["distinct_id"] for kept in vendor.accepted] == ["customer-1", "browser-2", "browser-3"]


def test_identify_sets_what_is_known_of_a_person() -> None:
    made = sent("identify", event("identify"))
    assert (made["event"], made["distinct_id"], made["api_key"]) == ("$identify", "customer-1", KEY)
    assert made["properties"] == {"$set": {"plan": "gold"}, "$ip": "192.0.2.7"}
    assert made["timestamp"] == "2026-09-01T10:00:00.250Z"


def test_identify_does_not_call_an_anonymous_id_a_known_user() -> None:
    made = sent("identify", event("identify", userId=None))
    assert (made["event"], made["distinct_id"]) == ("$set", "browser-1")
    assert made["properties"]["$set"] == {"plan": "gold"}


@pytest.mark.parametrize("action", ["event", "identify"])
def test_an_event_that_is_sent_twice_is_kept_once(action: str) -> None:
    vendor = Vendor(KEY)
    each = event("track" if action == "event" else "identify")
    for _ in range(2):
        (request,) = requests(action, each)
        assert ask(vendor, request).status == 200
    assert len(vendor.accepted) == 1


def test_the_uuid_is_the_message_id_or_made_of_it() -> None:
    own = "5b1f0b1e-2f0e-4f43-9d92-2f9fd7a1a6d4"
    assert sent("event", event(messageId=own))["uuid"] == own
    one, again, other = (sent("event", event(number=number))["uuid"] for number in (1, 1, 2))
    assert one == again != other
    assert UUID(one).version == 5
    assert one == "ecf5b9ea-0beb-5a96-a622-4819d4d15e43"
    assert "uuid" not in sent("event", event(), message_id={"@path": "$.nothing"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1_700_000_000_000, "2023-11-14T22:13:20.000Z"),
        ("Tue, 14 Nov 2023 22:13:20 GMT", "2023-11-14T22:13:20.000Z"),
        ("2023-11-14T22:13:20+02:00", "2023-11-14T22:13:20+02:00"),
    ],
)
def test_a_time_is_sent_as_posthog_reads_it(given: object, expected: str) -> None:
    assert sent("event", event(), timestamp=given)["timestamp"] == expected
    assert "timestamp" not in sent("event", event(receivedAt=None))


def test_no_place_is_looked_up_when_the_settings_say_so() -> None:
    quiet = SETTINGS | {"geoip_disable": True}
    assert sent("event", event(), settings=quiet)["properties"]["$geoip_disable"] is True
    assert sent("identify", event("identify"), settings=quiet)["properties"]["$geoip_disable"] is True
    assert sent("event", event(), ip_address=None)["properties"]["$ip"] is None


def test_the_endpoint_may_be_ones_own() -> None:
    own = SETTINGS | {"endpoint": "https://hog.example/in/"}
    (request,) = requests("event", event(), settings=own)
    assert request.url == "https://hog.example/in/batch/"
    (request,) = requests("identify", event("identify"), settings=own)
    assert request.url == "https://hog.example/in/i/v0/e/"
    with pytest.raises(InvalidSettings, match="endpoint"):
        POSTHOG.check(Settings(api_key=KEY, endpoint="hog.example"))


def test_old_events_are_said_to_be_old() -> None:
    (request,) = requests("event", event(), settings=SETTINGS | {"historical_migration": True})
    assert msgspec.json.decode(request.body)["historical_migration"] is True


@pytest.mark.parametrize(
    ("action", "each", "missing"),
    [
        ("event", event(userId=None, anonymousId=None), "distinct_id"),
        ("event", event(event=None), "event_name"),
        ("identify", event("identify", traits=None), "properties"),
    ],
)
def test_what_lacks_a_required_field_is_refused(action: str, each: dict[str, Any], missing: str) -> None:
    with pytest.raises(FieldError, match=missing) as caught:
        requests(action, each)
    assert KEY not in str(caught.value)


def test_a_page_needs_an_address_and_a_screen_a_name() -> None:
    with pytest.raises(FieldError, match="current_url"):
        requests("event", event("page", context={}), event_type="page", event_name="x")
    with pytest.raises(FieldError, match="screen_name"):
        requests("event", event("screen", name=None), event_type="screen", event_name="x")


def test_an_event_of_nobody_is_refused_in_a_batch_too() -> None:
    with pytest.raises(InvalidPayload, match="distinct_id and anonymous_id") as caught:
        requests("event", event(userId="", anonymousId=""), batch=True)
    assert KEY not in str(caught.value)


def test_a_mapping_of_segments_delivers_anonymous_events_too() -> None:
    mapping = defaults(POSTHOG.actions["event"].fields)
    del mapping["anonymous_id"], mapping["message_id"]
    (request,) = POSTHOG.requests("event", SETTINGS, mapping, [event(userId=None)], batch=False, now=NOW)
    (sent,) = msgspec.json.decode(request.body)["batch"]
    assert sent["properties"]["distinct_id"].startswith("browser-")
    assert sent["properties"]["$process_person_profile"] is False
    assert "uuid" not in sent
    with pytest.raises(FieldError, match="distinct_id"):
        POSTHOG.requests("event", SETTINGS, mapping, [event(userId=None, anonymousId=None)], batch=False, now=NOW)


def test_a_batch_within_the_limits_is_one_request_that_is_taken() -> None:
    batching = POSTHOG.actions["event"].batching
    assert batching is not None
    assert batching.max_bytes == MAX_BODY
    vendor = Vendor(KEY)
    (request,) = requests("event", *(event(number=number) for number in range(1000)), batch=True)
    assert ask(vendor, request).status == 200
    assert len(vendor.accepted) == 1000


def test_a_batch_is_refused_as_a_whole_which_is_left_to_the_status() -> None:
    vendor = Vendor(KEY)
    (request,) = requests("event", event(), event(number=2, event=""), batch=True)
    answer = ask(vendor, request)
    assert answer.status == 400
    assert vendor.accepted == []
    batching = POSTHOG.actions["event"].batching
    assert batching is not None
    assert batching.verdicts is not None
    assert batching.verdicts([{}, {}], answer.status, answer.body) is None
    assert ask(vendor, requests("event", event(), settings={"api_key": "phc_other"})[0]).status == 401


def test_events_over_the_quota_are_held_though_the_answer_is_200() -> None:
    vendor = Vendor(KEY, over_quota=True)
    (request,) = requests("event", event(), event(number=2), batch=True)
    answer = ask(vendor, request)
    assert answer.status == 200
    batching = POSTHOG.actions["event"].batching
    assert batching is not None
    assert batching.verdicts is not None
    held = batching.verdicts([{}, {}], answer.status, answer.body)
    assert held is not None
    assert [(each.kind, each.reason) for each in held] == [("hold", "QUOTA_LIMITED")] * 2
    alone = POSTHOG.actions["identify"].verdicts
    assert alone is not None
    assert alone({}, 200, b'{"status":1}') is None
    assert alone({}, 200, b"ok") is None
    assert alone({}, 200, answer.body) == held[0]


def test_secrets_are_not_shown() -> None:
    assert KEY not in repr(Settings(api_key=KEY))
