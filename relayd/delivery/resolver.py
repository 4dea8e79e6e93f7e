"""Names to addresses, so that one name's trouble is not another's.

getaddrinfo(3) blocks a thread, for half a minute if a name's servers are silent, and a cancelled caller can only
abandon it. trio runs it in the 40 threads that all of a process shares: a destination whose name no longer resolves
would take them, attempt by attempt, from the other destinations' names and from SQLite.

Guarantees: a name holds one thread at a time, outside those 40, however many ask and give up; who asks while a look-up
is under way shares its result. Nothing is kept longer: caching is the system's affair. Fails as getaddrinfo(3) does.

The daemon installs it for its trio run: ``trio.socket.set_custom_hostname_resolver(Resolver())``. Numeric addresses
never come here.
"""

import math
import socket
from typing import Any
from weakref import WeakValueDictionary

import trio

Query = tuple[bytes | None, bytes | str | int | None, int, int, int, int]
Addresses = list[Any]  # as socket.getaddrinfo returns them


class Resolver(trio.abc.HostnameResolver):
    """The system's resolver, one look-up of a name at a time."""

    def __init__(self) -> None:
        self._lookups: WeakValueDictionary[Query, _Lookup] = WeakValueDictionary()

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002  trio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Addresses:
        """See `socket.getaddrinfo`. Cancellable; the thread then ends on its own."""
        query = (host, port, family, type, proto, flags)
        lookup = self._lookups.get(query)
        if lookup is None:
            self._lookups[query] = lookup = _Lookup(query)
        return await lookup.addresses()

    async def getnameinfo(self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int) -> tuple[str, str]:
        """See `socket.getnameinfo`; relayd has no use for it."""
        return await trio.to_thread.run_sync(socket.getnameinfo, sockaddr, flags, abandon_on_cancel=True)


class _Lookup:
    """One name's look-ups. Lives as long as someone waits for it or its thread runs."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._turn = trio.Lock()
        self._thread = trio.CapacityLimiter(1)  # outlives a cancelled caller, as its thread does
        self._finished = -math.inf
        self._result: Addresses | OSError = []

    async def addresses(self) -> Addresses:
        asked = trio.current_time()
        async with self._turn:
            if self._finished < asked:
                try:
                    self._result = await trio.to_thread.run_sync(
                        self._ask, limiter=self._thread, abandon_on_cancel=True
                    )
                except OSError as exc:
                    self._result = exc
                self._finished = trio.current_time()
        if isinstance(self._result, OSError):
            raise type(self._result)(*self._result.args)
        return self._result

    def _ask(self) -> Addresses:
        return socket.getaddrinfo(*self._query)
