"""What is wrong with sources that take webhooks, and with the files of functions."""

from collections.abc import Callable, Iterator
from pathlib import Path

from relayd.config.errors import Keys
from relayd.config.model import Source
from relayd.functions.check import imported, syntax
from relayd.sources import faults

ON_REQUEST = frozenset({"on_request"})


def source_check(imports: bool) -> Callable[[Source], Iterator[tuple[Keys, str]]]:
    """Checks a source; with ``imports``, functions are imported too."""

    def check(source: Source) -> Iterator[tuple[Keys, str]]:
        if source.type == "cloud_app":
            yield from faults(source)
        elif source.type == "function" and source.file is not None:
            yield from file_faults(("file",), source.file, ON_REQUEST, imports)

    return check


def file_faults(keys: Keys, file: str, handlers: frozenset[str], imports: bool) -> Iterator[tuple[Keys, str]]:
    """What is wrong with a function's file, which needs one of the ``handlers``."""
    message = syntax(Path(file)) or (imported(Path(file), handlers) if imports else None)
    if message is not None:
        yield keys, message
