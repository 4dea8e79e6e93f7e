"""Local stand-ins for the tools that destinations feed: each checks what the vendor checks and answers as it documents.

One is a handler for `relayd.listener.http.Server`, or is called directly in a test. It keeps no more than was accepted.
"""

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from relayd.listener.message import Request, Response

__all__ = ["Request", "Response", "Vendor", "json_answer", "names"]


class Vendor(ABC):
    """One vendor's API, as far as its destination uses it."""

    def __init__(self) -> None:
        self.accepted: list[dict[str, Any]] = []
        """The events, profiles or messages that the vendor took, in the vendor's own form."""
        self.deleted: list[str] = []
        """The ids of users that it was told to delete."""
        self.requests = 0

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        self.requests += 1
        return self.answer(request)

    @abstractmethod
    def answer(self, request: Request) -> Response:
        """What the vendor says."""


def names(ids: object, most: int) -> bool:
    """Whether ``ids`` are 1 to ``most`` ids of users."""
    return isinstance(ids, list) and 1 <= len(ids) <= most and all(isinstance(each, str) and each for each in ids)


def json_answer(status: int, body: object) -> Response:
    """An answer in JSON."""
    return Response(status, msgspec.json.encode(body))
