"""Headers that a user or an event names: what HTTP can carry, and what is not theirs to set."""

import re
from collections.abc import Mapping, Set

from relayd.actions.javascript import to_string
from relayd.destinations.action import InvalidPayload
from relayd.destinations.base import InvalidSettings

HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
FRAMING = frozenset({"content-encoding", "content-length", "expect", "host"})
"""What follows from the request itself."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 section 5.6.2
_VALUE = re.compile(r"([!-~]([\t -~]*[!-~])?)?")


def check_headers(headers: Mapping[str, str], ours: Set[str] = FRAMING) -> None:
    """Raise `InvalidSettings` for a header that can not be sent, or that is the connection's or of ``ours``."""
    seen = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise InvalidSettings(f"headers: {name!r} is not a header name")
        if fault := _fault(name, value, ours):
            raise InvalidSettings(f"headers: {fault}")
        if name.lower() in seen:
            raise InvalidSettings(f"headers: {name} is there twice; header names have no case")
        seen.add(name.lower())


def mapped_headers(headers: Mapping[str, object] | None, ours: Set[str] = FRAMING) -> dict[str, str]:
    """A payload's headers by their lower-case names; numbers and truth values as text, null ones left out.

    Raises `InvalidPayload` where `check_headers` would raise; of two that differ in case the latter counts.
    """
    fit = {}
    for name, value in (headers or {}).items():
        if not _NAME.fullmatch(name):
            raise InvalidPayload("headers: one of the names is not a header name")
        if value is None:
            continue
        if not isinstance(value, str | int | float):
            raise InvalidPayload(f"headers: the value of {name} must be a text")
        text = to_string(value)
        if fault := _fault(name, text, ours):
            raise InvalidPayload(f"headers: {fault}")
        fit[name.lower()] = text
    return fit


def _fault(name: str, value: str, ours: Set[str]) -> str:
    if not _VALUE.fullmatch(value):
        return f"the value of {name} must be visible ASCII, with no line break and no space around it"
    lower = name.lower()
    if lower in HOP_BY_HOP:
        return f"{name} belongs to the connection, which relayd manages; remove it"
    return f"{name} is set by relayd; remove it" if lower in ours else ""
