"""What SDKs ask for before they send: ``GET /v1/projects/{writeKey}/settings``.

It tells them where to send, and which tools they talk to themselves (`relayd.destinations.modes`). Facts (analytics.js
1.84, run in a browser; the mobile SDKs read; reference: sdk-wire-facts):

- analytics.js sends nothing at all without it, and sends to Segment when ``Segment.io`` is missing in it. Its metrics
  would go to Segment too, so their sample rate is 0.
- ``integrations`` has a tool in device-mode by its name, with its settings and the ``bundlingStatus`` "bundled".
  analytics.js looks for Segment's code of it, which is not here, if the ``componentTypes`` have "browser";
  ``remotePlugins`` have a URL of their own. A mobile SDK switches on the plugin of the same name.
- What is "unbundled" is sent from here. analytics.js names those that it is told of, in ``integrations`` or in
  ``unbundledIntegrations``, as ``_metadata.unbundled``. Mobile SDKs get them in the latter only: an entry in
  ``integrations`` would switch on a plugin.
- ``maybeBundledConfigIds`` become ``_metadata.bundledIds``: the names of the destinations behind a tool's name.
- ``httpConfig`` are the numbers of the SDKs' retries. Ours let them try for hours, and drop what relayd calls bad (400)
  or what never gets smaller; another 4xx is of a proxy in front, and may pass. An SDK clamps what is too much for it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from relayd.config import model
from relayd.destinations import get
from relayd.destinations.modes import DEVICES, Integration, connection
from relayd.listener.message import Request
from relayd.listener.origin import Proxies

_DAY, _WEEK = 86400, 7 * 86400
_HTTP_CONFIG = {
    "rateLimitConfig": {
        "enabled": True,
        "maxRetryCount": 100,
        "maxRetryInterval": 300,
        "maxRateLimitDuration": _DAY,
    },
    "backoffConfig": {
        "enabled": True,
        "maxRetryCount": 100,
        "baseBackoffInterval": 0.5,
        "maxBackoffInterval": 300,
        "maxTotalBackoffDuration": _WEEK,
        "jitterPercent": 10,
        "default4xxBehavior": "retry",
        "default5xxBehavior": "retry",
        "statusCodeOverrides": {"400": "drop", "413": "drop", "431": "drop"},
    },
}


class Tools(Struct):
    """The destinations of one source, as its SDKs are told of them."""

    integrations: dict[str, dict[str, object]] = field(default_factory=dict)
    plugins: list[dict[str, object]] = field(default_factory=list)
    unbundled: list[str] = field(default_factory=list)
    ids: dict[str, list[str]] = field(default_factory=dict)
    """The destinations in device-mode, by the tool's name."""

    @classmethod
    def of(cls, name: str, source: model.Source, destinations: Mapping[str, model.Destination]) -> "Tools":
        """Those that are enabled and connected to the source; of one name, the tool in device-mode."""
        tools = cls()
        if source.type not in DEVICES:
            return tools
        cloud = []
        for each, config in destinations.items():
            if not config.enabled or (config.sources is not None and name not in config.sources):
                continue
            assert isinstance(config.settings, model.Section), "the loader checks settings against the type"
            found = connection(get(config.type), config.settings, config.mode, source.type)
            if isinstance(found, Integration):
                tools._add_device(each, found)
            elif found:
                cloud.append(each)
        for each in cloud:
            if each not in tools.integrations:
                tools._add_cloud(each, source.type)
        return tools

    def _add_device(self, name: str, tool: Integration) -> None:
        versions: dict[str, object] = {"versionSettings": {"componentTypes": []}}
        self.integrations[tool.name] = versions | {**tool.settings, "bundlingStatus": "bundled"}
        self.ids.setdefault(tool.name, []).append(name)
        if tool.plugin is not None:
            self.plugins.append(
                {
                    "name": tool.name,
                    "creationName": tool.name,
                    "url": tool.plugin.url,
                    "libraryName": tool.plugin.library,
                    "settings": tool.settings,
                }
            )

    def _add_cloud(self, name: str, source_type: str) -> None:
        self.unbundled.append(name)
        if source_type == "web":
            self.integrations[name] = {
                "bundlingStatus": "unbundled",
                "versionSettings": {"componentTypes": ["server"]},
            }


class Settings:
    """The answers, for all sources."""

    def __init__(
        self,
        sources: Mapping[str, model.Source],
        destinations: Mapping[str, model.Destination],
        proxies: Proxies,
    ) -> None:
        self._tools = {
            each.write_key: Tools.of(name, each, destinations) for name, each in sources.items() if each.write_key
        }
        self._proxies = proxies

    def answer(self, write_key: str, request: Request) -> bytes | None:
        """The settings of the source, as JSON; None when no source has the key.

        Events go to the host that the SDK asked.
        """
        tools = self._tools.get(write_key)
        if tools is None:
            return None
        relay: dict[str, Any] = {
            "apiKey": write_key,
            "apiHost": f"{request.headers.get('host', 'localhost')}/v1",
            "protocol": self._proxies.scheme(request),
            "deliveryStrategy": {},
            "retryQueue": True,
            "addBundledMetadata": True,
            "unbundledIntegrations": tools.unbundled,
            "maybeBundledConfigIds": tools.ids,
            "httpConfig": _HTTP_CONFIG,
        }
        return msgspec.json.encode(
            {
                "integrations": {**tools.integrations, "Segment.io": relay},
                "remotePlugins": tools.plugins,
                "metrics": {"sampleRate": 0},
                "plan": {},
                "edgeFunction": {},
                "middlewareSettings": {"routingRules": []},
                "enabledMiddleware": {},
                "legacyVideoPluginsEnabled": False,
            }
        )
