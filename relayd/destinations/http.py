"""HTTP: any API as a destination, without code; the mapping says all of a request.

One action, ``send``. Its fields are relayd's own:

    url              where to; without it, that of the settings
    method           GET, POST, PUT, PATCH or DELETE; a GET has no body
    query            members are added to the URL; a list repeats its name, null ones are left out
    headers          over those of the settings, which is the place for secrets
    body             any JSON value; by default the event
    content_type     json; form: the body's members as a form; text: the body, a single value, as text
    idempotency_key  sent as ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header); by default the messageId

A ``content-type`` among the headers is sent in place of the one that ``content_type`` means, for such as XML.

A URL of the mapping may come out of an event, and an event out of a browser. So its host must be that of the settings'
``url`` or be listed in ``allowed_hosts``: no event makes relayd call another (SSRF), and no typing error in a mapping
sends people's data and the headers' secrets to a stranger. The comparison is of host names without the port; a name is
not looked up, so a listed one that resolves to a private address is called.

In a batch the bodies are one JSON array, its ``Idempotency-Key`` a digest of the events' keys. What is no JSON, and a
GET, can not share a request: there is then one for each event. Batches are made where ``delivery.batch_size`` says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import field

from relayd.actions.javascript import stringify, to_string
from relayd.config.model import doc, secret
from relayd.destinations.action import Action, ActionDestination, Batching, InvalidPayload, Payload, Preset, defaults
from relayd.destinations.base import InvalidSettings, Request
from relayd.destinations.endpoint import USER_AGENT, check_url
from relayd.destinations.fields import at, table, text
from relayd.destinations.fields import field as any_field
from relayd.destinations.headers import FRAMING, check_headers, mapped_headers
from relayd.destinations.idempotency import joint_key, key_of
from relayd.destinations.settings import DestinationSettings

CONTENT_TYPES = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "text": "text/plain;charset=UTF-8",
}
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_GROUPED = ("url", "method", "query", "headers", "content_type")


class Settings(DestinationSettings, frozen=True, kw_only=True):
    """Which API, and how it knows who calls."""

    url: Annotated[
        str,
        doc("the http:// or https:// address that is called, if a mapping has none", example="https://api.example/"),
    ] = ""
    headers: Annotated[Mapping[str, str], secret("headers to add, such as Authorization")] = field(default_factory=dict)
    allowed_hosts: Annotated[
        tuple[str, ...], doc("host names that a mapping's url may have, besides that of this url")
    ] = ()


def _send(settings: Settings, payload: Payload, now: float) -> list[Request]:
    kind = payload.get("content_type", "json")
    body = payload.get("body")
    encoded = b"" if body is None or payload.get("method") == "GET" else _encoded(kind, body)
    key = payload.get("idempotency_key")
    return [_request(settings, payload, encoded, key_of(key) if key else "")]


def _send_batch(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    first = payloads[0]
    if first.get("method") == "GET" or first.get("content_type", "json") != "json":
        if len(payloads) > 1:
            raise InvalidPayload("only JSON bodies can share a request")
        return _send(settings, first, now)
    keys = [key for each in payloads if (key := each.get("idempotency_key"))]
    body = msgspec.json.encode([each.get("body") for each in payloads])
    return [_request(settings, first, body, joint_key(keys) if len(keys) == len(payloads) else "")]


def _request(settings: Settings, payload: Payload, body: bytes, key: str) -> Request:
    headers = {"user-agent": USER_AGENT}
    if body:
        headers["content-type"] = CONTENT_TYPES[payload.get("content_type", "json")]
    headers.update((name.lower(), value) for name, value in settings.headers.items())
    if mapped := payload.get("headers"):
        headers |= mapped_headers(mapped)
    if key:
        headers["idempotency-key"] = key
    return Request(payload.get("method", "POST"), _url(settings, payload), headers, body)


def _encoded(kind: str, body: Any) -> bytes:
    if kind == "json":
        return msgspec.json.encode(body)
    if kind == "form":
        if type(body) is not dict:
            raise InvalidPayload('body must be an object where content_type is "form"')
        return urlencode(list(_pairs(body))).encode()
    if isinstance(body, dict | list):
        raise InvalidPayload('body must be a single value where content_type is "text"')
    return to_string(body).encode()


def _pairs(members: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Names and values of a form or a query. What is nested is written as JSON."""
    for name, value in members.items():
        for item in value if isinstance(value, list) else (value,):
            if item is not None:
                yield name, str(stringify(item)) if isinstance(item, dict | list) else to_string(item)


def _url(settings: Settings, payload: Payload) -> str:
    url: str = payload.get("url") or settings.url
    if not url:
        raise InvalidPayload("url is missing, from the mapping and from the settings")
    if url != settings.url and _host(url) not in _hosts(settings.url, settings.allowed_hosts):
        raise InvalidPayload("url has a host that is neither that of the settings' url nor in allowed_hosts")
    query = payload.get("query")
    if not query:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(list(_pairs(query))))))))


def _host(url: str) -> str:
    try:
        check_url("url", url)
    except InvalidSettings as error:
        raise InvalidPayload(str(error)) from None
    if "\\" in url:  # some read it as a slash
        raise InvalidPayload("url must not hold a backslash")
    return urlsplit(url).hostname or ""


@lru_cache
def _hosts(url: str, allowed: tuple[str, ...]) -> frozenset[str]:
    """The hosts that may be called."""
    own = {urlsplit(url).hostname or ""} - {""}
    return frozenset(own | {name.strip("[]").lower() for name in allowed})


def _is_host(name: str) -> bool:
    try:
        return bool(name) and urlsplit(f"//{name}").hostname == name.strip("[]").lower()
    except ValueError:
        return False


_SEND = Action(
    name="send",
    title="Send",
    fields={
        "url": text(),
        "method": text("POST", choices=_METHODS),
        "query": table(),
        "headers": table(),
        "body": any_field("any", at("")),
        "content_type": text("json", choices=tuple(CONTENT_TYPES)),
        "batch_keys": text(multiple=True),
        "idempotency_key": text(at("messageId")),
    },
    perform=_send,
    batching=Batching(perform=_send_batch, size=1, max_size=10_000, keys=_GROUPED),
)


class Http(ActionDestination[Settings]):
    """Calls an API as a mapping says."""

    type = "http"
    title = "HTTP API"
    names = ()
    settings = Settings
    actions = {"send": _SEND}  # noqa: RUF012  a ClassVar of the base
    presets = (
        Preset(
            name="All events",
            action="send",
            trigger=" or ".join(
                f'type = "{each}"' for each in ("track", "identify", "page", "screen", "group", "alias")
            ),
            mapping=defaults(_SEND.fields),
        ),
    )

    def check(self, settings: Settings) -> None:
        if not settings.url:
            raise InvalidSettings("url must be set, unless the mapping of every subscription has one")
        self.check_mapped(settings)

    def check_mapped(self, settings: Settings) -> None:
        """`check` for settings that are used with mappings which say the URL."""
        if settings.url:
            check_url("url", settings.url)
        elif not settings.allowed_hosts:
            raise InvalidSettings("allowed_hosts must list the hosts that mappings name, or url must be set")
        if not all(map(_is_host, settings.allowed_hosts)):
            raise InvalidSettings("allowed_hosts must hold host names alone, such as api.example.com")
        check_headers(settings.headers, FRAMING)
