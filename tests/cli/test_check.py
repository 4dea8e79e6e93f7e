"""``relayd check``, as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relayd.cli import config, main

GOOD = """\
[sources.web]
write_key = "web-key"
[destinations.hook]
type = "webhook"
settings.url = "https://hooks.example"
"""
Check = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Runs ``relayd check`` in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELAYD_CONFIG", raising=False)
    monkeypatch.setattr(config, "USUAL", (tmp_path / "etc.toml", Path("conf/relayd.toml")))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["check", *arguments], catch_exceptions=False)

    return run


def test_a_good_configuration_is_one_line(check: Check) -> None:
    Path("a.toml").write_text(GOOD)
    result = check("-c", "a.toml")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a.toml: ok, 1 source, 1 destination\n", "")


def test_what_is_hardly_meant_is_a_warning(check: Check) -> None:
    Path("a.toml").write_text("")
    result = check("-c", "a.toml")
    assert (result.exit_code, result.stdout) == (0, "a.toml: ok, 0 sources, 0 destinations\n")
    assert result.stderr == (
        "warning: a.toml: there are no [sources.NAME], so every event is refused\n"
        "warning: a.toml: there are no [destinations.NAME], so events are kept and go nowhere\n"
    )


BAD = (
    GOOD
    + """\
settings.headers = { host = "s3cret" }
[destinations.hook.delivery]
batch_size = 5000
batch_bytes = "1TB"
[destinations.two]
type = "webhok"
[destinations.copy]
type = "segment"
sources = ["wbe"]
[destinations.copy.settings]
endpoint = "ftp://x"
source_write_key = "wk-copy"
"""
)
SAID = [
    ("a.toml", 6, "destinations.hook.settings.headers", "host is set by relayd; remove it"),
    ("a.toml", 8, "destinations.hook.delivery.batch_size", "must be at most 4000 for type webhook, not 5000"),
    ("a.toml", 9, "destinations.hook.delivery.batch_bytes", "must be at most 4000000B for type webhook, not 1TB"),
    ("a.toml", 11, "destinations.two.type", 'unknown type "webhok"; did you mean "webhook"?'),
    ("a.toml", 14, "destinations.copy.sources[0]", 'unknown source "wbe"; did you mean "web"?'),
    ("a.toml", 16, "destinations.copy.settings.endpoint", "must be http://HOST... or https://HOST..."),
]


def test_all_errors_are_printed_and_the_exit_code_is_2(check: Check) -> None:
    Path("a.toml").write_text(BAD)
    result = check("-c", "a.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "".join(f"{file}:{line}: {key}: {message}\n" for file, line, key, message in SAID)


def test_json_has_the_same_in_parts(check: Check) -> None:
    Path("a.toml").write_text(BAD)
    result = check("-c", "a.toml", "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    assert json.loads(result.stdout) == {
        "file": "a.toml",
        "ok": False,
        "sources": None,
        "destinations": None,
        "problems": [dict(zip(("file", "line", "key", "message"), each, strict=True)) for each in SAID],
        "warnings": [],
    }
    Path("a.toml").write_text("[sources.web]\nwrite_key = 'k'")
    result = check("-c", "a.toml", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["ok"], answer["sources"], answer["destinations"], answer["problems"]) == (True, 1, 0, [])
    assert [each["message"] for each in answer["warnings"]] == [
        "there are no [destinations.NAME], so events are kept and go nowhere"
    ]


def test_a_file_that_is_not_there(check: Check) -> None:
    result = check("-c", "nope.toml")
    assert (result.exit_code, result.stderr) == (2, "nope.toml: can not be read: No such file or directory\n")


def test_the_reference_needs_no_configuration(check: Check) -> None:
    result = check("--reference")
    assert result.exit_code == 0
    assert result.stdout.encode() == (Path(__file__).parents[2] / "conf" / "relayd.toml").read_bytes()


def test_the_file_is_looked_for_in_the_usual_places(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check()
    assert result.exit_code == 2
    assert result.stderr == (
        f"there is no configuration at {config.USUAL[0]} or conf/relayd.toml; name one with -c FILE or $RELAYD_CONFIG\n"
    )
    Path("conf").mkdir()
    for place in (Path("conf/relayd.toml"), config.USUAL[0]):
        place.write_text(GOOD)
        assert check().stdout.startswith(f"{place}: ok")
    monkeypatch.setenv("RELAYD_CONFIG", "env.toml")
    assert check().stderr.startswith("env.toml: can not be read")
    Path("c.toml").write_text(GOOD)
    assert check("--config", "c.toml").stdout.startswith("c.toml: ok")


WRONG = """\
[sources.web]
write_key = "web-key"
[destinations.hook]
type = "webhook"
settings.url = "https://hooks.example"
delivery.base_url = "127.0.0.1:8099"
[[destinations.hook.filters]]
if = 'event = Heartbeat'
drop = true
[[destinations.hook.filters]]
drop = true
[[destinations.hook.filters]]
if = "type = 'track'"
[[destinations.hook.filters]]
if = "type = 'track'"
drop_properties = { properties = "email" }
sample = { percent = 10 }
[[destinations.hook.filters]]
if = 7
drop = true
[[destinations.hook.subscriptions]]
name = "Orders"
action = "sned"
trigger = 'evnt = "Order Completed"'
mapping = { data = { "@pth" = "$.properties" } }
[[destinations.hook.subscriptions]]
action = "send"
trigger = 'type = '
[[destinations.hook.subscriptions]]
name = "Orders"
action = "send"
[destinations.hook.subscriptions.mapping]
data = { "@path" = "$.properties" }
url = [
  "fine",
  { "@if" = 3, "@path" = "$.x" },
]
[[destinations.hook.subscriptions]]
name = "Disabled"
action = "nothing"
trigger = 'nonsense'
enabled = false
[[destinations.hook.subscriptions]]
name = "Last"
acton = "send"
[destinations.slack]
type = "slack"
filters = [7]
subscriptions = ["x", { name = "A", action = "postToChanel" }]
"""
"""What is wrong with each filter and each subscription, by line and key; of what is printed, the beginning."""
PLACES = [
    (6, "delivery.base_url", "must be http://HOST... or https://HOST..."),
    (8, "filters[0].if", "column 9: "),
    (10, "filters[1].if", "is required: "),
    (12, "filters[2]", "a filter has `if`, some of sample, "),
    (16, "filters[3].drop_properties", "drop_properties: drop: 'properties' has to be a list of names"),
    (17, "filters[3].sample", "percent is a share from 0 to 1, not 10"),
    (19, "filters[4].if", "must be a string, not an integer"),
    (23, "subscriptions[0].action", 'unknown action "sned"; did you mean "send"?'),
    (24, "subscriptions[0].trigger", "column 1: a trigger can not test `evnt`; "),
    (25, "subscriptions[0].mapping.data", "has the unknown directive @pth, did you mean @path? "),
    (26, "subscriptions[1].name", "is required: "),
    (28, "subscriptions[1].trigger", "column 8: expected a value"),
    (30, "subscriptions[2].name", '"Orders" is there twice; each needs its own'),
    (36, 'subscriptions[2].mapping.url[1]."@if"', "is a number, must be an object"),
    (43, "subscriptions[4].action", "is required: "),
    (45, "subscriptions[4].acton", 'unknown key "acton"; did you mean "action"?'),
]


def test_whatever_is_wrong_with_filters_and_subscriptions_is_found_at_once_where_it_is(check: Check) -> None:
    Path("a.toml").write_text(WRONG)
    result = check("-c", "a.toml", "--json")
    assert result.exit_code == 2
    problems = json.loads(result.stdout)["problems"]
    said = [(each["line"], each["key"], each["message"]) for each in problems]
    expected = [(number, f"destinations.hook.{key}", start) for number, key, start in PLACES]
    expected += [
        (48, "destinations.slack.filters[0]", "must be a table"),
        (49, "destinations.slack.subscriptions[0]", "must be a table"),
        (
            49,
            "destinations.slack.subscriptions[1].action",
            'unknown action "postToChanel"; did you mean "postToChannel"?',
        ),
    ]
    assert [
        (number, key, message[: len(start)]) for (number, key, message), (*_, start) in zip(said, expected, strict=True)
    ] == expected
