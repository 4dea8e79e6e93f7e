"""The annotated reference: valid, complete, and true to the defaults; and the file in ``conf/`` is it."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from relayd.cli.config import catalog, load_checked
from relayd.config import schema
from relayd.config.model import Config, Section
from relayd.config.reference import reference
from relayd.sources import declared

CONF = Path(__file__).parents[2] / "conf" / "relayd.toml"


@pytest.fixture
def text() -> str:
    return reference(catalog(), declared())


def uncommented(text: str, mark: str) -> str:
    return re.sub(rf"^{mark} (?=[\w.-]+ = |\[)", "", text, flags=re.MULTILINE)


def test_the_file_in_conf_is_the_reference(text: str) -> None:
    assert CONF.read_text() == text, "run: relayd check --reference > conf/relayd.toml"


def test_uncommenting_the_defaults_changes_nothing(text: str, tmp_path: Path) -> None:
    as_shipped, explicit = tmp_path / "shipped.toml", tmp_path / "explicit.toml"
    as_shipped.write_text(text)
    explicit.write_text(uncommented(text, "#"))
    assert not re.search(r"^# [\w.-]+ = ", explicit.read_text(), re.MULTILINE)
    assert load_checked(explicit).config == load_checked(as_shipped).config


def test_uncommenting_the_examples_too_is_valid_and_has_every_key(text: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole.toml"
    whole.write_text(uncommented(uncommented(text, "##"), "#"))
    loaded = load_checked(whole)
    assert loaded.warnings == ()
    tree = tomllib.loads(whole.read_text())
    assert missing(Config, tree) == []
    first, *others = catalog()
    assert set(loaded.config.destinations) == {first, *others}
    for name, settings in catalog().items():
        assert tree["destinations"][name]["settings"].keys() == schema.keys(settings).keys()


def missing(section: type[Section], table: Mapping[str, object], at: str = "") -> list[str]:
    """The keys of the model that a document does not have; of many tables, those that no one of them has."""
    found = []
    for name, key in schema.keys(section).items():
        value = table.get(name)
        if value is None:
            found.append(f"{at}{name}")
            continue
        inner = key.section
        if inner is None:
            entries = [each for each in get_args(key.holds) if isinstance(each, type) and issubclass(each, Section)]
            if not entries or entries == [Section]:
                continue
            inner = entries[0]
            tables: list[dict[str, object]] = value if isinstance(value, list) else [*value.values()]  # type: ignore[attr-defined]
            value = {name: each for one in tables for name, each in one.items()}
        assert isinstance(value, dict)
        found += missing(inner, value, f"{at}{name}.")
    return found


def test_every_line_has_its_explanation_and_fits(text: str) -> None:
    body = text.split("\n\n", 1)[1]
    for line in filter(None, body.split("\n")):
        assert " # " in line or line.startswith("#   "), line
        assert len(line) <= 120, line
