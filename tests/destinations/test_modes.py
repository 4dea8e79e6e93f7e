"""Who sends to a tool: by the mode, the type of the source, and what the tool has."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import pytest

from relayd.config.model import doc, public, secret
from relayd.destinations.base import Destination, Request
from relayd.destinations.modes import DeviceMode, Integration, Mode, connection
from relayd.destinations.settings import DestinationSettings


class Settings(DestinationSettings, frozen=True, rename="camel"):
    """Of a tool that has all kinds."""

    app_id: Annotated[str, public("seen by everybody")] = "123"
    api_key: Annotated[str, secret("seen by nobody")] = "s3cr3t"
    region: Annotated[str, doc("of no use to the page")] = "eu"
    odd: Annotated[str, public("marked"), secret("by mistake")] = "s3cr3t"


class CloudOnly(Destination[Settings]):
    """A tool without a device-mode."""

    type = "stub"
    settings = Settings

    def requests(
        self,
        action: str,
        settings: Settings,
        mapping: Mapping[str, object] | None,
        events: Sequence[bytes],
        *,
        batch: bool,
        now: float,
    ) -> list[Request]:
        raise NotImplementedError


class Both(CloudOnly):
    """A tool with both modes."""

    device = DeviceMode("Both Tools", frozenset({"web", "mobile"}))


class WebOnly(Both):
    """Its device-mode is for web pages only, and its cloud-mode not for apps."""

    device = DeviceMode("Web Only", frozenset({"web"}))
    source_types = frozenset({"web", "server"})


class DeviceOnly(Both):
    """A tool without a cloud-mode."""

    cloud = False


@pytest.mark.parametrize(
    ("type_", "source", "unset", "device", "cloud"),
    [
        (Both, "web", "device", "device", "cloud"),
        (Both, "mobile", "cloud", "device", "cloud"),
        (Both, "server", "cloud", "cloud", "cloud"),
        (WebOnly, "web", "device", "device", "cloud"),
        (WebOnly, "mobile", None, None, None),
        (WebOnly, "server", "cloud", "cloud", "cloud"),
        (CloudOnly, "web", "cloud", "cloud", "cloud"),
        (CloudOnly, "mobile", "cloud", "cloud", "cloud"),
        (DeviceOnly, "web", "device", "device", None),
        (DeviceOnly, "mobile", "device", "device", None),
        (DeviceOnly, "server", None, None, None),
    ],
)
def test_the_mode_and_the_source_decide_who_sends(
    type_: type[CloudOnly], source: str, unset: Mode | None, device: Mode | None, cloud: Mode | None
) -> None:
    modes: tuple[Mode | None, ...] = (None, "device", "cloud")
    found = [connection(type_(), Settings(), mode, source) for mode in modes]
    kinds = ["device" if isinstance(each, Integration) else each for each in found]
    assert kinds == [unset, device, cloud]


def test_only_public_settings_are_told_and_what_is_secret_never() -> None:
    mode: Literal["device"] = "device"
    assert connection(Both(), Settings(app_id="9"), mode, "web") == Integration("Both Tools", {"appId": "9"})
