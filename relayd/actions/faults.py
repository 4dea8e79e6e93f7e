"""What is wrong with a mapping, a field or a payload: all of it at once, each fault with its place."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One thing that is wrong."""

    path: tuple[str, ...]
    """Where: the keys and indexes that lead there, outermost first."""
    message: str
    """What is wrong, and what is allowed. It names types, never a payload's values."""

    def __str__(self) -> str:
        return f"/{'/'.join(self.path)}: {self.message}"


class Faulty(ValueError):
    """Base of the errors that list faults; the message has one a line."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class MappingError(Faulty):
    """A mapping that can not be compiled, or one that can not be applied to a payload."""


class FieldError(Faulty):
    """Fields that can not be compiled, or a payload that does not fit them."""
