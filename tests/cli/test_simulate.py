"""``relayd simulate``, as a user runs it."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from relayd.cli import chart, main
from relayd.delivery.schedule import POLICIES

FEW = ("--events", "500")


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *arguments], catch_exceptions=False)


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


@pytest.fixture(autouse=True)
def _without_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_published_example_is_the_default() -> None:
    shown = lines(simulate())
    assert shown[0] == (
        "The destination accepts 93.36% of first attempts, is down 6.64% of the time, 29.2m on average (published)"
    )
    assert shown[1] == "20,000 events, seed 0, followed for 2d"
    (row,) = (line for line in shown if line.startswith("segment"))
    assert row.startswith("segment 93.36% 99.28% ")
    assert simulate("--success-rate", "0.9336", "--outages", "published", "--policy", "segment").output == (
        simulate().output
    )


def test_all_policies_are_compared_in_a_table_and_a_plot() -> None:
    shown = lines(simulate("--all", *FEW))
    for name in POLICIES:
        row, plotted = (line for line in shown if line.startswith(f"{name} "))
        assert row.split()[1] == plotted.split()[1] == "93.40%"
        assert row.split()[2] == plotted.split()[-1]
    assert shown[-1] == "1s 10s 1m 10m 1h 4h 1d"


def test_json_has_the_figures_of_the_status_page_and_more() -> None:
    answer = json.loads(simulate("--policy", "go", "--policy", "node", "--seed", "3", "--json", *FEW).stdout)
    assert answer["seed"] == 3
    assert answer["destination"] == {"success_rate": 0.9336, "outages": {"mean": 1751, "share": 1}, "refused": 0}
    assert list(answer["policies"]) == ["go", "node"]
    go = answer["policies"]["go"]
    assert go["deliverability"] == {"first_attempt": 467 / 500, "final": go["delivered"] / 500}
    assert go["delivered"] + go["failed"]["EXPIRED"] + go["pending"] == 500
    assert go["delay_s"].keys() == {"p50", "p95", "p99"}
    assert go["delivered_by"][-1] == [48 * 3600, go["deliverability"]["final"]]
    assert go["attempts_per_event"] > answer["policies"]["node"]["attempts_per_event"] > 1


def test_the_model_can_be_given() -> None:
    shown = lines(simulate("--success-rate", "0.8", "--outages", "10m:0.5", "--refused", "0.01", *FEW))
    assert shown[0] == (
        "The destination accepts 80.00% of first attempts, refuses 1.00% of events, "
        "is down 9.60% of the time, 10.0m on average, else fails 10.61% of requests"
    )


def test_the_svg_says_what_it_shows_and_joins_what_is_the_same(tmp_path: Path) -> None:
    lines(simulate("--all", "--svg", "plot.svg", *FEW))
    root = ElementTree.fromstring((tmp_path / "plot.svg").read_text(encoding="utf-8"))
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "clojure, java" in texts
    assert "segment" in texts
    assert {"1s", "1m", "1d"} <= set(texts)
    description = root.findtext("{http://www.w3.org/2000/svg}desc")
    assert description is not None
    assert description.startswith("In the end segment: 99.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--outages", "often"), "'often' is not none, published, a mean length such as 10m, or 10m:0.5"),
        (("--outages", "0s"), "'0s' is not none"),
        (("--outages", "10m:2"), "'10m:2' is not none"),
        (("--outages", "10m:half"), "'10m:half' is not none"),
        (("--success-rate", "0"), "0.0 is not in the range 0<x<=1"),
        (("--policy", "cobol"), "'cobol' is not one of"),
        (("--refused", "0.2"), "a success rate of 0.9336 is impossible when 0.2 of the events are refused"),
    ],
)
def test_wrong_usage_is_told_and_exits_with_2(arguments: tuple[str, ...], said: str) -> None:
    result = simulate(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_file_that_can_not_be_written_is_told() -> None:
    result = simulate("--svg", "missing/plot.svg", *FEW)
    assert result.exit_code == 1
    assert "can not write missing/plot.svg: No such file or directory" in result.output


@pytest.mark.parametrize("width", [40, 60, 100])
@pytest.mark.parametrize("first", [0.0, 0.5, 0.99999, 1.0])
def test_plots_keep_within_their_width(width: int, first: float) -> None:
    points = [(0.001, first), (30.0, (1 + first) / 2), (172800.0, 1.0)]
    area = chart.area(points, width=width)
    assert max(map(len, area.splitlines())) <= width
    assert "█" in area
    rows = chart.rows({"a": points, "longer": points}, width=width)
    assert max(map(len, rows.splitlines())) <= width
    svg = chart.svg("a < b & c", {"a": points, "b": points})
    assert ElementTree.fromstring(svg).findtext("{http://www.w3.org/2000/svg}title") == "a < b & c"
    assert "nan" not in svg


def test_curves_of_nothing_are_flat() -> None:
    assert "█" not in chart.area([(172800.0, 0.0)], width=60)
