"""``relayd privacy``: what users type, and what they see."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from relayd.cli import main
from tests.privacy.stage import Stage, event, stage, traces

ADA, BOB = "ada-lovelace", "bob"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as scene:
        await scene.send(event(user, number) for number in range(5) for user in (ADA, BOB))
        await scene.read()
        yield scene


async def run(scene: Stage, *arguments: str, stdin: str | None = None) -> Result:
    """What the command does on the stage's relay."""
    words = ["privacy", arguments[0], "-c", str(scene.relay.config), *arguments[1:]]
    return await trio.to_thread.run_sync(lambda: CliRunner().invoke(main, words, input=stdin))


async def test_a_user_is_suppressed_and_deleted_and_the_table_says_so(scene: Stage) -> None:
    done = await run(scene, "suppress", ADA, "--and-delete", "--wait")
    assert done.exit_code == 0, done.output
    header, _, row = done.stdout.splitlines()
    assert header.split() == [
        *("regulation", "type", "users", "asked", "for", "status", "done"),
        *("events", "deleted", "deliveries", "removed"),
    ]
    assert row.split()[1:3] == ["SUPPRESS_WITH_DELETE", "1"]
    assert row.split()[4:] == ["FINISHED", "100%", "5", "10"]
    assert traces(scene.relay.state, [ADA]) == []
    listed = await run(scene, "list", "--user", ADA)
    assert f"{ADA} is suppressed" in listed.stdout
    await run(scene, "unsuppress", ADA, "--wait")
    assert f"{ADA} is not suppressed" in (await run(scene, "list", "--user", ADA)).stdout


async def test_explain_says_that_a_user_is_suppressed(scene: Stage) -> None:
    words = ["explain", "good", "--message-id", f"{ADA}:1", "-c", str(scene.relay.config)]
    assert (await trio.to_thread.run_sync(lambda: CliRunner().invoke(main, words))).exit_code == 0
    await run(scene, "suppress", ADA, "--wait")
    done = await trio.to_thread.run_sync(lambda: CliRunner().invoke(main, words))
    assert done.exit_code == 1
    assert "SUPPRESSED_USER" in done.stdout


async def test_delete_takes_ids_from_a_file_and_prints_json(scene: Stage) -> None:
    done = await run(scene, "delete", "--from", "-", ADA, "--wait", "--json", stdin=f"{BOB}\n\n{ADA}\n")
    (regulation,) = json.loads(done.stdout)
    assert (regulation["status"], regulation["users"], regulation["events"]) == ("FINISHED", 2, 10)
    assert json.loads((await run(scene, "list", "--json")).stdout) == [regulation]
    assert traces(scene.relay.state, [ADA, BOB]) == []


async def test_more_ids_than_one_regulation_names_become_several(scene: Stage) -> None:
    ids = "\n".join(f"user-{number}" for number in range(5001))
    done = await run(scene, "suppress", "--from", "-", "--json", stdin=ids)
    assert [each["users"] for each in json.loads(done.stdout)] == [5000, 1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("suppress",), "name at least one userId"),
        (("delete", ""), "a userId is empty"),
        (("suppress", "ada", "--forward"), "--with-anonymous and --forward go with --and-delete"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(main, ["privacy", *arguments])
    assert done.exit_code == 2
    assert says in done.output


def test_without_a_daemon_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "relayd.toml").write_text(f'daemon.state_dir = "{tmp_path}/state"\n[sources.app]\nwrite_key = "k"\n')
    done = CliRunner().invoke(main, ["privacy", "list", "-c", str(tmp_path / "relayd.toml")])
    assert done.exit_code == 1
    assert "start it with `relayd run`" in done.output
