"""What the types alone do not exclude: names, addresses, files, and keys that must go together.

Each rule looks only at values that are sound by themselves, and says where to look and what is allowed.
"""

import os
import re
import ssl
from datetime import datetime
from ipaddress import ip_network

from relayd.config import address
from relayd.config.document import Document
from relayd.config.errors import Keys, Problem, suggestion
from relayd.config.model import Config, Destination, Listener

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SOCKET_PATH = 107
"""Bytes of a Unix socket's path on Linux, at most (unix(7))."""


def check(config: Config, document: Document) -> None:
    """Report every rule that the configuration breaks."""
    _Rules(config, document).all()


def warnings(config: Config, document: Document) -> list[Problem]:
    """What is allowed and yet hardly meant."""
    found = []
    if not config.sources:
        found.append(document.problem((), "there are no [sources.NAME], so every event is refused"))
    if not config.destinations:
        found.append(document.problem((), "there are no [destinations.NAME], so events are kept and go nowhere"))
    for name, destination in config.destinations.items():
        if destination.sources == ():
            keys = ("destinations", name, "sources")
            found.append(document.problem(keys, "is empty, so nothing is fed; leave it out for all sources"))
    return found


class _Rules:
    def __init__(self, config: Config, document: Document) -> None:
        self._config = config
        self._document = document
        sources = document.tree.get("sources")
        self._sources = list(sources) if isinstance(sources, dict) else []  # those with errors, too

    def all(self) -> None:
        self._names("sources")
        self._names("destinations")
        self._binds()
        self._tls(self._config.listener)
        self._proxies(self._config.listener)
        self._limits()
        self._write_keys()
        for name, destination in self._config.destinations.items():
            self._destination(name, destination)

    def _names(self, table: str) -> None:
        names = self._document.tree.get(table)
        for name in names if isinstance(names, dict) else ():
            if not _NAME.fullmatch(name):
                self._report((table, name), "a name has 1 to 64 letters (A-Z, a-z), digits, - or _")

    def _binds(self) -> None:
        config = self._config
        listener = self._bind(("listener", "bind"), config.listener.bind, "")
        admin = self._bind(("admin", "bind"), config.admin.bind, config.daemon.state_dir)
        if isinstance(admin, address.Tcp):
            if self._sound("admin", "token") and not config.admin.token:
                self._miss(("admin", "token"), "is required, as bind is a TCP address; any long random string will do")
            if admin == listener and admin.port:
                self._report(("admin", "bind"), f"must not be listener.bind, {config.listener.bind}")

    def _bind(self, keys: Keys, bind: str, folder: str) -> address.Tcp | address.Unix | None:
        if not self._sound(*keys):
            return None
        try:
            parsed = address.parse(bind)
        except ValueError as error:
            self._report(keys, str(error))
            return None
        if isinstance(parsed, address.Unix):
            path = os.path.join(folder, parsed.path)
            if len(os.fsencode(path)) > _SOCKET_PATH:
                self._report(keys, f"{path} is too long for a Unix socket; it has at most {_SOCKET_PATH} bytes")
        return parsed

    def _tls(self, listener: Listener) -> None:
        if not (self._sound("listener", "tls_certificate") and self._sound("listener", "tls_key")):
            return
        files = {"tls_certificate": listener.tls_certificate, "tls_key": listener.tls_key}
        if not any(files.values()):
            return
        for key, other in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
            if not files[key]:
                self._miss(("listener", key), f"is required, as {other} is set")
            else:
                self._readable(("listener", key), files[key])
        if self._sound("listener", "tls_certificate") and self._sound("listener", "tls_key"):
            fault = _fault_of_pair(listener.tls_certificate, listener.tls_key)
            if fault:
                self._report(("listener", "tls_key"), fault)

    def _readable(self, keys: Keys, path: str) -> None:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            self._report(keys, f"{path} can not be read: {error.strerror}")

    def _proxies(self, listener: Listener) -> None:
        for index, network in enumerate(listener.trusted_proxies):
            keys = ("listener", "trusted_proxies", index)
            if not self._sound(*keys):
                continue
            try:
                ip_network(network)
            except ValueError as error:
                self._report(keys, f'{error}; use an address or a network such as "10.0.0.0/8"')

    def _limits(self) -> None:
        """A limit that another makes pointless."""
        listener = self._config.listener
        for small, large in (
            ("max_event", "max_body"),
            ("max_event", "max_inflated"),
            ("max_body", "max_buffered"),
            ("max_inflated", "max_buffered"),
        ):
            if not (self._sound("listener", small) and self._sound("listener", large)):
                continue
            if getattr(listener, small) > getattr(listener, large):
                written = small if self._document.has("listener", small) else large
                message = (
                    f"{small} ({getattr(listener, small)}) must not be more than {large} ({getattr(listener, large)})"
                )
                self._miss(("listener", written), message)

    def _write_keys(self) -> None:
        seen: dict[str, str] = {}
        for name, source in self._config.sources.items():
            keys = ("sources", name, "write_key")
            if not self._sound(*keys):
                continue
            first = seen.setdefault(source.write_key, name)
            if first != name:
                place = self._document.place(("sources", first, "write_key"))
                self._report(keys, f"is also the write key of the source {first} ({place}); each needs its own")

    def _destination(self, name: str, destination: Destination) -> None:
        at = ("destinations", name)
        for index, source in enumerate(destination.sources or ()):
            keys = (*at, "sources", index)
            if self._sound(*keys) and source not in self._sources:
                self._miss(keys, f'unknown source "{source}"; {suggestion(source, self._sources, "sources")}')
        if self._sound(*at, "start") and not _is_start(destination.start):
            self._report(
                (*at, "start"),
                'must be "latest", "earliest" or an ISO 8601 time with its zone, such as "2026-01-31T00:00:00Z"',
            )
        first, longest = destination.retry.initial_wait, destination.retry.max_wait
        if self._sound(*at, "retry") and first is not None and longest is not None and first > longest:
            self._report((*at, "retry", "initial_wait"), f"must not be more than max_wait, {longest}; it is {first}")

    def _sound(self, *keys: str | int) -> bool:
        return self._document.sound(*keys)

    def _miss(self, keys: Keys, message: str) -> None:
        self._document.miss(keys, message)

    def _report(self, keys: Keys, message: str) -> None:
        self._document.report(keys, message)


def _is_start(start: str) -> bool:
    if start in ("latest", "earliest"):
        return True
    try:
        return datetime.fromisoformat(start).tzinfo is not None
    except ValueError:
        return False


def _fault_of_pair(certificate: str, key: str) -> str | None:
    """Why a certificate and a key can not be used together, if so."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedError:
        return "must not be encrypted"
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return "is not the key of tls_certificate"
        return "must be a PEM file with a private key, and tls_certificate one with its certificate"
    return None


class _EncryptedError(Exception):
    """OpenSSL asks for a password."""


def _no_password() -> str:
    raise _EncryptedError
