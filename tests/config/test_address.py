"""What a bind means, and what is none."""

import pytest

from relayd.config.address import Tcp, Unix, parse


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1:8088", Tcp("127.0.0.1", 8088)),
        ("localhost:0", Tcp("localhost", 0)),
        ("my_host.example:65535", Tcp("my_host.example", 65535)),
        ("[::1]:80", Tcp("::1", 80)),
        ("unix:relayd.sock", Unix("relayd.sock")),
        ("unix:/run/a b:1.sock", Unix("/run/a b:1.sock")),
    ],
)
def test_an_address(bind: str, address: Tcp | Unix) -> None:
    assert parse(bind) == address


@pytest.mark.parametrize(
    "bind",
    [
        "",
        "8088",
        ":8088",
        "localhost",
        "localhost:",
        "::1:80",
        "a:b",
        "h:65536",
        "http://h:80",
        "unix:",
        "x-unix:a",
        " h:1",
    ],
)
def test_no_address(bind: str) -> None:
    with pytest.raises(ValueError, match="is not an address") as caught:
        parse(bind)
    assert str(caught.value) == f'"{bind}" is not an address; use "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"'


def test_no_ipv6_address() -> None:
    with pytest.raises(ValueError, match=r'^"1\.2\.3\.4" is not an IPv6 address$'):
        parse("[1.2.3.4]:80")
