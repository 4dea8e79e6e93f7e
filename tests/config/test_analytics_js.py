"""``listener.analytics_js`` is the npm package or its dist/umd, and what it is not is told."""

from pathlib import Path

import pytest

from relayd.config.analytics_js import find


@pytest.fixture
def package(tmp_path: Path) -> Path:
    umd = tmp_path / "package" / "dist" / "umd"
    umd.mkdir(parents=True)
    (umd / "standalone.js").write_text('window.analyticsWriteKey = "__WRITE_KEY__"')
    return tmp_path / "package"


def test_the_package_and_its_folder_are_found(package: Path) -> None:
    assert find(str(package)) == find(str(package / "dist" / "umd")) == package / "dist" / "umd"


def test_another_folder_is_refused_with_what_to_do(package: Path, tmp_path: Path) -> None:
    for other in (tmp_path, package / "dist", tmp_path / "missing", package / "dist" / "umd" / "standalone.js"):
        with pytest.raises(ValueError, match=r"has no standalone\.js; `npm install @segment/analytics-next`"):
            find(str(other))


def test_a_script_without_a_place_for_the_key_is_refused(package: Path) -> None:
    (package / "dist" / "umd" / "standalone.js").write_text("window.analyticsWriteKey = 'mine'")
    with pytest.raises(ValueError, match=r"standalone\.js has no place for a write key"):
        find(str(package))
