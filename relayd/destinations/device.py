"""Device: a tool that web pages or apps talk to themselves, with code of its own; relayd tells their SDKs of it.

It is for any tool that is not in relayd's catalog, or has its own code in the page. Nothing is sent to it from here, so
it has no outbox, and can not be replayed. Facts (@segment/analytics-next 1.84, read and run in a browser):

- An integration with the ``bundlingStatus`` "bundled" is named in each event's ``_metadata.bundled``. So a destination
  that is called by the same name gets none of these events from relayd; but those that say that the tool did not start
  (``failedInitializations``), and those of other sources. That makes a pair of a device's tool and its cloud-mode.
- A ``url`` is a script that analytics.js loads (``remotePlugins``); its global function makes the plugin. A script that
  does not load is not among the ``failedInitializations``; a plugin whose ``load`` fails is.
- Without ``url`` the page or the app has the code: npm's ``classicIntegrations``, ``analytics.register(plugin)``, or a
  mobile SDK's plugin, which is switched on by its name being there. A ``versionSettings`` in ``settings`` is passed on
  too; with the ``componentTypes`` "browser", analytics.js loads an integration of Segment's from
  ``/next-integrations``, which relayd does not have.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import field

from relayd.config.model import doc, public
from relayd.destinations import modes
from relayd.destinations.base import Destination, InvalidSettings, Request
from relayd.destinations.modes import Integration, Plugin
from relayd.destinations.settings import DestinationSettings

_RESERVED = ("Segment.io", "All")
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


class Settings(DestinationSettings, frozen=True, kw_only=True):
    """The tool, as SDKs know it. Everybody who loads the page can see all of this."""

    name: Annotated[str, public("the integration's name in the SDK", min_length=1, example="Heap")]
    settings: Annotated[
        Mapping[str, object], public("passed on to the tool's code as it is; no secrets", example={"appId": "123"})
    ] = field(default_factory=dict)
    source_types: Annotated[
        tuple[Literal["web", "mobile"], ...], doc("the sources whose SDKs are told: web, mobile")
    ] = ("web", "mobile")
    url: Annotated[
        str, public("web: the script with the tool's plugin, loaded by analytics.js; empty: the page has the code")
    ] = ""
    library: Annotated[str, public("web: the global function of that script, which makes the plugin")] = ""


class Device(Destination[Settings]):
    """A tool that pages or apps talk to themselves."""

    type = "device"
    title = "Device-mode tool"
    settings = Settings
    cloud = False
    passes_on = False
    source_types = modes.DEVICES
    device = modes.DeviceMode()

    def check(self, settings: Settings) -> None:
        if settings.name in _RESERVED or not settings.name.isprintable():
            raise InvalidSettings(f"name must not be {' or '.join(_RESERVED)}, which mean something else to SDKs")
        if bool(settings.url) != bool(settings.library):
            raise InvalidSettings("library and url must be set together: the function, and the script that defines it")
        url = urlsplit(settings.url)
        if settings.url and not (url.scheme in ("http", "https") and url.hostname and settings.url.isprintable()):
            raise InvalidSettings("url must be http://HOST... or https://HOST...")
        if settings.library and not _IDENTIFIER.fullmatch(settings.library):
            raise InvalidSettings("library must be the name of a global function, such as HeapPlugin")

    def integration(self, settings: Settings, source_type: str) -> Integration | None:
        if source_type not in settings.source_types:
            return None
        plugin = Plugin(settings.url, settings.library) if settings.url and source_type == "web" else None
        return Integration(settings.name, settings.settings, plugin)

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
        raise ValueError("a tool in device-mode is sent nothing from here")
