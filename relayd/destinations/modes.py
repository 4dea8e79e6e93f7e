"""Connection modes: whether relayd sends a tool its events, or the web page or app does so itself.

    source    mode unset                              mode = "device"          mode = "cloud"
    web       device, where the type has that         device                   cloud
    mobile    cloud, where the type has that          device                   cloud
    others    cloud                                   cloud                    cloud

"device" holds for the types of sources that the type's `DeviceMode` names; elsewhere it is cloud-mode. A tool that has
the one mode only has no connection at all to a source that needs the other.

An event that the device has sent to the tool reaches relayd as well, and says so in its ``_metadata``;
`relayd.delivery.eligibility` then refuses it as MESSAGE_SENT_CLIENT_SIDE. So the mode says what SDKs are told
(`relayd.listener.settings`), and what they did decides what is sent.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from relayd.config.model import Section
from relayd.config.schema import keys

if TYPE_CHECKING:
    from relayd.destinations.base import Destination

DEVICES = frozenset({"web", "mobile"})
"""The types of sources whose SDKs can talk to tools themselves."""

Mode = Literal["cloud", "device"]


class DeviceMode(Struct, frozen=True):
    """Where a type of destination has device-mode."""

    name: str = ""
    """What the SDKs call the tool; empty: the settings say that."""
    source_types: frozenset[str] = DEVICES


class Plugin(Struct, frozen=True):
    """A script from which analytics.js makes the tool's plugin."""

    url: str
    library: str
    """The global function that the script defines: it takes the settings, and returns the plugin."""


class Integration(Struct, frozen=True):
    """What the SDKs are told of a tool in device-mode."""

    name: str
    settings: Mapping[str, object]
    """Seen by everybody."""
    plugin: Plugin | None = None


def public_settings(settings: Section) -> dict[str, object]:
    """The values that `model.public` marks, by the names that they have in the configuration."""
    return {name: getattr(settings, key.attribute) for name, key in keys(type(settings)).items() if key.public}


def connection(
    destination: "Destination[Any]", settings: Section, mode: Mode | None, source_type: str
) -> Integration | Literal["cloud"] | None:
    """How a destination with these settings and this ``mode`` is connected to sources of a type.

    What their SDKs are told when the device sends, "cloud" when relayd sends, None when nobody does.
    """
    wanted = mode or ("device" if source_type == "web" or not destination.cloud else "cloud")
    integration = destination.integration(settings, source_type) if wanted == "device" else None
    if integration is not None:
        return integration
    return "cloud" if destination.cloud and source_type in destination.source_types else None
