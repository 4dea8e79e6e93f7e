"""A whole configuration: what a good one becomes, and the exact words for each thing that is wrong."""

from collections.abc import Callable

import pytest

from relayd.config.load import Loaded
from relayd.config.model import Config, Delivery, Listener, Retry, Source
from relayd.config.units import Duration, Rate, Size

Loads = Callable[..., Loaded]
Problems = Callable[..., list[str]]

HOOK = '[destinations.crm]\ntype = "hook"\n[destinations.crm.settings]\nurl = "https://crm.example"\n'


def test_an_empty_file_is_the_defaults(loaded: Loads) -> None:
    config = loaded("").config
    assert config.listener == Listener()
    assert config.daemon.state_dir == "state"
    assert config == Config(daemon=config.daemon)


def test_every_kind_of_value_is_converted(loaded: Loads) -> None:
    config = loaded(
        """\
[daemon]
state_dir = "/srv/relayd"
drain_timeout = "1.5s"
[listener]
trusted_proxies = ["10.0.0.0/8", "::1"]
max_body = "1MB"
head_timeout = "2m"
[journal]
max_size = 0
[sources.web]
type = "web"
write_key = "wk"
[destinations.crm]
type = "hook"
sources = ["web"]
start = "2026-01-31T00:00:00+01:00"
settings.url = "https://crm.example"
settings.token = "12345678"
settings.codes = [200, 204]
settings.limit = "64KB"
settings.keys = [{ id = "a" }, { id = "b", weight = 1 }]
settings.extra = { any = [1, "x"] }
settings.headers.x-team = "growth"
retry = { growth = 2, jitter = 0.5, window = "12h" }
delivery = { rate = "600/min", batch_size = 100 }
"""
    ).config
    assert config.state_dir.as_posix() == "/srv/relayd"
    assert config.daemon.drain_timeout == 1.5
    assert config.listener.trusted_proxies == ("10.0.0.0/8", "::1")
    assert config.listener.max_body == Size(2**20)
    assert config.listener.head_timeout == Duration(120)
    assert config.journal.max_size == Size(0)
    assert config.sources == {"web": Source(type="web", write_key="wk")}
    crm = config.destinations["crm"]
    assert (crm.sources, crm.start) == (("web",), "2026-01-31T00:00:00+01:00")
    assert crm.retry == Retry(growth=2.0, jitter=0.5, window=Duration(43200))
    assert crm.delivery == Delivery(rate=Rate(10), batch_size=100)
    assert repr(crm.settings) == (
        "Hook(url='https://crm.example', token='12345678', pin=None, headers={'x-team': 'growth'}, method='POST', "
        "version=1, codes=(200, 204), name='hook', limit=65536, "
        "keys=[Key(id='a', weight=1.0), Key(id='b', weight=1.0)], "
        "extra={'any': [1, 'x']})"
    )
    assert isinstance(crm.retry.growth, float)


@pytest.mark.parametrize(
    ("environ", "state_dir"),
    [({}, "state"), ({"STATE_DIRECTORY": "/var/lib/relayd:/var/lib/more"}, "/var/lib/relayd")],
)
def test_the_state_directory_is_systemds_or_here(loaded: Loads, state_dir: str) -> None:
    assert str(loaded("").config.state_dir) == state_dir


WRONG = {
    # what is wrong: (the file, what is said of it after "relayd.toml:")
    "an unknown key": ('[listener]\nbnid = "x"', '2: listener.bnid: unknown key "bnid"; did you mean "bind"?'),
    "an unknown key like no other": (
        "[dedupe]\nzzz = 1",
        '2: dedupe.zzz: unknown key "zzz"; known keys are window, max_ids',
    ),
    "an unknown table": ("\n[lisener]", '2: lisener: unknown key "lisener"; did you mean "listener"?'),
    "a missing key": ("\n[sources.web]", "2: sources.web.write_key: is required: the key its SDKs are set up with"),
    "a missing key of a type's settings": (
        '\n[destinations.crm]\ntype = "hook"',
        "2: destinations.crm.settings.url: is required: where it goes",
    ),
    "a string for an integer": (
        '[listener]\nmax_headers = "1"',
        "2: listener.max_headers: must be an integer, not a string",
    ),
    "a boolean for an integer": (
        "[listener]\nmax_headers = true",
        "2: listener.max_headers: must be an integer, not a boolean",
    ),
    "a float for an integer": (
        "[listener]\nmax_headers = 1.0",
        "2: listener.max_headers: must be an integer, not a float",
    ),
    "an integer for a boolean": (
        '[sources.web]\nenabled = 1\nwrite_key = "k"',
        "2: sources.web.enabled: must be true or false, not an integer",
    ),
    "an integer for a string": ("[listener]\nbind = 8088", "2: listener.bind: must be a string, not an integer"),
    "a time for a string": (
        HOOK + "[destinations.other]\ntype = 'other'\nstart = 2026-01-31T00:00:00Z",
        "7: destinations.other.start: must be a string, not a date or time; put it in quotes",
    ),
    "a string for an array": (
        '[listener]\ntrusted_proxies = "::1"',
        "2: listener.trusted_proxies: must be an array, not a string",
    ),
    "an array for a table": ("\nlistener = []", "2: listener: must be a table, not an array"),
    "a string for a table of tables": ('\nsources.web = "wk"', "2: sources.web: must be a table, not a string"),
    "an element of a wrong type": (
        '[listener]\ntrusted_proxies = ["::1",\n1]',
        "3: listener.trusted_proxies[1]: must be a string, not an integer",
    ),
    "none of the choices": (
        '[daemon]\nlog_level = "loud"',
        '2: daemon.log_level: must be "debug", "info", "warning" or "error", not "loud"',
    ),
    "nearly one of the choices": (
        '[daemon]\nlog_format = "jsn"',
        '2: daemon.log_format: must be "auto", "json" or "console", not "jsn"; did you mean "json"?',
    ),
    "a choice of another type": (
        "[daemon]\nlog_format = 1",
        '2: daemon.log_format: must be "auto", "json" or "console", not 1',
    ),
    "true for one": (
        HOOK + "version = true",
        "5: destinations.crm.settings.version: must be 1 or 2, not true",
    ),
    "no number": (
        HOOK + "[destinations.crm.retry]\ngrowth = inf",
        "6: destinations.crm.retry.growth: must be a finite number, not inf",
    ),
    "less than the least": ("[listener]\nmax_batch = 0", "2: listener.max_batch: must be at least 1, not 0"),
    "more than the most": (
        "[dedupe]\nmax_ids = 200000000",
        "2: dedupe.max_ids: must be at most 100,000,000, not 200000000",
    ),
    "a size under its least": ('[listener]\nmax_head = "10B"', "2: listener.max_head: must be at least 1KB, not 10B"),
    "no time at all": ("[listener]\nhead_timeout = 0", "2: listener.head_timeout: must be more than 0s, not 0s"),
    "an empty string": ('[sources.web]\nwrite_key = ""', "2: sources.web.write_key: must not be empty"),
    "a duration without a unit": (
        "[listener]\nbody_timeout = 10",
        '2: listener.body_timeout: must be a duration such as "10s" or "4h", a string with a unit, not an integer',
    ),
    "false for a duration": (
        "[dedupe]\nwindow = false",
        '2: dedupe.window: must be a duration such as "10s" or "4h", a string with a unit, not a boolean',
    ),
    "a duration of a strange unit": (
        '[dedupe]\nwindow = "1y"',
        '2: dedupe.window: \'1y\' is not a duration such as "10s" or "4h"; units are ms, s, m, min, h, d, w',
    ),
    "a size of a strange unit": (
        '[journal]\nmax_size = "1PB"',
        '2: journal.max_size: \'1PB\' is not a size such as "500KB" or "64MB"; units are B, KB, MB, GB, TB',
    ),
    "a size beyond all numbers": (
        f'[journal]\nmax_size = "{"9" * 400}TB"',
        '2: journal.max_size: must be a size such as "500KB" or "64MB", not that many',
    ),
    "an unknown type": (
        '[destinations.crm]\ntype = "hok"',
        '2: destinations.crm.type: unknown type "hok"; did you mean "hook"?',
    ),
    "an unknown type like no other": (
        '[destinations.crm]\ntype = "kafka"',
        '2: destinations.crm.type: unknown type "kafka"; types are hook, other',
    ),
    "a destination without a type": (
        "\n[destinations.crm]",
        "2: destinations.crm.type: is required: what it is; `relayd catalog` lists the types",
    ),
    "settings that are no table": (
        '[destinations.crm]\nsettings = 1\ntype = "hook"',
        "2: destinations.crm.settings: must be a table, not 1",
    ),
    "what the caller's check says": (
        HOOK.replace("https:", "ftp:").replace("\n[", "\n\n\n["),
        "6: destinations.crm.settings.url: ftp://crm.example is not https",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG.keys())
def test_one_error_is_one_line_with_its_place(problems: Problems, text: str, said: str) -> None:
    assert problems(text) == [f"relayd.toml:{said}"]


def test_all_errors_are_told_at_once_in_the_order_of_their_lines(problems: Problems) -> None:
    text = """\
[destinations.crm]
type = "hook"
sources = ["wbe"]
start = "soon"

[listener]
bind = "nowhere"
max_headers = 0
port = 8088

[sources.web]
type = "wbe"

[destinations.crm.settings]
method = "PUT"
codes = []
name = "a-1"
keys = [
  { id = "" },
  { id = "b", weight = 2 },
  { weight = 1 },
  3,
]
extra = 1
limit = "much"
pin = 10_000
[destinations.crm.delivery]
batch_size = 101
"""
    assert problems(text) == [
        'relayd.toml:3: destinations.crm.sources[0]: unknown source "wbe"; did you mean "web"?',
        'relayd.toml:4: destinations.crm.start: must be "latest", "earliest" or an ISO 8601 time with its '
        'zone, such as "2026-01-31T00:00:00Z"',
        'relayd.toml:7: listener.bind: "nowhere" is not an address; use "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"',
        "relayd.toml:8: listener.max_headers: must be at least 1, not 0",
        'relayd.toml:9: listener.port: unknown key "port"; known keys are bind, tls_certificate, tls_key, '
        "trusted_proxies, analytics_js, max_connections, max_head, max_headers, max_body, max_inflated, max_event, "
        "max_batch, max_buffered, head_timeout, body_timeout, idle_timeout",
        "relayd.toml:11: sources.web.write_key: is required: the key its SDKs are set up with",
        'relayd.toml:12: sources.web.type: must be "web", "mobile", "server", "cloud_app" or "function", not "wbe"; '
        'did you mean "web"?',
        "relayd.toml:14: destinations.crm.settings.url: is required: where it goes",
        'relayd.toml:15: destinations.crm.settings.method: must be "GET" or "POST", not "PUT"',
        "relayd.toml:16: destinations.crm.settings.codes: must not be empty",
        "relayd.toml:17: destinations.crm.settings.name: must match ^[a-z]+$",
        "relayd.toml:19: destinations.crm.settings.keys[0].id: must not be empty",
        "relayd.toml:20: destinations.crm.settings.keys[1].weight: must be at most 1, not 2.0",
        "relayd.toml:21: destinations.crm.settings.keys[2].id: is required: its name",
        "relayd.toml:22: destinations.crm.settings.keys[3]: must be a table, not an integer",
        "relayd.toml:24: destinations.crm.settings.extra: must be a table, not an integer",
        'relayd.toml:25: destinations.crm.settings.limit: must be a size such as "500KB" or "64MB" or '
        '"none", not "much"',
        "relayd.toml:26: destinations.crm.settings.pin: must be at most 9,999",
        "relayd.toml:28: destinations.crm.delivery.batch_size: must be at most 100",
    ]
