"""The webhook's own facts: signatures, keys, headers."""

import base64
import hashlib
import hmac

import msgspec
import pytest

from relayd.destinations import InvalidSettings, Request
from relayd.destinations.webhook import Settings, Webhook, standard_headers

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
