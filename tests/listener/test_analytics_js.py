"""A first-party analytics.js: the files of one folder, and nothing else, to whom has a write key."""

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from relayd.listener import analytics_js
from relayd.listener.message import Request, Response
from tests.listener.test_tracking import relay

SCRIPT = "/analytics.js/v1/site-key/analytics.min.js"
CHUNK = "tool.bundle.0123456789abcdef0123.js"
BODY = b'window.analyticsWriteKey = "__WRITE_KEY__"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "umd"
    found.mkdir()
    (found / "standalone.js").write_bytes(BODY)
    (found / CHUNK).write_bytes(b"chunk()")
    (found / f"{CHUNK}.map").write_bytes(b"{}")
    (found / "index.js").write_bytes(b"index()")
    (found / "notes.txt").write_bytes(b"secret")
    (found / "folder.js").mkdir()
    (tmp_path / "outside.js").write_bytes(b"secret")
    return found


def headers(response: Response) -> dict[str, str]:
    return dict(response.headers)


async def get(root: Path, folder: Path, path: str, method: str = "GET", **request: str) -> Response:
    """The answer of a listener that serves the folder."""
    sent = {name.replace("_", "-"): value for name, value in request.items()}
    async with relay(root / "state", analytics_js=str(folder)) as server:
        return await server.get(path, "", method, **sent)


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()


async def test_the_script_has_the_write_key_and_takes_the_rest_from_where_it_came(tmp_path: Path, folder: Path) -> None:
    answer = await get(tmp_path, folder, SCRIPT)
    assert answer.status == 200
    assert answer.body.endswith(b'window.analyticsWriteKey = "site-key"')
    assert b"a._cdn=a._cdn||s.src.split('/analytics.js/v1/')[0]" in answer.body
    found = headers(answer)
    assert found["Content-Type"] == "text/javascript; charset=utf-8"
    assert found["Cache-Control"] == "public, max-age=300"
    assert found["Vary"] == "Accept-Encoding"
    assert found["Access-Control-Allow-Origin"] == "*"
    assert "Content-Encoding" not in found
    assert (await get(tmp_path, folder, SCRIPT, "HEAD")).status == 200


async def test_bundles_may_be_kept_for_ever_when_their_name_says_what_is_in_them(tmp_path: Path, folder: Path) -> None:
    for name, body, kind, kept in (
        (CHUNK, b"chunk()", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        (f"{CHUNK}.map", b"{}", "application/json", "public, max-age=31536000, immutable"),
        ("index.js", b"index()", "text/javascript; charset=utf-8", "public, max-age=300"),
    ):
        answer = await get(tmp_path, folder, f"/analytics-next/bundles/{name}")
        assert (answer.status, answer.body) == (200, body)
        assert headers(answer)["Content-Type"] == kind
        assert headers(answer)["Cache-Control"] == kept
        assert headers(answer)["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/analytics-next/bundles/../outside.js",
        "/analytics-next/bundles/%2e%2e%2foutside.js",
        "/analytics-next/bundles/..%2foutside.js",
        "/analytics-next/bundles/%2e%2e/outside.js",
        "/analytics-next/bundles/..\\outside.js",
        "/analytics-next/bundles/..%5coutside.js",
        "/analytics-next/bundles//outside.js",
        "/analytics-next/bundles/.js",
        "/analytics-next/bundles/..js",
        "/analytics-next/bundles/notes.txt",
        "/analytics-next/bundles/notes.txt%00.js",
        "/analytics-next/bundles/folder.js",
        "/analytics-next/bundles/missing.js",
        f"/analytics-next/bundles/{'x' * 5000}.js",
        "/analytics-next/bundles/",
        "/analytics-next/bundles",
        "/analytics-next/outside.js",
        "/analytics.js/v1/site-key/standalone.js",
        "/analytics.js/v1/site-key/../../outside.js",
        "/analytics.js/v1/../outside.js",
        "/analytics.js/v1/site-key",
    ],
)
async def test_no_other_file_is_served(tmp_path: Path, folder: Path, path: str) -> None:
    answer = await get(tmp_path, folder, path)
    assert answer.status == 404
    assert b"not_found" in answer.body


@pytest.mark.parametrize("key", ["wrong", "", "site-key%00", "%2e%2e", "__WRITE_KEY__"])
async def test_an_unknown_write_key_gets_no_script(tmp_path: Path, folder: Path, key: str) -> None:
    answer = await get(tmp_path, folder, f"/analytics.js/v1/{key}/analytics.min.js")
    assert answer.status == 404
    assert b"unknown_source" in answer.body


async def test_without_a_folder_nothing_is_served(tmp_path: Path) -> None:
    async with relay(tmp_path / "state") as server:
        for path in (SCRIPT, f"/analytics-next/bundles/{CHUNK}"):
            assert (await server.get(path)).status == 404


async def test_posts_are_refused(tmp_path: Path, folder: Path) -> None:
    assert (await get(tmp_path, folder, SCRIPT, "POST")).status == 404


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
        ("xgzip", False),
    ],
)
async def test_gzip_is_for_whom_takes_it(tmp_path: Path, folder: Path, accepted: str, compressed: bool) -> None:
    plain = await get(tmp_path, folder, SCRIPT)
    answer = await get(tmp_path, folder, SCRIPT, accept_encoding=accepted)
    assert headers(answer).get("Content-Encoding") == ("gzip" if compressed else None)
    assert (gzip.decompress(answer.body) if compressed else answer.body) == plain.body
    assert (headers(answer)["ETag"] == headers(plain)["ETag"]) is not compressed


async def test_what_a_browser_has_is_not_sent_again_until_it_changes(tmp_path: Path, folder: Path) -> None:
    async with relay(tmp_path / "state", analytics_js=str(folder)) as server:
        tag = headers(await server.get(SCRIPT))["ETag"]
        for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await server.get(SCRIPT, **{"if-none-match": condition})
            assert (again.status, again.body) == (304, b"")
            assert headers(again)["ETag"] == tag
        assert (await server.get(SCRIPT, **{"if-none-match": '"other"'})).status == 200
        (folder / "standalone.js").write_bytes(BODY + b";updated()")
        changed = await server.get(SCRIPT, **{"if-none-match": tag})
        assert (changed.status, changed.body[-10:]) == (200, b";updated()")
        (folder / "standalone.js").unlink()
        assert (await server.get(SCRIPT)).status == 404


async def test_a_key_is_text_in_the_script_whatever_is_in_it(folder: Path) -> None:
    assets = analytics_js.Assets(folder)
    answer = await assets.script('"</script>\\\n', Request(method="GET", path="/"))
    assert answer is not None
    assert answer.body.endswith(b'Key = "\\"\\u003c/script>\\\\\\n"')


async def test_what_is_kept_is_bounded_and_the_newest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytics_js, "CACHED", 6000)
    assets = analytics_js.Assets(folder)
    request = Request(method="GET", path="/")
    names = [f"n{number}.js" for number in range(5)]
    for name in names:
        (folder / name).write_bytes(os.urandom(1000))
    for name in (*names, names[0], names[0]):
        answer = await assets.bundle(name, request)
        assert answer is not None
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256((folder / name).read_bytes()).digest()
    kept: Any = assets._cache
    assert [name for name, _ in kept] == ["n4.js", "n0.js"]
    assert assets._cached == sum(map(analytics_js._size, kept.values())) <= 6000
