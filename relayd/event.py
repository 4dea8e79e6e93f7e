"""The event, and the Tracking API's rules that validate and normalise one.

Normalising guarantees that a journal line
- has ``type``, ``messageId`` (given when missing), ``timestamp``, ``receivedAt`` and ``projectId``, the source's name;
- has ``timestamp`` corrected by the client's clock error: ``receivedAt - (sentAt - originalTimestamp)``, and keeps the
  client's own value as ``originalTimestamp`` (Segment's common spec);
- keeps ``properties``, ``traits``, ``context`` and top-level fields it does not know as the client wrote them;
- has no write key;
- is one line of valid UTF-8 JSON.

What breaks a rule raises `Invalid` with one of Segment's discard codes; it is answered 200 and counted.

Nearly every event is decoded straight into an `Event`, whose types do most of the checking. `repair` is the slow way
for the others: it says which rule is broken, or mends what real SDKs are known to send.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from uuid import uuid4

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

MAX_MESSAGE_ID = 100
"""Characters of a messageId, at most (Segment's limit is "less than 100 characters")."""

TYPES = frozenset({"track", "identify", "page", "screen", "group", "alias"})

Text = str | None | UnsetType
Json = Raw | UnsetType
"""A value as the client wrote it."""
Rejected = defaultdict[str, int] | Counter[str]
"""Events that break a rule, counted by code. A defaultdict is made in a tenth of the time."""
Extras = Mapping[int, bytes]
"""Unknown top-level fields of the events of a list, as JSON objects, by the event's place in it."""

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_FRACTIONS = {f".{number:03d}{zone}": number for zone in ("Z", "+00:00") for number in range(1000)}
_FRACTION_TEXTS = tuple(f".{number:03d}Z" for number in range(1000))
_PLACE = b"\r"
"""Stands in an encoded event for what `Arrival.stamp` says; no compact JSON has the character."""
_EMPTY_ARRAY = re.compile(rb"\[\s*\]")
_OBJECT_OR_NULL = b"{n"


class Event(Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    """An event as it is sent and, once normalised, as it is kept; null and missing stay apart.

    The order is that of the journal's lines, and near to what SDKs send, which is decoded a tenth faster.
    """

    timestamp: Text = UNSET
    integrations: Json = UNSET
    anonymous_id: Text = UNSET
    event: Text = UNSET
    type: Text = UNSET
    properties: Json = UNSET
    traits: Json = UNSET
    context: Json = UNSET
    user_id: Text = UNSET
    message_id: Text = UNSET
    metadata: Json = field(default=UNSET, name="_metadata")
    group_id: Text = UNSET
    previous_id: Text = UNSET
    name: Text = UNSET
    category: Text = UNSET
    channel: Json = UNSET
    version: Json = UNSET
    original_timestamp: Text = UNSET
    sent_at: Text = UNSET
    project_id: Text = UNSET
    write_key: Text = UNSET
    stamp: Raw = field(default=Raw(_PLACE), name="receivedAt")
    """The last, so that `encode_lines` finds its place."""


class Invalid(ValueError):
    """An event that breaks a rule. ``code`` is Segment's discard code, the text says what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Arrival(Struct, frozen=True):
    """What all events of one request have in common."""

    project: str
    """The source's name."""
    received: int
    """Unix milliseconds."""
    client_side: bool = False
    """Whether the source is a web page or an app, whose address is the user's."""
    ip: str | None = None
    sent_at: Text = UNSET
    """The batch's ``sentAt``; it wins over an event's own, which a forwarding relay leaves from the first hop."""
    context: Json = UNSET
    integrations: Json = UNSET
    compact: bool = False
    """Whether the request's body has no line breaks, so that what is encoded again has none."""

    @property
    def shift(self) -> int | None:
        """Milliseconds by which the client's clock is behind, when ``sent_at`` is a time."""
        sent = parse_time(self.sent_at) if self.sent_at else None
        return None if sent is None else self.received - sent

    @property
    def stamp(self) -> bytes:
        """The value of ``receivedAt``, and the members that follow it: the same for all of the events."""
        members = {"receivedAt": format_time(self.received), "projectId": self.project}
        if self.sent_at is not UNSET:
            members["sentAt"] = self.sent_at  # type: ignore[assignment]
        return _encode(members)[len('{"receivedAt":') : -1]


@lru_cache(maxsize=4096)
def _unix_second(text: str) -> int:
    """Unix milliseconds of a whole second in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


@lru_cache(maxsize=4096)
def _second_text(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat()[:19]


def parse_time(text: str) -> int | None:
    """Unix milliseconds of an ISO 8601 time (one without a zone is UTC); None for a text that is none."""
    try:
        fraction = _FRACTIONS.get(text[19:])
        if fraction is not None:  # as most SDKs write it
            return _unix_second(text[:19]) + fraction
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def format_time(milliseconds: int) -> str:
    """ISO 8601 in UTC with milliseconds, as Segment writes it: ``2026-11-24T10:54:44.188Z``.

    Raises ``ValueError``, ``OverflowError`` or ``OSError`` outside the years 1 to 9999.
    """
    return _second_text(milliseconds // 1000) + _FRACTION_TEXTS[milliseconds % 1000]


def corrected(client: str, shift: int | None) -> str | None:
    """A client's time, ``shift`` milliseconds later; None when it is no time. Without a shift it is left as it is."""
    time = parse_time(client)
    if time is None or shift is None:
        return None if time is None else client
    try:
        return format_time(time + shift)
    except (ValueError, OverflowError, OSError):  # by a clock that is thousands of years off
        return None


@lru_cache(maxsize=4096)
def _shifted_second(text: str, shift: int | None) -> tuple[int, str, str] | None:
    """A whole second, ``shift`` milliseconds later: milliseconds behind a second, that second, and the next one.

    None where that can not be said.
    """
    if shift is None:
        return None
    try:
        second, offset = divmod(_unix_second(text) + shift, 1000)
        return offset, _second_text(second), _second_text(second + 1)
    except (ValueError, OverflowError, OSError):
        return None


def normalise(events: Iterable[Event], arrival: Arrival, kind: str | None, rejected: Rejected) -> list[Event]:
    """Make events what the journal keeps, in place; those that break a rule are counted by code, and left out.

    ``kind`` is the type that the route names; without it the events' own counts. This is the listener's hot path: an
    event that is as usual passes it without a further call, and what it has in common with the one before (its
    context, the second of its time) is looked at once.
    """
    kept: list[Event] = []
    ip, client_side, shift = arrival.ip, arrival.client_side, arrival.shift
    merges = arrival.context is not UNSET or arrival.integrations is not UNSET
    one_sent_at = arrival.sent_at is not UNSET
    context: Json = UNSET
    integrations: Json = UNSET
    asks_for_ip = False
    second, known_shift, shifted = "", shift, None
    stamp = Raw(_PLACE)
    for event in events:
        if kind is not None:
            event.type = kind
        try:
            if event.type != "track" or not event.event or not (event.user_id or event.anonymous_id):
                require(event)
            if event.properties is not UNSET and (b"" + event.properties)[0] not in _OBJECT_OR_NULL:
                raise Invalid("properties_not_object", "properties is not an object")  # noqa: TRY301
            if event.traits is not UNSET and (b"" + event.traits)[0] not in _OBJECT_OR_NULL:
                raise Invalid("traits_not_object", "traits is not an object")  # noqa: TRY301
            if event.integrations != integrations and event.integrations is not UNSET:
                if (b"" + event.integrations)[0] not in _OBJECT_OR_NULL:
                    raise Invalid("integrations_not_object", "integrations is not an object")  # noqa: TRY301
                integrations = event.integrations
            if event.context != context and event.context is not UNSET:
                raw = b"" + event.context
                if raw[0] not in _OBJECT_OR_NULL:
                    raise Invalid("context_not_object", "context is not an object")  # noqa: TRY301
                context, asks_for_ip = event.context, b'"direct"' in raw
            if not event.message_id:
                event.message_id = str(uuid4())
            elif len(event.message_id) > MAX_MESSAGE_ID:
                raise Invalid("id_too_long", f"messageId is longer than {MAX_MESSAGE_ID} characters")  # noqa: TRY301
        except Invalid as invalid:
            rejected[invalid.code] += 1
            continue
        if merges:
            event.integrations = _merge(arrival.integrations, event.integrations)
            event.context = _merge(arrival.context, event.context)
        if ip is not None and (client_side or merges or asks_for_ip):
            _fill_ip(event, ip, client_side)
        if one_sent_at:
            event.sent_at = UNSET  # the stamp has it
        elif event.sent_at:
            sent = parse_time(event.sent_at)
            shift = None if sent is None else arrival.received - sent
        client = event.timestamp or event.original_timestamp  # the second is what rudder-sdk-node sends
        if client:
            if client[:19] != second or shift != known_shift:
                second, known_shift = client[:19], shift
                shifted = _shifted_second(second, shift)
            fraction = _FRACTIONS.get(client[19:])
            if shifted is None or fraction is None:
                event.timestamp = corrected(client, shift) or format_time(arrival.received)
            elif (fraction := fraction + shifted[0]) < 1000:
                event.timestamp = shifted[1] + _FRACTION_TEXTS[fraction]
            else:
                event.timestamp = shifted[2] + _FRACTION_TEXTS[fraction - 1000]
            if event.original_timestamp is UNSET:
                event.original_timestamp = client
        else:
            event.timestamp = format_time(arrival.received)
        event.stamp = stamp
        event.project_id = UNSET
        event.write_key = UNSET
        kept.append(event)
    return kept


def encode_lines(events: Sequence[Event], arrival: Arrival, extras: Extras) -> bytes:
    """The journal's lines of normalised events, newlines included; what was pretty-printed is made compact."""
    if arrival.compact and not extras:
        return _encode_lines(events).replace(_PLACE, arrival.stamp)
    return b"".join(_line(event, arrival.stamp, extras.get(place)) for place, event in enumerate(events))


def _line(event: Event, stamp: bytes, extra: bytes | None) -> bytes:
    line = _encode(event).removesuffix(_PLACE + b"}") + stamp
    line += b"}" if extra is None else b"," + extra[1:]
    if b"\n" in line or b"\r" in line:
        line = msgspec.json.format(line, indent=-1)
    return line + b"\n"


def require(event: Event) -> None:
    """Raise `Invalid` for an event without the ids, or the name, that its type needs."""
    kind = event.type
    if kind not in TYPES:
        raise Invalid("bad_request", "type is none of track, identify, page, screen, group, alias")
    if kind == "alias":
        if not event.user_id or not event.previous_id:
            raise Invalid("id_required", "an alias needs userId and previousId")
        return
    if not event.user_id and not event.anonymous_id:
        raise Invalid("no_user_anon_id", "the event has neither userId nor anonymousId")
    if kind == "track" and not event.event:
        raise Invalid("event_not_defined", "a track has no event name")
    if kind == "group" and not event.group_id:
        raise Invalid("id_required", "a group needs groupId")


def _merge(under: Json, over: Json) -> Json:
    """Both objects in one; where both have a key, ``over`` has its way."""
    if under is UNSET:
        return over
    if over is UNSET or bytes(over) in (b"null", b"{}"):
        return under
    return Raw(_encode({**_decode_fields(under), **_decode_fields(over)}))


def _fill_ip(event: Event, ip: str, client_side: bool) -> None:
    """``context.ip`` where it is missing: for web and mobile sources, and where ``context.direct`` asks for it."""
    raw = b"null" if event.context is UNSET else bytes(event.context)
    if not client_side and b'"direct"' not in raw:
        return
    context = {} if raw == b"null" else _decode_fields(raw)
    if "ip" in context or not (client_side or bytes(context.get("direct", b"")) == b"true"):
        return
    context["ip"] = Raw(_encode(ip))
    event.context = Raw(_encode(context))


_FIELDS = {each.encode_name: each.name for each in msgspec.structs.fields(Event)}
_OBJECTS = ("properties", "traits", "context", "integrations")
_ANY = ("channel", "version", "_metadata", "receivedAt")
_STRINGS = tuple(_FIELDS.keys() - {*_OBJECTS, *_ANY})
_CODES = dict.fromkeys(("messageId", "userId", "anonymousId", "previousId", "groupId"), "id_not_string") | {
    name: f"{name}_not_string" for name in ("event", "name", "category")
}
_decode_event = msgspec.json.Decoder(Event).decode


def repair(raw: Raw) -> tuple[Event, bytes | None]:
    """The event in ``raw`` and its unknown top-level fields (a JSON object), if any. Raises `Invalid`.

    An empty array for an object is what PHP makes of an empty map. A time that is no string counts as missing.
    """
    try:
        fields = _decode_fields(raw)
    except msgspec.DecodeError:
        raise Invalid("bad_request", "the event is not an object") from None
    for name in _STRINGS:
        text = bytes(fields.get(name, b"null"))
        if text[0] != ord('"') and text != b"null":
            code = _CODES.get(name)
            if code is not None:
                raise Invalid(code, f"{name} is not a string")
            if name == "type":
                raise Invalid("bad_request", "type is not a string")
            del fields[name]
    for name in _OBJECTS:
        text = bytes(fields.get(name, b"null"))
        if _EMPTY_ARRAY.fullmatch(text):
            fields[name] = Raw(b"{}")
        elif text[0] not in _OBJECT_OR_NULL:
            raise Invalid(f"{name}_not_object", f"{name} is not an object")
    unknown = {name: fields.pop(name) for name in list(fields) if name not in _FIELDS}
    return _decode_event(_encode(fields)), _encode(unknown) if unknown else None


class Head(Struct):
    """What a journal line tells about its event without the rest being decoded."""

    type: str
    messageId: str  # noqa: N815  the field's name
    projectId: str  # noqa: N815
    receivedAt: datetime  # noqa: N815
    userId: str | None = None  # noqa: N815
    anonymousId: str | None = None  # noqa: N815
    integrations: Mapping[str, object] | None = None
    metadata: Json = field(default=UNSET, name="_metadata")


decode_head = msgspec.json.Decoder(Head).decode
"""The `Head` of one journal line. Raises ``msgspec.DecodeError`` or ``msgspec.ValidationError``."""
