"""What a request would become, with nothing kept."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from relayd.config.model import Source
from relayd.sources import APPS
from relayd.sources.explain import NoRequest, explain, read_request
from tests.sources import bodies


def test_a_request_is_a_body_alone_or_with_its_headers() -> None:
    alone = read_request("shop", b'{"body": 1, "id": 2}')
    assert (alone.body, alone.headers, alone.url) == (b'{"body":1,"id":2}', {}, "http://127.0.0.1:8088/v1/sources/shop")
    whole = read_request("shop", b'{"body": {"a": 1}, "headers": {"X-Kind": "order"}}')
    assert (whole.body, whole.headers) == (b'{"a":1}', {"x-kind": "order"})
    assert read_request("shop", b'{"body": "a=b"}').body == b"a=b"
    assert read_request("shop", b"[1]").body == b"[1]"
    for text in (b"{", b'{"body": 1, "headers": 5}'):
        with pytest.raises(NoRequest):
            read_request("shop", text)


async def test_an_app() -> None:
    source = Source(type="cloud_app", app="stripe", settings=APPS["stripe"].settings(secret="s"))
    text = msgspec.json.encode(bodies.stripe("customer.created", bodies.CUSTOMER))
    explained = await explain("payments", source, read_request("payments", text))
    assert [event["type"] for event in explained.events] == ["track", "identify"]
    assert (explained.rejected, explained.faults) == ({}, [])


async def test_a_function(tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text(
        "from relayd.functions import *\ndef on_request(request, settings):\n  print('hi')\n"
        "  if request.json() == 1: raise RetryError('later')\n  return identify('u')\n"
    )
    source = Source(type="function", file=str(path))

    async def run(body: Any) -> Any:
        return await explain("shop", source, read_request("shop", msgspec.json.encode(body)))

    explained = await run(0)
    assert explained.events == [{"type": "identify", "userId": "u", "messageId": "dry-run/0"}]
    assert (explained.printed, explained.rejected, explained.retried) == ("hi\n", {}, False)
    explained = await run(1)
    assert (explained.events, explained.rejected, explained.retried) == ([], {"retry_error": 1}, True)
    assert explained.faults == ["RetryError: later (shop.py:4)"]
