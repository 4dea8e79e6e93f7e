"""Who a request comes from, where proxies stand in between."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from relayd.listener.message import Request


class Proxies:
    """The proxies whose X-Forwarded headers are believed; what reaches us by a Unix socket always comes from one."""

    def __init__(self, trusted: Sequence[str]) -> None:
        """``trusted`` are addresses or networks. Raises ``ValueError`` for one that is neither."""
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(each, strict=False) for each in trusted]

    def client(self, request: Request) -> str | None:
        """The address of the user's side: the last in X-Forwarded-For that is no trusted proxy; None when unknown."""
        if not self._trusted(request.peer):
            return request.peer
        client = request.peer
        for text in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            address = _address(text)
            if address is None:
                break
            client = address
            if not self._trusted(address):
                break
        return client

    def scheme(self, request: Request) -> str:
        """ "https" or "http", as the client spoke it."""
        forwarded = request.headers.get("x-forwarded-proto", "").strip().lower()
        return forwarded if forwarded in ("http", "https") and self._trusted(request.peer) else request.scheme

    def _trusted(self, peer: str | None) -> bool:
        return peer is None or (bool(self._networks) and any(ip_address(peer) in each for each in self._networks))


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text.strip().strip("[]")))
    except ValueError:
        return None
