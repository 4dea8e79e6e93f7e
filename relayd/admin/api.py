"""The admin API: JSON over HTTP on a Unix socket in the state directory (0660), or on TCP with a bearer token.

GET  /status                                the figures of ``relayd status --json``
GET  /health                                200 while the daemon runs
GET  /replays, /replays/ID                  the figures of ``relayd replay list --json``
POST /replays                               start one: the body is a `ReplayRequest`; answers ``{"id": ...}``
POST /replays/ID/pause, /resume, /cancel    as the commands of these names
GET  /regulations, /regulations/ID          the figures of ``relayd privacy list --json``; ``?user=ID`` for one user's
POST /regulations                           begin one: the body is a `relayd.privacy.regulation.Wanted`; answers it
GET  /suppressed?user=ID                    ``{"suppressed": true}``, or false

A refusal has ``code`` and ``message``.
"""

import secrets
from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from relayd.listener.message import Request, Response
from relayd.listener.tracking import refusal
from relayd.privacy.regulation import Wanted
from relayd.privacy.runner import Privacy, UnknownRegulation
from relayd.replay.job import Spec, UnknownReplay
from relayd.replay.runner import Refused, Replays

_JSON = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class ReplayRequest(Struct, forbid_unknown_fields=True):
    """What POST /replays takes."""

    spec: Spec
    again: bool = False
    """Whether to do it although it was done before."""


class Api:
    """The handler of the admin socket's requests."""

    def __init__(self, status: Callable[[], msgspec.Struct], replays: Replays, privacy: Privacy, *, token: str) -> None:
        """``token`` is asked of those who come by TCP; the Unix socket's permissions guard the rest."""
        self._status = status
        self._replays = replays
        self._privacy = privacy
        self._token = token

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if request.peer is not None and not self._authorized(request):
            return refusal(401, "unauthorized", "send the [admin] token as a bearer token", ())
        try:
            return await self._answer(request)
        except Refused as refused:
            return refusal(409, "refused", str(refused))
        except UnknownReplay as unknown:
            return refusal(404, "not_found", f"there is no replay {unknown.args[0]}")
        except UnknownRegulation as unknown:
            return refusal(404, "not_found", f"there is no regulation {unknown.args[0]}")
        except msgspec.DecodeError as error:
            return refusal(400, "bad_request", str(error))

    async def _answer(self, request: Request) -> Response:
        match (request.method, *request.path.strip("/").split("/")):
            case "GET", "status":
                return _answer(self._status())
            case "GET", "health":
                return Response(200, b'{"status":"ok"}', _JSON)
            case "GET", "replays":
                return _answer(await self._replays.status())
            case "GET", "replays", id_:
                return _answer((await self._replays.status(id_))[0])
            case "POST", "replays":
                asked = msgspec.json.decode(request.body, type=ReplayRequest)
                return _answer({"id": (await self._replays.start(asked.spec, again=asked.again)).id})
            case "POST", "replays", id_, ("pause" | "resume" | "cancel") as change:
                await {
                    "pause": self._replays.pause, "resume": self._replays.resume, "cancel": self._replays.cancel
                }[change](id_)  # fmt: skip
                return _answer((await self._replays.status(id_))[0])
            case "GET", "regulations":
                return _answer(await self._privacy.regulations(_user(request)))
            case "GET", "regulations", id_:
                return _answer(await self._privacy.regulation(id_))
            case "POST", "regulations":
                return _answer(await self._privacy.request(msgspec.json.decode(request.body, type=Wanted)))
            case "GET", "suppressed" if user := _user(request):
                return _answer({"suppressed": await self._privacy.is_suppressed(user)})
            case _:
                return refusal(404, "not_found", f"there is no {request.method} {request.path} here")

    def _authorized(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").partition(" ")[2].strip()
        return bool(self._token) and secrets.compare_digest(given.encode(), self._token.encode())


def _user(request: Request) -> str | None:
    """The userId that the query names."""
    return dict(parse_qsl(request.query)).get("user")


def _answer(value: object) -> Response:
    return Response(200, msgspec.json.encode(value), _JSON)
