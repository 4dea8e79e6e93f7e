"""What the types alone do not exclude: names, addresses, files, and keys that must go together.

Each rule looks only at values that are sound by themselves, and says where to look and what is allowed.
"""

import os
import re
import ssl
from collections.abc import Mapping
from datetime import datetime
from importlib.util import find_spec
from ipaddress import ip_network

from relayd.config import address, analytics_js
from relayd.config.document import Document
from relayd.config.errors import Keys, Problem, suggestion
from relayd.config.model import S3, SDK_SOURCES, Config, Destination, Listener, Source, SourceType

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,63}")
_ENDPOINT = re.compile(r"https?://[^\s/?#@]+[^\s?#@]*")
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
    for name, source in config.sources.items():
        if source.type == "cloud_app" and getattr(source.settings, "secret", None) == "":
            secret = ("sources", name, "settings", "secret")
            found.append(document.problem(secret, "is empty, so everybody who knows the address can send events"))
    for name, destination in config.destinations.items():
        if destination.sources == ():
            keys = ("destinations", name, "sources")
            found.append(document.problem(keys, "is empty, so nothing is fed; leave it out for all sources"))
    return found


_SOURCE_KEYS: Mapping[str, tuple[SourceType, ...]] = {
    "write_key": ("web", "mobile", "server"),
    "app": ("cloud_app",),
    "trigger": ("cloud_app",),
    "mapping": ("cloud_app",),
    "subscriptions": ("cloud_app",),
    "file": ("function",),
    "timeout": ("function",),
    "settings": ("cloud_app", "function"),
}
"""The types of sources that have a key; other keys are everybody's."""


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
        self._analytics_js(self._config.listener)
        self._limits()
        self._s3(self._config.archive.s3)
        for name, source in self._config.sources.items():
            self._source(name, source)
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

    def _analytics_js(self, listener: Listener) -> None:
        keys = ("listener", "analytics_js")
        if not (listener.analytics_js and self._sound(*keys)):
            return
        try:
            analytics_js.find(listener.analytics_js)
        except ValueError as error:
            self._report(keys, str(error))

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

    def _s3(self, s3: S3) -> None:
        """Keys that need each other, and the extra that they all need."""
        at = ("archive", "s3")
        if self._sound(*at, "endpoint") and s3.endpoint and not _ENDPOINT.fullmatch(s3.endpoint):
            self._report((*at, "endpoint"), "must be http://HOST... or https://HOST..., without a ?query or a password")
        pair = ("access_key_id", "secret_access_key")
        if all(self._sound(*at, key) for key in pair):
            for key, other in (pair, pair[::-1]):
                if getattr(s3, other) and not getattr(s3, key):
                    self._miss((*at, key), f"is required, as {other} is set")
        if not self._sound(*at, "bucket"):
            return
        if not s3.bucket:
            others = ("prefix", "endpoint", *pair)
            given = next((key for key in others if self._sound(*at, key) and getattr(s3, key)), None)
            if given:
                self._miss((*at, "bucket"), f"is required, as {given} is set")
        elif not _BUCKET.fullmatch(s3.bucket):
            self._report((*at, "bucket"), "a bucket's name has 3 to 63 letters, digits, dots, - or _")
        elif find_spec("obstore") is None:
            self._report((*at, "bucket"), "needs obstore, which is not installed: pip install 'relayd[s3]'")

    def _source(self, name: str, source: Source) -> None:
        """What a source of its type needs, and what is of another type."""
        at = ("sources", name)
        typed = self._sound(*at, "type")
        if not typed and (source.app or source.file):
            return
        for key, types in _SOURCE_KEYS.items():
            if typed and source.type not in types and self._document.has(*at, key):
                self._report((*at, key), f"must be left out for type {source.type}; it is for {' and '.join(types)}")
        if source.type in SDK_SOURCES:
            if not source.write_key and self._sound(*at, "write_key"):
                self._miss((*at, "write_key"), "is required: the key its SDKs are set up with")
        elif source.type == "function":
            if source.file is None and self._sound(*at, "file"):
                self._miss((*at, "file"), "is required: the Python file with the function")
        elif source.app is None and self._sound(*at, "app"):
            self._miss((*at, "app"), "is required: the name of the app whose webhooks come")

    def _write_keys(self) -> None:
        seen: dict[str, str] = {}
        for name, source in self._config.sources.items():
            keys = ("sources", name, "write_key")
            if not source.write_key or not self._sound(*keys):
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
