"""``relayd send`` against a real socket: a sink answers as a relay would."""

import base64
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from relayd.cli import main, send
from relayd.config import address
from relayd.config.model import Listener
from relayd.testing.faults import Faults
from relayd.testing.sink import Received, open_sink


async def run(*args: str, stdin: bytes | None = None) -> Result:
    """The command, in a thread, with no environment to find a configuration in."""

    def invoke() -> Result:
        return CliRunner(env={"RELAYD_CONFIG": None}).invoke(main, ["send", *args], input=stdin)

    return await trio.to_thread.run_sync(invoke)


def events(requests: list[Received]) -> list[dict[str, Any]]:
    return [json.loads(event) for request in requests for event in request.events]


def key_of(request: Received) -> str:
    return base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a configuration and gives its path."""

    def write(bind: str, sources: str) -> str:
        path = tmp_path / "relayd.toml"
        path.write_text(f'[listener]\nbind = "{bind}"\n{sources}', encoding="utf-8")
        return str(path)

    return write


async def test_an_event_is_built_as_an_sdk_builds_it() -> None:
    async with open_sink() as sink:
        result = await run(
            "--url", sink.url, "--write-key", "wk", "track", "--event", "Order Completed", "--user", "u-1",
            "--property", "total=9.5", "--property", "paid=true", "--property", "id=007", "--property", "note=a=b",
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output == '1 event: 200 {"success":true}\n'
    (request,) = sink.requests
    assert (request.method, request.target, key_of(request)) == ("POST", "/v1/batch", "wk:")
    (event,) = events(sink.requests)
    assert event["messageId"].startswith("relayd-send-")
    assert event["timestamp"].endswith("Z")
    assert event["context"]["library"]["name"] == "relayd-send"
    assert {key: event[key] for key in ("type", "event", "userId", "properties")} == {
        "type": "track",
        "event": "Order Completed",
        "userId": "u-1",
        "properties": {"total": 9.5, "paid": True, "id": "007", "note": "a=b"},
    }


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["identify", "--user", "u-1", "--trait", "plan=pro"], {"userId": "u-1", "traits": {"plan": "pro"}}),
        (["page", "--event", "Home", "--anonymous", "a-1"], {"name": "Home", "anonymousId": "a-1", "properties": {}}),
        (["screen", "--event", "Home", "--user", "u-1"], {"name": "Home"}),
        (["group", "--group", "g-1", "--user", "u-1"], {"groupId": "g-1", "traits": {}}),
        (["alias", "--previous", "a-1", "--user", "u-1"], {"previousId": "a-1", "userId": "u-1"}),
    ],
)
async def test_every_type_has_its_fields(args: list[str], expected: dict[str, object]) -> None:
    async with open_sink() as sink:
        result = await run("--url", sink.url, "--write-key", "wk", *args)
    assert result.exit_code == 0, result.output
    (event,) = events(sink.requests)
    assert event["type"] == args[0]
    assert event | expected == event


async def test_an_event_without_a_user_has_an_anonymous_id() -> None:
    async with open_sink() as sink:
        for _ in range(2):
            await run("--url", sink.url, "--write-key", "wk", "track", "--event", "X")
    first, second = events(sink.requests)
    assert first["anonymousId"] != second["anonymousId"]
    assert first["messageId"] != second["messageId"]


@pytest.mark.parametrize("source", ["file", "stdin"])
async def test_a_file_goes_out_in_batches_its_events_unchanged(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "BATCH_EVENTS", 2)
    lines = [b'{"type":"track","messageId":"m-%d","x":[1, 2]}' % number for number in range(5)]
    data = b"\n\n".join(lines) + b"\r\n"
    file = trio.Path(tmp_path / "events.jsonl")
    await file.write_bytes(data)
    async with open_sink() as sink:
        result = await run(
            "--url",
            sink.url,
            "--write-key",
            "wk",
            "--json",
            "--file",
            "-" if source == "stdin" else str(file),
            stdin=data,
        )
    assert result.exit_code == 0, result.output
    assert [line for request in sink.requests for line in request.events] == lines
    assert [len(request.events) for request in sink.requests] == [2, 2, 1]
    assert [json.loads(line) for line in result.output.splitlines()] == [
        {"status": 200, "events": count, "answer": {"success": True}} for count in (2, 2, 1)
    ]


async def test_large_events_make_small_batches() -> None:
    async with open_sink() as sink:
        data = b"\n".join(b'{"messageId":"m-%d","x":"%s"}' % (number, b"x" * 200_000) for number in range(3))
        result = await run("--url", sink.url, "--write-key", "wk", "--file", "-", stdin=data)
    assert result.exit_code == 0, result.output
    assert [len(request.events) for request in sink.requests] == [2, 1]


async def test_a_line_that_is_no_event_is_named() -> None:
    async with open_sink() as sink:
        result = await run(
            "--url",
            sink.url,
            "--write-key",
            "wk",
            "--file",
            "-",
            stdin=b'{"messageId":"m-1"}\n{}\n[1]\n{"messageId":"m-2"}\n',
        )
    assert result.exit_code == 1
    assert "<stdin>:3: not an event" in result.output
    assert sink.accepted == {}, "the batch that the line belongs to is not sent"
    assert "events taken before: 0" in result.output


async def test_a_refusal_is_shown_with_what_was_taken_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "BATCH_EVENTS", 1)
    faults = Faults(share=0.5, status=429, retry_after=7)
    ids = [f"m-{number}" for number in range(100)]
    good = next(each for each in ids if not faults.fault(each, 1))
    bad = next(each for each in ids if faults.fault(each, 1))
    async with open_sink(faults=faults) as sink:
        data = b"".join(b'{"messageId":"%s"}\n' % each.encode() for each in (good, bad, good))
        result = await run("--url", sink.url, "--write-key", "wk", "--file", "-", stdin=data)
    assert result.exit_code == 1
    assert "the relay answered 429; it asks to wait 7 s before the next try; events taken before: 1" in result.output
    assert len(sink.requests) == 2


async def test_an_answer_that_is_none_is_told() -> None:
    async with open_sink(faults=Faults(share=1, kinds=("garbage",))) as sink:
        result = await run("--url", sink.url, "--write-key", "wk", "track", "--event", "X")
    assert result.exit_code == 1
    assert "did not answer properly" in result.output


async def test_when_nobody_listens_the_message_says_what_to_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = await run("--url", f"http://127.0.0.1:{port}", "--write-key", "wk", "track", "--event", "X")
    assert result.exit_code == 1
    assert f"no relay listens at http://127.0.0.1:{port}" in result.output
    assert "relayd run" in result.output


async def test_bind_and_write_key_come_from_the_configuration(configured: Callable[[str, str], str]) -> None:
    async with open_sink() as sink:
        config = configured(sink.url[7:-1], '[sources.web]\nwrite_key = "wk-web"\n')
        result = await run("-c", config, "track", "--event", "X")
    assert result.exit_code == 0, result.output
    assert key_of(sink.requests[0]) == "wk-web:"


async def test_a_source_that_takes_webhooks_is_not_meant(configured: Callable[[str, str], str]) -> None:
    hook = '[sources.hook]\ntype = "cloud_app"\napp = "webhook"\nsettings.secret = "hook-secret"\nmapping = {}\n'
    async with open_sink() as sink:
        config = configured(sink.url[7:-1], f'{hook}[sources.web]\nwrite_key = "wk-web"\n')
        assert (await run("-c", config, "track", "--event", "X")).exit_code == 0
        refused = await run("-c", config, "--source", "hook", "track", "--event", "X")
    assert refused.exit_code == 2
    assert "takes webhooks at /v1/sources/hook" in refused.output


async def test_of_several_sources_one_must_be_named(configured: Callable[[str, str], str]) -> None:
    sources = '[sources.web]\nwrite_key = "wk-web"\n[sources.app]\nwrite_key = "wk-app"\n'
    async with open_sink() as sink:
        config = configured(sink.url[7:-1], sources)
        undecided = await run("-c", config, "track", "--event", "X")
        unknown = await run("-c", config, "--source", "tv", "track", "--event", "X")
        decided = await run("-c", config, "--source", "app", "track", "--event", "X")
        overridden = await run("-c", config, "--write-key", "wk", "track", "--event", "X")
    assert undecided.exit_code == unknown.exit_code == 2
    assert "say which --source sends; enabled are: web, app" in undecided.output
    assert "there is no source 'tv'" in unknown.output
    assert decided.exit_code == overridden.exit_code == 0
    assert [key_of(request) for request in sink.requests] == ["wk-app:", "wk:"]


async def test_a_relay_on_a_unix_socket_is_reached(tmp_path: Path, configured: Callable[[str, str], str]) -> None:
    path = tmp_path / "relay.sock"
    async with open_sink(f"unix:{path}") as sink:
        config = configured(f"unix:{path}", '[sources.web]\nwrite_key = "wk"\n')
        result = await run("-c", config, "track", "--event", "X")
        assert result.exit_code == 0, result.output
    assert sink.statistics().accepted_events == 1


async def test_a_unix_socket_that_nobody_listens_on_is_named(
    tmp_path: Path, configured: Callable[[str, str], str]
) -> None:
    """In a process of its own: httpcore leaves the socket that did not connect to the garbage collector."""
    path = tmp_path / "relay.sock"
    config = configured(f"unix:{path}", '[sources.web]\nwrite_key = "wk"\n')
    argv = [sys.executable, "-m", "relayd", "send", "-c", config, "track", "--event", "X"]
    result = await trio.run_process(argv, capture_stderr=True, check=False)
    assert result.returncode == 1
    assert f"no relay listens at unix:{path}" in result.stderr.decode()


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:8088", "http://127.0.0.1:8088"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("[2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ("relay.example:80", "http://relay.example:80"),
    ],
)
def test_an_address_to_bind_is_one_to_connect_to(bind: str, url: str) -> None:
    assert str(send.Relay.of(Listener(bind=bind))) == url
    assert isinstance(address.parse(bind), address.Tcp)


def test_a_relay_with_tls_is_reached_by_its_own_certificate() -> None:
    relay = send.Relay.of(
        Listener(bind="0.0.0.0:443", tls_certificate="/etc/relayd/tls.pem", tls_key="/etc/relayd/tls.key")
    )
    assert (relay.url, relay.certificate) == ("https://127.0.0.1:443", "/etc/relayd/tls.pem")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "either a TYPE"),
        (["track", "--event", "X", "--file", "-"], "either a TYPE"),
        (["track"], "--event NAME"),
        (["wave"], "wave"),
        (["track", "--event", "X", "--property", "novalue"], "KEY=VALUE"),
        (["track", "--event", "X", "--property", "=v"], "KEY=VALUE"),
        (["track", "--event", "X", "--url", "localhost:8088"], "http://HOST:PORT"),
        (["--file", "/nowhere/events.jsonl"], "No such file"),
    ],
)
async def test_wrong_usage_is_2_and_says_what_is_right(args: list[str], why: str) -> None:
    result = await run("--write-key", "wk", *args)
    assert result.exit_code == 2
    assert why in result.output


async def test_without_a_write_key_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "USUAL", ())
    result = await run("track", "--event", "X")
    assert result.exit_code == 2
    assert "--write-key" in result.output
