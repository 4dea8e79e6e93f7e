"""The admin API: JSON over HTTP on a Unix socket in the state directory (0660), or on TCP with a bearer token.

GET /status     the figures of ``relayd status --json``
GET /health     200 while the daemon runs
"""

import secrets
from collections.abc import Callable

import msgspec

from relayd.listener.message import Request, Response
from relayd.listener.tracking import refusal

_JSON = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class Api:
    """The handler of the admin socket's requests."""

    def __init__(self, status: Callable[[], msgspec.Struct], *, token: str) -> None:
        """``token`` is asked of those who come by TCP; the Unix socket's permissions guard the rest."""
        self._status = status
        self._token = token

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if request.peer is not None and not self._authorized(request):
            return refusal(401, "unauthorized", "send the [admin] token as a bearer token", ())
        match request.method, request.path:
            case "GET", "/status":
                return Response(200, msgspec.json.encode(self._status()), _JSON)
            case "GET", "/health":
                return Response(200, b'{"status":"ok"}', _JSON)
            case _:
                return refusal(404, "not_found", f"there is no {request.method} {request.path} here")

    def _authorized(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").partition(" ")[2].strip()
        return bool(self._token) and secrets.compare_digest(given.encode(), self._token.encode())
