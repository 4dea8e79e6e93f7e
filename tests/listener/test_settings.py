"""What SDKs are told of a source's destinations: enough, and nothing that is secret."""

from typing import Any

import msgspec
import pytest

from relayd.config import model
from relayd.config.schema import REQUIRED, keys
from relayd.destinations import CATALOG, get
from relayd.listener.message import Request
from relayd.listener.origin import Proxies
from relayd.listener.settings import Settings

SOURCES = {
    "site": model.Source(type="web", write_key="site-key"),
    "app": model.Source(type="mobile", write_key="app-key"),
    "api": model.Source(type="server", write_key="api-key"),
}
SECRET = "s3cr3t"
HOOK = {"url": "https://hooks.example"}


def destination(type_: str = "webhook", settings: dict[str, Any] = HOOK, **others: Any) -> model.Destination:
    return model.Destination(type=type_, settings=get(type_).settings(**settings), **others)


def device(name: str, settings: dict[str, Any] | None = None, **others: Any) -> model.Destination:
    """A tool of this name; ``others`` are more of its settings, but for what all destinations have."""
    of_all = {key: others.pop(key) for key in ("enabled", "sources") if key in others}
    return destination("device", {"name": name, "settings": settings or {}} | others, **of_all)


def answer(key: str = "site-key", /, **destinations: model.Destination) -> Any:
    """The settings of a source, decoded."""
    request = Request(method="GET", path="/", headers={"host": "relay.test:8088"}, peer="127.0.0.1")
    body = Settings(SOURCES, destinations, Proxies(())).answer(key, request)
    return None if body is None else msgspec.json.decode(body)


def relay_of(found: Any) -> Any:
    """Where events go, without which analytics.js sends them to Segment."""
    return found["integrations"]["Segment.io"]


CLOUD = {"bundlingStatus": "unbundled", "versionSettings": {"componentTypes": ["server"]}}


def test_a_web_page_is_told_of_both_kinds() -> None:
    found = answer(
        hook=destination(),
        heap=device("Heap", {"appId": "1"}, url="https://heap.example/x.js", library="Heap"),
        own=device("In the page", {"level": 2}),
    )
    assert {name: each for name, each in found["integrations"].items() if name != "Segment.io"} == {
        "Heap": {"appId": "1", "bundlingStatus": "bundled", "versionSettings": {"componentTypes": []}},
        "In the page": {"level": 2, "bundlingStatus": "bundled", "versionSettings": {"componentTypes": []}},
        "hook": CLOUD,
    }
    assert found["remotePlugins"] == [
        {
            "name": "Heap",
            "creationName": "Heap",
            "url": "https://heap.example/x.js",
            "libraryName": "Heap",
            "settings": {"appId": "1"},
        }
    ]
    relay = relay_of(found)
    assert (relay["apiKey"], relay["apiHost"], relay["protocol"]) == ("site-key", "relay.test:8088/v1", "http")
    assert relay["unbundledIntegrations"] == ["hook"]
    assert relay["maybeBundledConfigIds"] == {"Heap": ["heap"], "In the page": ["own"]}
    assert relay["retryQueue"] is relay["addBundledMetadata"] is True
    assert relay["httpConfig"].keys() == {"rateLimitConfig", "backoffConfig"}
    assert relay["httpConfig"]["backoffConfig"]["statusCodeOverrides"]["400"] == "drop", "relayd says it of bad events"
    assert (found["metrics"], found["plan"]) == ({"sampleRate": 0}, {})


def test_an_app_gets_no_entry_that_would_switch_on_a_plugin_for_a_tool_in_cloud_mode() -> None:
    found = answer("app-key", hook=destination(), heap=device("Heap", url="https://heap.example/x.js", library="Heap"))
    assert found["integrations"].keys() == {"Heap", "Segment.io"}
    assert relay_of(found)["unbundledIntegrations"] == ["hook"]
    assert found["remotePlugins"] == []


def test_a_server_is_told_of_none() -> None:
    found = answer("api-key", hook=destination(), heap=device("Heap"))
    assert found["integrations"].keys() == {"Segment.io"}
    assert relay_of(found)["unbundledIntegrations"] == []


@pytest.mark.parametrize("key", ["site-key", "app-key", "api-key"])
def test_where_events_go_is_always_said(key: str) -> None:
    for found in (answer(key), answer(key, hook=destination()), answer(key, heap=device("Heap"))):
        assert relay_of(found)["apiKey"] == key


def test_what_is_disabled_or_of_another_source_is_not_there() -> None:
    found = answer(
        off=destination(enabled=False),
        heap=device("Heap", enabled=False),
        other=destination(sources=("app",)),
        none=device("None", sources=()),
        mobile=device("Mobile", source_types=["mobile"]),
        ours=destination(sources=("app", "site")),
    )
    assert found["integrations"].keys() == {"ours", "Segment.io"}
    assert relay_of(found)["unbundledIntegrations"] == ["ours"]


def test_a_tool_in_device_mode_comes_before_its_cloud_mode_of_the_same_name() -> None:
    for order in (("Heap", "page"), ("page", "Heap")):
        both = {"Heap": destination(), "page": device("Heap")}
        found = answer(**{name: both[name] for name in order})
        assert found["integrations"]["Heap"]["bundlingStatus"] == "bundled"
        assert relay_of(found)["unbundledIntegrations"] == []


def test_settings_can_not_take_a_tool_out_of_device_mode_but_may_name_a_version() -> None:
    versions = {"version": "2.1.0", "componentTypes": ["browser"]}
    found = answer(heap=device("Heap", {"bundlingStatus": "unbundled", "versionSettings": versions}))
    assert found["integrations"]["Heap"] == {"bundlingStatus": "bundled", "versionSettings": versions}


def secretive(type_: str) -> dict[str, Any]:
    """Settings of a type by their attributes, with `SECRET` in all that is secret."""
    found: dict[str, Any] = {}
    for key in keys(get(type_).settings).values():
        if key.secret:
            found[key.attribute] = SECRET if key.holds is str else {"Authorization": SECRET}
        elif key.default is REQUIRED:
            found[key.attribute] = key.example
    return found


@pytest.mark.parametrize("type_", sorted(CATALOG))
def test_secrets_are_told_to_nobody(type_: str) -> None:
    for key in ("site-key", "app-key"):
        text = msgspec.json.encode(answer(key, tool=destination(type_, secretive(type_)))).decode()
        assert "tool" in text
        assert SECRET not in text


def test_no_source_no_settings() -> None:
    assert answer("wrong", hook=destination()) is None
