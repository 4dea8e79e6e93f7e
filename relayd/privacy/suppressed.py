"""Who is suppressed: asked for each event, so it answers from memory, and costs nothing when nobody is.

Memory holds a digest for each user (`relayd.privacy.digests`: 16 to 32 bytes). A digest that is found is confirmed in
the database, which has a longer one; so nobody is ever taken for suppressed who is not. A user that is suppressed no
more leaves a digest behind until the next start, which costs a look into the database for each of the user's events.
"""

import sqlite3
import threading
from collections.abc import Collection, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Protocol

from relayd.privacy.digests import Digests, digest


class Users(Protocol):
    """Some users, by their ids: like a set, whose truth is asked first, which is whether anybody may be in it."""

    def __contains__(self, user_id: object, /) -> bool: ...


NOBODY: Users = frozenset()


class Keys(NamedTuple):
    """The secrets under which ids are hashed; they belong to one database."""

    seed: int
    """Of the digests in memory."""
    key: bytes
    """Of those in the database."""

    def quick(self, text: str) -> int:
        """A digest for memory."""
        return digest(text, self.seed)

    def strong(self, text: str) -> bytes:
        """A digest that stands for an id: 128 bits of BLAKE2b under the key."""
        return blake2b(text.encode(), digest_size=16, key=self.key).digest()


def is_suppressed(path: Path, user_id: str) -> bool:
    """Whether a user is suppressed by the database at ``path``, for a look without a daemon. Blocks."""
    if not path.exists():
        return False
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        (key,) = database.execute("SELECT value FROM privacy_keys WHERE name = 'key'").fetchone()
        strong = Keys(0, key).strong(user_id)
        return database.execute("SELECT 1 FROM suppressed WHERE digest = ?", (strong,)).fetchone() is not None
    except (sqlite3.Error, TypeError):
        return False  # nobody ever was
    finally:
        database.close()


class Suppressed:
    """The suppressed users. Look from any thread; `add` from one."""

    def __init__(self, path: Path, keys: Keys, quick: Collection[int]) -> None:
        """``path`` is the database that has the table ``suppressed``; ``quick`` are all its users' quick digests."""
        self._keys = keys
        self._digests = Digests(quick)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return len(self._digests) > 0

    def __contains__(self, user_id: object, /) -> bool:
        """Whether a user is suppressed."""
        return isinstance(user_id, str) and self._keys.quick(user_id) in self._digests and self._look(user_id) != ()

    def is_deleted(self, user_id: str) -> bool:
        """Whether a user is suppressed and the history is deleted too."""
        return self._keys.quick(user_id) in self._digests and self._look(user_id) == (1,)

    def add(self, user_ids: Iterable[str]) -> None:
        """They are in the database now."""
        for each in user_ids:
            self._digests.add(self._keys.quick(each))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the digests take."""
        return self._digests.nbytes

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _look(self, user_id: str) -> tuple[int, ...]:
        """The user's row in the database, if there is one: whether the history is deleted."""
        with self._lock:
            rows = self._database.execute(
                "SELECT deleted FROM suppressed WHERE digest = ?", (self._keys.strong(user_id),)
            ).fetchall()
        return tuple(rows[0]) if rows else ()


class Deleted:
    """Of the suppressed users, those whose history is deleted too: no replay may bring it back."""

    def __init__(self, suppressed: Suppressed) -> None:
        self._suppressed = suppressed

    def __bool__(self) -> bool:
        return bool(self._suppressed)

    def __contains__(self, user_id: object, /) -> bool:
        return isinstance(user_id, str) and self._suppressed.is_deleted(user_id)
