"""Destinations that offer deletion are told, within their limits, until they agree; the others are not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from relayd.destinations import get
from relayd.listener.http import Limits, Server
from relayd.listener.sockets import open_listeners
from relayd.testing.vendors import Request, Response, Vendor, json_answer
from relayd.testing.vendors.amplitude import Amplitude
from relayd.testing.vendors.braze import Braze
from relayd.testing.vendors.customerio import Customerio
from relayd.testing.vendors.mixpanel import Mixpanel
from relayd.testing.vendors.posthog import PostHog
from tests.privacy.stage import stage, traces
from tests.relay import free_port

ADA = "ada-lovelace"
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "amplitude": {"apiKey": "AK", "secretKey": "SK"},
    "braze": {"api_key": "BK"},
    "customerio": {"siteId": "SITE", "apiKey": "KEY"},
    "mixpanel": {"projectToken": "PT", "gdprToken": "GT"},
    "posthog": {"api_key": "phc_x", "project_id": "7", "personal_api_key": "phx_x"},
}
LIMITS = {"amplitude": 100, "braze": 50, "customerio": 1, "mixpanel": 2000, "posthog": 1000}


def vendors() -> dict[str, Vendor]:
    return {
        "amplitude": Amplitude(),
        "braze": Braze(),
        "customerio": Customerio(),
        "mixpanel": Mixpanel(),
        "posthog": PostHog(),
    }


class Street:
    """All vendors behind one address; ``moods`` are answers that come before theirs."""

    def __init__(self) -> None:
        self.vendors = vendors()
        self.moods: dict[str, list[int]] = {}

    async def __call__(self, request: Request) -> Response:
        name, _, rest = request.path.removeprefix("/").partition("/")
        if self.moods.get(name):
            return json_answer(self.moods[name].pop(), {"message": "not now"})
        request.path = f"/{rest}"
        return await self.vendors[name](request)


def toml(port: int, settings: Mapping[str, Mapping[str, str]] = SETTINGS) -> str:
    """The vendors as destinations."""
    return "\n".join(
        f'[destinations.{name}]\ntype = "{name}"\ndelivery.base_url = "http://127.0.0.1:{port}/{name}"\n'
        f'retry.initial_wait = "50ms"\nretry.max_attempts = 3\n'
        + "\n".join(f'settings.{key} = "{value}"' for key, value in values.items())
        for name, values in settings.items()
    )


@pytest.mark.parametrize("name", SETTINGS)
async def test_many_users_are_deleted_in_requests_that_the_vendor_takes(name: str) -> None:
    destination, vendor = get(name), vendors()[name]
    settings = msgspec.convert(SETTINGS[name], destination.settings)
    ids = [f"user-{number}" for number in range(2 * LIMITS[name] + 1)]
    requests = destination.deletions(settings, ids, now=0.0)
    assert len(requests) == 3
    for each in requests:
        path, _, query = each.url.split("/", 3)[3].partition("?")
        answer = await vendor(Request(each.method, f"/{path}", query, dict(each.headers), each.body, None))
        assert 200 <= answer.status < 300
    assert vendor.deleted == ids


@pytest.mark.parametrize(
    ("name", "missing"), [("amplitude", "secretKey"), ("mixpanel", "gdprToken"), ("posthog", "project_id")]
)
def test_what_deletion_needs_of_the_settings_is_named(name: str, missing: str) -> None:
    destination = get(name)
    some = {key: value for key, value in SETTINGS[name].items() if key != missing}
    with pytest.raises(ValueError, match=missing):
        destination.deletions(msgspec.convert(some, destination.settings), ["ada"], now=0.0)


async def test_every_destination_that_offers_it_is_told_and_what_fails_is_tried_again(tmp_path: Path) -> None:
    street, port = Street(), free_port()
    street.moods = {"braze": [503, 503], "posthog": [403]}
    async with trio.open_nursery() as nursery, stage(tmp_path, more=toml(port)) as scene:
        server = Server(street, Limits())
        await nursery.start(server.serve, await open_listeners(f"127.0.0.1:{port}"))
        done = await scene.regulate("DELETE_ONLY", ADA, forward=True)
        forwarded: dict[str, Any] = done["forwarded"]
        refusal = forwarded.pop("posthog")
        assert forwarded == dict.fromkeys(("amplitude", "braze", "customerio", "mixpanel"), "done")
        assert "403" in refusal
        assert done["status"] == "FAILED"
        assert done["failure"] == f"posthog was told to delete, and refused: {refusal}"
        told = {name: vendor.deleted for name, vendor in street.vendors.items()}
        assert told == {name: [ADA] for name in forwarded} | {"posthog": []}
        assert traces(scene.relay.state, [ADA]) == []
        nursery.cancel_scope.cancel()
