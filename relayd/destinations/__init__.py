"""The catalog: every destination type by its name."""

from typing import Any

from relayd.destinations.base import Destination, InvalidSettings, Request
from relayd.destinations.file import File
from relayd.destinations.segment import Segment
from relayd.destinations.webhook import Webhook

__all__ = ["CATALOG", "Destination", "InvalidSettings", "Request", "get"]

CATALOG: dict[str, Destination[Any]] = {each.type: each for each in (Webhook(), Segment(), File())}


def get(type: str) -> Destination[Any]:  # noqa: A002  the name users and checks rely on
    """The destination of this type. Raises ``KeyError`` for a type that is not in the catalog."""
    return CATALOG[type]
