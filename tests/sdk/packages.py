"""The SDKs that the tests run, each version in a folder of its own below .venv, installed when it is first needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "sdk"


def python_package(requirement: str) -> Path:
    """A folder for PYTHONPATH with a PyPI package and what it needs."""
    folder = FOLDER / requirement.replace("==", "-")
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), requirement], Path.cwd())
        (folder / ".complete").touch()
    return folder


def node_package(requirement: str) -> Path:
    """A folder whose node_modules have an npm package. Skips where there is no node or npm; in CI that is an error."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{tool} is missing, and in CI nothing is skipped")
            pytest.skip(f"{tool} is not installed")
    folder = FOLDER / requirement.strip("@").replace("/", "-").replace("@", "-")
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), requirement], folder)
        (folder / ".complete").touch()
    return folder


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
