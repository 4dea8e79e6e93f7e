"""A destination of type device: what may be set, and that nothing is sent to it."""

import re
from pathlib import Path

import pytest

from relayd.cli.config import load_checked
from relayd.config.errors import ConfigError
from relayd.destinations import get
from relayd.destinations.device import Settings
from relayd.destinations.modes import Integration, Plugin

HEAD = '[sources.site]\nwrite_key = "k"\n[destinations.tool]\n'
README = Path(__file__).parents[2] / "README.md"


def said(root: Path, text: str) -> list[str]:
    """What ``relayd check`` says of a destination."""
    path = root / "relayd.toml"
    path.write_text(HEAD + text)
    try:
        load_checked(path)
    except ConfigError as error:
        return [f"{each.key}: {each.message}" for each in error.problems]
    return []


def test_its_settings_are_passed_on_as_they_are() -> None:
    passed = {"appId": "1", "nested": {"list": [1, True]}}
    of = get("device").integration
    assert of(Settings(name="Heap", settings=passed), "web") == Integration("Heap", passed)
    web = Settings(name="Heap", source_types=("web",), url="https://a.example/x.js", library="X")
    assert of(web, "web") == Integration("Heap", {}, Plugin("https://a.example/x.js", "X"))
    assert of(web, "mobile") is None
    both = Settings(name="Heap", url="https://a.example/x.js", library="X")
    assert of(both, "mobile") == Integration("Heap", {}), "an app loads no script"


def test_nothing_can_be_sent_to_it() -> None:
    device = get("device")
    assert not device.cloud
    with pytest.raises(ValueError, match="is sent nothing from here"):
        device.requests("send", Settings(name="Heap"), None, [b"{}"], batch=False, now=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'settings.name = "Segment.io"',
            "settings.name: must not be Segment.io or All, which mean something else to SDKs",
        ),
        (
            'settings.name = "X"\nsettings.url = "https://a.example/x.js"',
            "settings.library: and url must be set together: the function, and the script that defines it",
        ),
        (
            'settings.name = "X"\nsettings.library = "X"\nsettings.url = "/x.js"',
            "settings.url: must be http://HOST... or https://HOST...",
        ),
        (
            'settings.name = "X"\nsettings.library = "a b"\nsettings.url = "https://a.example/x.js"',
            "settings.library: must be the name of a global function, such as HeapPlugin",
        ),
        ('settings.name = "X"\nmode = "cloud"', 'mode: must be "device" for type device, which has no cloud-mode'),
        (
            'settings.name = "X"\nfilters = [{ if = "type = \'track\'", drop = true }]',
            "filters: must be left out for type device: its events do not come from here",
        ),
        (
            'settings.name = "X"\nsubscriptions = [{ name = "A", action = "a" }]',
            "subscriptions: must be left out for type device: its events do not come from here",
        ),
    ],
)
def test_what_can_not_work_is_told(tmp_path: Path, text: str, message: str) -> None:
    assert said(tmp_path, f'type = "device"\n{text}') == [f"destinations.tool.{message}"]


def test_device_mode_is_refused_where_the_type_has_none(tmp_path: Path) -> None:
    webhook = 'type = "webhook"\nsettings.url = "https://a.example"\n'
    assert said(tmp_path, webhook + 'mode = "cloud"') == []
    assert said(tmp_path, webhook + 'mode = "device"') == [
        'destinations.tool.mode: must be "cloud" for type webhook, which has no device-mode; '
        'a tool whose code is in the page or the app is a destination of type "device"'
    ]


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        ("", "", True),
        ('sources = ["site"]', "", True),
        ('sources = ["site"]', 'sources = ["app"]', False),
        ('settings.source_types = ["web"]', 'settings.source_types = ["mobile"]', False),
        ("enabled = false", "", False),
    ],
)
def test_a_tool_is_told_of_once(tmp_path: Path, first: str, second: str, one: bool) -> None:
    tool = 'type = "device"\nsettings.name = "Heap"\n'
    app = '[sources.app]\nwrite_key = "l"\n'
    problems = said(tmp_path, f"{tool}{first}\n[destinations.again]\n{tool}{second}\n{app}")
    assert bool(problems) is one
    assert problems in (
        [],
        [
            "destinations.again.settings.name: is the name of another destination too, in the same pages or apps; "
            "a tool is told of there once"
        ],
    )


def test_the_readmes_example_is_right(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(\[destinations\.heap\].*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    path = tmp_path / "relayd.toml"
    path.write_text(example)
    assert load_checked(path).config.destinations["heap"].settings == Settings(
        name="Heap", url="https://www.example.com/heap-plugin.js", library="HeapPlugin", settings={"appId": "123"}
    )
