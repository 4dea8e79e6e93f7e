"""``relayd explain``, as a user runs it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from relayd.cli import main
from relayd.delivery.eligibility import Match, Selection
from relayd.delivery.explanation import Explanation
from relayd.delivery.outbox import Hold, Outbox, Results, Retry
from tests.events import line

CONFIG = """\
daemon.state_dir = "state"
[sources.web]
write_key = "web-write-key"
[destinations.hook]
type = "webhook"
settings.url = "https://hooks.example/?token=${env:TOKEN}"
settings.sharedSecret = "shared-secret"
filters = [{if = 'event = "Noise"', drop = true}]
[destinations.orders]
type = "webhook"
settings.url = "https://hooks.example/orders"
[[destinations.orders.subscriptions]]
name = "Orders"
action = "send"
trigger = 'type = "track" and event = "Order Completed"'
mapping = {data = {"@path" = "$.properties"}}
[[destinations.orders.subscriptions]]
name = "Refunds"
action = "send"
trigger = 'event = "Order Refunded" or properties.total < 0'
mapping = {data = {"@path" = "$.properties"}}
"""
ORDER = {"type": "track", "event": "Order Completed", "userId": "ada", "properties": {"total": 9.5}, "messageId": "m-1"}
NOW = ("--now", "2026-11-24T10:00:00Z")
Explain = Callable[..., Result]


@pytest.fixture
def explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    """Runs ``relayd explain`` in a directory of its own, with `CONFIG` and the event `ORDER`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAYD_CONFIG", "relayd.toml")
    monkeypatch.setenv("TOKEN", "token-in-url")
    Path("relayd.toml").write_text(CONFIG)
    Path("event.json").write_text(json.dumps(ORDER, indent=2))

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["explain", *arguments], input=stdin, catch_exceptions=False)

    return run


def explained(result: Result) -> Explanation:
    return msgspec.json.decode(result.stdout, type=Explanation)


def test_it_shows_the_request_that_would_be_sent(explain: Explain) -> None:
    result = explain("orders", "event.json", *NOW)
    assert result.exit_code == 0
    assert result.stdout.endswith(
        """\
Subscriptions
  yes Orders (send): matches
      yes and
        yes type = 'track'    type is "track"
        yes event = 'Order Completed'    event is "Order Completed"
      payload
        {
          "data": {
            "total": 9.5
          }
        }
      request 1 of 1
        POST https://hooks.example/orders
        content-type: application/json
        user-agent: Segment (Actions)

        {
          "total": 9.5
        }
  NO  Refunds (send): does not match
      NO  or
        NO  event = 'Order Refunded'    event is "Order Completed"
        NO  properties.total < 0    properties.total is 9.5

It would be sent: 1 request
"""
    )


def test_what_is_in_the_way_is_the_last_line_and_the_exit_code(explain: Explain) -> None:
    result = explain("hook", "-", stdin=json.dumps(ORDER | {"event": "Noise"}))
    assert result.exit_code == 1
    assert "found in stdin" in result.stdout
    assert "filters[0] drop: the event is dropped" in result.stdout
    assert result.stdout.endswith("It would not be sent, FILTERED_BY_RULES: filters[0] drops it (drop)\n")
    result = explain("hook", "-", stdin=json.dumps(ORDER | {"integrations": {"Webhook": False}}))
    assert result.exit_code == 1
    assert "What follows is what would happen without that" in result.stdout
    assert "POST https://hooks.example/" in result.stdout
    assert result.stdout.endswith("FILTERED_BY_INTEGRATIONS_OBJECT: integrations: Webhook = false\n")


def test_secrets_are_not_shown(explain: Explain) -> None:
    for form in ((), ("--json",)):
        result = explain("hook", "event.json", *form)
        assert result.exit_code == 0
        assert "https://hooks.example/?token=[secret]" in result.stdout
        assert "x-signature" in result.stdout
        for secret in ("token-in-url", "shared-secret", "web-write-key"):
            assert secret not in result.stdout


def test_json_is_the_explanation_and_the_same_each_time(explain: Explain) -> None:
    result = explain("orders", "event.json", "--json", *NOW)
    told = explained(result)
    assert (told.sent, told.reason, told.destination, told.source) == (True, None, "orders", "web")
    assert [each.matches for each in told.subscriptions] == [True, False]
    assert told.subscriptions[0].requests[0].body == {"total": 9.5}
    assert explain("orders", "event.json", "--json", *NOW).stdout == result.stdout


def test_a_line_of_the_journal_is_taken_as_it_is(explain: Explain) -> None:
    kept = line(1, projectId="gone", extra=[1])
    result = explain("hook", "-", "--json", stdin=kept.decode())
    assert explained(result).event == json.loads(kept)
    assert explained(result).source == "gone"
    as_new = explained(explain("hook", "-", "--json", "--source", "web", *NOW, stdin=kept.decode()))
    assert isinstance(as_new.event, dict)
    assert (as_new.source, as_new.event["receivedAt"]) == ("web", "2026-11-24T10:00:00.000Z")


def test_disabled_destinations_and_sources_are_explained_too(explain: Explain) -> None:
    Path("relayd.toml").write_text(
        CONFIG.replace("[destinations.hook]", "[destinations.hook]\nenabled = false")
        + '[sources.off]\nwrite_key = "off-write-key"\nenabled = false\n'
    )
    told = explained(explain("hook", "event.json", "--source", "web", "--json"))
    assert (told.sent, told.reason) == (False, "DESTINATION_DISABLED")
    assert told.subscriptions[0].requests
    told = explained(explain("orders", "event.json", "--source", "off", "--json"))
    assert (told.sent, told.reason) == (False, "source_disabled")
    assert told.subscriptions[0].requests


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["hok", "event.json"], None, 'there is no destination "hok"; did you mean "hook"?'),
        (["hook"], None, "say either a file with an EVENT, or a --message-id"),
        (["hook", "event.json", "--message-id", "m-1"], None, "say either a file with an EVENT, or a --message-id"),
        (["hook", "event.json", "--source", "wbe"], None, 'there is no source "wbe"; did you mean "web"?'),
        (["hook", "--message-id", "m-1", "--source", "web"], None, "knows its source; leave --source out"),
        (["hook", "event.json", "--now", "soon"], None, "must be an ISO 8601 time"),
        (["hook", "-"], "[1]", "stdin is no JSON object"),
        (["hook", "-"], '{"batch": []}', "stdin is a batch; give one of its events"),
        (["hook", "nope.json"], None, "No such file"),
    ],
)
def test_wrong_usage_is_2(explain: Explain, arguments: list[str], stdin: str | None, message: str) -> None:
    result = explain(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_source_has_to_be_said_when_there_are_several(explain: Explain) -> None:
    Path("relayd.toml").write_text(CONFIG + '[sources.app]\nwrite_key = "app-write-key"\n')
    result = explain("hook", "event.json")
    assert result.exit_code == 2
    assert "say which --source sends it; there are: web, app" in result.stderr


def test_a_wrong_configuration_is_2(explain: Explain) -> None:
    Path("relayd.toml").write_text("[daemon]\nx = 1")
    assert explain("hook", "event.json").exit_code == 2


# -- events that relayd has ---------------------------------------------------------------------------------------


def outbox_with(path: Path, *subscriptions: str | None) -> Outbox:
    """The outbox of a destination that took in the event ``id-1`` for each of the subscriptions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    outbox = Outbox(path)
    outbox.start_at(0)
    matches = [Match("id-1", line(1).rstrip(), 1_795_514_400_000, None, each) for each in subscriptions]
    outbox.take_in(Selection(1, 1, matches, {}), 10, 1_795_514_400_000)
    return outbox


def test_an_event_that_waits_is_found_in_the_outbox(explain: Explain) -> None:
    outbox = outbox_with(Path("state/outbox/hook.sqlite3"), None)
    (delivery,) = outbox.load_new(0, 10, 10_000)
    retry = Retry(delivery, 1, 1_795_514_400_000, 1_795_514_460_000, "503", "shared-secret is wrong")
    outbox.record(Results([], [retry], [], [], {}), 1)
    result = explain("hook", "--message-id", "id-1")
    assert result.exit_code == 0
    assert "found in state/outbox/hook.sqlite3 (1 pending)" in result.stdout
    assert "Event, as the filters left it" in result.stdout
    assert (
        "pending after 1 attempt, next attempt at 2026-11-24T10:01:00.000Z, last failure 503 [secret] is wrong"
        in result.stdout
    )
    assert "POST https://hooks.example/?token=[secret]" in result.stdout
    stored = explained(explain("hook", "--message-id", "id-1", "--json")).subscriptions[0].stored
    assert stored is not None
    assert (stored.place, stored.due) == ("pending", "2026-11-24T10:01:00.000Z")
    outbox.close()


def test_a_dead_letter_is_not_sent_by_itself_but_its_request_is_shown(explain: Explain) -> None:
    outbox = outbox_with(Path("state/outbox/orders.sqlite3"), "Orders", "Refunds")
    first, _ = outbox.load_new(0, 10, 10_000)
    hold = Hold(first, 2, 1_795_514_400_000, 1_795_514_460_000, "400", "no")
    outbox.record(Results([], [], [hold], [], {"failed": 1, "failed:400": 1}), 1)
    told = explained(explain("orders", "--message-id", "id-1", "--json"))
    assert told.sent, "the other delivery still waits"
    assert [(each.name, each.stored and each.stored.place) for each in told.subscriptions] == [
        ("Refunds", "pending"),
        ("Orders", "dead letters"),
    ]
    second = next(each for each in outbox.load_new(0, 10, 10_000))
    outbox.record(Results([second], [], [], [], {"delivered": 1}), 2)
    outbox.close()
    result = explain("orders", "--message-id", "id-1")
    assert result.exit_code == 1
    assert "held as a dead letter since 2026-11-24T10:01:00.000Z after 2 attempts, last failure 400 no" in result.stdout
    assert "POST https://hooks.example/orders" in result.stdout
    assert "It would not be sent, 400: it is held as a dead letter" in result.stdout


def test_a_delivery_whose_subscription_is_gone_goes_to_the_first_that_matches(explain: Explain) -> None:
    outbox_with(Path("state/outbox/orders.sqlite3"), "Renamed").close()
    told = explained(explain("orders", "--message-id", "id-1", "--json"))
    assert [each.name for each in told.subscriptions] == ["Orders"]
    Path("relayd.toml").write_text(CONFIG.replace("Order Completed", "Other"))
    told = explained(explain("orders", "--message-id", "id-1", "--json"))
    assert (told.sent, told.reason) == (False, "MESSAGE_REJECTED")
    assert "its subscription has left the configuration" in told.why


def test_the_outbox_is_read_though_a_crash_left_its_log(explain: Explain, tmp_path: Path) -> None:
    outbox = outbox_with(tmp_path / "running" / "hook.sqlite3", None)
    shutil.copytree(tmp_path / "running", "state/outbox")
    assert Path("state/outbox/hook.sqlite3-wal").stat().st_size
    Path("state/outbox/hook.sqlite3-shm").unlink()
    assert explain("hook", "--message-id", "id-1").exit_code == 0
    outbox.close()


def journal(name: str, *lines: bytes) -> None:
    Path("state/journal").mkdir(parents=True, exist_ok=True)
    Path("state/archive").mkdir(exist_ok=True)
    Path("state/journal", f"{name:0>20}.jsonl").write_bytes(b"".join(lines))


def test_an_event_is_found_in_the_journal_newest_first(explain: Explain) -> None:
    old, new = line(1, event="Old"), line(1, event="New")
    others = line(2, note="id-1")
    journal("0", old, others)
    journal(str(len(old + others)), others, new, others, new[:-30])
    told = explained(explain("hook", "--message-id", "id-1", "--json"))
    assert told.found == f"the journal, at offset {len(old + others + others)}"
    assert isinstance(told.event, dict)
    assert told.event["event"] == "New"
    assert told.checks[0].reason == "DESTINATION_DISABLED"


def test_the_outbox_comes_before_the_journal(explain: Explain) -> None:
    journal("0", line(1))
    outbox_with(Path("state/outbox/hook.sqlite3"), None).close()
    assert "outbox" in explained(explain("hook", "--message-id", "id-1", "--json")).found
    assert "journal" in explained(explain("orders", "--message-id", "id-1", "--json")).found


def test_an_outbox_that_can_not_be_read_is_named_and_passed_over(explain: Explain) -> None:
    journal("0", line(1))
    Path("state/outbox").mkdir()
    Path("state/outbox/hook.sqlite3").write_bytes(b"no database, but longer than a header of one" * 100)
    result = explain("hook", "--message-id", "id-1")
    assert result.exit_code == 0
    assert "state/outbox/hook.sqlite3 can not be read" in result.stderr


def test_an_event_that_relayd_does_not_have_is_said_so(explain: Explain) -> None:
    for events in ((), (line(1),)):
        if events:
            journal("0", *events)
        result = explain("hook", "--message-id", "m-9")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no event has the messageId m-9" in result.stderr
    assert not Path("state/outbox").exists(), "looking changes nothing"
