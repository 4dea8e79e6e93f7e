"""What is wrong with an FQL text, and where."""

_WINDOW = 60
"""Characters of a line that are shown on either side of the fault."""


class TriggerError(ValueError):
    """A text that is no FQL.

    ``column`` and ``line`` count from 1; ``expected`` says what could have stood there. The message names the problem
    and shows the line with a caret under the fault.
    """

    def __init__(self, problem: str, text: str, offset: int, expected: str = "") -> None:
        start = text.rfind("\n", 0, offset) + 1
        end = text.find("\n", offset)
        self.problem = problem
        self.expected = expected
        self.line = text.count("\n", 0, offset) + 1
        self.column = offset - start + 1
        left = max(start, offset - _WINDOW)
        right = min(len(text) if end < 0 else end, offset + _WINDOW)
        shown = "".join(char if char.isprintable() else " " for char in text[left:right])
        where = f"line {self.line}, column {self.column}" if "\n" in text else f"column {self.column}"
        super().__init__(f"{where}: {problem}\n    {shown}\n    {' ' * (offset - left)}^")
