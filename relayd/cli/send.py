"""``relayd send``: one event, or a file of them, to a running relay."""

import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

import click
import httpx
import msgspec
from msgspec import Raw, Struct

from relayd import __version__
from relayd.cli.config import USUAL, config_option, load_or_end
from relayd.config import address
from relayd.config.model import Listener, Source

DEFAULT_URL = "http://127.0.0.1:8088"
TYPES = ("track", "identify", "page", "screen", "group", "alias")
BATCH_EVENTS = 100
BATCH_BYTES = 450_000
"""Bytes of events in a request; a relay takes 500 KB."""
TIMEOUT = 30.0
"""Seconds for a relay to answer."""


class Relay(Struct, frozen=True):
    """Where a relay listens, and how to get there."""

    url: str
    socket: str | None = None
    """Path of its Unix socket."""
    certificate: str | None = None
    """PEM file of the one certificate that is trusted, whatever name is in it; None: those of the system."""

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else self.url

    @classmethod
    def of(cls, listener: Listener) -> "Relay":
        """The relay that is configured so, seen from its own host."""
        bind = address.parse(listener.bind)
        scheme = "https" if listener.tls_certificate else "http"
        certificate = listener.tls_certificate or None
        if isinstance(bind, address.Unix):
            return cls(f"{scheme}://localhost", socket=bind.path, certificate=certificate)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind.host, bind.host)  # noqa: S104  compared, not bound
        return cls(
            f"{scheme}://[{host}]:{bind.port}" if ":" in host else f"{scheme}://{host}:{bind.port}", None, certificate
        )

    def client(self, write_key: str) -> httpx.Client:
        """A client that sends to it as the source of this key."""
        verify: ssl.SSLContext | bool = self.url.startswith("https:")
        if self.certificate:
            verify = ssl.create_default_context(cafile=self.certificate)
            verify.check_hostname = False
            verify.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return httpx.Client(
            base_url=self.url,
            transport=httpx.HTTPTransport(verify=verify, uds=self.socket, trust_env=False),
            trust_env=False,
            timeout=TIMEOUT,
            auth=(write_key, ""),
            headers={"user-agent": f"relayd-send/{__version__}"},
        )


@click.command("send")
@click.argument("type_", metavar="[TYPE]", type=click.Choice(TYPES), required=False)
@config_option
@click.option("--url", metavar="URL", help=f"The relay.  [default: that of the configuration, else {DEFAULT_URL}]")
@click.option("--write-key", metavar="KEY", help="Of the source.  [default: that of the configuration's source]")
@click.option("--source", metavar="NAME", help="The configuration's source whose write key is used.")
@click.option("--event", metavar="NAME", help="Name of the event that is tracked, or of the page or screen.")
@click.option("--user", metavar="ID", help="The userId.")
@click.option("--anonymous", metavar="ID", help="The anonymousId.  [default: a new one, if there is no userId]")
@click.option("--group", metavar="ID", help="The groupId, of a group.")
@click.option("--previous", metavar="ID", help="The previousId, of an alias.")
@click.option("--property", "properties", metavar="KEY=VALUE", multiple=True, help="A property; VALUE is JSON or text.")
@click.option("--trait", "traits", metavar="KEY=VALUE", multiple=True, help="A trait; VALUE is JSON or text.")
@click.option("--file", "file", metavar="FILE", type=click.File("rb"), help="Send these events, one a line; -: stdin.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    type_: str | None,
    config: Path | None,
    url: str | None,
    write_key: str | None,
    source: str | None,
    event: str | None,
    user: str | None,
    anonymous: str | None,
    group: str | None,
    previous: str | None,
    properties: tuple[str, ...],
    traits: tuple[str, ...],
    file: BinaryIO | None,
    as_json: bool,
) -> None:
    """Send an event of TYPE, or the events of a file, to a running relay, and print its answer.

    As with every SDK, an event that breaks a rule is answered 200 too; relayd status counts it as rejected.

    \b
    relayd send track --event "Order Completed" --user u-1 --property total=9.5
    relayd send --write-key KEY --file events.jsonl
    """
    if (type_ is None) == (file is None):
        raise click.UsageError("say either a TYPE of event, or a --file of events")
    if file is not None:
        batches = _batches(_lines(file))
    else:
        assert type_ is not None
        built = _event(
            type_,
            name=event,
            ids={"userId": user, "anonymousId": anonymous, "groupId": group, "previousId": previous},
            properties=_pairs(properties),
            traits=_pairs(traits),
        )
        batches = iter([[msgspec.json.encode(built)]])
    relay, key = _whither(config, url, write_key, source)
    _send(relay, key, batches, as_json)


def _whither(config: Path | None, url: str | None, write_key: str | None, source: str | None) -> tuple[Relay, str]:
    """The relay and the write key; what is not said comes from the configuration. Ends the command without either."""
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.BadParameter("must be http://HOST:PORT or https://HOST:PORT", param_hint="--url")
    if write_key is not None and config is None:
        return Relay(url or DEFAULT_URL), write_key
    if config is None and not any(path.exists() for path in USUAL):
        raise click.UsageError("say the source's --write-key, or name a configuration with -c FILE")
    loaded = load_or_end(config).config
    relay = Relay(url) if url else Relay.of(loaded.listener)
    return relay, write_key or _write_key(loaded.sources, source)


def _write_key(sources: Mapping[str, Source], wanted: str | None) -> str:
    if wanted is not None and wanted not in sources:
        raise click.UsageError(f"there is no source {wanted!r}; there are: {', '.join(sources) or 'none'}")
    usable = [name for name, each in sources.items() if each.write_key and (each.enabled or name == wanted)]
    if wanted is not None and wanted not in usable:
        raise click.UsageError(f"{wanted!r} takes webhooks at /v1/sources/{wanted}, and has no write key")
    usable = [wanted] if wanted is not None else usable
    if len(usable) != 1:
        raise click.UsageError(f"say which --source sends; enabled are: {', '.join(usable) or 'none'}")
    return sources[usable[0]].write_key


def _pairs(pairs: Iterable[str]) -> dict[str, object]:
    """``KEY=VALUE``, where what does not read as JSON is text."""
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{pair!r} is not KEY=VALUE")
        try:
            found[key] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[key] = value
    return found


def _event(
    type_: str,
    *,
    name: str | None,
    ids: Mapping[str, str | None],
    properties: Mapping[str, object],
    traits: Mapping[str, object],
) -> dict[str, object]:
    """An event as an SDK would send it."""
    if type_ == "track" and not name:
        raise click.UsageError("a track has a name: say --event NAME")
    event: dict[str, object] = {"type": type_, "messageId": f"relayd-send-{uuid4()}", "timestamp": _now()}
    event |= {key: value for key, value in ids.items() if value is not None}
    if "userId" not in event and "anonymousId" not in event:
        event["anonymousId"] = str(uuid4())
    if name:
        event["event" if type_ == "track" else "name"] = name
    if properties or type_ in ("track", "page", "screen"):
        event["properties"] = properties
    if traits or type_ in ("identify", "group"):
        event["traits"] = traits
    return event | {"context": {"library": {"name": "relayd-send", "version": __version__}}}


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The events of a file. Raises ``ValueError`` at a line that is no JSON object."""
    name = getattr(file, "name", "<stdin>")
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                msgspec.json.decode(line, type=dict[str, Raw])
            except msgspec.DecodeError as error:
                raise ValueError(f"{name}:{number}: not an event: {error}") from None
            yield line.strip()


def _batches(events: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for event in events:
        if batch and (len(batch) == BATCH_EVENTS or size + len(event) + 1 > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += len(event) + 1
    if batch:
        yield batch


def _send(relay: Relay, write_key: str, batches: Iterable[list[bytes]], as_json: bool) -> None:
    """Post batch after batch and print each answer. Ends the command at the first that is not taken."""
    accepted = 0
    try:
        with relay.client(write_key) as client:
            for batch in batches:
                body = msgspec.json.encode({"batch": [Raw(event) for event in batch], "sentAt": _now()})
                answer = client.post("/v1/batch", content=body, headers={"content-type": "application/json"})
                taken = answer.status_code == httpx.codes.OK
                accepted += len(batch) * taken
                _print(answer, len(batch), as_json)
                if not taken:
                    retry_after = answer.headers.get("retry-after")
                    again = f"; it asks to wait {retry_after} s before the next try" if retry_after else ""
                    _fail(f"the relay answered {answer.status_code}{again}; events taken before: {accepted}")
    except ValueError as error:
        _fail(f"{error}; events taken before: {accepted}")
    except httpx.ConnectError as error:
        _fail(f"no relay listens at {relay} ({error}); start it with: relayd run")
    except httpx.TimeoutException:
        _fail(f"the relay at {relay} did not answer within {TIMEOUT:g} s; events taken before: {accepted}")
    except httpx.TransportError as error:
        _fail(f"the relay at {relay} did not answer properly ({error}); events taken before: {accepted}")


def _print(answer: httpx.Response, events: int, as_json: bool) -> None:
    if as_json:
        try:
            body: object = answer.json()
        except ValueError:
            body = answer.text
        click.echo(msgspec.json.encode({"status": answer.status_code, "events": events, "answer": body}))
    else:
        click.echo(f"{events} event{'' if events == 1 else 's'}: {answer.status_code} {answer.text}".rstrip())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fail(message: str) -> NoReturn:
    sys.stdout.flush()
    raise click.ClickException(message)
