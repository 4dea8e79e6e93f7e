"""What can be told of a function's file before it runs. Blocks."""

from pathlib import Path

import trio

from relayd.functions.process import Failed, Function
from relayd.functions.protocol import Hello


def syntax(path: Path) -> str | None:
    """What is wrong with the file as it is written, with its line; None when nothing is. It is not run."""
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except OSError as error:
        return f"{path} can not be read: {error.strerror}"
    except SyntaxError as error:
        return f"{path}:{error.lineno or 1}: SyntaxError: {error.msg}"
    except ValueError as error:
        return f"{path}: {error}"
    return None


def imported(path: Path, handlers: frozenset[str]) -> str | None:
    """What goes wrong when the file is imported, in a process of its own and within a time limit.

    None when nothing does, and it has one of the ``handlers``.
    """

    async def inspect() -> Hello:
        async with Function(path) as function:
            return await function.inspect()

    try:
        hello = trio.run(inspect)
    except Failed as error:
        return f"{path} can not be imported: {error}"
    if hello.fault is not None:
        place = str(path) if hello.fault.line is None else f"{path}:{hello.fault.line}"
        return f"{place}: {hello.fault.message}"
    if not hello.handlers & handlers:
        wanted = sorted(handlers)
        return f"{path} must have {' or '.join((', '.join(wanted[:-1]), wanted[-1])) if wanted[1:] else wanted[0]}"
    return None
