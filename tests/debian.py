"""Tools that come with a package of Debian's, for tests that can not do without them."""

import os
import shutil
import subprocess
from functools import cache

import pytest


@cache
def tool(package: str, *binaries: str) -> str:
    """The path of the first of ``binaries`` that is there. In CI ``package`` brings it, else the test is skipped."""
    found = _find(binaries)
    if found is None and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", package)
        found = _find(binaries)
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{binaries[0]} is missing and can not be installed, and in CI nothing is skipped")
    pytest.skip(f"{binaries[0]} is not installed; `apt-get install {package}` brings it")


def _find(binaries: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, binaries)), None)


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-q", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"apt-get {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
