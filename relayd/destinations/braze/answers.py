"""What Braze's answers say of the single events of a request.

- ``/users/track`` and ``/users/identify``: 2xx and ``{"message": "success", "errors": [{"type", "input_array",
  "index"}]}``: what the errors name was left out, all else was taken (braze.com/docs/api/errors, "non-fatal errors").
- 400 is fatal, nothing was taken. If it names objects, those are at fault and the others are tried again; if not, the
  status holds for all.
- Catalogs: 400 and ``{"errors": [{"id", "message", "parameters", "parameter_values"}]}``, where the last has the ids of
  the items at fault, or the items. Nothing was taken.

Errors of users have no code, only a text, so they are counted as 400, which is what they would be alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from relayd.destinations.action import DELIVERED, Payload, Verdict

__all__ = ["item_verdict", "item_verdicts", "verdict", "verdicts_by"]

CATALOG_REASONS = frozenset({
    "arbitrary-error", "catalog-not-found", "fields-do-not-match", "filtered-set-field-too-long", "id-in-body",
    "ids-not-unique", "ids-too-large", "invalid-fields", "invalid-ids", "invalid-keys-in-value-object",
    "item-array-invalid", "item-not-found", "items-missing-ids", "items-too-large", "request-includes-too-many-items",
    "too-deep-nesting-in-value-object", "unable-to-coerce-value",
})  # fmt: skip
"""The error ids that Braze's catalog pages list, as far as known; another is counted as 400."""


class _Answer(msgspec.Struct):
    errors: list[Any] | None = None


_decode = msgspec.json.Decoder(_Answer).decode
_UNTAKEN = Verdict("retry", "400", "another event of its batch was refused")


def _errors(status: int, body: bytes) -> list[dict[str, Any]]:
    """The errors that are objects; none of an answer that says nothing of single events."""
    if not 200 <= status < 300 and status != 400:
        return []
    try:
        errors = _decode(body).errors or []
    except msgspec.DecodeError:
        return []
    return [error for error in errors if isinstance(error, dict)]


def verdicts_by(owners: Sequence[int], events: int, status: int, body: bytes) -> Sequence[Verdict] | None:
    """One for each of ``events``; ``owners`` says for each object of the request whose it is."""
    refused: dict[int, Verdict] = {}
    for error in _errors(status, body):
        index = error.get("index")
        if type(index) is int and 0 <= index < len(owners):
            refused.setdefault(owners[index], Verdict("hold", "400", str(error.get("type") or "")))
    if not refused:
        return None
    others = DELIVERED if status < 300 else _UNTAKEN
    return [refused.get(number, others) for number in range(events)]


def verdict(payload: Payload, status: int, body: bytes) -> Verdict | None:
    """Of an event that is sent alone, so that any error is about it. Also `Action.verdicts`."""
    for error in _errors(status, body):
        return Verdict("hold", "400", str(error.get("type") or ""))
    return None


def item_verdicts(payloads: Sequence[Payload], status: int, body: bytes) -> Sequence[Verdict] | None:
    """One for each item of a catalog."""
    if status != 400:
        return None
    refused: dict[object, Verdict] = {}
    for error in _errors(status, body):
        reason = error.get("id")
        found = Verdict(
            "hold", reason if reason in CATALOG_REASONS else "400", str(error.get("message") or reason or "")
        )
        for item in _named(error):
            refused.setdefault(item, found)
    verdicts = [refused.get(payload["item_id"], _UNTAKEN) for payload in payloads]
    return verdicts if any(each is not _UNTAKEN for each in verdicts) else None


def item_verdict(payload: Payload, status: int, body: bytes) -> Verdict | None:
    """Of one item: that it can not be deleted because it is not there is as good as a deletion."""
    if status != 404:
        return None
    try:
        errors = _decode(body).errors or []
    except msgspec.DecodeError:
        return None
    gone = any(isinstance(error, dict) and error.get("id") == "item-not-found" for error in errors)
    return DELIVERED if gone else None


def _named(error: dict[str, Any]) -> Iterable[str]:
    values = error.get("parameter_values")
    for value in values if isinstance(values, list) else ():
        name = value.get("id") if isinstance(value, dict) else value
        if isinstance(name, str):
            yield name
