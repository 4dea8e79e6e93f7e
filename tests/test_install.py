"""``scripts/install`` in a scratch root: what it puts where, that it may run again, that systemd takes its units."""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.debian import tool
from tests.relay import Relay
from tests.waiting import until

ROOT = Path(__file__).parents[1]
INSTALL = ROOT / "scripts" / "install"


def install(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([INSTALL, *arguments], cwd="/", capture_output=True, text=True, timeout=280)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root directory that it was run in once."""
    root = tmp_path_factory.mktemp("host")
    done = install("--root", str(root))
    assert done.returncode == 0, done.stderr
    yield root
    shutil.rmtree(root)


def current(host: Path, prefix: str = "opt/relayd") -> Path:
    return host / prefix / "current"


def test_everything_is_in_place(host: Path) -> None:
    assert sorted(each.name for each in (host / "etc/relayd").iterdir()) == [
        "credentials",
        "reference.toml",
        "relayd.toml",
    ]
    assert mode(host / "etc/relayd/credentials") == 0o700
    assert mode(host / "etc/relayd/relayd.toml") == 0o644  # the service's user has no other right to it
    assert (host / "etc/relayd/reference.toml").read_text() == (ROOT / "conf/relayd.toml").read_text()
    for unit in ("relayd.service", "relayd.socket"):
        assert (host / "etc/systemd/system" / unit).read_text() == (ROOT / "conf" / unit).read_text()
    assert (host / "var/lib/relayd").readlink() == Path("private/relayd")
    assert mode(host / "var/lib/private") == mode(host / "var/lib/private/relayd") == 0o700
    assert (host / "usr/local/bin/relayd").readlink() == Path("/opt/relayd/current/bin/relayd")
    assert not (host / "opt/relayd").is_symlink()


def test_nothing_that_is_run_knows_of_the_scratch_root(host: Path) -> None:
    for path in (*current(host).glob("bin/*"), current(host) / "pyvenv.cfg"):
        if path.is_file() and not path.is_symlink():
            assert str(host).encode() not in path.read_bytes(), path
    first = (current(host) / "bin/relayd").read_text().splitlines()[0]
    assert re.fullmatch(r"#!/opt/relayd/releases/\w+/bin/python", first)


def test_the_configuration_is_valid_and_has_a_key_of_its_own(host: Path) -> None:
    config = host / "etc/relayd/relayd.toml"
    python = current(host) / "bin/python"
    done = subprocess.run([python, "-I", "-m", "relayd", "check", "-c", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'state_dir = "/var/lib/relayd"' in config.read_text()
    assert re.search(r'^write_key = "[\w-]{30,}"', config.read_text(), re.MULTILINE)
    commented = re.sub(r"^# (?=[\w.]+ = |\[)", "", config.read_text(), flags=re.MULTILINE)
    (host / "commented.toml").write_text(commented)
    (host / "crm").write_text("s3cret")
    done = subprocess.run(
        [python, "-I", "-m", "relayd", "check", "-c", host / "commented.toml"],
        env=os.environ | {"CREDENTIALS_DIRECTORY": str(host)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


async def test_what_is_installed_runs(host: Path, tmp_path: Path) -> None:
    relay = Relay(tmp_path, {})
    with relay.log.open("wb") as log:
        command = [str(current(host) / "bin/python"), "-I", "-m", "relayd", "run", "-c", str(relay.config)]
        process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)
    try:
        await until(lambda: process.poll() is not None or "relayd is ready" in relay.log.read_text())
        assert httpx.get(f"{relay.url}/health", trust_env=False).status_code == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_systemd_has_nothing_to_say_of_the_units(host: Path, tmp_path: Path) -> None:
    for unit in ("relayd.service", "relayd.socket"):
        text = (host / "etc/systemd/system" / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/opt/relayd/", f"{host}/opt/relayd/"))
    done = subprocess.run(
        [tool("systemd", "systemd-analyze"), "verify", tmp_path / "relayd.service", tmp_path / "relayd.socket"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_runs_again_and_leaves_alone_what_is_yours(host: Path) -> None:
    config, state, drop_in = (
        host / "etc/relayd/relayd.toml",
        host / "var/lib/relayd/relayd.sqlite3",
        host / "etc/systemd/system/relayd.service.d/override.conf",
    )
    secret = host / "etc/relayd/credentials/crm"
    drop_in.parent.mkdir()
    for number, path in enumerate((config, state, drop_in, secret)):
        path.write_text(f"mine {number}\n")
    unit = host / "etc/systemd/system/relayd.service"
    unit.write_text("of an older version\n")
    before = current(host).resolve()
    cut_short = host / "opt/relayd/releases/20200101T000000"
    cut_short.mkdir()
    (cut_short / "half").touch()
    for _ in range(2):
        done = install("--root", str(host))
        assert done.returncode == 0, done.stderr
    for number, path in enumerate((config, state, drop_in, secret)):
        assert path.read_text() == f"mine {number}\n"
    assert unit.read_text() == (ROOT / "conf/relayd.service").read_text()
    releases = sorted(each for each in (host / "opt/relayd/releases").iterdir() if each.is_dir())
    assert len(releases) == 2  # the one that runs now and the one before, for a way back
    assert current(host).resolve() == releases[-1]
    assert before not in releases
    config.unlink()


def test_one_that_fails_leaves_what_runs(host: Path, tmp_path: Path) -> None:
    """A source that can not be built, as when the network is gone in the middle."""
    before = current(host).resolve()
    releases = sorted((host / "opt/relayd/releases").iterdir())
    broken = tmp_path / "source"
    broken.mkdir()
    for name in ("scripts", "relayd", "conf", ".ci"):
        (broken / name).symlink_to(ROOT / name)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, broken / name)
    (broken / "pyproject.toml").write_text("[project\n")
    done = subprocess.run([broken / "scripts/install", "--root", host], capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    assert current(host).resolve() == before
    assert sorted((host / "opt/relayd/releases").iterdir()) == releases


def test_a_prefix_of_your_own_is_in_the_unit_too(tmp_path: Path) -> None:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/relayd").write_text("another program\n")
    done = install("--root", str(tmp_path), "--prefix", "/srv/events/")
    assert done.returncode == 0, done.stderr
    assert "is not ours and stays; the command is /srv/events/current/bin/relayd" in done.stderr
    unit = (tmp_path / "etc/systemd/system/relayd.service").read_text()
    assert "ExecStart=/srv/events/current/bin/relayd run -c /etc/relayd/relayd.toml\n" in unit
    assert (current(tmp_path, "srv/events") / "bin/relayd").exists()
    shutil.rmtree(tmp_path / "srv")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--prefix", "/home/ada/relayd"], 1, "a service can not see /home/ada/relayd"),
        (["--prefix", "relayd"], 2, "--prefix must be an absolute path"),
        (["--prefix", "/opt/re|layd"], 1, "may have letters, digits and"),
        (["--prefix"], 2, "--prefix needs a value"),
        (["--nonsense"], 2, "--nonsense is unknown"),
    ],
)
def test_what_can_not_work_is_told_and_changes_nothing(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    done = install("--root", str(tmp_path), *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_tells_what_it_does() -> None:
    done = install("--help")
    assert done.returncode == 0
    assert "usage: scripts/install" in done.stdout
    assert "#" not in done.stdout
