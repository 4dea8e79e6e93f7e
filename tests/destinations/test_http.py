"""The generic API destination: every part of a request from the mapping, and no host that was not allowed."""

from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from relayd.actions.faults import FieldError
from relayd.actions.trigger import compile_trigger
from relayd.destinations import InvalidSettings, get
from relayd.destinations.action import InvalidPayload, defaults
from relayd.destinations.base import Request
from relayd.destinations.http import Http, Settings
from relayd.listener.message import Request as Arrived
from relayd.listener.message import Response
from relayd.testing.vendors.http import Http as Vendor

HTTP = Http()
TOKEN = "s3cr3t"
SETTINGS = Settings(
    url="https://api.example/v1/events?team=1",
    headers={"Authorization": f"Bearer {TOKEN}"},
    allowed_hosts=("Other.example", "127.0.0.1"),
)


def event(number: int = 1, **more: object) -> dict[str, object]:
    return {"type": "track", "event": "Paid", "messageId": f"m-{number}", "userId": f"u-{number}"} | more


def send(
    *events: dict[str, object], settings: Settings = SETTINGS, batch: bool = False, **mapping: object
) -> list[Request]:
    HTTP.check_mapped(settings)
    mapped = defaults(HTTP.actions["send"].fields, **mapping)
    return HTTP.requests("send", settings, mapped, events or [event()], batch=batch, now=0.0)


def ask(vendor: Vendor, request: Request) -> Response:
    parts = urlsplit(request.url)
    return vendor.answer(
        Arrived(request.method, parts.path, parts.query, headers=dict(request.headers), body=request.body)
    )


def arrived(*requests: Request) -> list[dict[str, Any]]:
    """What an API that asks for the token took."""
    vendor = Vendor(TOKEN)
    assert [ask(vendor, request).status for request in requests] == [200] * len(requests)
    return vendor.accepted


def test_by_default_the_event_is_posted_as_json_to_the_url_of_the_settings() -> None:
    (request,) = send()
    assert (request.method, request.url) == ("POST", SETTINGS.url)
    assert set(request.headers) == {"user-agent", "content-type", "authorization", "idempotency-key"}
    assert request.headers["user-agent"].startswith("relayd/")
    (found,) = arrived(request)
    assert found == {"method": "POST", "path": "/v1/events", "query": [("team", "1")], "body": event(), "key": "m-1"}


def test_the_preset_sends_every_type_of_event() -> None:
    (preset,) = HTTP.presets
    trigger = compile_trigger(preset.trigger)
    for kind in ("track", "identify", "page", "screen", "group", "alias"):
        what = event(type=kind)
        assert trigger(what)
        assert arrived(*HTTP.requests(preset.action, SETTINGS, preset.mapping, [what], batch=False, now=0.0))
    assert get("http").presets == HTTP.presets
    assert HTTP.actions["send"].batching is not None
    assert HTTP.actions["send"].batching.size == 1, "an API is sent arrays only if the configuration says so"


def test_every_part_comes_from_the_mapping() -> None:
    (request,) = send(
        url={"@template": "https://other.example/users/{{userId}}"},
        method="PUT",
        query={"dry": True, "tag": ["a b", 2], "none": {"@path": "$.nowhere"}, "nested": {"x": 1.0}},
        headers={"X-Kind": {"@path": "$.type"}, "X-Count": 3, "Authorization": "Bearer mine"},
        body={"name": {"@path": "$.event"}},
        idempotency_key={"@template": "k-{{messageId}}"},
    )
    assert request.url == "https://other.example/users/u-1?dry=true&tag=a+b&tag=2&nested=%7B%22x%22%3A1%7D"
    assert (request.method, request.body) == ("PUT", b'{"name":"Paid"}')
    assert (request.headers["x-kind"], request.headers["x-count"]) == ("track", "3")
    assert request.headers["authorization"] == "Bearer mine", "over that of the settings"
    assert request.headers["idempotency-key"] == "k-m-1"


def test_a_query_is_added_to_that_of_the_url() -> None:
    (request,) = send(query={"a": "ü&="})
    assert request.url == "https://api.example/v1/events?team=1&a=%C3%BC%26%3D"


@pytest.mark.parametrize("body", [{"a": [1, None]}, [1, "a"], [], "text", 1.5, 0, True, False])
def test_a_body_is_any_json_value(body: object) -> None:
    (request,) = send(event(properties={"body": body}), body={"@path": "$.properties.body"})
    assert msgspec.json.decode(request.body) == body
    assert request.headers["content-type"] == "application/json"


def test_a_form_repeats_lists_and_writes_what_is_nested_as_json() -> None:
    body = {"name": "Jo & Co", "tags": ["a", "b"], "address": {"city": "Köln"}, "vip": True}
    (request,) = send(content_type="form", body=body)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    (found,) = arrived(request)
    assert found["body"] == [
        ("name", "Jo & Co"),
        ("tags", "a"),
        ("tags", "b"),
        ("address", '{"city":"Köln"}'),
        ("vip", "true"),
    ]


def test_text_goes_as_it_is_under_the_content_type_that_the_headers_say() -> None:
    (plain,) = send(content_type="text", body={"@template": "paid by {{userId}} €"})
    assert (plain.headers["content-type"], plain.body.decode()) == ("text/plain;charset=UTF-8", "paid by u-1 €")
    (xml,) = send(content_type="text", body="<paid/>", headers={"Content-Type": "application/xml"})
    assert (xml.headers["content-type"], xml.body) == ("application/xml", b"<paid/>")


@pytest.mark.parametrize("mapping", [{"method": "GET"}, {"body": {"@path": "$.nowhere"}, "method": "DELETE"}])
def test_without_a_body_there_is_no_content_type(mapping: dict[str, Any]) -> None:
    (request,) = send(**mapping)
    assert request.body == b""
    assert "content-type" not in request.headers
    assert arrived(request)[0]["body"] is None


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/",
        "https://api.example.evil.example/",
        "https://evil.example/https://api.example/",
        "https://evil.example?x=api.example",
        "https://api.example@evil.example/",
        "https://api.example:443@evil.example/",
        "https://api.example\\@evil.example/",
        "https://evil.example\\.api.example/",
        "https://api.example./",
        "https://evil.example#@api.example/",
        "//evil.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https://[api.example/",
        "https://api.example/a b",
        "https://api.example/\r\nHost: evil.example",
        "https://äpi.example/",
    ],
)
def test_no_other_host_is_called_whatever_an_event_says(url: str) -> None:
    with pytest.raises(InvalidPayload, match=r"^url ") as refusal:
        send(event(properties={"url": url}), url={"@path": "$.properties.url"})
    assert "evil" not in str(refusal.value)
    assert TOKEN not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    ["https://api.example/else", "https://API.example:8443/", "http://other.example", "http://127.0.0.1:9/x?y=1"],
)
def test_the_hosts_of_the_settings_are_called_at_any_path_and_port(url: str) -> None:
    (request,) = send(url=url)
    assert request.url == url


def test_a_url_is_required_from_one_or_the_other() -> None:
    settings = Settings(allowed_hosts=("a.example", "[::1]"))
    for url in ("https://a.example/", "http://[::1]:9/"):
        assert send(settings=settings, url=url)[0].url == url
    with pytest.raises(InvalidPayload, match="url is missing"):
        send(settings=settings)


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        ({"content_type": "form", "body": [1]}, "body must be an object"),
        ({"content_type": "text", "body": {"s3cr3t": 1}}, "body must be a single value"),
        ({"content_type": "xml"}, "/content_type: is none of the choices"),
        ({"method": "TRACE"}, "/method: is none of the choices"),
        ({"headers": {"X-A": "s3cr3t\r\nX-B: 1"}}, "the value of X-A must be visible ASCII"),
        ({"headers": {"X-A": ["s3cr3t"]}}, "the value of X-A must be a text"),
        ({"headers": {"X A": "s3cr3t"}}, "not a header name"),
        ({"headers": {"Host": "s3cr3t"}}, "Host is set by relayd"),
        ({"headers": {"Content-Length": 3}}, "Content-Length is set by relayd"),
        ({"headers": {"Connection": "close"}}, "Connection belongs to the connection"),
    ],
)
def test_what_can_not_be_sent_is_refused_and_no_value_is_told(mapping: dict[str, Any], why: str) -> None:
    with pytest.raises((InvalidPayload, FieldError), match=why) as refusal:
        send(**mapping)
    assert "s3cr3t" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Settings(), "allowed_hosts must list the hosts"),
        (Settings(url="ftp://a.example"), "url must be http"),
        (Settings(url="https://u:p@a.example"), "url must not hold a user name"),
        (Settings(allowed_hosts=("a.example:80",)), "allowed_hosts must hold host names alone"),
        (Settings(allowed_hosts=("https://a.example",)), "allowed_hosts must hold host names alone"),
        (Settings(allowed_hosts=("a.example/x",)), "allowed_hosts must hold host names alone"),
        (Settings(allowed_hosts=("u@a.example",)), "allowed_hosts must hold host names alone"),
        (Settings(allowed_hosts=("[a",)), "allowed_hosts must hold host names alone"),
        (Settings(allowed_hosts=("",)), "allowed_hosts must hold host names alone"),
        (Settings(url="https://a.example", headers={"Host": TOKEN}), "Host is set by relayd"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings: Settings, why: str) -> None:
    with pytest.raises(InvalidSettings, match=why) as refusal:
        HTTP.check_mapped(settings)
    assert TOKEN not in str(refusal.value)
    assert TOKEN not in repr(SETTINGS)


def test_without_mappings_the_url_of_the_settings_is_required() -> None:
    HTTP.check(SETTINGS)
    with pytest.raises(InvalidSettings, match=r"^url "):
        HTTP.check(Settings(allowed_hosts=("a.example",)))


def test_a_batch_is_one_array_with_a_key_of_its_own() -> None:
    (request,) = send(event(1), event(2), batch=True)
    (again,) = send(event(1), event(2), batch=True)
    (other,) = send(event(2), event(3), batch=True)
    assert request.headers["idempotency-key"] == again.headers["idempotency-key"] != other.headers["idempotency-key"]
    (found,) = arrived(request, again)
    assert found["body"] == [event(1), event(2)], "the second time it was known"


def test_a_batch_without_keys_has_none() -> None:
    (request,) = send(event(1), event(2), batch=True, idempotency_key={"@path": "$.nowhere"})
    assert "idempotency-key" not in request.headers


@pytest.mark.parametrize(
    "mapping", [{"method": "GET"}, {"content_type": "form"}, {"content_type": "text", "body": "x"}]
)
def test_what_can_share_no_request_has_its_own(mapping: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload, match="only JSON bodies can share a request"):
        send(event(1), event(2), batch=True, **mapping)  # so that the batch is halved before anything is sent
    (request,) = send(event(1), batch=True, **mapping)
    assert request.headers["idempotency-key"] == "m-1"


def test_what_may_differ_in_a_batch_is_the_body_and_the_key() -> None:
    batching = HTTP.actions["send"].batching
    assert batching is not None
    alike = set(HTTP.actions["send"].fields) - {"body", "idempotency_key", "batch_keys"}
    assert set(batching.keys) == alike


def test_the_key_of_a_message_is_fit_for_a_header() -> None:
    (request,) = send(event(messageId="a\r\nHost: x"))
    assert request.headers["idempotency-key"] == "a%0D%0AHost:%20x"
    (long,) = send(event(messageId="é" * 200))
    assert len(long.headers["idempotency-key"]) == 32


def test_the_stand_in_says_no_as_an_api_does() -> None:
    (request,) = send()
    assert ask(Vendor("other"), request).status == 401
    vendor = Vendor(TOKEN)
    (changed,) = send(body={"else": 1})
    assert [ask(vendor, each).status for each in (request, changed)] == [200, 422]
    assert vendor.answer(Arrived("TRACE", "/")).status == 405
    bad = Arrived(
        "POST", "/", headers={"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}, body=b"{"
    )
    assert vendor.answer(bad).status == 400
