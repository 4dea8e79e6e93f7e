"""A function's process: whatever the function does, the daemon gets an answer in time and no process is left."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest
import trio

from relayd.functions.process import Crashed, Function, TimedOut, Unavailable
from relayd.functions.protocol import Call, RawRequest, Reply, Verdict
from tests.waiting import until

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the function's file, with the usual import."""

    def write(text: str) -> Path:
        path = tmp_path / "shop.py"
        path.write_text(f"from relayd.functions import *\n{dedent(text)}")
        return path

    return write


@pytest.fixture
async def functions() -> AsyncIterator[Callable[[Path], Function]]:
    """Makes functions, and ends them."""
    made: list[Function] = []

    def make(path: Path) -> Function:
        made.append(Function(path))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()
        assert each.pid is None


Make = Callable[[Path], Function]


def call(body: object = None, *, timeout: float = 5, **settings: Any) -> Call:
    request = RawRequest(
        "r1", "http://relay/v1/sources/shop?a=1", {"Content-Type": "application/json"}, msgspec.json.encode(body)
    )
    return Call(settings, timeout, request)


def decoded(reply: Reply) -> list[dict[str, Any]]:
    assert [verdict.kind for verdict in reply.verdicts] == ["ok"]
    return [msgspec.json.decode(event) for event in reply.events]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


WAYS = {
    "an async generator": "async def on_request(r, s):\n  yield identify('a')\n  yield track('e', user_id='a')",
    "a list": "async def on_request(request, settings):\n  return [identify('a'), track('e', user_id='a')]",
    "a generator": "def on_request(request, settings):\n  yield identify('a')\n  yield track('e', user_id='a')",
    "a plain function": "def on_request(request, settings):\n  return (identify('a'), track('e', user_id='a'))",
}


@pytest.mark.parametrize("way", WAYS)
async def test_events_are_returned_or_yielded(write: Write, functions: Make, way: str) -> None:
    events = decoded(await functions(write(WAYS[way])).call(call()))
    assert events == [
        {"type": "identify", "userId": "a", "messageId": "r1/0"},
        {"type": "track", "event": "e", "userId": "a", "messageId": "r1/1"},
    ]


async def test_one_event_or_none(write: Write, functions: Make) -> None:
    function = functions(write("async def on_request(r, s):\n  return track('e', user_id='a') if r.json() else None"))
    assert len(decoded(await function.call(call(1)))) == 1
    assert decoded(await function.call(call(0))) == []


async def test_what_a_function_is_given(write: Write, functions: Make) -> None:
    function = functions(
        write(
            """
            async def on_request(request, settings):
                seen = {"method": request.method, "url": request.url, "type": request.headers["content-TYPE"],
                        "json": request.json(), "text": request.text(), "settings": settings,
                        "none": request.headers.get("nope")}
                return track("seen", user_id="u", properties=seen)
            """
        )
    )
    (event,) = decoded(await function.call(call({"ä": 1}, key="k")))
    assert event["properties"] == {
        "method": "POST",
        "url": "http://relay/v1/sources/shop?a=1",
        "type": "application/json",
        "json": {"ä": 1},
        "text": '{"ä":1}',
        "settings": {"key": "k"},
        "none": None,
    }


async def test_a_form(write: Write, functions: Make) -> None:
    function = functions(
        write("def on_request(r, s): return track('e', user_id=r.form()['user'], properties=r.form())")
    )
    request = RawRequest("r", "http://x/", {}, b"user=a%20b&empty=&user=c+d")
    (event,) = decoded(await function.call(Call({}, 5, request)))
    assert event["properties"] == {"user": "c d", "empty": ""}


async def test_all_that_can_be_made(write: Write, functions: Make) -> None:
    function = functions(
        write(
            """
            from datetime import datetime
            def on_request(request, settings):
                yield page("Home", anonymous_id="x", category="c", properties={"a": 1})
                yield screen("Start", user_id="u", integrations={"All": False})
                yield group("g", user_id="u", traits={"b": 2}, context={"ip": "::1"})
                yield alias("old", "new", message_id="m")
                yield track("e", user_id="u", timestamp=datetime(2026, 1, 2, 3, 4, 5))
            """
        )
    )
    found = decoded(await function.call(call()))
    assert [event["type"] for event in found] == ["page", "screen", "group", "alias", "track"]
    assert found[2] == {
        "type": "group",
        "groupId": "g",
        "userId": "u",
        "traits": {"b": 2},
        "context": {"ip": "::1"},
        "messageId": "r1/2",
    }
    assert found[3] == {"type": "alias", "previousId": "old", "userId": "new", "messageId": "m"}
    assert found[4]["timestamp"] == "2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        ("raise ValidationError('no total')", Verdict("ValidationError", "ValidationError: no total (shop.py:3)")),
        ("raise InvalidEventPayload()", Verdict("InvalidEventPayload", "InvalidEventPayload (shop.py:3)")),
        ("raise EventNotSupported('x')", Verdict("EventNotSupported", "EventNotSupported: x (shop.py:3)")),
        ("raise InvalidSettings('x')", Verdict("InvalidSettings", "InvalidSettings: x (shop.py:3)")),
        ("raise RetryError('x')", Verdict("RetryError", "RetryError: x (shop.py:3)")),
        ("return 1 / 0", Verdict("Exception", "ZeroDivisionError: division by zero (shop.py:3)")),
        ("raise SystemExit(3)", Verdict("Exception", "SystemExit: 3 (shop.py:3)")),
        ("raise KeyboardInterrupt", Verdict("Exception", "KeyboardInterrupt (shop.py:3)")),
        ("return bytearray(2**31)", Verdict("Exception", "MemoryError (shop.py:3)")),
        (
            "return track('e')",
            Verdict("ValidationError", "ValidationError: track() needs user_id or anonymous_id (shop.py:3)"),
        ),
        ("request.json()['x']", Verdict("Exception", "TypeError: 'NoneType' object is not subscriptable (shop.py:3)")),
    ],
)
async def test_an_error_is_told_by_its_kind_and_place_and_the_process_goes_on(
    write: Write, functions: Make, statement: str, verdict: Verdict
) -> None:
    function = functions(write(f"async def on_request(request, settings):\n  {statement}"))
    for _ in range(2):
        assert (await function.call(call())).verdicts == [verdict]
    assert function.starts == 1


@pytest.mark.parametrize(
    "what", ["5", "'text'", "[{'type': 'nope'}]", "[track('e', user_id='u', properties={'x': object()})]"]
)
async def test_what_is_no_event_is_an_error(write: Write, functions: Make, what: str) -> None:
    reply = await functions(write(f"async def on_request(r, s): return {what}")).call(call())
    assert reply.verdicts[0].kind == "Exception"
    assert reply.events == []


async def test_an_endless_stream_of_events_is_ended(write: Write, functions: Make) -> None:
    text = "async def on_request(r, s):\n  while True: yield track('e', user_id='u')"
    reply = await functions(write(text)).call(call())
    assert reply.verdicts[0].message == "ValueError: on_request made more than 2500 events"


STALLS = {
    "a loop": "while True: pass",
    "sleep": "import time; time.sleep(60)",
    "an await": "import asyncio; await asyncio.sleep(60)",
    "one that catches everything": "while True:\n    try:\n      while True: pass\n    except BaseException: pass",
    "a regular expression": "import re; re.match('(a+)+$', 'a' * 50 + 'b')",
    "one that ignores signals": "import signal as s\n  for n in (2, 15): s.signal(n, s.SIG_IGN)\n  while True: pass",
}


@pytest.mark.parametrize("stall", STALLS)
async def test_a_call_that_takes_too_long_is_ended_while_the_daemon_goes_on(
    write: Write, functions: Make, stall: str
) -> None:
    function = functions(
        write(f"async def on_request(request, settings):\n  if request.json(): return\n  {STALLS[stall]}")
    )
    await function.call(call(1))
    pid, beats = function.pid, 0
    assert pid is not None

    async def beat() -> None:
        nonlocal beats
        while True:
            await trio.sleep(0.01)
            beats += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        started = trio.current_time()
        with pytest.raises(TimedOut, match=r"longer than 0.3 s"):
            await function.call(call(timeout=0.3))
        assert trio.current_time() - started < 1.5
        nursery.cancel_scope.cancel()
    assert beats > 15
    assert not is_alive(pid)
    assert decoded(await function.call(call(1))) == []
    assert function.starts == 2


async def test_what_a_function_started_is_ended_with_it(write: Write, functions: Make, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    function = functions(
        write(
            f"""
            import subprocess, pathlib
            def on_request(request, settings):
                child = subprocess.Popen(["sleep", "1000"])
                pathlib.Path({str(note)!r}).write_text(str(child.pid))
                if request.json():
                    import os; os._exit(7)
                while True: pass
            """
        )
    )
    with pytest.raises(TimedOut):
        await function.call(call(timeout=0.5))
    await until(lambda: not is_alive(int(note.read_text())))
    with pytest.raises(Crashed, match="ended with exit code 7"):
        await function.call(call(1))
    await until(lambda: not is_alive(int(note.read_text())))


async def test_a_process_that_ends_or_is_killed_is_started_again(write: Write, functions: Make) -> None:
    function = functions(write("import os\ndef on_request(r, s):\n  if r.json(): os.kill(os.getpid(), r.json())"))
    with pytest.raises(Crashed, match="ended by SIGSEGV"):
        await function.call(call(int(signal.SIGSEGV)))
    await function.call(call(0))
    assert function.pid is not None
    os.kill(function.pid, signal.SIGKILL)
    await until(lambda: function._worker is None or function._worker.has_ended())
    await function.call(call(0))
    assert function.starts == 3


async def test_what_is_printed_comes_with_the_reply_and_harms_nothing(write: Write, functions: Make) -> None:
    function = functions(
        write(
            """
            import os, sys, subprocess
            def on_request(request, settings):
                print("hello", "wörld")
                print("trouble", file=sys.stderr)
                os.write(1, b"\\xff" * 100)
                subprocess.run(["echo", "from below"])
                if request.json(): print("x" * 1_000_000)
            """
        )
    )
    assert (await function.call(call(0))).printed == "hello wörld\ntrouble\n"
    much = (await function.call(call(1))).printed
    assert len(much) < 9000
    assert "characters more" in much
    assert (await function.call(call(0))).printed == "hello wörld\ntrouble\n"


async def test_a_function_that_leaks_is_replaced_without_losing_a_call(write: Write, functions: Make) -> None:
    function = functions(
        write("leak = []\ndef on_request(r, s):\n  leak.append(b'x' * 50_000_000)\n  return identify('u')")
    )
    for _ in range(20):
        assert len(decoded(await function.call(call()))) == 1
    assert function.starts > 1


async def test_a_changed_file_is_picked_up(write: Write, functions: Make) -> None:
    function = functions(write("def on_request(r, s): return identify('one')"))
    assert decoded(await function.call(call()))[0]["userId"] == "one"
    write("def on_request(r, s): return identify('another')")
    assert decoded(await function.call(call()))[0]["userId"] == "another"
    write("def on_request(r, s) return")
    with pytest.raises(Unavailable, match=r"shop\.py:2: SyntaxError: expected ':'"):
        await function.call(call())
    function.path.unlink()
    with pytest.raises(Unavailable, match="No such file"):
        await function.call(call())
    write("def on_request(r, s): return identify('back')")
    assert decoded(await function.call(call()))[0]["userId"] == "back"


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("def on_request(r, s): return (", "SyntaxError: '(' was never closed", 2),
        (
            "\nimport nothing_like_that",
            "can not be imported: ModuleNotFoundError: No module named 'nothing_like_that'",
            3,
        ),
        ("x = 1\nx.y", "can not be imported: AttributeError: 'int' object has no attribute 'y'", 3),
        ("raise SystemExit(1)", "can not be imported: SystemExit: 1", 2),
    ],
)
async def test_a_file_that_can_not_be_imported_says_where(
    write: Write, functions: Make, text: str, message: str, line: int
) -> None:
    hello = await functions(write(text)).inspect()
    assert hello.fault is not None
    assert (hello.fault.message, hello.fault.line) == (message, line)


async def test_a_file_that_hangs_or_ends_when_it_is_imported(
    write: Write, functions: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relayd.functions.process.START_TIMEOUT", 0.5)
    with pytest.raises(TimedOut, match="to be imported"):
        await functions(write("while True: pass")).inspect()
    with pytest.raises(Crashed, match="exit code 5"):
        await functions(write("import os; os._exit(5)")).inspect()


async def test_its_handlers_and_neighbours(write: Write, functions: Make, tmp_path: Path) -> None:
    (tmp_path / "prices.py").write_text("PRICE = 7")
    path = write("from prices import PRICE\ndef on_track(e, s): ...\ndef on_batch(e, s): ...\non_nothing = PRICE")
    assert (await functions(path).inspect()).handlers == {"on_track", "on_batch"}
    assert not (tmp_path / "__pycache__").exists()


async def test_a_trio_function_and_clients_that_live_on(write: Write, functions: Make) -> None:
    text = "import trio\nasync def on_request(r, s):\n  await trio.sleep(0)\n  return identify('trio')"
    assert decoded(await functions(write(text)).call(call()))[0]["userId"] == "trio"
    text = (
        "import asyncio\nloops = set()\nasync def on_request(r, s):\n"
        "  loops.add(asyncio.get_running_loop())\n  return identify(str(len(loops)))"
    )
    function = functions(write(text))
    assert [decoded(await function.call(call()))[0]["userId"] for _ in range(2)] == ["1", "1"]


async def test_calls_have_their_turns_and_a_cancelled_one_ends_the_process(write: Write, functions: Make) -> None:
    function = functions(write("import time\ndef on_request(r, s):\n  time.sleep(r.json())\n  return identify('u')"))
    done: list[int] = []

    async def one(number: int) -> None:
        await function.call(call(0.01))
        done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one, number)
    assert sorted(done) == list(range(5))
    assert function.starts == 1
    pid = function.pid
    assert pid is not None
    with trio.move_on_after(0.1):
        await function.call(call(30))
    assert not is_alive(pid)
    await function.call(call(0))


@pytest.mark.parametrize("busy", ["while True: pass", "import time; time.sleep(100)", "return"])
async def test_the_process_ends_when_the_daemon_is_killed(write: Write, tmp_path: Path, busy: str) -> None:
    """Also one that is in the middle of a loop."""
    path = write(f"def on_request(r, s):\n  {busy}")
    daemon = dedent(
        f"""
        import trio, pathlib
        from relayd.functions.process import Function
        from relayd.functions.protocol import Call, RawRequest
        async def main():
            function = Function(pathlib.Path({str(path)!r}))
            await function.inspect()
            print(function.pid, flush=True)
            await function.call(Call({{}}, 60, RawRequest("r", "", {{}}, b"")))
            await trio.sleep_forever()
        trio.run(main)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", daemon], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    await trio.sleep(0.3)
    assert is_alive(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    await until(lambda: not is_alive(pid), 5)


EVENTS = [
    msgspec.json.encode({"type": kind, "userId": "u", "messageId": str(n)})
    for n, kind in enumerate(["track", "page", "track"])
]


async def test_events_go_to_their_handlers_each_with_its_verdict(write: Write, functions: Make) -> None:
    function = functions(
        write(
            """
            def on_track(event, settings):
                if event["messageId"] == settings["bad"]: raise DropEvent("not this")
            async def on_identify(event, settings): ...
            """
        )
    )
    reply = await function.call(Call({"bad": "2"}, 5, events=EVENTS))
    assert [verdict.kind for verdict in reply.verdicts] == ["ok", "EventNotSupported", "DropEvent"]
    assert reply.verdicts[1].message == "shop.py has no on_page"


async def test_a_batch_goes_to_on_batch_and_has_one_verdict_for_all(write: Write, functions: Make) -> None:
    function = functions(
        write("def on_batch(events, settings):\n  print(len(events))\n  if settings: raise RetryError('later')")
    )
    reply = await function.call(Call({}, 5, events=EVENTS))
    assert ([verdict.kind for verdict in reply.verdicts], reply.printed) == (["ok"] * 3, "3\n")
    assert [verdict.kind for verdict in (await function.call(Call({"x": 1}, 5, events=EVENTS))).verdicts] == [
        "RetryError"
    ] * 3
    assert (await function.call(Call({}, 5, events=EVENTS[:1]))).printed == "1\n"
