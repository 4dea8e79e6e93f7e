"""``relayd catalog``, as a user runs it."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from relayd.cli import main
from relayd.config import schema
from relayd.destinations import CATALOG
from relayd.destinations.quick_info import METHODS, QuickInfo, quick_info


def catalog(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["catalog", *arguments], catch_exceptions=False)


def lines(result: Result) -> dict[str, str]:
    """The lines of the output by their first words."""
    assert result.exit_code == 0, result.output
    return {line.split()[0]: " ".join(line.split()) for line in result.stdout.splitlines() if line.strip()}


@pytest.fixture(autouse=True)
def _without_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_types_are_listed() -> None:
    shown = lines(catalog())
    assert shown.keys() >= CATALOG.keys()
    assert shown["webhook"] == "webhook Webhook track identify page screen group alias 1 0 cloud"
    assert shown["amplitude"] == "amplitude Amplitude track identify page screen group alias 6 5 cloud"
    assert shown["device"].endswith("0 0 device")


@pytest.mark.parametrize("name", ["webhook", "Webhook", "WEBHOOK", "Actions Webhook"])
def test_a_type_is_found_by_its_names(name: str) -> None:
    shown = catalog(name).stdout
    assert shown.startswith("Webhook: Calls a URL with events as JSON.\n")


def test_the_quick_info_has_all_that_a_configuration_needs() -> None:
    text = catalog("amplitude").stdout
    shown = " ".join(text.split())
    assert "connection modes web: cloud; mobile: cloud; server: cloud" in shown
    assert "without subscriptions it has its presets, for track, identify, page, screen" in shown
    assert "apiKey a string required secret" in shown
    assert (
        "Action logEventV2: Log Event V2, 100 events a request, at most 2,000 and 1,000,000 bytes, of equal " in shown
    )
    assert 'event_type string yes {"@path":"$.event"}' in shown
    assert 'Order Completed Calls logPurchase type = "track" and event = "Order Completed"' in shown
    assert "events are passed on as they are, 100 events a request, at most 2,500" in " ".join(
        catalog("segment").stdout.split()
    )


def test_a_typing_error_is_2_with_the_nearest_name() -> None:
    result = catalog("amplitud")
    assert (result.exit_code, result.stdout) == (2, "")
    assert 'there is no type "amplitud"; did you mean "amplitude"?' in result.stderr
    assert catalog("webhook", "--matrix", "modes").exit_code == 2
    assert catalog("--matrix", "colours").exit_code == 2


def test_the_matrix_of_methods_says_what_works_at_once() -> None:
    shown = lines(catalog("--matrix", "methods"))
    assert shown["type"].split()[1:] == list(METHODS)
    assert shown["webhook"].split()[1:] == ["yes"] * 6
    assert shown["slack"].split()[1:] == ["subscription"] * 6
    assert shown["amplitude"].split()[1:] == ["yes"] * 4 + ["subscription"] * 2
    assert shown["device"].split()[1:] == ["device"] * 6


def test_the_matrix_of_modes_is_by_the_type_of_source() -> None:
    shown = lines(catalog("--matrix", "modes"))
    assert shown["type"].split()[1:] == ["web", "mobile", "server", "cloud_app", "function"]
    assert shown["webhook"].split()[1:] == ["cloud"] * 5
    assert shown["device"].split()[1:] == ["device", "device", "-", "-", "-"]


def test_json_has_all_of_it() -> None:
    infos = msgspec.json.decode(catalog("--json").stdout, type=list[QuickInfo])
    assert [each.type for each in infos] == sorted(CATALOG)
    assert msgspec.json.decode(catalog("http", "--json").stdout, type=QuickInfo) in infos
    assert json.loads(catalog("--matrix", "methods", "--json").stdout)["webhook"] == list(METHODS)
    assert json.loads(catalog("--matrix", "modes", "--json").stdout)["webhook"]["web"] == ["cloud"]


@pytest.mark.parametrize("type_", sorted(CATALOG))
def test_nothing_of_a_type_is_left_out(type_: str) -> None:
    destination = CATALOG[type_]
    info = quick_info(destination)
    assert info.title
    assert info.description
    assert [each.name for each in info.settings] == list(schema.keys(destination.settings))
    assert all(each.explanation for each in info.settings)
    assert [each.name for each in info.actions] == list(destination.actions)
    assert [each.name for each in info.presets] == [each.name for each in destination.presets]
    assert set(info.at_once) <= set(info.methods)
    assert all(each.methods for each in info.presets), "a preset that no event can match"
    text = " ".join(catalog(type_).stdout.split())
    for action in info.actions:
        assert action.title in text
        assert [each.name for each in action.fields] == list(destination.actions[action.name].fields)
    for name in (*(each.name for each in info.settings), *(each.name for each in info.presets)):
        assert name in text
