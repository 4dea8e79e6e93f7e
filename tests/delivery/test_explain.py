"""Explaining agrees with delivery, tells every refusal, and never shows a secret."""

import gzip
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relayd.cli.config import load_checked
from relayd.config import schema
from relayd.config.load import Loaded
from relayd.config.model import Section
from relayd.config.toml import render
from relayd.delivery import eligibility
from relayd.delivery.connection import Answer
from relayd.delivery.eligibility import Eligibility
from relayd.delivery.explain import NEW_MESSAGE_ID, Explainer, Explanation
from relayd.delivery.explanation import changes
from relayd.delivery.mask import Mask
from relayd.destinations import CATALOG
from relayd.destinations.settings import MASK
from relayd.destinations.subscription import compile_subscriptions
from relayd.event import decode_head
from tests.delivery.stand import Destination, standing
from tests.events import line

NOW = 1_795_514_400.25
SECRET = 's3cr3t/+&"é'
IDENTITY_AND_PRESETS = sorted(
    name for name, each in CATALOG.items() if each.cloud and name not in ("file", "function", "slack")
)
"""The types that send something over HTTP without a subscription in the configuration."""
EVENTS: dict[str, dict[str, object]] = {
    "track": {
        "event": "Order Completed",
        "properties": {
            "total": 9.5,
            "order_id": "o-1",
            "currency": "EUR",
            "products": [{"product_id": "p-1", "price": 4.5, "quantity": 2, "name": "Jam"}],
        },
    },
    "identify": {"traits": {"email": "ada@example.org", "name": "Ada"}},
    "page": {"name": "Home", "properties": {"url": "https://shop.example/"}},
    "screen": {"name": "Start"},
    "group": {"groupId": "g-1", "traits": {"name": "Analysts"}},
    "alias": {"previousId": "anon-1"},
}


def settings_of(type_: str) -> str:
    """Settings of a type, in TOML: what it requires, and with a secret of its own in every key for one."""
    lines = []
    for key in schema.keys(CATALOG[type_].settings).values():
        if key.secret and key.holds is str:
            lines.append(f"settings.{key.name} = {render(f'secret-of-{key.name}')}")
        elif key.default is schema.REQUIRED or (key.example is not None and key.default == ""):
            lines.append(f"settings.{key.name} = {render(key.example)}")
    return "\n".join(lines)


def load(folder: Path, body: str, *, more: str = "") -> Loaded:
    """A configuration with the destination ``hook``, fed from ``web`` and others."""
    path = folder / "relayd.toml"
    path.write_text(
        f"""
        daemon.state_dir = "{folder}"
        sources.web = {{write_key = "write-key-of-web", type = "web"}}
        sources.api = {{write_key = "write-key-of-api"}}
        sources.off = {{write_key = "write-key-of-off", enabled = false}}
        {more}
        [destinations.hook]
        {body}
        """
    )
    return load_checked(path)


def explain(folder: Path, body: str, event: Mapping[str, object] | None = None, source: str = "web") -> Explanation:
    event = {"type": "track", "event": "Order Completed", "userId": "ada"} if event is None else event
    explainer = Explainer("hook", load(folder, body), now=NOW)
    return explainer.raw(msgspec.json.encode(event), source, found="a test")


WEBHOOK = 'type = "webhook"\nsettings.url = "https://hooks.example/in"\n'


class Recorder(Destination):
    """The other side of the network; keeps requests whole."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str, dict[str, str], object]] = []

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        await trio.lowlevel.checkpoint()
        self.sent.append((method, url, dict(headers), decoded(headers, body)))
        return Answer(status=200, headers=[], body=b"", http_version="1.1", truncated=False)


def decoded(headers: Mapping[str, str], body: bytes) -> object:
    """What a receiver makes of a body."""
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    if not body:
        return None
    if "form" in headers.get("content-type", ""):
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    value = msgspec.json.decode(body)
    if isinstance(value, dict):
        value.pop("sentAt", None)  # by the clock
    return value


def comparable(requests: list[tuple[str, str, dict[str, str], object]]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in requests)


@pytest.mark.parametrize("type_", IDENTITY_AND_PRESETS)
async def test_it_shows_what_a_real_actor_sends(tmp_path: Path, type_: str) -> None:
    loaded = load(tmp_path, f'type = "{type_}"\n{settings_of(type_)}\ndelivery.base_url = "http://stand.test"')
    unmasked = msgspec.structs.replace(loaded, secrets=frozenset())
    explainer = Explainer("hook", unmasked, now=NOW)
    recorder = Recorder()
    total = 0
    async with standing(tmp_path, recorder, loaded.config.destinations["hook"], sources=loaded.config.sources) as stand:
        for number, (kind, fields) in enumerate(EVENTS.items()):
            event = line(number, **{"type": kind, "event": None, "anonymousId": "anon-2"} | fields)
            recorder.sent.clear()
            stand.log.append([event])
            await stand.settled()
            explanation = explainer.kept(event, found="")
            shown = [
                (each.method, each.url, dict(each.headers), without_clock(each.body))
                for subscription in explanation.subscriptions
                for each in subscription.requests
            ]
            assert comparable(shown) == comparable(recorder.sent)
            assert explanation.sent == bool(recorder.sent)
            total += len(shown)
        filtered = stand.outbox.totals("filtered")
    assert total > 0
    assert set(filtered) <= {eligibility.NO_MATCHING_MAPPING}


def without_clock(body: object) -> object:
    return {key: value for key, value in body.items() if key != "sentAt"} if isinstance(body, dict) else body


FILTERED = """
    type = "webhook"
    settings.url = "https://hooks.example/in"
    delivery.base_url = "http://stand.test/"
    delivery.batch_size = 10
    filters = [
        {if = 'type = "track" and properties.total > 5', drop_properties = {context = ["ip"]}},
        {if = 'event = "Noise"', drop = true},
        {if = 'type = "track"', map_properties = {"properties.total" = {to_string = true}}},
    ]
    [[destinations.hook.subscriptions]]
    name = "Orders"
    action = "send"
    trigger = 'event = "Order Completed"'
    mapping = {data = {total = {"@path" = "$.properties.total"}, ip = {"@path" = "$.context.ip"}}}
    [[destinations.hook.subscriptions]]
    name = "All"
    action = "send"
    [[destinations.hook.subscriptions]]
    name = "Never"
    action = "send"
    enabled = false
    [[destinations.hook.subscriptions]]
    name = "Wrong"
    action = "send"
    mapping = {data = {"@path" = "$.event"}, method = "BREW"}
"""


async def test_filters_and_mappings_are_those_of_the_actor(tmp_path: Path) -> None:
    loaded = load(tmp_path, FILTERED)
    explainer, recorder = Explainer("hook", loaded, now=NOW), Recorder()
    config = loaded.config.destinations["hook"]
    async with standing(tmp_path, recorder, config, sources=loaded.config.sources) as stand:
        varied: list[dict[str, object]] = [{"properties": {"total": 9.5}}, {"event": "Noise"}, {"event": "Seen"}]
        for number, fields in enumerate(varied):
            event = line(number, **{"context": {"ip": "1.2.3.4"}} | fields)
            recorder.sent.clear()
            stand.log.append([event])
            await stand.settled()
            explanation = explainer.kept(event, found="")
            shown = [
                (each.method, each.url, dict(each.headers), each.body)
                for subscription in explanation.subscriptions
                for each in subscription.requests
            ]
            assert comparable(shown) == comparable(recorder.sent)
        counters = stand.outbox
        assert counters.totals("failed") == {"MESSAGE_REJECTED": 2}
        assert counters.totals("filtered") == {"FILTERED_BY_RULES": 1}


def test_each_step_is_told(tmp_path: Path) -> None:
    event = {
        "type": "track",
        "event": "Order Completed",
        "userId": "ada",
        "properties": {"total": 9.5},
        "context": {"ip": "1.2.3.4"},
    }
    told = explain(tmp_path, FILTERED, event)
    assert told.sent
    assert told.why == "2 requests; held as a dead letter for 1 of 3 subscriptions"
    assert [(each.path, each.kind) for each in told.arrival] == [
        *((name, "added") for name in ("timestamp", "messageId", "receivedAt", "projectId")),
    ]
    assert [each.passed for each in told.checks] == [True] * len(told.checks)
    drop, first, second = told.filters
    assert (drop.action, drop.dropped, drop.condition.holds) == ("drop", False, False)
    assert [(each.path, each.value) for each in drop.condition.values] == [("event", "Order Completed")]
    assert [(each.path, each.kind, each.before) for each in first.changes] == [("context.ip", "removed", "1.2.3.4")]
    assert [(part.text, part.holds) for part in first.condition.parts] == [
        ("type = 'track'", True),
        ("properties.total > 5", True),
    ]
    assert [(each.path, each.before, each.after) for each in second.changes] == [("properties.total", 9.5, "9.5")]
    by_name = {each.name: each for each in told.subscriptions}
    assert by_name["Orders"].payload["data"] == {"total": "9.5"}  # type: ignore[index]
    assert by_name["Orders"].batch_size == 10
    assert by_name["All"].matches
    assert by_name["All"].condition is None
    assert not by_name["Never"].enabled
    assert not by_name["Never"].matches
    assert [(each.path, each.message) for each in by_name["Wrong"].faults] == [
        ("/data", "is string, must be object"),
        ("/method", "is none of the choices: POST, PUT, PATCH"),
    ]
    assert by_name["Wrong"].payload == {"data": "Order Completed", "method": "BREW"}
    assert not by_name["Wrong"].requests


def test_it_says_which_part_of_a_trigger_does_not_hold(tmp_path: Path) -> None:
    told = explain(
        tmp_path,
        f"""{WEBHOOK}
        [[destinations.hook.subscriptions]]
        name = "Big"
        action = "send"
        trigger = 'type = "track" and (properties.total > 100 or !(userId = "ada")) and traits.vip = true'
        """,
        {"type": "track", "event": "x", "userId": "ada", "properties": {"total": 9}, "traits": {"vip": None}},
    )
    condition = told.subscriptions[0].condition
    assert condition is not None
    assert (condition.joined, condition.holds) == ("and", False)
    kind, either, vip = condition.parts
    assert (kind.holds, either.joined, either.holds, vip.holds) == (True, "or", False, False)
    assert [each.values[0].value for each in either.parts] == [9, "ada"]
    assert (vip.values[0].value, vip.values[0].missing) == (None, False)
    assert (told.sent, told.reason) == (False, "NO_MATCHING_MAPPING")


def test_a_missing_path_is_told_from_null(tmp_path: Path) -> None:
    body = f"""{WEBHOOK}
        [[destinations.hook.subscriptions]]
        name = "Big"
        action = "send"
        trigger = 'context.page.url = "x"'
    """
    condition = explain(tmp_path, body).subscriptions[0].condition
    assert condition is not None
    assert [(each.path, each.missing) for each in condition.values] == [("context.page.url", True)]


ORDERS = "[[destinations.hook.subscriptions]]\nname = 'Orders'\naction = 'send'\ntrigger = 'event = \"Order\"'\n"
TRACK: dict[str, object] = {"type": "track", "event": "Order Completed", "userId": "ada"}
REFUSALS: list[tuple[str, str, str, dict[str, object]]] = [
    # reason, source, more of the destination, more of the event
    ("DESTINATION_DISABLED", "web", "enabled = false", {}),
    ("SOURCE_NOT_CONNECTED", "web", "sources = ['api']", {}),
    ("MESSAGE_SENT_CLIENT_SIDE", "web", "", {"_metadata": {"bundled": ["Webhook"]}}),
    ("FILTERED_BY_INTEGRATIONS_OBJECT", "web", "", {"integrations": {"All": False}}),
    ("FILTERED_BY_RULES", "web", "filters = [{if = 'type = \"track\"', drop = true}]", {}),
    ("FILTERED_BY_RULES", "web", "filters = [{if = 'type = \"track\"', sample = {percent = 0.0}}]", {}),
    (
        "FILTER_FAILED",
        "web",
        "filters = [{if = 'type = \"track\"', map_properties = {'properties.a.b' = {set = 1}}}]",
        {"properties": {"a": None}},
    ),
    ("NO_MATCHING_MAPPING", "web", ORDERS, {}),
    ("MESSAGE_REJECTED", "web", f"{ORDERS.replace('Order', 'Order Completed')}mapping = {{data = 1}}", {}),
    ("source_disabled", "off", "", {}),
    ("event_not_defined", "web", "", {"event": None}),
    ("no_user_anon_id", "web", "", {"userId": None}),
    ("properties_not_object", "web", "", {"properties": 5}),
    ("id_too_long", "web", "", {"messageId": "m" * 101}),
    ("message_too_large", "web", "", {"properties": {"text": "x" * 40_000}}),
    ("bad_request", "web", "", {"type": "visit"}),
]


@pytest.mark.parametrize(("reason", "source", "more", "fields"), REFUSALS)
def test_every_refusal_is_told_with_its_reason(
    tmp_path: Path, reason: str, source: str, more: str, fields: dict[str, object]
) -> None:
    told = explain(tmp_path, f"{WEBHOOK}{more}", TRACK | fields, source)
    assert (told.sent, told.reason) == (False, reason)
    assert told.why
    failed = [each.reason for each in told.checks if not each.passed]
    assert failed in ([reason], [])


def test_what_a_type_does_not_take_is_refused_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = type(CATALOG["webhook"])
    monkeypatch.setattr(webhook, "methods", frozenset({"page"}))
    assert explain(tmp_path, WEBHOOK).reason == "UNSUPPORTED_EVENT_TYPE"
    monkeypatch.setattr(webhook, "source_types", frozenset({"server"}))
    told = explain(tmp_path, WEBHOOK)
    assert told.reason == "UNSUPPORTED_SOURCE_TYPE"
    assert told.subscriptions[0].requests, "what would happen without that is told too"


def test_a_type_with_device_mode_only_is_sent_nothing(tmp_path: Path) -> None:
    told = explain(tmp_path, 'type = "device"\nsettings.name = "Heap"')
    assert (told.sent, told.reason, told.subscriptions) == (False, "DEVICE_MODE_ONLY", [])


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    explainer = Explainer("hook", load(tmp_path, WEBHOOK), now=NOW)
    assert explainer.kept(b'{"type": "track"\x00\n', found="").reason == "UNREADABLE"


JSON = st.none() | st.booleans() | st.integers(0, 2) | st.text(max_size=3)
HEADS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "page"]),
        "projectId": st.sampled_from(["web", "api", "gone"]),
        "receivedAt": st.just("2026-11-24T10:00:00Z"),
        "messageId": st.just("m"),
    },
    optional={
        "integrations": st.dictionaries(st.sampled_from(["All", "hook", "Webhook", "Other"]), JSON),
        "_metadata": st.fixed_dictionaries(
            {"bundled": st.lists(st.sampled_from(["hook", "Other"]))},
            optional={"failedInitializations": st.lists(st.sampled_from(["hook", "Webhook"]))},
        ),
    },
)


@given(head=HEADS, methods=st.sampled_from([{"track"}, {"track", "page"}]), sources=st.sampled_from([None, ["web"]]))
def test_the_first_check_that_failed_is_the_refusal(
    head: dict[str, object], methods: set[str], sources: list[str] | None
) -> None:
    rules = Eligibility(
        names=frozenset({"hook", "Webhook"}),
        methods=frozenset(methods),
        sources=None if sources is None else frozenset(sources),
        source_types=frozenset({"web"}),
        type_of_source={"web": "web", "api": "server", "gone": "web"},
        filters=None,
        subscriptions=[],
        by_user=False,
    )
    decoded_head = decode_head(msgspec.json.encode(head))
    failed = [each.reason for each in rules.checks(decoded_head) if not each.passed]
    assert rules.refusal(decoded_head) == (failed[0] if failed else None)


def test_the_output_depends_on_the_arguments_alone(tmp_path: Path) -> None:
    told = explain(tmp_path, WEBHOOK)
    assert told == explain(tmp_path, WEBHOOK)
    assert isinstance(told.event, dict)
    assert told.event["messageId"] == NEW_MESSAGE_ID
    assert told.event["receivedAt"] == "2026-11-24T10:00:00.250Z"


def test_a_sample_by_chance_is_told_as_kept(tmp_path: Path) -> None:
    told = explain(tmp_path, f"{WEBHOOK}filters = [{{if = 'type = \"track\"', sample = {{percent = 0.001}}}}]")
    assert told.sent
    assert told.filters[0].by_chance == 0.001


# -- secrets ------------------------------------------------------------------------------------------------------


def forms_of(secret: str) -> list[str]:
    """A secret as it may be found in a request."""
    plain = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret)]
    plain += [json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    return plain


@pytest.mark.parametrize("type_", sorted(CATALOG))
def test_no_secret_of_the_configuration_is_shown(tmp_path: Path, type_: str) -> None:
    loaded = load(tmp_path, f'type = "{type_}"\n{settings_of(type_)}')
    own = {each for each in loaded.secrets if each.startswith("secret-of-")}
    has_secrets = any(key.secret and key.holds is str for key in schema.keys(CATALOG[type_].settings).values())
    assert bool(own) == has_secrets
    explainer = Explainer("hook", loaded, now=NOW)
    for kind, fields in EVENTS.items():
        told = explainer.raw(msgspec.json.encode({"type": kind, "userId": "ada"} | fields), "web", found="")
        text = msgspec.json.encode(told).decode()
        for secret in loaded.secrets:
            assert not any(form in text for form in forms_of(secret)), secret
        for subscription in told.subscriptions:
            for request in subscription.requests:
                scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
                assert scheme not in ("Basic", "Bearer") or credentials == MASK


def test_secrets_are_masked_wherever_they_stand(tmp_path: Path) -> None:
    body = f"""
        type = "http"
        settings.url = "https://api.example/{quote(SECRET, safe="")}/in"
        settings.headers = {{Authorization = "Bearer token-of-mine", X-Env = "Basic dXNlcjpwYXNz"}}
        [[destinations.hook.subscriptions]]
        name = "All"
        action = "send"
        mapping = {{query = {{key = '''{SECRET}'''}}, body = {{"@path" = "$.properties"}}, content_type = "form"}}
    """
    more = f"admin.token = '''{SECRET}'''"
    path = tmp_path / "relayd.toml"
    loaded = load(tmp_path, body, more=more)
    assert path.exists()
    assert SECRET in loaded.secrets
    event = TRACK | {
        "properties": {
            "text": f"a {SECRET} b",
            "inner": json.dumps({"text": SECRET}),
            SECRET: 1,
            "encoded": b64encode(f"user:{SECRET}".encode()).decode(),
            "list": [SECRET],
        }
    }
    told = Explainer("hook", loaded, now=NOW).raw(msgspec.json.encode(event), "web", found="")
    (request,) = told.subscriptions[0].requests
    assert request.url == "https://api.example/[secret]/in?key=[secret]"
    assert request.headers["authorization"] == MASK
    assert request.headers["x-env"] == MASK
    assert request.body == {
        "text": "a [secret] b",
        "inner": '{"text": "[secret]"}',
        "[secret]": "1",
        "encoded": MASK,
        "list": MASK,
    }
    text = msgspec.json.encode(told).decode()
    assert not any(form in text for form in forms_of(SECRET))


def test_names_stay_readable_where_a_write_key_is_one(tmp_path: Path) -> None:
    loaded = load(tmp_path, WEBHOOK, more='sources.example = {write_key = "example"}')
    told = Explainer("hook", loaded, now=NOW).raw(msgspec.json.encode(TRACK), "example", found="")
    assert told.source == "example"
    assert isinstance(told.event, dict)
    assert told.event["projectId"] == "example"
    assert "source example is enabled" in [each.detail for each in told.checks]
    (request,) = told.subscriptions[0].requests
    assert request.url == "https://hooks.[secret]/in"


SECRETS = st.text(st.characters(codec="utf-8"), min_size=6, max_size=20)
AROUND = st.text(max_size=8)


@given(secret=SECRETS, before=AROUND, after=AROUND)
def test_no_form_of_a_secret_survives(secret: str, before: str, after: str) -> None:
    mask = Mask([secret])
    whole = before + secret + after
    for encode in (str, json.dumps, quote, quote_plus, lambda text: urlencode({"x": text})):
        masked = mask.text(encode(whole))
        assert MASK in masked
        assert secret not in masked
    for encode_bytes in (b64encode, urlsafe_b64encode):
        assert mask.text(f"Basic {encode_bytes(whole.encode()).decode()}, x") == "Basic [secret], x"
    assert MASK in str(mask.value({"x": [whole]}))


@given(secret=SECRETS, text=st.text(max_size=40))
def test_a_text_without_secrets_is_left_as_it_is(secret: str, text: str) -> None:
    if not any(form in text for form in forms_of(secret)):
        assert Mask([secret]).text(text) == text
    assert Mask([]).text(text) == text


def test_numbers_are_masked_too() -> None:
    assert Mask(["123456"]).value({"id": 123456, "n": 5, "on": True, "no": None}) == {
        "id": MASK,
        "n": 5,
        "on": True,
        "no": None,
    }


# -- differences --------------------------------------------------------------------------------------------------


def test_differences_are_by_path() -> None:
    before: dict[str, Any] = {"a": 1, "b": {"c": [1, {"d": 2}], "e": None}, "f": [1], "g": True}
    after: dict[str, Any] = {"a": 1.5, "b": {"c": [1, {"d": 3}]}, "f": [1, 2], "g": 1, "h": {}}
    assert [(each.path, each.kind, each.before, each.after) for each in changes(before, after)] == [
        ("a", "changed", 1, 1.5),
        ("b.c.1.d", "changed", 2, 3),
        ("b.e", "removed", None, None),
        ("f", "changed", [1], [1, 2]),
        ("g", "changed", True, 1),
        ("h", "added", None, {}),
    ]


def test_settings_are_a_section(tmp_path: Path) -> None:
    """`compile_subscriptions` and the explainer get the same settings as the actor."""
    config = load(tmp_path, WEBHOOK).config.destinations["hook"]
    assert isinstance(config.settings, Section)
    (identity,) = compile_subscriptions(CATALOG["webhook"], config.settings, (), config.delivery)
    assert identity.name is None
