"""``relayd check`` on sources that take webhooks, and on functions: every error with its place."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relayd.cli import main

HOOK = '[destinations.hook]\ntype = "webhook"\nsettings.url = "https://hooks.example"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check(text: str) -> Result:
    Path("a.toml").write_text(text)
    return CliRunner().invoke(main, ["check", "-c", "a.toml"], catch_exceptions=False)


def errors(text: str) -> list[str]:
    result = check(text)
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()


GOOD = """\
[sources.payments]
type = "cloud_app"
app = "stripe"
settings.secret = "whsec_1"
settings.tolerance = "10m"
[sources.tickets]
type = "cloud_app"
app = "zendesk"
settings.secret = "zd"
[sources.mail]
type = "cloud_app"
app = "braze"
settings = { secret = "br", header = "X-Relay" }
[sources.github]
type = "cloud_app"
app = "webhook"
trigger = 'headers.x-github-event = "push"'
settings = { secret = "gh", signature = "sha256", header = "X-Hub-Signature-256" }
[sources.github.mapping]
event = "Pushed"
userId = { "@template" = "{{body.sender.id}}" }
messageId = { "@path" = "$.headers.x-github-delivery" }
[sources.many]
type = "cloud_app"
app = "webhook"
settings.secret = "many"
[[sources.many.subscriptions]]
name = "a"
mapping = { event = "A" }
[[sources.many.subscriptions]]
name = "b"
trigger = 'body.b != null'
mapping = { type = "identify" }
[sources.shop]
type = "function"
file = "shop.py"
timeout = "2s"
settings = { shop = "x", nested = { a = [1] } }
[destinations.fun]
type = "function"
settings.file = "fun.py"
settings.settings.greeting = "hi"
"""


def test_sources_of_every_kind_and_functions() -> None:
    Path("shop.py").write_text("async def on_request(request, settings): ...")
    Path("fun.py").write_text("def on_group(event, settings): ...")
    result = check(GOOD)
    assert (result.exit_code, result.output) == (0, "a.toml: ok, 6 sources, 1 destination\n")


def test_what_a_source_needs_and_what_is_not_for_it() -> None:
    assert errors(
        HOOK
        + """\
[sources.a]
type = "cloud_app"
write_key = "k"
[sources.b]
type = "cloud_app"
app = "strip"
[sources.c]
type = "cloud_app"
app = "stripe"
settings.tolerance = "soon"
[sources.d]
app = "stripe"
write_key = "k"
file = "x.py"
[sources.e]
type = "function"
trigger = "x"
[sources.f]
type = "mobile"
timeout = "1s"
settings.x = 1
[sources.g]
type = "cloud_app"
app = "webhook"
settings = { secret = "s", signature = "md5" }
"""
    ) == [
        "a.toml:4: sources.a.app: is required: the name of the app whose webhooks come",
        "a.toml:6: sources.a.write_key: must be left out for type cloud_app; it is for web and mobile and server",
        'a.toml:9: sources.b.app: unknown app "strip"; did you mean "stripe"?',
        "a.toml:13: sources.c.settings.secret: is required: signs the webhooks; the app shows it",
        'a.toml:13: sources.c.settings.tolerance: \'soon\' is not a duration such as "10s" or "4h"; '
        "units are ms, s, m, min, h, d, w",
        "a.toml:15: sources.d.app: must be left out for type server; it is for cloud_app",
        "a.toml:17: sources.d.file: must be left out for type server; it is for function",
        "a.toml:18: sources.e.file: is required: the Python file with the function",
        "a.toml:20: sources.e.trigger: must be left out for type function; it is for cloud_app",
        "a.toml:21: sources.f.write_key: is required: the key its SDKs are set up with",
        "a.toml:23: sources.f.timeout: must be left out for type mobile; it is for function",
        "a.toml:24: sources.f.settings: must be left out for type mobile; it is for cloud_app and function",
        'a.toml:28: sources.g.settings.signature: must be "bearer", "sha256" or "sha1", not "md5"',
    ]


def test_triggers_and_mappings_that_can_not_be_compiled() -> None:
    found = errors(
        HOOK
        + """\
[sources.a]
type = "cloud_app"
app = "webhook"
settings.secret = "s"
trigger = "body.x ="
[sources.a.mapping]
event = { "@pth" = "$.body.x" }
[sources.b]
type = "cloud_app"
app = "stripe"
settings.secret = "s"
[[sources.b.subscriptions]]
name = "one"
trigger = "nope nope"
mapping = { event = { "@template" = 5 } }
[[sources.b.subscriptions]]
name = "one"
mapping = {}
[sources.c]
type = "cloud_app"
app = "webhook"
settings.secret = "s"
"""
    )
    told = [each for each in found if each.startswith("a.toml:")]
    assert [each.split(": ")[0:2] for each in told] == [
        ["a.toml:8", "sources.a.trigger"],
        ["a.toml:10", "sources.a.mapping.event"],
        ["a.toml:17", "sources.b.subscriptions[0].trigger"],
        ["a.toml:18", 'sources.b.subscriptions[0].mapping.event."@template"'],
        ["a.toml:20", "sources.b.subscriptions[1].name"],
        ["a.toml:22", "sources.c.mapping"],
    ]


def test_a_source_that_everybody_can_send_to_is_a_warning() -> None:
    result = check(HOOK + '[sources.a]\ntype = "cloud_app"\napp = "webhook"\nmapping = { event = "e" }\n')
    assert result.exit_code == 0
    assert "sources.a.settings.secret: is empty, so everybody who knows the address can send" in result.stderr


SHOP = HOOK + '[sources.shop]\ntype = "function"\nfile = "shop.py"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef on_request(request, settings) return", "shop.py:2: SyntaxError: expected ':'"),
        ("\n\nimport nothing_like_that", "shop.py:3: can not be imported: ModuleNotFoundError: No module named "),
        ("def on_reqest(request, settings): ...", "shop.py must have on_request"),
        ("while True: pass", "shop.py can not be imported: shop.py took longer than 0.5 s to be imported"),
        ("import os; os._exit(4)", "shop.py can not be imported: its process ended with exit code 4"),
        (None, "shop.py can not be read: No such file or directory"),
    ],
)
def test_a_function_that_can_not_be_imported(text: str | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.functions.process.START_TIMEOUT", 0.5)
    if text is not None:
        Path("shop.py").write_text(text)
    (error,) = errors(SHOP)
    assert error.startswith(f"a.toml:6: sources.shop.file: {message}")


def test_the_file_of_a_destination_function() -> None:
    text = '[sources.a]\nwrite_key = "k"\n[destinations.fun]\ntype = "function"\nsettings.file = "fun.py"\n'
    Path("fun.py").write_text("def on_request(r, s): ...")
    (error,) = errors(text)
    assert error.startswith("a.toml:5: destinations.fun.settings.file: fun.py must have on_alias, on_batch, on_group, ")
    Path("fun.py").write_text("def on_track(e, s):\n  return (")
    (error,) = errors(text)
    assert error == "a.toml:5: destinations.fun.settings.file: fun.py:2: SyntaxError: '(' was never closed"
