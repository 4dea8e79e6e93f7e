"""What the types allow and the rules do not, in the exact words."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from relayd.config.load import Loaded

Loads = Callable[..., Loaded]
Problems = Callable[..., list[str]]

OTHER = '[destinations.crm]\ntype = "other"\n'
NAME = "a name has 1 to 64 letters (A-Z, a-z), digits, - or _"
START = 'must be "latest", "earliest" or an ISO 8601 time with its zone, such as "2026-01-31T00:00:00Z"'
LONG = "x" * 65

WRONG = {
    # what is wrong: (the file, what is said of it after "relayd.toml:")
    "a source's name": ('[sources."my app"]\nwrite_key = "k"', f'1: sources."my app": {NAME}'),
    "a name that is a path": ('[sources."../x"]\nwrite_key = "k"', f'1: sources."../x": {NAME}'),
    "no name": ('[sources.""]\nwrite_key = "k"', f'1: sources."": {NAME}'),
    "a destination's name": (f'\n[destinations.{LONG}]\ntype = "other"', f"2: destinations.{LONG}: {NAME}"),
    "one write key for two sources": (
        '[sources.a]\nwrite_key = "same"\n[sources.b]\nwrite_key = "same"',
        "4: sources.b.write_key: is also the write key of the source a (relayd.toml:2); each needs its own",
    ),
    "an unknown source": (
        OTHER + 'sources = [\n  "web",\n  "wbe",\n]\n[sources.web]\nwrite_key = "k"',
        '5: destinations.crm.sources[1]: unknown source "wbe"; did you mean "web"?',
    ),
    "an unknown source like no other": (
        OTHER + 'sources = ["x"]\n[sources.web]\nwrite_key = "k"\n[sources.ios]\nwrite_key = "l"',
        '3: destinations.crm.sources[0]: unknown source "x"; sources are web, ios',
    ),
    "a start without a zone": (OTHER + 'start = "2026-01-31T00:00:00"', f"3: destinations.crm.start: {START}"),
    "a start that is a day": (OTHER + 'start = "2026-01-31"', f"3: destinations.crm.start: {START}"),
    "a start that is no time": (OTHER + 'start = "now"', f"3: destinations.crm.start: {START}"),
    "a first wait longer than any": (
        OTHER + 'retry.max_wait = "1m"\nretry.initial_wait = "1h"',
        "4: destinations.crm.retry.initial_wait: must not be more than max_wait, 1m; it is 1h",
    ),
    "a bind": (
        '[listener]\nbind = "localhost"',
        '2: listener.bind: "localhost" is not an address; use "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"',
    ),
    "a socket with a long path": (
        f'[daemon]\nstate_dir = "/{"s" * 60}"\n[admin]\nbind = "unix:{"x" * 50}"',
        f"4: admin.bind: /{'s' * 60}/{'x' * 50} is too long for a Unix socket; it has at most 107 bytes",
    ),
    "an admin address without a token": (
        '[admin]\nbind = "127.0.0.1:8089"',
        "1: admin.token: is required, as bind is a TCP address; any long random string will do",
    ),
    "one address for two": (
        '[admin]\nbind = "127.0.0.1:8088"\ntoken = "long enough"',
        "2: admin.bind: must not be listener.bind, 127.0.0.1:8088",
    ),
    "a proxy that is no network": (
        '[listener]\ntrusted_proxies = ["::1", "10.0.0.0/33"]',
        "2: listener.trusted_proxies[1]: '10.0.0.0/33' does not appear to be an IPv4 or IPv6 network; "
        'use an address or a network such as "10.0.0.0/8"',
    ),
    "a network with host bits": (
        '[listener]\ntrusted_proxies = ["10.0.0.1/8"]',
        "2: listener.trusted_proxies[0]: 10.0.0.1/8 has host bits set; "
        'use an address or a network such as "10.0.0.0/8"',
    ),
    "a folder that is not analytics.js": (
        '[listener]\nanalytics_js = "js"',
        "2: listener.analytics_js: js is not the npm package @segment/analytics-next, nor its dist/umd: it has no "
        "standalone.js; `npm install @segment/analytics-next` puts it into node_modules/@segment/analytics-next",
    ),
    "an event larger than a body": (
        '[listener]\nmax_body = "16KB"',
        "2: listener.max_body: max_event (32KB) must not be more than max_body (16KB)",
    ),
    "a body larger than what is buffered": (
        '[listener]\nmax_inflated = "2MB"\nmax_buffered = "1MB"',
        "2: listener.max_inflated: max_inflated (2MB) must not be more than max_buffered (1MB)",
    ),
    "an event larger than what is inflated": (
        '[listener]\nmax_event = "5MB"\nmax_body = "6MB"',
        "2: listener.max_event: max_event (5MB) must not be more than max_inflated (4MB)",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_rule_says_what_where_and_what_to_do(problems: Problems, text: str, said: str) -> None:
    assert problems(text) == [f"relayd.toml:{said}"]


@pytest.mark.parametrize(
    "text",
    [
        f'[sources.{LONG[1:]}]\nwrite_key = "k"\n[sources.A-z_9]\nwrite_key = "l"',
        OTHER + 'start = "2026-01-31T00:00:00Z"',
        OTHER + 'start = "20260131T010000+0100"',
        OTHER + 'start = "earliest"',
        OTHER + 'retry.max_wait = "1m"\nretry.initial_wait = "1m"',
        '[admin]\nbind = "[::1]:0"\ntoken = "long enough"\n[listener]\nbind = "[::1]:0"',
        '[listener]\ntrusted_proxies = ["10.0.0.0/8", "192.168.1.1", "::/0"]',
        '[listener]\nmax_event = "500KB"',
        f'[listener]\nbind = "unix:{"x" * 107}"',
    ],
)
def test_what_is_allowed(loaded: Loads, text: str) -> None:
    assert loaded(text)


@pytest.mark.parametrize(("key", "other"), [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")])
def test_certificate_and_key_go_together(problems: Problems, key: str, other: str) -> None:
    assert problems(f'\n[listener]\n{key} = "a.pem"', **{"a.pem": ""}) == [
        f"relayd.toml:2: listener.{other}: is required, as {key} is set"
    ]


def test_certificate_and_key_must_be_readable(problems: Problems) -> None:
    assert problems('[listener]\ntls_key = "no.key"\ntls_certificate = "no.pem"') == [
        "relayd.toml:2: listener.tls_key: no.key can not be read: No such file or directory",
        "relayd.toml:3: listener.tls_certificate: no.pem can not be read: No such file or directory",
    ]


def test_certificate_and_key_must_be_a_pair(loaded: Loads, problems: Problems, tmp_path: Path) -> None:
    authority = trustme.CA()
    ours, others = authority.issue_cert("relayd.example"), authority.issue_cert("other.example")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "our.pem")
    ours.private_key_pem.write_to_path(tmp_path / "our.key")
    others.private_key_pem.write_to_path(tmp_path / "other.key")
    key = serialization.load_pem_private_key(ours.private_key_pem.bytes(), None)
    (tmp_path / "encrypted.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    text = '[listener]\ntls_certificate = "our.pem"\ntls_key = "our.key"'
    assert loaded(text).config.listener.tls_key == "our.key"
    for name, fault in (
        ("other.key", "is not the key of tls_certificate"),
        ("encrypted.key", "must not be encrypted"),
        ("relayd.toml", "must be a PEM file with a private key, and tls_certificate one with its certificate"),
    ):
        assert problems(text.replace("our.key", name)) == [f"relayd.toml:3: listener.tls_key: {fault}"]


def test_a_rule_is_silent_about_what_is_already_wrong(problems: Problems) -> None:
    assert problems(
        '[listener]\nmax_event = "1"\nmax_body = "1KB"\ntls_key = "no.key"\ntls_certificate = 1\n'
        '[admin]\nbind = "127.0.0.1:1"\ntoken = 2\n[sources.a]\nwrite_key = 3\n'
    ) == [
        'relayd.toml:2: listener.max_event: \'1\' is not a size such as "500KB" or "64MB"; units are B, KB, MB, GB, TB',
        "relayd.toml:5: listener.tls_certificate: must be a string, not an integer",
        "relayd.toml:8: admin.token: must be a string, not an integer",
        "relayd.toml:10: sources.a.write_key: must be a string, not an integer",
    ]


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            "",
            [
                "relayd.toml: there are no [sources.NAME], so every event is refused",
                "relayd.toml: there are no [destinations.NAME], so events are kept and go nowhere",
            ],
        ),
        (
            '[sources.a]\nwrite_key = "k"\n' + OTHER + "sources = []",
            ["relayd.toml:5: destinations.crm.sources: is empty, so nothing is fed; leave it out for all sources"],
        ),
        ('[sources.a]\nwrite_key = "k"\n' + OTHER, []),
    ],
)
def test_warnings(loaded: Loads, text: str, warnings: list[str]) -> None:
    assert [str(each) for each in loaded(text).warnings] == warnings
