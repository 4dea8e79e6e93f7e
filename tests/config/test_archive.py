"""What ``[archive]`` may say, and what is missing for it."""

from collections.abc import Callable

import pytest

from relayd.config import rules
from relayd.config.load import Loaded
from relayd.config.model import S3, Archive

Loads = Callable[..., Loaded]
Problems = Callable[..., list[str]]

S3_KEYS = '[archive.s3]\nbucket = "events"\naccess_key_id = "AKID"\nsecret_access_key = "shh-shh"\n'


def test_a_whole_section(loaded: Loads) -> None:
    config = loaded(f'[archive]\nsegment_logs = true\nsegment_logs_in = "/srv"\n{S3_KEYS}prefix = "a/b"\n')
    assert config.config.archive == Archive(
        segment_logs=True,
        segment_logs_in="/srv",
        s3=S3(bucket="events", prefix="a/b", access_key_id="AKID", secret_access_key="shh-shh"),
    )
    assert {"AKID", "shh-shh"} <= config.secrets


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('prefix = "a"', "relayd.toml:1: archive.s3.bucket: is required, as prefix is set"),
        (
            'bucket = "events"\naccess_key_id = "AKID"',
            "relayd.toml:1: archive.s3.secret_access_key: is required, as access_key_id is set",
        ),
        (
            'bucket = "events"\nsecret_access_key = "shh-shh"',
            "relayd.toml:1: archive.s3.access_key_id: is required, as secret_access_key is set",
        ),
        (
            'bucket = "a/b"',
            "relayd.toml:2: archive.s3.bucket: a bucket's name has 3 to 63 letters, digits, dots, - or _",
        ),
        (
            'bucket = "events"\nendpoint = "s3.example"',
            "relayd.toml:3: archive.s3.endpoint: must be http://HOST... or https://HOST..., "
            "without a ?query or a password",
        ),
    ],
)
def test_what_is_wrong_is_told(problems: Problems, text: str, problem: str) -> None:
    assert problems(f"[archive.s3]\n{text}\n") == [problem]


def test_a_missing_extra_is_told_with_what_to_do(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "find_spec", lambda name: None)
    assert problems(S3_KEYS) == [
        "relayd.toml:2: archive.s3.bucket: needs obstore, which is not installed: pip install 'relayd[s3]'"
    ]
