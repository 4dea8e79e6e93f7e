"""The README's commands work as printed, one after the other."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_TO_CI = ("scripts/check && scripts/test\n",)
"""What this test is part of."""


def blocks() -> list[tuple[str, str]]:
    """Language and text of the README's blocks, in order."""
    found = [(match[1], match[2]) for match in BLOCK.finditer((ROOT / "README.md").read_text())]
    return [(language, text) for language, text in found if text not in LEFT_TO_CI]


def script() -> str:
    """All blocks as one bash script, which ends what it started; a daemon that was started is waited for."""
    parts = ["set -euo pipefail -m", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for language, text in blocks():
        if language == "python":
            text = f".venv/bin/python <<'PYTHON'\n{text}PYTHON\n"
        parts.append(f"echo '--- README: {text.splitlines()[0].replace(chr(39), '')}'\n{text}")
        if re.search(r"relayd run.*&\n", text):
            parts.append(
                "for _ in $(seq 100); do .venv/bin/relayd status -c my.toml >/dev/null 2>&1 && break; sleep 0.1; done"
            )
    return "\n".join(parts)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project's files as they are, with this environment, which they must not find out of date and change."""
    subprocess.run([ROOT / "scripts" / "environment"], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)  # times too: they tell that the environment is up to date
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def test_every_command_works_as_printed(checkout: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", script()], cwd=checkout, env=os.environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "100.00%" in done.stdout
    assert done.stdout.count("Order Completed") >= 3
    assert (checkout / "state" / "lake.jsonl").read_text().count("\n") == 6


def test_the_files_it_names_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (ROOT / name).exists(), name
