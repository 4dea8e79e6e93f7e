"""References in strings, and the secrets that they stand for: found, missing, redacted, never shown."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relayd.config import references
from relayd.config.load import Loaded
from relayd.config.references import Unresolved, resolve

Loads = Callable[..., Loaded]
Problems = Callable[..., list[str]]

HOOK = '[destinations.crm]\ntype = "hook"\n[destinations.crm.settings]\n'
HERE = Path()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "token").write_bytes(b"from-systemd\r\n")
    return {
        "TOKEN": "s3cret-token",
        "EMPTY": "",
        "LOOP": "${env:TOKEN}",
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
    }


@pytest.mark.parametrize(
    ("text", "result", "found"),
    [
        ("plain $HOME $$ {x}", "plain $HOME $$ {x}", []),
        ("${env:TOKEN}", "s3cret-token", ["s3cret-token"]),
        ("a-${env:TOKEN}-${env:EMPTY}-b", "a-s3cret-token--b", ["s3cret-token", ""]),
        ("$${env:TOKEN}", "${env:TOKEN}", []),
        ("$$${env:TOKEN}", "$${env:TOKEN}", []),
        ("${env:LOOP}", "${env:TOKEN}", ["${env:TOKEN}"]),
        ("${credential:token}", "from-systemd", ["from-systemd"]),
    ],
)
def test_what_a_reference_becomes(environ: dict[str, str], text: str, result: str, found: list[str]) -> None:
    assert resolve(text, HERE, environ) == (result, found)


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"one\n", "one"), (b"one\n\n", "one\n"), (b"two\nlines", "two\nlines"), ("é\r\n".encode(), "é"), (b"", "")],
)
def test_a_file_loses_its_last_line_break_only(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "key").write_bytes(content)
    assert resolve("${file:key}", tmp_path, {}) == (value, [value])
    assert resolve(f"${{file:{tmp_path}/key}}", HERE, {}) == (value, [value])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${env:NOPE}", "the environment variable NOPE is not set"),
        (
            "${env:NO}${env:NEITHER}",
            "the environment variable NO is not set; the environment variable NEITHER is not set",
        ),
        ("${file:/nope}", "/nope can not be read: No such file or directory"),
        ("${credential:../token}", "the credential ../token must be a name, not a path"),
        *(
            (text, '"${" must begin ${env:NAME}, ${file:PATH} or ${credential:NAME}; write "$${" for a plain "${"')
            for text in ("${TOKEN}", "${env:}", "${vault:x}", "${env:TOKEN", "${", "${env:${env:TOKEN}}")
        ),
    ],
)
def test_a_reference_to_nothing(environ: dict[str, str], text: str, said: str) -> None:
    with pytest.raises(Unresolved) as caught:
        resolve(text, HERE, environ)
    assert str(caught.value) == said


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff")
    with pytest.raises(Unresolved, match=r"/key is not UTF-8 text$"):
        resolve("${file:key}", tmp_path, {})


def test_a_credential_may_be_one_of_a_directory_that_systemd_loaded(environ: dict[str, str], tmp_path: Path) -> None:
    """``LoadCredential=relayd:DIRECTORY`` puts the unit's name for the directory before each file's."""
    (tmp_path / "credentials" / "relayd_crm").write_text("of-the-directory\n")
    assert resolve("${credential:crm}", HERE, environ)[0] == "of-the-directory"
    with pytest.raises(Unresolved, match=r"credentials/nope can not be read: No such file"):
        resolve("${credential:nope}", HERE, environ)


def test_a_command_beside_the_service_reads_what_systemd_would_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crm").write_text("s3cret\n")
    monkeypatch.setattr(references, "CREDENTIALS", tmp_path)
    assert resolve("${credential:crm}", HERE, {})[0] == "s3cret"
    with pytest.raises(Unresolved, match="/nope can not be read: No such file"):
        resolve("${credential:nope}", HERE, {})


def test_without_systemd_there_are_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "CREDENTIALS", Path("/nonexistent"))
    with pytest.raises(Unresolved) as caught:
        resolve("${credential:token}", HERE, {})
    assert str(caught.value) == (
        "there is no credential token, as $CREDENTIALS_DIRECTORY is not set and there is no /nonexistent; "
        "systemd sets it for a unit with LoadCredential=token:FILE"
    )


def test_references_are_found_wherever_a_string_is(loaded: Loads) -> None:
    result = loaded(
        HOOK + 'url = "https://${env:TOKEN}.example"\nheaders = { a = "Bearer ${credential:token}" }\n'
        'extra = { b = [{ c = "${file:c.txt}" }] }\n',
        **{"c.txt": "deep-secret\n"},
    )
    assert repr(result.config.destinations["crm"].settings) == (
        "Hook(url='https://s3cret-token.example', token=None, pin=None, headers={'a': 'Bearer from-systemd'}, "
        "method='POST', version=1, codes=(200,), name='hook', limit='none', "
        "keys=[], extra={'b': [{'c': 'deep-secret'}]})"
    )


def test_a_file_is_relative_to_the_file_that_names_it(loaded: Loads) -> None:
    result = loaded(
        'include = ["conf.d/*.toml"]',
        **{"conf.d/a.toml": '[sources.a]\nwrite_key = "${file:keys/a}"', "conf.d/keys/a": "key-of-a\n"},
    )
    assert result.config.sources["a"].write_key == "key-of-a"


def test_a_missing_reference_is_told_at_its_line_and_nothing_else_of_that_value(problems: Problems) -> None:
    assert problems(
        HOOK
        + 'url = "${env:URL}"\ntoken = "${env:ALSO}"\nheaders = { a = "${file:nope}" }'
        + '\n[sources.a]\nwrite_key = "${env:KEY}"\n[listener]\ntrusted_proxies = [\n"::1",\n"${env:PROXY}"]\n'
    ) == [
        "relayd.toml:4: destinations.crm.settings.url: the environment variable URL is not set",
        "relayd.toml:5: destinations.crm.settings.token: the environment variable ALSO is not set",
        "relayd.toml:6: destinations.crm.settings.headers.a: nope can not be read: No such file or directory",
        "relayd.toml:8: sources.a.write_key: the environment variable KEY is not set",
        "relayd.toml:12: listener.trusted_proxies[1]: the environment variable PROXY is not set",
    ]


def test_secrets_are_what_references_stand_for_and_what_is_marked(loaded: Loads) -> None:
    result = loaded(
        '[admin]\ntoken = "admin-token"\n[sources.a]\nwrite_key = "write-key"\n[sources.b]\nwrite_key = "abc"\n'
        + HOOK
        + 'url = "https://${env:TOKEN}.example"\nmethod = "POST"\ntoken = "hook-token"\n'
        'headers = { a = "header-a", b = "x${credential:token}" }'
    )
    assert result.secrets == {
        "admin-token",
        "write-key",  # and not abc, which is too short to be one
        "s3cret-token",
        "hook-token",
        "header-a",
        "from-systemd",
        "xfrom-systemd",
    }


WRONG = {
    # a value that came from $SECRET, or of a key that is marked, and is wrong
    "a choice": ("[daemon]\nlog_level = '${env:SECRET}'", 'must be "debug", "info", "warning" or "error"'),
    "a duration": ("[dedupe]\nwindow = '${env:SECRET}'", 'must be a duration such as "10s" or "4h"'),
    "a rate": (
        "[destinations.d]\ntype = 'other'\ndelivery.rate = '${env:SECRET}/s'",
        'must be a rate such as "100/s"',
    ),
    "a union": (HOOK + "url = 'https:'\nlimit = '${env:SECRET}'", 'must be a size such as "500KB" or "64MB" or "none"'),
    "a pattern": (HOOK + "url = 'https:'\nname = '${env:SECRET}'", "must have a length of at most 5"),
    "a type": ("[destinations.d]\ntype = '${env:SECRET}'", 'unknown type "***"; types are hook, other'),
    "a source": (
        "[destinations.d]\ntype = 'other'\nsources = ['${env:SECRET}']",
        'unknown source "***"; there are no sources',
    ),
    "a bind": (
        "[listener]\nbind = '${env:SECRET}'",
        '"***" is not an address; use "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"',
    ),
    "a proxy": (
        "[listener]\ntrusted_proxies = ['${env:SECRET}']",
        "'***' does not appear to be an IPv4 or IPv6 network; use an address or a network such as \"10.0.0.0/8\"",
    ),
    "what the type says": (HOOK + "url = 'ftp:${env:SECRET}'", "ftp:*** is not https"),
    "a marked string": (HOOK + "url = 'https:'\ntoken = '53cr3t'", "must have a length of at least 8"),
    "a marked number": (HOOK + "url = 'https:'\npin = 53_000", "must be at most 9,999"),
    "two write keys": (
        "[sources.a]\nwrite_key = '53cr3t'\n[sources.b]\nwrite_key = '53cr3t'",
        "is also the write key of the source a (relayd.toml:2); each needs its own",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG.keys())
def test_no_error_shows_a_secret(problems: Problems, environ: dict[str, str], text: str, said: str) -> None:
    environ["SECRET"] = "53cr3t"
    [line] = problems(text)
    assert line.partition(": ")[2].partition(": ")[2] == said
    assert "53" not in line
