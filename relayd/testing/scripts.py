"""Answers that are not bytes to send but things to do with the connection: resets, drips, garbage.

A handler of ``relayd.listener.http`` returns a `ScriptedResponse` in place of a response. Encoded, it is a `Script`,
which the server hands to the stream as if it were an answer; a `ScriptableListener`'s streams perform it. So the server
needs to know nothing of it.
"""

import math
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import lru_cache

import trio

from relayd.listener.message import Response
from relayd.testing.faults import Faults, Kind

Play = Callable[[trio.SocketStream], Awaitable[None]]

_BLOCK = b"x" * 65_536
_GARBAGE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP at all \x00\xff\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s: closing sends RST


class Script(bytes):
    """No bytes, but what is done instead of sending them. Ends the connection unless it returns."""

    play: Play

    @classmethod
    def of(cls, play: Play) -> "Script":
        script = cls()
        script.play = play
        return script


class ScriptedResponse(Response):
    """A response that is played."""

    script: Script = Script()

    def encode(self, *, keep_alive: bool = True, http10: bool = False, head_only: bool = False) -> bytes:
        return self.script


class ScriptableStream(trio.abc.HalfCloseableStream):
    """A socket's stream that performs the scripts it is told to send."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if isinstance(data, Script):
            await data.play(self._stream)
        else:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class ScriptableListener(trio.abc.Listener[ScriptableStream]):
    """Accepts `ScriptableStream`."""

    def __init__(self, listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        self._listener = listener

    async def accept(self) -> ScriptableStream:
        stream = await self._listener.accept()
        assert isinstance(stream, trio.SocketStream), "a script works on a plain socket"
        return ScriptableStream(stream)

    async def aclose(self) -> None:
        await self._listener.aclose()


@lru_cache
def failure(kind: Kind, faults: Faults) -> Response:
    """The response that fails in this way."""
    headers = [("Content-Type", "application/json")]
    if faults.retry_after is not None:
        headers.append(("Retry-After", str(math.ceil(faults.retry_after))))
    plain = Response(faults.status, b'{"success":false,"code":"on_purpose"}', headers)
    match kind:
        case "status":
            return plain
        case "hang":
            play: Play = _hang
        case "reset":
            play = _reset
        case "close":
            play = _close
        case "garbage":
            play = _garbage
        case "drip":

            async def play(stream: trio.SocketStream) -> None:
                await _drip(stream, plain.wire, faults.pause)

        case "endless":

            async def play(stream: trio.SocketStream) -> None:
                await _endless(stream, faults.status)

    return ScriptedResponse(script=Script.of(play))


async def _hang(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass
    raise trio.BrokenResourceError("hung until the client left")


async def _reset(stream: trio.SocketStream) -> None:
    if stream.socket.family != trio.socket.AF_UNIX:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    await _close(stream)


async def _close(stream: trio.SocketStream) -> None:
    await stream.aclose()
    raise trio.BrokenResourceError("closed on purpose")


async def _garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(_GARBAGE)
    await _close(stream)


async def _drip(stream: trio.SocketStream, answer: bytes, pause: float) -> None:
    for byte in answer:
        await stream.send_all(bytes((byte,)))
        await trio.sleep(pause)


async def _endless(stream: trio.SocketStream, status: int) -> None:
    await stream.send_all(b"HTTP/1.1 %d \r\nContent-Type: application/octet-stream\r\n\r\n" % status)
    while True:
        await stream.send_all(_BLOCK)
