"""``relayd``, but that every file it syncs is noted, and how long it was: what a power cut at this moment leaves.

Run as ``python noting_syncs.py run -c FILE``. Notes go to ``$RELAYD_SYNCED``, a line each, before the call that synced
returns, so before anybody can be told of it.
"""

import os
from collections.abc import Callable
from pathlib import Path


def noting(sync: Callable[[int], None], notes: int) -> Callable[[int], None]:
    """``sync``, noted. What SQLite syncs it does by itself."""

    def synced(file: int) -> None:
        length = os.fstat(file).st_size
        sync(file)
        path = os.readlink(f"/proc/self/fd/{file}")
        os.write(notes, f"{length}\t{path}\n".encode())

    return synced


def noted(notes: Path) -> dict[str, int]:
    """How long each file was when it was synced last, by its path."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return {path: int(length) for length, path in (line.split("\t") for line in lines)}


if __name__ == "__main__":
    from relayd.cli import main

    descriptor = os.open(os.environ["RELAYD_SYNCED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fsync = noting(os.fsync, descriptor)  # type: ignore[assignment]
    os.fdatasync = noting(os.fdatasync, descriptor)  # type: ignore[assignment]
    main()
