"""Secrets in what a person is shown: each is replaced by `MASK`, in whichever form it appears.

The forms are the secret itself, percent-encoded as URLs and forms have it, escaped as JSON has it (also partly, in any
mix of these), and base64 of a text that it is in, as HTTP Basic has it: there the whole base64 is masked. A digest made
with a secret is not one: it tells nothing.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping

from relayd.destinations.settings import MASK

_NEXT = re.compile(r"(?:[A-Za-z0-9+/_=-]|%2[BbFf]|%3[Dd])*")
_BEFORE = re.compile(r"(?:[A-Za-z0-9+/_=-]|[BbFf]2%|[Dd]3%)*")
"""The rest of a base64 text, forwards and backwards."""


class Mask:
    """Masks the secrets that it is made with."""

    def __init__(self, secrets: Iterable[str]) -> None:
        ordered = sorted((each for each in secrets if each), key=len, reverse=True)
        self._plain = re.compile("|".join(map(_written, ordered)) or "(?!)")
        self._encoded = re.compile("|".join(core for each in ordered for core in _cores(each)) or "(?!)")

    def text(self, text: str) -> str:
        """The text without secrets."""
        return self._plain.sub(MASK, self._without_encoded(text))

    def value(self, value: object) -> object:
        """A JSON value without secrets, in names too. A number that has one in its digits becomes a text."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {self.text(str(name)): self.value(each) for name, each in value.items()}
            case list() | tuple():
                return [self.value(each) for each in value]
            case int() | float() if self._plain.search(str(value)) and not isinstance(value, bool):
                return MASK
            case _:
                return value

    def _without_encoded(self, text: str) -> str:
        parts: list[str] = []
        while match := self._encoded.search(text):
            before = _BEFORE.match(text[: match.start()][::-1])
            after = _NEXT.match(text, match.end())
            assert before is not None
            assert after is not None
            parts += [text[: match.start() - before.end()], MASK]
            text = text[after.end() :]
        return "".join([*parts, text])


def _written(secret: str) -> str:
    """A pattern of the secret, each of its characters as it is or escaped."""
    return "".join(map(_character, secret))


def _character(character: str) -> str:
    percent = "".join(f"%{byte:02x}" for byte in character.encode(errors="surrogatepass"))
    units = character.encode("utf-16-be", errors="surrogatepass").hex()
    unicode = "".join(rf"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    forms = [re.escape(character), f"(?i:{percent})", f"(?i:{unicode})"]
    if character == " ":
        forms.append(r"\+")
    if character in '"\\/':
        forms.append(re.escape("\\" + character))
    if character in "\n\r\t\b\f":
        forms.append(re.escape({"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}[character]))
    return f"(?:{'|'.join(forms)})"


def _cores(secret: str) -> Iterable[str]:
    """Patterns of what base64 has of the secret wherever it stands in a text: of its bytes, the whole characters."""
    data = secret.encode(errors="surrogatepass")
    for before in range(3):
        encoded = b64encode(bytes(before) + data).decode()
        core = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield "".join({"+": "(?:[+-]|%2[Bb])", "/": "(?:[/_]|%2[Ff])"}.get(character, character) for character in core)
