"""References in strings: ``${env:NAME}``, ``${file:PATH}`` and ``${credential:NAME}``; ``$${`` is a plain ``${``.

A path is relative to the file that names it. A file's last line break is dropped. What a reference stands for is a
secret, and is not looked into for further references.

A credential is a file in systemd's ``$CREDENTIALS_DIRECTORY``, or, where that is not set (a command that an operator
runs beside the service), in ``/etc/relayd/credentials``, from where ``relayd.service`` loads them.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

CREDENTIALS = Path("/etc/relayd/credentials")
_LOADED_AS = "relayd_"
"""What systemd puts before the names of a directory's files, with ``LoadCredential=relayd:DIRECTORY``."""

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(env|file|credential):([^{}]+)\})?")


class Unresolved(ValueError):
    """References that stand for nothing; the message says which, and why."""


def resolve(text: str, folder: Path, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """``text`` with its references replaced, and what they stood for. Raises `Unresolved`."""
    found: list[str] = []
    wrong: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        try:
            value = _look_up(match[1], match[2], folder, environ)
        except Unresolved as error:
            wrong.append(str(error))
            return ""
        found.append(value)
        return value

    resolved = _REFERENCE.sub(replace, text)
    if wrong:
        raise Unresolved("; ".join(wrong))
    return resolved, found


def _look_up(kind: str | None, name: str, folder: Path, environ: Mapping[str, str]) -> str:
    match kind:
        case "env":
            if name not in environ:
                raise Unresolved(f"the environment variable {name} is not set")
            return environ[name]
        case "file":
            return _read(folder / name)
        case "credential":
            if "/" in name:
                raise Unresolved(f"the credential {name} must be a name, not a path")
            return _read(_credential(name, environ))
        case _:
            raise Unresolved(
                '"${" must begin ${env:NAME}, ${file:PATH} or ${credential:NAME}; write "$${" for a plain "${"'
            )


def _credential(name: str, environ: Mapping[str, str]) -> Path:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        loaded = Path(directory) / f"{_LOADED_AS}{name}"
        return loaded if loaded.exists() else Path(directory) / name
    if os.path.lexists(CREDENTIALS):
        return CREDENTIALS / name
    raise Unresolved(
        f"there is no credential {name}, as $CREDENTIALS_DIRECTORY is not set and there is no {CREDENTIALS}; "
        f"systemd sets it for a unit with LoadCredential={name}:FILE"
    )


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise Unresolved(f"{path} can not be read: {error.strerror}") from None
    except ValueError:
        raise Unresolved(f"{path} is not UTF-8 text") from None
