"""A name whose servers are silent costs one thread of its own, and nobody else anything."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from relayd.delivery.resolver import Resolver

ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]


class Names:
    """getaddrinfo(3), with a name that hangs and a name that fails. trio first asks whether a host is numeric."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = threading.Event()

    def getaddrinfo(
        self, host: bytes | str, port: int, family: int, kind: int, proto: int, flags: int
    ) -> list[tuple[object, ...]]:
        name = host.decode() if isinstance(host, bytes) else host
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        self.asked.append(name)
        if name == "silent.example":
            self.release.wait()
        if name == "unknown.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return list(ANSWER)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.release.set()


@contextmanager
def installed() -> Iterator[None]:
    before = trio.socket.set_custom_hostname_resolver(Resolver())
    try:
        yield
    finally:
        trio.socket.set_custom_hostname_resolver(before)


async def test_a_silent_name_holds_one_thread_and_none_of_the_shared(names: Names) -> None:
    with installed():
        shared = trio.to_thread.current_default_thread_limiter()
        for _ in range(3):
            with trio.move_on_after(0.05):
                async with trio.open_nursery() as nursery:
                    for _ in range(50):
                        nursery.start_soon(trio.socket.getaddrinfo, "silent.example", 80)
            assert shared.borrowed_tokens == 0
        assert names.asked.count("silent.example") == 1
        assert await trio.socket.getaddrinfo("fine.example", 80) == ANSWER
        names.release.set()
        assert await trio.socket.getaddrinfo("silent.example", 80) == ANSWER


async def test_who_asks_while_a_look_up_runs_shares_its_result(names: Names) -> None:
    results = []

    async def ask() -> None:
        results.append(await trio.socket.getaddrinfo("silent.example", 80))

    with installed():
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            names.release.set()
        assert results == [ANSWER] * 20
        assert len(names.asked) == 1
        await ask()
        assert len(names.asked) == 2, "nothing is kept for who comes later"


async def test_a_look_up_fails_as_the_system_says(names: Names) -> None:
    with installed():
        for _ in range(2):
            with pytest.raises(socket.gaierror) as caught:
                await trio.socket.getaddrinfo("unknown.example", 80)
            assert caught.value.errno == socket.EAI_NONAME
    assert len(names.asked) == 2
