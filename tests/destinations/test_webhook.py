"""The webhook's own facts: signatures, keys, headers."""

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from relayd.actions.faults import FieldError
from relayd.destinations import InvalidSettings, Request
from relayd.destinations.action import InvalidPayload, defaults
from relayd.destinations.webhook import Settings, Webhook, standard_headers
from relayd.listener.message import Request as Arrived
from relayd.testing.vendors.webhook import Webhook as Receiver

NOW = 1_614_265_330.9
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def event(message_id: str) -> bytes:
    return msgspec.json.encode({"type": "track", "messageId": message_id, "properties": {"price": 1.5}})


def send(settings: Settings, *events: bytes, batch: bool = False, now: float = NOW) -> list[Request]:
    Webhook().check(settings)
    return Webhook().requests("send", settings, None, events, batch=batch, now=now)


def test_defaults_are_post_unsigned_one_event_a_request() -> None:
    (request,) = send(Settings(url="http://127.0.0.1:9/in"), event("m-1"))
    assert (request.method, request.url) == ("POST", "http://127.0.0.1:9/in")
    assert set(request.headers) == {"content-type", "user-agent", "idempotency-key"}
    assert Webhook.batch_size == 1
    assert Webhook.max_batch_size == 4000


@pytest.mark.parametrize("batch", [False, True])
def test_x_signature_is_the_hmac_sha1_of_the_body_as_sent(batch: bool) -> None:
    settings = Settings(url="https://hooks.example/", shared_secret="sesame ü")
    requests = send(settings, event("m-1"), event("m-2"), batch=batch)
    assert len(requests) == (1 if batch else 2)
    for request in requests:
        assert request.headers["x-signature"] == hmac.new("sesame ü".encode(), request.body, hashlib.sha1).hexdigest()


def test_x_signature_of_a_known_body() -> None:
    """The digest is openssl's: printf '{"messageId":"m-1"}' | openssl dgst -sha1 -hmac sesame"""
    settings = Settings(url="https://hooks.example/", shared_secret="sesame")
    (request,) = send(settings, b'{"messageId":"m-1"}')
    assert request.headers["x-signature"] == "c8b6ab08d19b0964785cabb9832bf4adc2f4c694"


def test_standard_webhooks_test_vector() -> None:
    """The one that the reference libraries are tested with."""
    headers = standard_headers(WHSEC, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("batch", [False, True])
def test_standard_webhooks_headers_verify(batch: bool) -> None:
    settings = Settings(url="https://hooks.example/", shared_secret=WHSEC, signing="standard")
    for request in send(settings, event("msg_1"), event("msg_2"), batch=batch):
        head = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
        key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        digest = hmac.new(key, head + request.body, hashlib.sha256).digest()
        assert request.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
        assert request.headers["webhook-timestamp"] == "1614265330"
        assert "x-signature" not in request.headers


def test_standard_webhooks_id_stays_across_attempts_and_the_timestamp_moves() -> None:
    settings = Settings(url="https://hooks.example/", shared_secret=WHSEC, signing="standard")
    (first,), (second,) = send(settings, event("a.1")), send(settings, event("a.1"), now=NOW + 60)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "a%2E1", "a full stop would be ambiguous"
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]


@pytest.mark.parametrize(
    ("message_id", "key"),
    [
        ("ajs-next-1764000000000-5d1f", "ajs-next-1764000000000-5d1f"),
        ("a b", "a%20b"),
        ("a%20b", "a%2520b"),
        ("a\r\nHost: x", "a%0D%0AHost:%20x"),
        ("é", "%C3%A9"),
    ],
)
def test_idempotency_key_is_the_message_id_made_fit_for_a_header(message_id: str, key: str) -> None:
    (request,) = send(Settings(url="https://hooks.example/"), event(message_id))
    assert request.headers["idempotency-key"] == key


def test_idempotency_key_of_a_batch_is_a_digest_of_its_message_ids() -> None:
    def key(*ids: str) -> str:
        (request,) = send(Settings(url="https://hooks.example/"), *map(event, ids), batch=True)
        return request.headers["idempotency-key"]

    assert key("a", "b") == key("a", "b") != key("b", "a")
    assert key("a", "b") != key("ab")
    assert len(key("a")) == 32


def test_own_headers_are_added_and_may_replace_the_content_type() -> None:
    settings = Settings(
        url="https://hooks.example/",
        method="PATCH",
        headers={"Authorization": "Bearer t", "Content-Type": "application/vnd.api+json", "X-Empty": ""},
    )
    (request,) = send(settings, event("m-1"))
    assert request.method == "PATCH"
    assert request.headers["authorization"] == "Bearer t"
    assert request.headers["content-type"] == "application/vnd.api+json"
    assert request.headers["x-empty"] == ""


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"X-A": "1\r\nX-B: 2"}, "visible ASCII"),
        ({"X-A": "1\n"}, "visible ASCII"),
        ({"X-A": " 1"}, "visible ASCII"),
        ({"X-A": "é"}, "visible ASCII"),
        ({"X-A\r\nX-B": "1"}, "not a header name"),
        ({"X A": "1"}, "not a header name"),
        ({"": "1"}, "not a header name"),
        ({"Content-Length": "5"}, "set by relayd"),
        ({"host": "x"}, "set by relayd"),
        ({"Idempotency-Key": "x"}, "set by relayd"),
        ({"X-Signature": "x"}, "set by relayd"),
        ({"Connection": "close"}, "belongs to the connection"),
        ({"Transfer-Encoding": "chunked"}, "belongs to the connection"),
        ({"TE": "trailers"}, "belongs to the connection"),
        ({"X-A": "1", "x-a": "2"}, "there twice"),
    ],
)
def test_a_header_that_can_not_be_sent_is_refused(headers: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidSettings, match=why):
        Webhook().check(Settings(url="https://hooks.example/", headers=headers))


@pytest.mark.parametrize(
    "secret", ["", "sesame", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", WHSEC.removeprefix("whsec_"), "whsec_" + "A" * 88]
)
def test_a_secret_that_standard_webhooks_can_not_use_is_refused_without_being_quoted(secret: str) -> None:
    settings = Settings(url="https://hooks.example/", shared_secret=secret, signing="standard")
    with pytest.raises(InvalidSettings, match="whsec_") as refusal:
        Webhook().check(settings)
    assert len(secret) < 8 or secret not in str(refusal.value)


URL = "https://hooks.example/in?x=1"


def map_and_send(settings: Settings, *events: bytes, batch: bool = False, **mapping: object) -> list[Request]:
    """By the action, with the fields' defaults where ``mapping`` has no others."""
    Webhook().check_mapped(settings)
    mapped = defaults(Webhook.actions["send"].fields, **mapping)
    return Webhook().requests("send", settings, mapped, events, batch=batch, now=NOW)


def ask(receiver: Receiver, request: Request) -> int:
    path = urlsplit(request.url).path
    return receiver.answer(Arrived(request.method, path, headers=dict(request.headers), body=request.body)).status


def test_a_mapping_says_where_to_and_what() -> None:
    (request,) = map_and_send(
        Settings(),
        event("m-1"),
        url={"@template": "https://hooks.example/{{type}}"},
        method="PUT",
        headers={"X-Kind": {"@path": "$.type"}, "X-Retries": 3},
        data={"id": {"@path": "$.messageId"}},
    )
    assert (request.method, request.url) == ("PUT", "https://hooks.example/track")
    assert request.body == b'{"id":"m-1"}'
    assert (request.headers["x-kind"], request.headers["x-retries"]) == ("track", "3")
    assert request.headers["idempotency-key"] == "m-1"
    assert request.headers["content-type"] == "application/json"


def test_the_settings_say_what_the_mapping_does_not() -> None:
    settings = Settings(url=URL, method="PATCH", headers={"Authorization": "t", "X-A": "1"})
    (request,) = map_and_send(settings, event("m-1"), method={"@path": "$.nowhere"}, headers={"x-a": "2"})
    assert (request.method, request.url) == ("PATCH", URL)
    assert (request.headers["authorization"], request.headers["x-a"]) == ("t", "2")
    assert msgspec.json.decode(request.body) == msgspec.json.decode(event("m-1"))


def test_no_mapping_is_the_identity_and_a_mapping_is_not() -> None:
    spaced = b'{ "messageId": "m-1", "n": 1.0 }'
    (passed,) = send(Settings(url=URL), spaced)
    (mapped,) = map_and_send(Settings(url=URL), spaced)
    assert passed.body == spaced
    assert mapped.body == b'{"messageId":"m-1","n":1.0}'
    assert Webhook.passes_on


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("secret", "signing"), [("sesame", "segment"), (WHSEC, "standard")])
def test_a_mapped_body_is_signed_as_it_is_sent(secret: str, signing: str, batch: bool) -> None:
    """Segment signs only the first event of a batch."""
    settings = msgspec.convert({"url": URL, "sharedSecret": secret, "signing": signing}, Settings)
    receiver = Receiver(secret)
    for key in ({"@path": "$.messageId"}, {"@path": "$.nowhere"}):
        for request in map_and_send(settings, event("m-1"), event("m-2"), batch=batch, idempotency_key=key):
            assert ask(receiver, request) == 200
            assert ask(Receiver(WHSEC if signing == "segment" else "sesame"), request) == 401
    assert [each["messageId"] for each in receiver.accepted] == ["m-1", "m-2"] * 2


def test_a_mapped_batch_is_an_array_of_the_data_with_one_key() -> None:
    (request,) = map_and_send(
        Settings(url=URL), event("m-1"), event("m-2"), batch=True, data={"a": {"@path": "$.type"}}
    )
    (again,) = map_and_send(Settings(url=URL), event("m-1"), event("m-2"), batch=True)
    assert msgspec.json.decode(request.body) == [{"a": "track"}, {"a": "track"}]
    assert request.headers["idempotency-key"] == again.headers["idempotency-key"]
    (passed,) = send(Settings(url=URL), event("m-1"), event("m-2"), batch=True)
    assert request.headers["idempotency-key"] == passed.headers["idempotency-key"]
    batching = Webhook.actions["send"].batching
    assert batching is not None
    assert batching.keys == ("url", "method", "headers")
    assert (batching.size, batching.max_size) == (1, 4000)


def test_a_receiver_takes_a_retry_once() -> None:
    receiver = Receiver()
    for _ in range(2):
        (request,) = map_and_send(Settings(url=URL), event("m-1"))
        assert ask(receiver, request) == 200
    assert len(receiver.accepted) == 1


def test_data_that_is_not_there_is_no_body_and_null_in_a_batch() -> None:
    (single,) = map_and_send(Settings(url=URL), event("m-1"), data={"@path": "$.nowhere"})
    (batch,) = map_and_send(Settings(url=URL), event("m-1"), batch=True, data={"@path": "$.nowhere"})
    assert (single.body, batch.body) == (b"", b"[null]")


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        ({}, "url is missing"),
        ({"url": "ftp://s3cr3t/"}, "url must be http"),
        ({"url": "no s3cr3t"}, "/url: is no uri"),
        ({"url": "https://u:s3cr3t@hooks.example/"}, "url must not hold a user name"),
        ({"url": URL, "method": "GET"}, "/method: is none of the choices"),
        ({"url": URL, "data": "s3cr3t"}, "/data: is string, must be object"),
        ({"url": URL, "headers": {"X-A": "s3cr3t\r\nX-B: 1"}}, "the value of X-A must be visible ASCII"),
        ({"url": URL, "headers": {"X-Signature": "s3cr3t"}}, "X-Signature is set by relayd"),
        ({"url": URL, "headers": {"Host": "s3cr3t"}}, "Host is set by relayd"),
    ],
)
def test_what_can_not_be_sent_is_refused_and_no_value_is_told(mapping: dict[str, Any], why: str) -> None:
    settings = msgspec.convert({"sharedSecret": "s3cr3t"}, Settings)
    with pytest.raises((InvalidPayload, FieldError), match=why) as refusal:
        map_and_send(settings, event("m-1"), **mapping)
    assert "s3cr3t" not in str(refusal.value)


def test_a_url_is_required_of_the_settings_only_where_there_is_no_mapping() -> None:
    Webhook().check_mapped(Settings())
    with pytest.raises(InvalidSettings, match=r"^url "):
        Webhook().check(Settings())
    for check in (Webhook().check, Webhook().check_mapped):
        with pytest.raises(InvalidSettings, match=r"^url "):
            check(Settings(url="ftp://hooks.example/"))
