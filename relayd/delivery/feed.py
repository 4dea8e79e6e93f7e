"""Where a delivery actor's events come from: the journal, or what stands in for it in a replay."""

from typing import Protocol

from relayd.journal.reader import Chunk


class Log(Protocol):
    """What an actor needs of the journal besides its files."""

    @property
    def head(self) -> int: ...

    async def wait_beyond(self, offset: int) -> None: ...


class Source(Protocol):
    """Where an actor reads events: a journal's reader, or what stands in for one."""

    @property
    def offset(self) -> int: ...

    def read(self, head: int) -> Chunk | None: ...

    def seek(self, offset: int) -> None: ...

    def close(self) -> None: ...
