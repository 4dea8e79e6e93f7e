"""Opens the sockets that a server listens on: TCP or Unix, with or without TLS; or takes those that systemd opened.

What can not be opened is a `BindError` whose message says what, where and what to do; nothing stays half open.
"""

import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path

import trio

from relayd.config import address

_BACKLOG = 1024  # connections that the kernel accepts ahead of us
_HINTS = {
    errno.EADDRINUSE: "another process listens there (ss -ltnp shows which); stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this host does not have that address; write one that it has, or 0.0.0.0 for all",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE; grant it, or choose a higher port",
}


class BindError(Exception):
    """A listener that can not be opened as configured."""


async def open_listeners(
    bind: str, *, tls_certificate: str = "", tls_key: str = "", mode: int = 0o660
) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    """Listen on ``bind``: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH" (a socket made with permissions ``mode``).

    A name with several addresses gives several listeners; port 0 lets the kernel choose. With a certificate and its
    key (PEM files) they speak TLS 1.2 or later. A Unix socket that nobody listens on is replaced; closing the listener
    leaves the file. Raises `BindError`. The caller owns the listeners; cancelled, there are none.
    """
    context = _tls_context(tls_certificate, tls_key)
    try:
        where = address.parse(bind)
    except ValueError as error:
        raise BindError(f"Can not listen: {error}.") from error
    listeners = [_listen_unix(where.path, mode)] if isinstance(where, address.Unix) else await _listen_tcp(where, bind)
    return _with_tls(listeners, context)


def passed_listeners(
    files: Sequence[int], *, tls_certificate: str = "", tls_key: str = ""
) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    """Listen on the sockets that systemd opened and passed as ``files``; TLS as in `open_listeners`.

    What connects while nobody accepts waits in the socket, which is systemd's too. Raises `BindError`. The caller owns
    the listeners; closing them closes ``files``.
    """
    context = _tls_context(tls_certificate, tls_key)
    return _with_tls([_adopt(file) for file in files], context)


def names(listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]) -> list[str]:
    """Where each of ``listeners`` listens, as ``bind`` would say it."""
    return [_name(each) for each in listeners]


def _name(listener: trio.abc.Listener[trio.abc.Stream]) -> str:
    if isinstance(listener, trio.SSLListener):
        return _name(listener.transport_listener)
    assert isinstance(listener, trio.SocketListener)
    where = listener.socket.getsockname()
    if listener.socket.family == trio.socket.AF_UNIX:
        return f"unix:{os.fsdecode(where)}"
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


def _adopt(file: int) -> trio.SocketListener:
    reason = "it is no listening socket"
    try:
        passed = socket.socket(fileno=file)
        if passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return trio.SocketListener(trio.socket.from_stdlib_socket(passed))
        passed.close()
    except OSError as error:
        reason = error.strerror or str(error)
    raise BindError(
        f"Can not listen on file {file} that systemd passed: {reason}; the .socket unit should have nothing but "
        "ListenStream= and Accept=no."
    )


def _with_tls(
    listeners: Sequence[trio.SocketListener], context: ssl.SSLContext | None
) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    if context is None:
        return listeners
    return [trio.SSLListener(listener, context, https_compatible=True) for listener in listeners]


async def _listen_tcp(where: address.Tcp, bind: str) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(where.port, host=where.host, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise BindError(
            f"Can not listen on {bind}: {where.host} is no known name; write an address of this host."
        ) from error
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, error.strerror)
        raise BindError(f"Can not listen on {bind}: {hint}.") from error


def _listen_unix(path: str, mode: int) -> trio.SocketListener:
    try:
        _remove_stale(path)
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listener.bind(path)
            os.chmod(path, mode)  # before listen(): until then nobody can connect
            listener.listen(_BACKLOG)
            undo.pop_all()
    except OSError as error:  # also a path longer than 107 bytes, which has no strerror
        raise BindError(
            f"Can not listen on unix:{path}: {error.strerror or error}; choose a short path in a directory that "
            "exists and is ours to write."
        ) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


def _remove_stale(path: str) -> None:
    """Remove the socket that a process which is gone left at ``path``, and nothing else."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise BindError(
            f"Can not listen on unix:{path}: what is there is no socket; remove it, or choose another path."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise BindError(f"Can not listen on unix:{path}: another process listens there; stop it, or choose another path.")


def _tls_context(certificate: str, key: str) -> ssl.SSLContext | None:
    if not (certificate or key):
        return None
    if not (certificate and key):
        raise BindError("TLS needs both tls_certificate and tls_key; set both, or neither.")
    for setting, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            Path(path).read_bytes()  # ssl's own errors do not say which file
        except OSError as error:
            raise BindError(
                f"Can not read {setting} {path}: {error.strerror}; check it and its permissions."
            ) from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password="")  # a daemon has nobody to ask for one
    except ssl.SSLError as error:
        raise BindError(
            f"Can not use tls_certificate {certificate} with tls_key {key} ({error.reason}): both must be PEM, the key "
            "without passphrase and the certificate's own."
        ) from error
    return context
