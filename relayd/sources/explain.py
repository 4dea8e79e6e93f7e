"""What a request to a source would become, on its own and with nothing kept: for ``relayd explain --source``."""

from msgspec import Struct, convert, json
from msgspec.structs import asdict

from relayd.config.model import Source
from relayd.functions.protocol import RawRequest
from relayd.sources import app_of
from relayd.sources.function import SourceFunction


class NoRequest(ValueError):
    """A text that is no request; it says what one is."""


class SourceExplanation(Struct, frozen=True):
    """What a request would become."""

    events: list[dict[str, object]]
    """As they would enter the Tracking API."""
    rejected: dict[str, int]
    """What would be counted instead."""
    faults: list[str]
    """Why."""
    printed: str = ""
    """What a function prints."""
    retried: bool = False
    """Whether a function would get the request again."""


class _Written(Struct, forbid_unknown_fields=True):
    body: object
    headers: dict[str, str] = {}
    url: str = ""
    method: str = "POST"


def read_request(name: str, text: bytes) -> RawRequest:
    """The request in a REQUEST.json: ``{"body": ..., "headers": {...}}``, or a body alone.

    A body that is a text is sent as it is, any other as JSON. Raises `NoRequest`.
    """
    try:
        value = json.decode(text)
    except (ValueError, RecursionError) as error:
        raise NoRequest(f"it is not JSON: {error}") from error
    written = _Written(value)
    if isinstance(value, dict) and "body" in value and value.keys() <= asdict(written).keys():
        try:
            written = convert(value, _Written)
        except ValueError as error:
            raise NoRequest(str(error)) from error
    body = written.body.encode() if isinstance(written.body, str) else json.encode(written.body)
    headers = {key.lower(): each for key, each in written.headers.items()}
    url = written.url or f"http://127.0.0.1:8088/v1/sources/{name}"
    return RawRequest("dry-run", url, headers, body, written.method)


async def explain(name: str, source: Source, request: RawRequest) -> SourceExplanation:
    """Run a source of type cloud_app or function once. A function does whatever it does; signatures are not looked at.

    Raises ``msgspec.DecodeError`` for a body to an app that is no JSON.
    """
    if source.type == "cloud_app":
        mapped = app_of(name, source).events(json.decode(request.body), request.headers)
        return SourceExplanation(mapped.events, dict(mapped.rejected), mapped.faults)
    function = SourceFunction(source)
    try:
        ran = await function.run(request)
    finally:
        await function.aclose()
    rejected, faults = ({ran.code: 1}, [ran.message]) if ran.code else ({}, [])
    events = [json.decode(event, type=dict[str, object]) for event in ran.events]
    return SourceExplanation(events, rejected, faults, ran.printed, ran.retry)
