"""Copies of the archive are made of everything that is sealed, come what may, and hold up neither log nor sealing."""

import gzip
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import obstore
import pytest
import trio
import trio.testing
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from relayd.cli.status import render
from relayd.config import model
from relayd.config.units import Size
from relayd.journal import copy as copy_module
from relayd.journal.bucket import Bucket
from relayd.journal.copy import Copy, CopyFailed, SegmentLogs, copies, least
from relayd.journal.layout import sizes
from relayd.journal.segment import Folders, Segment
from tests.events import line
from tests.journal.logs import at, make_log
from tests.journal.test_log import running
from tests.relay import Relay
from tests.test_daemon import post
from tests.waiting import until


class Shelf:
    """Keeps what is put there, unless it is told to fail."""

    name = "shelf"

    def __init__(self, place: str = "here") -> None:
        self.place = place
        self.has: list[int] = []
        self.fails = False

    def put(self, segment: Segment) -> None:
        if self.fails:
            raise CopyFailed("the shelf s3cret is full")
        assert segment.path.exists()
        self.has.append(segment.base)

    def rewrite(self, log: Folders, before: int, work: Callable[[Segment], bool], scratch: Path) -> None:
        raise AssertionError("nothing is deleted here")


@asynccontextmanager
async def copying(copy: Copy) -> AsyncIterator[None]:
    """A copy that runs, and is never told of a sealing."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(copy.run, trio.Event)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def log(tmp_path: Path) -> Folders:
    """Three sealed segments and one that is not."""
    return make_log(tmp_path, [[at(number)] for number in range(4)])


async def test_what_is_sealed_is_copied_once(log: Folders, tmp_path: Path) -> None:
    shelf = Shelf()
    first = Copy(shelf, log, tmp_path / "copies")
    async with copying(first):
        await until(lambda: first.up_to == log.raw()[0].base)
    copy = Copy(shelf, log, tmp_path / "copies")
    async with copying(copy):
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert shelf.has == [segment.base for segment in log.sealed()]
    status = copy.status()
    assert (status.place, status.waiting, status.last_failure) == ("here", 0, None)
    assert status.received_at is not None
    assert status.received_at.timestamp() == pytest.approx(log.sealed()[-1].path.stat().st_mtime)


async def test_a_failure_is_tried_again_until_it_succeeds(
    log: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_module, "FIRST_WAIT", 0.01)
    shelf = Shelf()
    shelf.fails = True
    copy = Copy(shelf, log, tmp_path / "copies", redact=lambda text: text.replace("s3cret", "***"))
    async with copying(copy):
        await until(lambda: copy.status().last_failure)
        assert copy.status().last_failure == "the shelf *** is full"
        assert (copy.status().waiting, copy.up_to) == (3, 0)
        shelf.fails = False
        await until(lambda: copy.up_to == log.raw()[0].base)
        assert copy.status().last_failure is None


@pytest.mark.parametrize("note", [b"", b"{", b'{"place":"there","up_to":99999,"received_at":null}'])
async def test_another_place_or_a_lost_note_begins_anew(log: Folders, tmp_path: Path, note: bytes) -> None:
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "shelf.json").write_bytes(note)
    shelf = Shelf()
    copy = Copy(shelf, log, tmp_path / "copies")
    async with copying(copy):
        await until(lambda: len(shelf.has) == 3)


async def test_a_segment_that_was_written_anew_is_copied_anew_whatever_happens(log: Folders, tmp_path: Path) -> None:
    shelf = Shelf()
    bases = [segment.base for segment in log.sealed()]
    copy = Copy(shelf, log, tmp_path / "copies")
    async with copying(copy):
        await until(lambda: copy.up_to == log.raw()[0].base)
    copy.again([bases[0], 77])
    restarted = Copy(shelf, log, tmp_path / "copies")
    assert restarted.behind() == {bases[0], 77}
    real = shelf.put

    def asked_meanwhile(segment: Segment) -> None:
        real(segment)
        if len(shelf.has) == 4:
            restarted.again(bases[:1])  # what was just copied may be what it was before

    shelf.put = asked_meanwhile  # type: ignore[method-assign]
    async with copying(restarted):
        await until(lambda: not restarted.behind())
        assert shelf.has == [*bases, bases[0], bases[0]]
        restarted.again(bases[1:2])  # while there is nothing to do
        await until(lambda: not restarted.behind(), 5)
    assert shelf.has[5:] == bases[1:2]
    assert restarted.up_to == log.raw()[0].base


async def test_a_damaged_segment_holds_up_nothing(log: Folders, tmp_path: Path) -> None:
    damaged = log.sealed()[1]
    damaged.path.write_bytes(b"rust" * 10)
    copy = Copy(SegmentLogs(log.layout), log, tmp_path / "copies")
    async with copying(copy):
        await until(lambda: copy.up_to == log.raw()[0].base)
    assert sorted(sizes(log.layout)) == [log.sealed()[0].base, log.sealed()[2].base]


async def test_a_segment_is_copied_as_it_is_sealed_and_kept_until_then(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.fails = True
    async with running(tmp_path, segment_size=Size(1024), max_size=Size(1)) as journal:
        copy = Copy(shelf, journal.folders, tmp_path / "copies")
        journal.floor = lambda: 10**9
        journal.uncopied = lambda: least([copy])
        for number in range(20):
            await journal.append(line(number), "web", 1)
        await until(lambda: len(journal.folders.raw()) == 1)
        sealed = journal.folders.sealed()
        assert sealed[0].base == 0
        shelf.fails = False
        async with copying(copy), trio.open_nursery() as nursery:
            nursery.start_soon(copy.run, journal.next_sealing)
            await until(lambda: copy.up_to == journal.folders.raw()[0].base)
            for number in range(20, 30):
                await journal.append(line(number), "web", 1)
            await until(lambda: copy.up_to == journal.folders.raw()[-1].base)
            nursery.cancel_scope.cancel()
        assert {segment.base for segment in sealed} <= set(shelf.has)


async def test_the_disk_reserve_comes_before_a_copy(tmp_path: Path) -> None:
    async with running(tmp_path, segment_size=Size(1024), max_size=Size(1), min_free=Size(2**60)) as journal:
        journal.floor = lambda: 10**9
        journal.uncopied = lambda: 0
        for number in range(20):
            await journal.append(line(number), "web", 1)
        await until(lambda: len(journal.folders.all()) == 1)


async def test_the_second_layout_counts_as_disk_use(tmp_path: Path) -> None:
    async with running(tmp_path, segment_size=Size(1024)) as journal:
        (copy,) = copies(model.Archive(segment_logs=True), journal.folders, tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy.run, journal.next_sealing)
            for number in range(20):
                await journal.append(line(number), "web", 1)
            await until(lambda: copy.up_to == journal.folders.raw()[-1].base > 1024)
            nursery.cancel_scope.cancel()
        sealed = len(journal.folders.sealed())
        await journal.append(line(20) * 6, "web", 6)  # seals once more, so that the archiver looks
        await until(lambda: len(journal.folders.sealed()) > sealed and len(journal.folders.raw()) == 1)
        beside = sum(sizes(journal.folders.layout).values())
        files = sum(segment.path.stat().st_size for segment in journal.folders.all())
        assert beside > 0
        await until(lambda: journal.statistics().bytes == beside + files)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3(endpoint: str, bucket: str = "events") -> model.S3:
    return model.S3(
        bucket=bucket, prefix="/relayd/a/", endpoint=endpoint, access_key_id="AKID", secret_access_key="shh-shh"
    )


def stored(endpoint: str, bucket: str = "events") -> dict[str, bytes]:
    """What is in the bucket, seen past relayd's own settings."""
    store = S3Store(
        bucket,
        endpoint=endpoint,
        region="us-east-1",
        access_key_id="other",
        secret_access_key="other-too",
        client_options={"allow_http": True},
    )
    names = [entry["path"] for page in obstore.list(store) for entry in page]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


async def test_a_bucket_gets_what_is_in_the_archive(log: Folders, tmp_path: Path, moto: str) -> None:
    httpx.put(f"{moto}/events", trust_env=False).raise_for_status()
    (copy,) = copies(model.Archive(s3=s3(moto)), log, tmp_path)
    async with copying(copy):
        await until(lambda: copy.up_to == log.raw()[0].base)
    assert stored(moto) == {
        f"relayd/a/{segment.path.parent.name}/{segment.path.name}": segment.path.read_bytes()
        for segment in log.sealed()
    }
    assert copy.status().place == f"s3://events/relayd/a at {moto}"


async def test_a_large_segment_arrives_whole(tmp_path: Path, moto: str) -> None:
    httpx.put(f"{moto}/large", trust_env=False).raise_for_status()
    path = tmp_path / "2026-11-24" / "00000000000000000000.jsonl.zst"
    path.parent.mkdir()
    data = bytes(range(256)) * 50_000  # two parts and a bit
    path.write_bytes(data)
    await trio.to_thread.run_sync(Bucket(s3(moto, "large")).put, Segment(0, path))
    assert stored(moto, "large") == {f"relayd/a/2026-11-24/{path.name}": data}


@pytest.mark.parametrize(
    ("bucket", "endpoint", "why"),
    [
        ("missing", "", "NoSuchBucket: The specified bucket does not exist"),
        ("events", "http://127.0.0.1:1", "http://127.0.0.1:1/events/relayd/a/"),
        ("events", "http://127.0.0.1:1", " - HTTP error: error sending request: Connection refused"),
    ],
)
async def test_why_an_upload_failed_is_one_line(log: Folders, moto: str, bucket: str, endpoint: str, why: str) -> None:
    target = Bucket(s3(endpoint or moto, bucket))
    with pytest.raises(CopyFailed) as failed:
        await trio.to_thread.run_sync(target.put, log.sealed()[0])
    assert why in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "retries" not in str(failed.value)
    assert "shh" not in str(failed.value)


def daemon_config(endpoint: str, bucket: str) -> str:
    return (
        'journal.segment_size = "4KB"\narchive.segment_logs = true\n'
        f'[archive.s3]\nbucket = "{bucket}"\nendpoint = "{endpoint}"\n'
        'access_key_id = "AKID"\nsecret_access_key = "shh-shh"\n'
    )


async def test_a_daemon_makes_its_copies_and_says_how_far_they_are(tmp_path: Path, moto: str) -> None:
    httpx.put(f"{moto}/daemon", trust_env=False).raise_for_status()
    with Relay(tmp_path, {}, more=daemon_config(moto, "daemon")) as relay:
        await relay.start()
        for _ in range(4):
            post(relay, 20)
        await until(
            lambda: all(
                copy["up_to"] == relay.status()["journal"]["head"] for copy in relay.status()["copies"].values()
            )
        )
        status = relay.status()
        sealed = list(relay.state.glob("archive/*/*.jsonl.zst"))
        assert status["copies"]["s3"]["place"] == f"s3://daemon/ at {moto}"
        assert status["copies"]["segment_logs"]["received_at"] is not None
        assert len(sealed) == len(stored(moto, "daemon")) == 2
        events = b"".join(gzip.decompress(path.read_bytes()) for path in relay.state.rglob("*.gz"))
        assert events.count(b"\n") == 80
        assert "shh-shh" not in relay.log.read_text()
        assert f"s3: s3://daemon/ at {moto}, copied up to " in render(status)
        relay.assert_clean_log(str(relay.config))  # there are no destinations


async def test_killed_at_any_moment_the_second_layout_has_every_event_once(tmp_path: Path) -> None:
    with Relay(tmp_path, {}, more='journal.segment_size = "4KB"\narchive.segment_logs = true') as relay:
        for _ in range(5):
            await relay.start()
            for _ in range(5):
                post(relay, 25)
            relay.kill()
        await relay.start()
        folders = Folders.of(relay.state)
        await until(lambda: len(folders.raw()) == 1)
        active = folders.raw()[0]  # not empty when a kill came before it could be closed
        await until(lambda: relay.status()["copies"]["segment_logs"]["up_to"] == active.base)
        copied = [gzip.decompress(path.read_bytes()) for path in relay.state.glob("archive/segment-logs/*/*/*.gz")]
        lines = sorted((b"".join(copied) + active.path.read_bytes()).splitlines())
        assert lines == sorted(b"".join(relay.segments().values()).splitlines())
        assert len(lines) == 625
        assert not list(relay.state.rglob("*.partial"))


async def test_a_stop_does_not_wait_for_an_upload(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    config = daemon_config(f"http://127.0.0.1:{silent.getsockname()[1]}", "events")
    with silent, Relay(tmp_path, {}, more=config) as relay:
        await relay.start()
        post(relay, 30)
        connection, _ = await trio.to_thread.run_sync(silent.accept)
        with connection, trio.fail_after(15):
            assert await relay.stop() == 0
        relay.assert_clean_log(str(relay.config))  # there are no destinations
