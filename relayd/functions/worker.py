"""A function's process: ``python -m relayd.functions.worker FILE``, started by `relayd.functions.process`.

It answers one call at a time, over its stdin and stdout as they were at the start; what the function prints goes into
the reply instead. It never outlives the daemon, even when that is killed and the function never returns: a thread
reads stdin and ends the process when it closes, and a timer of the kernel's ends it when a call takes too long, should
the function hold the interpreter's lock. Its memory is limited, and when much of it is in use it asks to be replaced,
so that what a function leaks costs nobody else.
"""

import asyncio
import importlib.util
import inspect
import io
import os
import queue
import resource
import signal
import sys
import threading
import traceback
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from relayd import functions
from relayd.functions.protocol import (
    HEADER,
    MAX_EVENTS,
    MAX_PRINTED,
    OK,
    Call,
    Fault,
    Hello,
    Kind,
    Reply,
    Verdict,
    decode_call,
    frame,
)

MAX_MEMORY = 2**31
"""Bytes of address space."""
ENOUGH = 2**28
"""Bytes in memory, beyond those of the imported file, after which the process is replaced."""
_GRACE = 1.0
"""Seconds that the kernel's timer is behind the daemon's."""
_MESSAGE = 500
"""Characters of an error's text."""
_TYPES = frozenset({"track", "identify", "page", "screen", "group", "alias"})
_KINDS: tuple[tuple[type[BaseException], Kind], ...] = (
    (functions.InvalidEventPayload, "InvalidEventPayload"),
    (functions.ValidationError, "ValidationError"),
    (functions.EventNotSupported, "EventNotSupported"),
    (functions.InvalidSettings, "InvalidSettings"),
    (functions.RetryError, "RetryError"),
    (functions.DropEvent, "DropEvent"),
)
_OK = Verdict(OK)

Handler = Callable[..., Any]
Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


class Printed(io.TextIOBase):
    """What a call prints: its beginning, and how much more there was."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = MAX_PRINTED - self._size
        if room > 0:
            self._parts.append(text[:room])
        self._size += len(text)
        return len(text)

    def take(self) -> str:
        """What was written since the last time."""
        text, more = "".join(self._parts), self._size - MAX_PRINTED
        self._parts, self._size = [], 0
        return f"{text}\n... {more} characters more" if more > 0 else text


def main() -> None:
    """Serve the file that the command line names, until stdin closes."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    printed = Printed()
    sys.stdout = sys.stderr = printed
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, calls), daemon=True).start()
    path = Path(sys.argv[1])
    module = _load(path)
    if isinstance(module, Fault):
        _send(replies, Hello(fault=module))
        os._exit(0)
    _send(replies, Hello(frozenset(name for name, value in vars(module).items() if _is_handler(name, value))))
    run, enough = _runner(module), _resident() + ENOUGH
    while True:
        call = decode_call(calls.get())
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, call.timeout + _GRACE)
        reply = _answer(module, call, run, path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        last = _resident() > enough
        reply = msgspec.structs.replace(reply, printed=printed.take(), last=last)
        try:
            _send(replies, reply)
        except ValueError as error:
            _send(replies, Reply([Verdict("Exception", str(error))] * len(reply.verdicts), last=last))
        if last:
            os._exit(0)


def _receive(descriptor: int, calls: "queue.SimpleQueue[bytes]") -> None:
    """Hand frames over, and end the process with the daemon."""
    with os.fdopen(descriptor, "rb") as stream:
        while True:
            header = stream.read(HEADER)
            body = stream.read(int.from_bytes(header, "big")) if len(header) == HEADER else b""
            if not body:
                os._exit(0)
            calls.put(body)


def _send(descriptor: int, message: Hello | Reply) -> None:
    data = memoryview(frame(message))
    while data:
        data = data[os.write(descriptor, data) :]


def _is_handler(name: str, value: object) -> bool:
    return name.startswith("on_") and callable(value)


def _load(path: Path) -> types.ModuleType | Fault:
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(path.parent.absolute()))
    spec = importlib.util.spec_from_file_location(f"relayd_function_{path.stem}", path)
    if spec is None or spec.loader is None:
        return Fault("is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        return Fault(f"SyntaxError: {error.msg}", error.lineno if error.filename == str(path) else None)
    except OSError as error:
        return Fault(f"can not be read: {error.strerror or error}")
    except BaseException as error:  # whatever it is, the daemon tells
        return Fault(f"can not be imported: {_text(error)}", _line(error, path))
    return module


def _runner(module: types.ModuleType) -> Run:
    """How coroutines run: on trio when the file imports it, else on asyncio; that loop lasts from call to call."""
    trio = vars(module).get("trio")
    if inspect.ismodule(trio) and trio.__name__ == "trio":
        return trio.run  # type: ignore[no-any-return]
    runner = asyncio.Runner()
    return lambda function: runner.run(function())


def _answer(module: types.ModuleType, call: Call, run: Run, path: Path) -> Reply:
    if call.request is None:
        return Reply(_deliver(module, call, run, path))
    raw = call.request
    request = functions.Request(raw.method, raw.url, raw.headers, raw.body)
    try:
        made = run(lambda: _make(module.on_request, request, call.settings))
        events = [_encoded(number, event, raw.id) for number, event in enumerate(made)]
    except BaseException as error:  # a function may end in any way it likes
        return Reply([_verdict(error, path)])
    return Reply([_OK], events)


async def _make(handler: Handler, request: functions.Request, settings: Mapping[str, object]) -> list[object]:
    """What ``on_request`` returns or yields."""
    result = handler(request, settings)
    if inspect.isawaitable(result):
        result = await result
    if result is None:
        return []
    if isinstance(result, dict):
        return [result]
    made: list[object] = []
    async for each in _each(result):
        made.append(each)
        if len(made) > MAX_EVENTS:
            raise ValueError(f"on_request made more than {MAX_EVENTS} events")
    return made


async def _each(result: Any) -> AsyncIterator[object]:
    if hasattr(result, "__aiter__"):
        async for each in result:
            yield each
    else:
        for each in result:
            yield each


def _encoded(number: int, event: object, request: str) -> bytes:
    if not isinstance(event, dict) or event.get("type") not in _TYPES:
        raise TypeError("on_request must give events, made with relayd.functions: track(), identify() and so on")
    if not event.get("messageId"):
        event = event | {"messageId": f"{request}/{number}"}
    return msgspec.json.encode(event)


def _deliver(module: types.ModuleType, call: Call, run: Run, path: Path) -> list[Verdict]:
    """A verdict for each event: all the same of ``on_batch``, else each its own."""
    events = [msgspec.json.decode(event) for event in call.events]
    settings, batch = call.settings, getattr(module, "on_batch", None)
    if batch is not None and (len(events) > 1 or not any(hasattr(module, f"on_{kind}") for kind in _TYPES)):
        return [_outcome(batch, (events, settings), run, path)] * len(events)
    verdicts = []
    for event in events:
        handler = getattr(module, f"on_{event.get('type')}", None)
        if handler is None:
            verdicts.append(Verdict("EventNotSupported", f"{path.name} has no on_{event.get('type')}"))
        else:
            verdicts.append(_outcome(handler, (event, settings), run, path))
    return verdicts


def _outcome(handler: Handler, arguments: tuple[object, ...], run: Run, path: Path) -> Verdict:
    async def call() -> None:
        result = handler(*arguments)
        if inspect.isawaitable(result):
            await result

    try:
        run(call)
    except BaseException as error:  # a function may end in any way it likes
        return _verdict(error, path)
    return _OK


def _verdict(error: BaseException, path: Path) -> Verdict:
    line = _line(error, path)
    where = f" ({path.name}:{line})" if line is not None else ""
    kind: Kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), "Exception")
    return Verdict(kind, f"{_text(error)}{where}")


def _text(error: BaseException) -> str:
    """An error in a line. One whose ``__str__`` fails is named."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}"[:_MESSAGE] if text else type(error).__name__


def _line(error: BaseException, path: Path) -> int | None:
    """The line of the function's file where the error came up."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((each.lineno for each in reversed(frames) if each.filename == str(path)), None)


def _resident() -> int:
    """Bytes of the process in memory."""
    pages = Path("/proc/self/statm").read_bytes().split()[1]
    return int(pages) * resource.getpagesize()


if __name__ == "__main__":
    main()
