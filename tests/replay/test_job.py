"""What is asked for, and how it is kept."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from relayd.replay.job import Criteria, Spec, Store, UnknownReplay, moment


def test_a_job_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = Store(tmp_path / "replays")
    assert store.all() == {}
    criteria = Criteria(source="web", since=1, until=2, types=frozenset({"track"}), events=frozenset("ab"), user="ada")
    first = store.create(Spec(destination="a", criteria=criteria, rate=5.0), now=1.5, start=3, end=9)
    second = store.create(Spec(destination="b"), now=2.5, start=0, end=9)
    store.save(replace(second, state="cancelled", ended=4.0))
    assert list(Store(tmp_path / "replays").all().items()) == [
        (first.id, first),
        (second.id, replace(second, state="cancelled", ended=4.0)),
    ]


def test_the_files_of_an_archive_are_those_that_were_there_when_it_was_asked_for(tmp_path: Path) -> None:
    files = [tmp_path / "a\n.gz", tmp_path / "é.gz"]
    store = Store(tmp_path / "replays")
    job = store.create(Spec(destination="a", archive=str(tmp_path)), now=0, start=0, end=1, files=files)
    assert not job.reads_journal
    assert store.files(job.id) == files


def test_a_crash_while_a_job_is_saved_leaves_the_one_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "replays")
    job = store.create(Spec(destination="a"), now=0, start=0, end=1)
    (store.folder(job.id) / "job.new").write_bytes(b'{"half')
    (tmp_path / "replays" / "deadbeef").mkdir()
    assert dict(store.all()) == {job.id: job}


def test_a_job_that_can_not_be_read_does_not_keep_the_others_from_running(tmp_path: Path) -> None:
    store = Store(tmp_path / "replays")
    jobs = [store.create(Spec(destination="a"), now=number, start=0, end=1) for number in range(3)]
    path = store.folder(jobs[1].id) / "job.json"
    path.write_bytes(b"\0" * 100)
    (tmp_path / "replays" / "some folder").mkdir()
    (tmp_path / "replays" / "some folder" / "job.json").touch()
    assert list(store.all()) == [jobs[0].id, jobs[2].id]
    assert path.read_bytes() == b"\0" * 100


@pytest.mark.parametrize("name", ["../../etc", "ABCDEFGH", "1234567", "123456789", "", "1234567\n", "00000000"])
def test_what_is_no_id_of_a_job_is_unknown(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownReplay):
        Store(tmp_path).load(name)


def test_a_removed_job_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "replays")
    store.remove(store.create(Spec(destination="a"), now=0, start=0, end=1).id)
    assert list((tmp_path / "replays").iterdir()) == []


def test_the_rate_does_not_make_another_replay() -> None:
    spec = Spec(destination="a", criteria=Criteria(events=frozenset({"x", "y"})), archive="/a")
    assert replace(spec, rate=5.0).essence == spec.essence
    assert replace(spec, archive=None).essence != spec.essence
    assert replace(spec, criteria=Criteria()).essence != spec.essence


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"types": ["trak"]}, "there is no event type 'trak'; the types are alias, group, identify, page, screen, tra"),
        ({"since": 5, "until": 5}, "must lie before"),
        ({"since": -1}, "1970 to 9998"),
        ({"until": 2**60}, "1970 to 9998"),
    ],
)
def test_criteria_that_can_not_be_met_are_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(fields, Criteria)


def test_a_moment_is_exact() -> None:
    for milliseconds in (0, 1, 1_795_478_400_001, 1_795_478_400_999):
        assert round(moment(milliseconds).timestamp() * 1000) == milliseconds
