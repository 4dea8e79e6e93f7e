"""The file's own facts: whole lines, a path of its own, rotation said in the headers."""

import pytest

from relayd.config.units import Size
from relayd.destinations import InvalidSettings, Request
from relayd.destinations.file import File, Settings

EVENTS = (b'{"messageId":"m-1"}', b'{"messageId":"m-2"}')


def send(settings: Settings, *, batch: bool = True) -> list[Request]:
    File().check(settings)
    return File().requests("send", settings, None, EVENTS, batch=batch, now=0)


def test_a_batch_is_appended_as_whole_lines() -> None:
    (request,) = send(Settings(path="/var/log/events.jsonl"))
    assert (request.method, request.url) == ("APPEND", "file:///var/log/events.jsonl")
    assert request.body == b'{"messageId":"m-1"}\n{"messageId":"m-2"}\n'


def test_without_batch_each_event_is_a_line_appended_on_its_own() -> None:
    assert [each.body for each in send(Settings(path="/a"), batch=False)] == [EVENTS[0] + b"\n", EVENTS[1] + b"\n"]


def test_headers_say_how_it_is_rotated() -> None:
    (request,) = send(Settings(path="/a", max_size=Size.parse("1MB"), keep=3))
    assert request.headers == {"max-size": str(2**20), "keep": "3"}
    assert Settings(path="/a").keep == 0, "nothing is deleted unless it is asked for"


def test_an_unusual_path_is_encoded() -> None:
    (request,) = send(Settings(path="/a b/é#?.jsonl"))
    assert request.url == "file:///a%20b/%C3%A9%23%3F.jsonl"


@pytest.mark.parametrize("path", ["", "events.jsonl", "./events.jsonl", "/var/log/", "/a\nb", "/a\0b"])
def test_what_is_no_absolute_path_of_a_file_is_refused(path: str) -> None:
    with pytest.raises(InvalidSettings, match="path"):
        File().check(Settings(path=path))
