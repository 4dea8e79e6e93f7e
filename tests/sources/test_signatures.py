"""Only the app itself gets in: each app's signature, good, forged, stale and malformed, on the bytes as they came."""

import hmac
from base64 import b64encode
from typing import Any

import pytest

from relayd.config.units import Duration
from relayd.sources import App, Forged
from tests.sources import bodies
from tests.sources.bodies import NOW, SECRET
from tests.sources.test_apps import app

BODY = b'{"id": "evt_1",  "object": "event"}\n'
OTHER = b'{"id":"evt_1","object":"event"}'


def refused(of: App[Any], headers: dict[str, str], body: bytes = BODY, now: float = NOW) -> str:
    """The code under which it is counted."""
    with pytest.raises(Forged) as refusal:
        of.verify(headers, body, now)
    assert SECRET not in str(refusal.value)
    return refusal.value.code


def test_stripe() -> None:
    stripe = app("stripe")
    good = bodies.stripe_headers(BODY)
    stripe.verify(good, BODY, NOW)
    stripe.verify(bodies.stripe_headers(BODY, more=f"v1={'0' * 64},"), BODY, NOW)
    assert refused(stripe, good, OTHER) == "invalid_signature"
    assert refused(stripe, bodies.stripe_headers(BODY, secret="another")) == "invalid_signature"
    digest = good["stripe-signature"].partition("v1=")[2][:64]
    for header in (
        *("", "t=", "nonsense", f"v1={digest}", f"t=soon,v1={digest}", f"t={int(NOW)}", f"t={int(NOW)},v1="),
        *(f"t={int(NOW)},v1=zz", f"t={int(NOW)},v0={digest}", f"t={int(NOW) + 1},v1={digest}", f"t=-1,v1={digest}"),
        *(f"t={int(NOW)},v1={digest[:-1]}", f"t=\xb2,v1={digest}", f"t={int(NOW)}" + f",v1={'0' * 64}" * 500),
    ):
        assert refused(stripe, {"stripe-signature": header}) == "invalid_signature", header
    assert refused(stripe, {}) == "invalid_signature"


@pytest.mark.parametrize("age", [301, 86400, -301])
def test_a_webhook_of_stripe_that_is_replayed_later_is_stale(age: float) -> None:
    headers = bodies.stripe_headers(BODY)
    assert refused(app("stripe"), headers, now=NOW + age) == "stale_signature"
    app("stripe").verify(headers, BODY, NOW + 299)
    app("stripe", settings={"tolerance": Duration(0)}).verify(headers, BODY, NOW + age)


def test_zendesk() -> None:
    zendesk = app("zendesk")
    good = bodies.zendesk_headers(BODY)
    zendesk.verify(good, BODY, NOW)
    assert refused(zendesk, good, OTHER) == "invalid_signature"
    assert refused(zendesk, bodies.zendesk_headers(BODY, secret="another")) == "invalid_signature"
    assert refused(zendesk, good, now=NOW + 301) == "stale_signature"
    assert refused(zendesk, bodies.zendesk_headers(BODY, at="yesterday")) == "invalid_signature"
    for missing in good:
        assert refused(zendesk, {name: value for name, value in good.items() if name != missing}) == "invalid_signature"
    later = good | {"x-zendesk-webhook-signature-timestamp": "2025-11-24T16:00:01Z"}
    assert refused(zendesk, later) == "invalid_signature"
    assert refused(zendesk, good | {"x-zendesk-webhook-signature": "ä=\xff"}) == "invalid_signature"


def test_braze() -> None:
    for braze, header in ((app("braze"), "authorization"), (app("braze", settings={"header": "X-Relay"}), "x-relay")):
        for value in (SECRET, f"Bearer {SECRET}", f"bearer  {SECRET}"):
            braze.verify({header: value}, BODY, NOW)
        for value in ("", "Bearer", "Bearer ", f"Basic {SECRET}", SECRET[:-1], f"{SECRET}x", "\xff"):
            assert refused(braze, {header: value}) == "invalid_signature"
        assert refused(braze, {}) == "invalid_signature"


def webhook(**settings: Any) -> App[Any]:
    return app("webhook", settings=settings, mapping={"event": "e"})


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_webhook_that_is_signed(algorithm: str) -> None:
    hook = webhook(secret=SECRET, signature=algorithm, header="X-Hub-Signature-256")
    digest = hmac.digest(SECRET.encode(), BODY, algorithm)
    for value in (digest.hex(), f"{algorithm}={digest.hex()}", b64encode(digest).decode(), digest.hex().upper()):
        hook.verify({"x-hub-signature-256": value}, BODY, NOW)
        assert refused(hook, {"x-hub-signature-256": value}, OTHER) == "invalid_signature"
    for value in ("", algorithm, f"{algorithm}=", digest.hex()[:-2], "\xff"):
        assert refused(hook, {"x-hub-signature-256": value}) == "invalid_signature"
    webhook(secret=SECRET, signature=algorithm).verify({"x-signature": digest.hex()}, BODY, NOW)


def test_a_webhook_with_a_bearer_and_one_without_a_secret() -> None:
    hook = webhook(secret=SECRET)
    hook.verify({"authorization": f"Bearer {SECRET}"}, BODY, NOW)
    assert refused(hook, {"authorization": "Bearer nope"}) == "invalid_signature"
    webhook().verify({}, BODY, NOW)


def test_settings_do_not_show_their_secret() -> None:
    for each in (app("stripe"), app("zendesk"), app("braze"), webhook(secret=SECRET)):
        assert SECRET not in repr(each._settings)
