"""The configuration as types: each key, its default and what it means. These structs are the reference;
``relayd check --reference`` prints them, and ``conf/relayd.toml`` is that print.

Durations are ``units.Duration`` (seconds), sizes ``units.Size`` (bytes, "KB" is 1,024) and rates ``units.Rate``
(a second).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from relayd.config.units import Duration, Rate, Size

KB, MB, GB = 2**10, 2**20, 2**30


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """One table of the configuration. Subclasses repeat ``frozen=True``, which mypy does not inherit."""


def doc(text: str, *, example: object = None, **bounds: Any) -> Meta:
    """The line of explanation of a key, with its bounds (``gt``, ``ge``, ``le``, ``min_length``).

    The reference shows ``example`` where there is no default to show.
    """
    return _meta(text, example, None, bounds)


def secret(text: str, *, example: object = None, **bounds: Any) -> Meta:
    """`doc` for a key whose value, or all that is in it, must not be seen: logs redact it, no error shows it."""
    return _meta(text, example, {"secret": True}, bounds)


def public(text: str, *, example: object = None, **bounds: Any) -> Meta:
    """`doc` for a setting of a destination that web pages and apps get too, where the tool is in device-mode."""
    return _meta(text, example, {"public": True}, bounds)


def _meta(text: str, example: object, extra: dict[str, bool] | None, bounds: dict[str, Any]) -> Meta:
    return Meta(description=text, examples=None if example is None else [example], extra=extra, **bounds)


class Daemon(Section, frozen=True):
    """The process."""

    state_dir: Annotated[str, doc("where everything is kept; empty: $STATE_DIRECTORY, else ./state")] = ""
    log_format: Annotated[
        Literal["auto", "json", "console"],
        doc("auto: console on a terminal, journald's fields under systemd, else JSON lines"),
    ] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], doc("the least level that is logged")] = "info"
    drain_timeout: Annotated[Duration, doc("at a stop, how long what is in flight may take to finish")] = Duration(10)


class Listener(Section, frozen=True):
    """Where applications send their events (Segment's Tracking API)."""

    bind: Annotated[
        str, doc('"HOST:PORT", "[IPV6]:PORT" or "unix:PATH"; sockets of a systemd .socket unit are used in its place')
    ] = "127.0.0.1:8088"
    tls_certificate: Annotated[str, doc("PEM file with the certificate chain; set together with tls_key")] = ""
    tls_key: Annotated[str, doc("PEM file with the private key")] = ""
    trusted_proxies: Annotated[
        tuple[str, ...], doc("addresses or networks whose X-Forwarded-For is believed; a Unix socket's peer always is")
    ] = ()
    analytics_js: Annotated[
        str, doc("folder of the npm package @segment/analytics-next, served to web pages; empty: not served")
    ] = ""
    max_connections: Annotated[int, doc("open connections; one more is answered 503", ge=1)] = 4096
    max_head: Annotated[Size, doc("bytes of request line and headers", ge=1024)] = Size(16 * KB)
    max_headers: Annotated[int, doc("headers of a request", ge=1)] = 100
    max_body: Annotated[Size, doc("bytes of a body as sent", ge=1024)] = Size(500 * KB)
    max_inflated: Annotated[Size, doc("bytes of a gzip body once inflated", ge=1024)] = Size(4 * MB)
    max_event: Annotated[Size, doc("bytes of one event", ge=1024)] = Size(32 * KB)
    max_batch: Annotated[int, doc("events of a batch", ge=1)] = 2500
    max_buffered: Annotated[
        Size, doc("bytes of bodies being read, and again of events awaiting their commit; above: 503", ge=MB)
    ] = Size(64 * MB)
    head_timeout: Annotated[Duration, doc("to send a request's head", gt=0)] = Duration(10)
    body_timeout: Annotated[Duration, doc("to send a request's body", gt=0)] = Duration(30)
    idle_timeout: Annotated[Duration, doc("an idle connection is kept open so long", gt=0)] = Duration(75)


class Admin(Section, frozen=True):
    """The control socket that `relayd status` and the other commands talk to."""

    bind: Annotated[str, doc('"unix:PATH" (relative to state_dir), or "HOST:PORT" with a token')] = "unix:relayd.sock"
    token: Annotated[str, secret("bearer token, required when bind is a TCP address")] = ""


class Journal(Section, frozen=True):
    """The append-only log of all events."""

    fsync: Annotated[
        Literal["always", "interval", "never"],
        doc("always: 200 means on disk; interval: a power cut may cost fsync_interval; never: the kernel decides"),
    ] = "always"
    fsync_interval: Annotated[Duration, doc('between syncs with fsync = "interval"', gt=0)] = Duration(0.2)
    segment_size: Annotated[Size, doc("a segment this large is sealed and compressed into the archive", ge=1024)] = (
        Size(64 * MB)
    )
    retention: Annotated[Duration, doc("age at which archived segments go")] = Duration(30 * 86400)
    max_size: Annotated[
        Size, doc("bytes of journal and archive above which the oldest archived segments go; 0B: no limit")
    ] = Size(20 * GB)
    min_free: Annotated[Size, doc("disk reserve; with less free, events are refused with 503")] = Size(256 * MB)


class S3(Section, frozen=True):
    """A further copy of the archive in S3-compatible storage, made as segments are sealed (needs relayd[s3])."""

    bucket: Annotated[str, doc("empty: no copy is made")] = ""
    prefix: Annotated[str, doc("an object's name is PREFIX/DAY/OFFSET.jsonl.zst, as in archive/")] = ""
    endpoint: Annotated[str, doc("the storage's http:// or https:// address; empty: that of AWS")] = ""
    region: Annotated[str, doc("the bucket's region", min_length=1)] = "us-east-1"
    access_key_id: Annotated[
        str, secret("whose key; empty: $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, else the machine's role")
    ] = ""
    secret_access_key: Annotated[str, secret("set together with access_key_id")] = ""


class Archive(Section, frozen=True):
    """Further copies of what is sealed. What has one yet to be made is kept beyond journal.retention and max_size,
    unless the disk has less than twice journal.min_free."""

    segment_logs: Annotated[
        bool, doc("true: also as Segment writes it, segment-logs/SOURCE/DAY/OFFSET.gz, for tools that read that")
    ] = False
    segment_logs_in: Annotated[str, doc("the directory that segment-logs is in; empty: archive in state_dir")] = ""
    s3: S3 = S3()


class Dedupe(Section, frozen=True):
    """Events whose messageId was seen within the window are answered 200 and not stored again."""

    window: Annotated[Duration, doc("how long a messageId is remembered")] = Duration(86400)
    max_ids: Annotated[int, doc("how many messageIds are remembered (about 30 bytes each)", ge=1, le=100_000_000)] = (
        1_000_000
    )


SourceType = Literal["web", "mobile", "server", "cloud_app", "function"]
SDK_SOURCES = frozenset({"web", "mobile", "server"})
"""The types of sources that send by an SDK, with a write key; the others send webhooks to /v1/sources/NAME."""


class SourceSubscription(Section, frozen=True, kw_only=True):
    """One kind of event that is made of an app's webhooks; any number may match one of them."""

    name: Annotated[str, doc("its own name, part of its events' messageIds", min_length=1, example="orders")]
    trigger: Annotated[str, doc("which webhooks, in the FQL of filters, over body and headers; empty: all of them")] = (
        ""
    )
    mapping: Annotated[
        Mapping[str, object],
        doc(
            "what becomes an event: type (else track), userId, messageId, ...; of body and headers",
            example={"event": "Paid", "userId": {"@path": "$.body.id"}},
        ),
    ]


class Source(Section, frozen=True, kw_only=True):
    """Something that sends events."""

    type: Annotated[
        SourceType, doc("web, mobile, server: an SDK sends; cloud_app, function: webhooks come to /v1/sources/NAME")
    ] = "server"
    write_key: Annotated[str, secret("the key its SDKs are set up with", min_length=1, example="example")] = ""
    enabled: Annotated[bool, doc("false: its events are answered 200, counted as source_disabled, and not kept")] = True
    app: Annotated[str | None, doc("cloud_app: whose webhooks", example="stripe")] = None
    trigger: Annotated[
        str | None,
        doc("webhook: which ones, in the FQL of filters, over body and headers", example='body.kind = "order"'),
    ] = None
    mapping: Annotated[
        Mapping[str, object] | None,
        doc(
            "webhook: what becomes an event, of body and headers",
            example={"@path": "$.body.event"},
        ),
    ] = None
    subscriptions: Annotated[
        tuple[SourceSubscription, ...], doc("cloud_app: in place of what the app comes with, or of trigger and mapping")
    ] = ()
    file: Annotated[
        str | None, doc("function: a Python file with `async def on_request`", example="conf/functions/source.py")
    ] = None
    timeout: Annotated[Duration, doc("function: how long a call may take, after which its process is ended", gt=0)] = (
        Duration(5)
    )
    settings: Annotated[
        Mapping[str, object] | Section, doc("cloud_app: what the app declares; function: passed to it")
    ] = field(default_factory=dict)


PolicyName = Literal[
    "segment", "cpp", "clojure", "go", "java", "javascript", "dotnet", "node", "php", "python", "ruby", "mobile"
]


class Retry(Section, frozen=True):
    """When a failed delivery is tried again: the named policy, and any of its numbers overridden."""

    policy: Annotated[
        PolicyName, doc("segment: randomized exponential within 4 h; the others as in Segment's SDKs")
    ] = "segment"
    initial_wait: Annotated[Duration | None, doc("before the second attempt", example="1s")] = None
    growth: Annotated[float | None, doc("each wait is the last one times this", ge=1, example=2.0)] = None
    max_wait: Annotated[Duration | None, doc("no wait is longer", example="1h")] = None
    max_attempts: Annotated[int | None, doc("attempts in all, the first included; 0: no limit", ge=0, example=10)] = (
        None
    )
    window: Annotated[Duration | None, doc("from the first attempt to the last; 0s: no limit", example="12h")] = None
    jitter: Annotated[float | None, doc("share of each wait that is random", ge=0, le=1, example=0.5)] = None


class Delivery(Section, frozen=True):
    """How fast and in which order events go out."""

    concurrency: Annotated[int, doc("requests in flight at once", ge=1, le=1024)] = 32
    rate: Annotated[Rate | None, doc("requests a second at most; unset: no limit", gt=0, example="100/s")] = None
    base_url: Annotated[
        str,
        doc("where requests go in place of the vendor's host: a proxy, or a stand-in", example="http://127.0.0.1:9"),
    ] = ""
    timeout: Annotated[Duration, doc("for a whole request, connecting included", gt=0)] = Duration(10)
    ordering: Annotated[
        Literal["none", "user"], doc("user: a user's events leave one after the other, across retries too")
    ] = "none"
    batch_size: Annotated[int | None, doc("events a request at most; unset: the type's default", ge=1, example=100)] = (
        None
    )
    batch_bytes: Annotated[
        Size | None, doc("bytes of a batch at most; unset: the type's default", ge=1, example="1MB")
    ] = None
    batch_wait: Annotated[Duration, doc("how long a batch may wait to fill")] = Duration(0)
    max_outbox: Annotated[
        int, doc("events pending or held; when full, the journal is not read further (nothing is lost)", ge=1000)
    ] = 5_000_000


class Filter(Section, frozen=True, kw_only=True):
    """What a destination does not get, and when: one of the actions or more, applied in this order."""

    condition: Annotated[str, doc("which events it applies to, in FQL", example='event = "Heartbeat"')] = field(
        name="if"
    )
    sample: Annotated[
        Mapping[str, object] | None,
        doc("keep a share of them: by the value at path, else at random", example={"percent": 0.1, "path": "userId"}),
    ] = None
    drop: Annotated[bool | None, doc("true: do not send them", example=True)] = None
    drop_properties: Annotated[
        Mapping[str, object] | None, doc("send them without these", example={"context": ["ip"], "traits": ["email"]})
    ] = None
    allow_properties: Annotated[
        Mapping[str, object] | None, doc("of these objects send only these", example={"properties": ["total"]})
    ] = None
    map_properties: Annotated[
        Mapping[str, object] | None,
        doc("move, copy or set values", example={"properties.mail": {"move": "traits.email"}}),
    ] = None
    hash_properties: Annotated[
        Mapping[str, object] | None, doc("send the SHA-256 of these values", example={"traits": ["email"]})
    ] = None

    @property
    def table(self) -> dict[str, object]:
        """As it is written."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value is not None}


class Subscription(Section, frozen=True, kw_only=True):
    """One thing that a destination does: with which events, and how they become what is sent."""

    name: Annotated[str, doc("its own name; deliveries that wait are known by it", min_length=1, example="Orders")]
    action: Annotated[str, doc("one of the type's actions; `relayd catalog TYPE` lists them", example="send")]
    trigger: Annotated[str, doc("which events, in FQL; empty: all of them")] = ""
    mapping: Annotated[
        Mapping[str, object] | None,
        doc(
            "field = value or directive; unset: the defaults of the action's fields", example={"data": {"@path": "$."}}
        ),
    ] = None
    enabled: Annotated[bool, doc("false: no event is for it")] = True


class Destination(Section, frozen=True, kw_only=True):
    """A tool that is fed."""

    type: Annotated[str, doc("what it is; `relayd catalog` lists the types")]
    sources: Annotated[
        tuple[str, ...] | None, doc("names of the sources it is fed from; unset: all", example=["example"])
    ] = None
    enabled: Annotated[bool, doc("false: events pass it by, counted as DESTINATION_DISABLED; replay them later")] = True
    mode: Annotated[
        Literal["cloud", "device"] | None,
        doc(
            "who sends events of web and mobile sources: relayd or the device; unset: as type and source have it",
            example="cloud",
        ),
    ] = None
    start: Annotated[str, doc('where a new destination begins: "latest", "earliest" or an ISO 8601 time')] = "latest"
    settings: Annotated[Mapping[str, object] | Section, doc("what the type declares")] = field(default_factory=dict)
    retry: Retry = Retry()
    delivery: Delivery = Delivery()
    filters: Annotated[tuple[Filter, ...], doc("which events, or which parts of them, it does not get")] = ()
    subscriptions: Annotated[
        tuple[Subscription, ...], doc("what it does with which events; none: the type's presets")
    ] = ()


class Config(Section, frozen=True):
    """A whole configuration, checked."""

    include: Annotated[tuple[str, ...], doc("more files, relative to this one; globs are allowed")] = ()
    daemon: Daemon = Daemon()
    listener: Listener = Listener()
    admin: Admin = Admin()
    journal: Journal = Journal()
    archive: Archive = Archive()
    dedupe: Dedupe = Dedupe()
    sources: Mapping[str, Source] = field(default_factory=dict)
    destinations: Mapping[str, Destination] = field(default_factory=dict)

    @property
    def state_dir(self) -> Path:
        """The state directory; the loader has put the default in."""
        return Path(self.daemon.state_dir)
