"""What ``bind`` says: a TCP address or a Unix socket."""

import re
from ipaddress import IPv6Address

from msgspec import Struct

_TCP = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})")


class Tcp(Struct, frozen=True):
    """A host name or address, and a port; port 0 lets the kernel choose one."""

    host: str
    port: int


class Unix(Struct, frozen=True):
    """The path of a Unix socket, as written."""

    path: str


def parse(bind: str) -> Tcp | Unix:
    """The address that ``bind`` means. Raises ``ValueError`` with what is allowed."""
    path = bind.removeprefix("unix:")
    if path and path != bind:
        return Unix(path)
    match = _TCP.fullmatch(bind)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f'"{bind}" is not an address; use "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"')
    if match["v6"]:
        try:
            IPv6Address(match["v6"])
        except ValueError:
            raise ValueError(f'"{match["v6"]}" is not an IPv6 address') from None
    return Tcp(match["v6"] or match["host"], int(match["port"]))
