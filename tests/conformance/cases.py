"""The cases that Segment's own engines answered, where they are at hand: ``../shared/cases`` beside the repository."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

_FOLDER = Path(__file__).parents[3] / "shared" / "cases"


def cases(name: str) -> list[dict[str, Any]]:
    """The rows of one file; skips the test where the folder is absent."""
    path = _FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no {path}: the cases are not part of the repository")
    rows = msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    assert rows
    return rows
