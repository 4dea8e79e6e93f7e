"""A directory with configurations in it, and a destination type of our own."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import field

from relayd.config.errors import ConfigError, Keys
from relayd.config.load import Loaded, load
from relayd.config.model import Destination, Section, doc, secret
from relayd.config.units import Size


class Key(Section, frozen=True):
    """A table in an array."""

    id: Annotated[str, doc("its name", min_length=1)]
    weight: Annotated[float, doc("from 0 to 1", ge=0, le=1)] = 1.0


class Hook(Section, frozen=True, kw_only=True):
    """Settings with a value of every kind."""

    url: Annotated[str, doc("where it goes")]
    token: Annotated[str, secret("who we are", min_length=8)] | None = None
    pin: Annotated[int | None, secret("a number", le=9999)] = None
    headers: Annotated[dict[str, str], secret("more headers")] = field(default_factory=dict)
    method: Annotated[Literal["GET", "POST"], doc("how")] = "POST"
    version: Annotated[Literal[1, 2], doc("of the protocol")] = 1
    codes: Annotated[tuple[int, ...], doc("which answers are well", min_length=1)] = (200,)
    name: Annotated[str, doc("a slug", pattern="^[a-z]+$", max_length=5)] = "hook"
    limit: Annotated[Size | Literal["none"], doc("how much")] = "none"
    keys: Annotated[list[Key], doc("some keys")] = field(default_factory=list)
    extra: Annotated[dict[str, object], doc("anything")] = field(default_factory=dict)


def complain(destination: Destination) -> Iterable[tuple[Keys, str]]:
    if isinstance(destination.settings, Hook) and not destination.settings.url.startswith("https:"):
        yield ("settings", "url"), f"{destination.settings.url} is not https"
    if (destination.delivery.batch_size or 0) > 100:
        yield ("delivery", "batch_size"), "must be at most 100"


@pytest.fixture
def environ() -> dict[str, str]:
    return {}


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> Callable[..., Loaded]:
    """Writes the files (the first is relayd.toml) and loads them; paths are relative to their directory."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(text: str, **files: str) -> Loaded:
        for name, content in {"relayd.toml": text, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return load("relayd.toml", settings={"hook": Hook, "other": Section}, environ=environ, check=complain)

    return write_and_load


@pytest.fixture
def problems(loaded: Callable[..., Loaded]) -> Callable[..., list[str]]:
    """The same for what must not load: the lines that a user sees."""

    def lines(text: str, **files: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(text, **files)
        assert str(caught.value) == "\n".join(map(str, caught.value.problems))
        return str(caught.value).split("\n")

    return lines
