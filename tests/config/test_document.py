"""Files and includes: what merges, what does not, and which place is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relayd.config.load import Loaded

Loads = Callable[..., Loaded]
Problems = Callable[..., list[str]]


def test_included_tables_merge(loaded: Loads) -> None:
    result = loaded(
        'include = ["conf.d/*.toml", "more.toml"]\n[listener]\nmax_batch = 1\n[sources.a]\nwrite_key = "a-key"\n',
        **{
            "conf.d/2.toml": '[sources.c]\nwrite_key = "c-key"\n',
            "conf.d/1.toml": '[listener]\nmax_headers = 2\n[sources.b]\nwrite_key = "b-key"\n',
            "conf.d/not-this.txt": "!",
            "conf.d/.hidden.toml": "!",
            "conf.d/folder.toml/x": "!",
            "more.toml": 'sources.a.type = "web"\n',
        },
    )
    assert (result.config.listener.max_batch, result.config.listener.max_headers) == (1, 2)
    assert {name: (source.type, source.write_key) for name, source in result.config.sources.items()} == {
        "a": ("web", "a-key"),
        "b": ("server", "b-key"),
        "c": ("server", "c-key"),
    }
    assert result.files == ("relayd.toml", "conf.d/1.toml", "conf.d/2.toml", "more.toml")
    assert result.config.include == ("conf.d/*.toml", "more.toml")


def test_an_include_is_relative_to_the_file_that_names_it(loaded: Loads) -> None:
    result = loaded(
        'include = ["a/first.toml"]',
        **{
            "a/first.toml": 'include = ["b/*.toml", "../last.toml"]',
            "a/b/second.toml": "listener.max_batch = 1",
            "last.toml": "listener.max_headers = 2",
        },
    )
    assert (result.config.listener.max_batch, result.config.listener.max_headers) == (1, 2)


def test_a_folder_may_have_the_signs_of_a_pattern_in_its_name(loaded: Loads) -> None:
    loaded("", **{"[x]/relayd.toml": 'include = ["conf.d/*.toml"]', "[x]/conf.d/a.toml": "listener.max_batch = 1"})
    result = loaded('include = ["[[]x]/relayd.toml"]')
    assert result.config.listener.max_batch == 1


def test_a_file_that_two_include_is_read_once(loaded: Loads) -> None:
    result = loaded(
        'include = ["a.toml", "b.toml", "[ab].toml"]',
        **{"a.toml": "include = ['c.toml']", "b.toml": "include = ['c.toml']", "c.toml": "listener.max_batch = 1"},
    )
    assert result.config.listener.max_batch == 1


def test_a_pattern_may_match_nothing(loaded: Loads) -> None:
    assert loaded('include = ["conf.d/*.toml"]').files == ("relayd.toml",)


def test_a_plain_path_must_be_there(problems: Problems) -> None:
    assert problems(
        'include = [\n  "conf.d/*.toml",\n  "local.toml",\n]\n[daemon]\nlog_levle = 1', **{"conf.d/a.toml": ""}
    ) == [
        "relayd.toml:3: include[1]: local.toml can not be read: No such file or directory",
        'relayd.toml:6: daemon.log_levle: unknown key "log_levle"; did you mean "log_level"?',
    ]


def test_a_key_set_in_two_files_is_told_with_both_places(problems: Problems) -> None:
    assert problems(
        'include = ["a.toml"]\n[listener]\nbind = "127.0.0.1:1"\n[sources]\n',
        **{"a.toml": 'sources = 1\n[listener]\nmax_batch = 3\nbind = "127.0.0.1:1"\n'},
    ) == [
        "a.toml:1: sources: is also set at relayd.toml:4; remove one",
        "a.toml:4: listener.bind: is also set at relayd.toml:3; remove one",
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "relayd.toml:2: include[0]: files include each other in a circle: relayd.toml -> relayd.toml"),
        (
            {"a.toml": "", "b.toml": 'include = ["relayd.toml"]'},
            "b.toml:1: include[0]: files include each other in a circle: relayd.toml -> b.toml -> relayd.toml",
        ),
    ],
)
def test_a_circle_is_told_whole(problems: Problems, files: dict[str, str], said: str) -> None:
    include = '"a.toml", "b.toml"' if files else '"./relayd.toml"'
    assert problems(f"\ninclude = [{include}]", **files) == [said]


@pytest.mark.parametrize("value", ["1", '"a.toml"', '["a.toml", 1]', "{ a = 1 }"])
def test_include_must_be_an_array_of_strings(problems: Problems, value: str) -> None:
    assert problems(f"\ninclude = {value}") == ["relayd.toml:2: include: must be an array of strings"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[listener]\nbind = x", "relayd.toml:2: not valid TOML: Invalid value (column 8)"),
        ("a = 1\n[a]\nb = 1", "relayd.toml:2: not valid TOML: Cannot overwrite a value (column 3)"),
        ('a = 1\nb = """\n\n', "relayd.toml:2: not valid TOML: Unterminated string (the file ends)"),
        ("a = " + "[" * 5000, "relayd.toml:1: not valid TOML: maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(problems: Problems, text: str, said: str) -> None:
    [line] = problems(text)
    assert line.startswith(said)


def test_what_is_no_text_is_told_with_its_line(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    assert problems("include = ['binary.toml']") == ["binary.toml:2: not UTF-8 text"]


def test_a_file_that_is_missing_is_told(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert problems("include = ['folder']") == ["relayd.toml:1: include[0]: folder can not be read: Is a directory"]


def test_nothing_is_called_missing_while_a_file_can_not_be_read(problems: Problems) -> None:
    """The file that does not parse may well have the write key, the source and the token."""
    assert problems(
        'include = ["broken.toml"]\n[admin]\nbind = "127.0.0.1:1"\n[sources.a]\n[listener]\nmax_batch = 0\n'
        '[destinations.crm]\ntype = "hook"\nsources = ["b"]\n',
        **{"broken.toml": "[sources.b"},
    ) == [
        "relayd.toml:6: listener.max_batch: must be at least 1, not 0",
        "broken.toml:1: not valid TOML: Expected ']' at the end of a table declaration (the file ends)",
    ]
