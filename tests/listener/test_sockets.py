"""What can be listened on, and what is said when it can not."""

import os
import re
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import open_stream_to_socket_listener

from relayd.listener.http import Limits, Server
from relayd.listener.sockets import BindError, open_listeners
from tests.listener.wire import Client, Recorder, post


async def close(listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]) -> None:
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
async def test_tcp_addresses(bind: str) -> None:
    listeners = await open_listeners(bind)
    for listener in listeners:
        assert isinstance(listener, trio.SocketListener)
        async with await open_stream_to_socket_listener(listener), await listener.accept():
            pass
    await close(listeners)


async def test_a_request_over_a_unix_socket_has_no_peer(tmp_path: Path) -> None:
    path, handler = tmp_path / "relayd.sock", Recorder()
    listeners = await open_listeners(f"unix:{path}", mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(handler, Limits()).serve, listeners)
        async with await trio.open_unix_socket(path) as stream:
            client = Client(stream)
            await client.stream.send_all(post(b"{}"))
            assert (await client.answer()).status == 200
        nursery.cancel_scope.cancel()
    assert [(request.peer, request.scheme) for request in handler.requests] == [(None, "http")]


async def test_a_unix_socket_is_open_to_its_group_by_default(tmp_path: Path) -> None:
    path = tmp_path / "relayd.sock"
    await close(await open_listeners(f"unix:{path}"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


async def test_a_unix_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "relayd.sock"
    await close(await open_listeners(f"unix:{path}"))
    assert path.is_socket()
    listeners = await open_listeners(f"unix:{path}")
    async with await trio.open_unix_socket(path):
        pass
    await close(listeners)


async def test_a_unix_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "relayd.sock"
    listeners = await open_listeners(f"unix:{path}")
    with pytest.raises(BindError, match=rf"{path}: another process listens there; stop it, or"):
        await open_listeners(f"unix:{path}")
    async with await trio.open_unix_socket(path):
        pass
    await close(listeners)


async def test_a_unix_socket_whose_listener_is_busy_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "relayd.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(BindError, match="another process listens there"):
            await open_listeners(f"unix:{path}")
        assert path.is_socket()


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("important")
    with pytest.raises(BindError, match=r"what is there is no socket; remove it, or"):
        await open_listeners(f"unix:{path}")
    assert path.read_text() == "important"


@pytest.mark.parametrize("path", ["no/such/directory/relayd.sock", "x" * 200])
async def test_a_unix_path_that_can_not_be(tmp_path: Path, path: str) -> None:
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(BindError, match="choose a short path in a directory that exists"):
        await open_listeners(f"unix:{tmp_path}/{path}")
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


@pytest.mark.parametrize("bind", ["", "8088", ":8088", "relayd", "relayd:http", "::1:8088", "relayd:70000", "unix:"])
async def test_an_address_that_is_none_says_what_is_allowed(bind: str) -> None:
    with pytest.raises(BindError, match=r"HOST:PORT.*\[IPV6\]:PORT.*unix:PATH"):
        await open_listeners(bind)


async def test_a_port_in_use_says_so() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(
            BindError, match=rf"Can not listen on {bind}: another process listens there .*; stop it, or"
        ):
            await open_listeners(bind)


async def test_an_address_of_another_host_says_so() -> None:
    with pytest.raises(BindError, match="this host does not have that address"):
        await open_listeners("192.0.2.1:0")


async def test_an_unknown_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    with pytest.raises(BindError, match=r"nowhere\.invalid is no known name"):
        await open_listeners("nowhere.invalid:0")


# TLS files


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two keys with their certificates, and what is neither."""
    authority = trustme.CA()
    for name in ("a", "b"):
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
    (tmp_path / "not.pem").write_text("certificate, honestly")
    return {path.name: path for path in tmp_path.iterdir()} | {"missing.pem": tmp_path / "missing.pem"}


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        ("a.crt", "", "TLS needs both tls_certificate and tls_key"),
        ("", "a.key", "TLS needs both tls_certificate and tls_key"),
        ("missing.pem", "a.key", r"Can not read tls_certificate .*missing\.pem: No such file"),
        ("a.crt", "missing.pem", r"Can not read tls_key .*missing\.pem: No such file"),
        ("not.pem", "a.key", r"Can not use tls_certificate .*not\.pem with tls_key .*a\.key .*both must be PEM"),
        ("a.crt", "not.pem", "both must be PEM"),
        ("a.crt", "b.key", "KEY_VALUES_MISMATCH.*and the certificate's own"),
        ("a.key", "a.crt", "both must be PEM"),
    ],
)
async def test_a_certificate_that_can_not_be_used(
    files: dict[str, Path], certificate: str, key: str, message: str
) -> None:
    with pytest.raises(BindError, match=message):
        await open_listeners(
            "127.0.0.1:0",
            tls_certificate=str(files[certificate]) if certificate else "",
            tls_key=str(files[key]) if key else "",
        )


async def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(files: dict[str, Path]) -> None:
    pem = files["a.key"].read_text()
    locked = re.sub(
        r"(-----BEGIN [A-Z ]+-----\n)",
        r"\1Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n",
        pem,
    )
    files["a.key"].write_text(locked)
    with pytest.raises(BindError, match="without passphrase"):
        await open_listeners("127.0.0.1:0", tls_certificate=str(files["a.crt"]), tls_key=str(files["a.key"]))


async def test_tls_before_1_2_is_not_spoken(files: dict[str, Path]) -> None:
    listeners = await open_listeners("127.0.0.1:0", tls_certificate=str(files["a.crt"]), tls_key=str(files["a.key"]))
    (listener,) = listeners
    assert isinstance(listener, trio.SSLListener)
    assert listener._ssl_context.minimum_version is ssl.TLSVersion.TLSv1_2
    await close(listeners)
