"""A deleted user is gone from the archive's copies too, also from what retention let go of here."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import obstore
import pytest
import pyzstd
import trio
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from tests.privacy.stage import event, stage, traces

ADA, BOB = "ada-lovelace", "bob"
S3 = """
[archive.s3]
bucket = "people"  # moto keeps one set of buckets for all tests
prefix = "relayd"
endpoint = "{endpoint}"
access_key_id = "AKID"
secret_access_key = "shh-shh"
"""


@pytest.fixture
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    httpx.put(f"{endpoint}/people", trust_env=False).raise_for_status()
    yield endpoint
    server.stop()


def stored(endpoint: str) -> dict[str, bytes]:
    """What each object in the bucket holds, inflated, by its name."""
    settings = {"endpoint": endpoint, "region": "us-east-1", "access_key_id": "AKID", "secret_access_key": "shh-shh"}
    store = S3Store("people", config=settings, client_options={"allow_http": True})  # type: ignore[arg-type]
    return {
        each["path"]: pyzstd.decompress(bytes(obstore.get(store, each["path"]).bytes()))
        for page in obstore.list(store)
        for each in page
    }


async def test_no_copy_has_anything_of_a_deleted_user(tmp_path: Path, moto: str) -> None:
    async with stage(tmp_path, more=S3.format(endpoint=moto)) as scene:
        await scene.send(event(user, number) for number in range(150) for user in (ADA, BOB))
        await scene.read()

        def are_copied() -> bool:
            return len(stored(moto)) == len(list(scene.relay.state.glob("archive/*/*.zst"))) > 3

        with trio.fail_after(30):
            while not await trio.to_thread.run_sync(are_copied):  # noqa: ASYNC110
                await trio.sleep(0.1)
        assert await scene.relay.stop() == 0
        before = stored(moto)
        first, second, *_ = sorted(scene.relay.state.glob("archive/*/*.zst"))
        for path in (first, second):  # as retention does
            path.unlink()
            for copy in scene.relay.state.glob(f"archive/segment-logs/*/*/{path.name.partition('.')[0]}.gz"):
                copy.unlink()
        await scene.relay.start()
        done = await scene.regulate("SUPPRESS_WITH_DELETE", ADA)
        assert (done["status"], done["failure"]) == ("FINISHED", None)
        assert traces(scene.relay.state, [ADA]) == []
        after = stored(moto)
        assert not any(ADA.encode() in data for data in after.values())
        assert before.keys() <= after.keys()
        for name, data in before.items():
            assert [line for line in data.splitlines() if b'"bob"' in line] == [
                line for line in after[name].splitlines() if line.strip()
            ]
            assert len(data) == len(after[name])
        assert not (scene.relay.state / "privacy").exists()
