"""The manual says everything, and what `calllogd init` writes works."""

import argparse
import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calllogd.config import ACCOUNT, GENERIC, REQUIRED, SECTIONS, Setting, load
from calllogd.console import init as console
from calllogd.console.exits import EX_CONFIG, EX_FAILED, EX_INTERRUPTED, EX_OK
from calllogd.console.init import Answers, Terminal, add_arguments, init, run
from calllogd.console.manual import manual
from calllogd.errors import ConfigError
from calllogd.voip.proof import Tokens
from calllogd.voip.provider import service_settings
from calllogd.voip.provider.generic import Generic
from calllogd.voip.webhook import Webhook

ROOT = Path(__file__).parents[2]
PLACEHOLDER = re.compile(r"^# (?=\w+ = )", re.MULTILINE)

ACCESS_TOKEN = "eyJ0.long-lived.of-kommo"
COMPLETE = Answers(
    public_url="https://calls.example.com",
    account=31337,
    base_url="https://example.kommo.com",
    region="BR",
    access_token=ACCESS_TOKEN,
)
TYPED = {
    "Public address": "https://calls.example.com",
    "Id of": "31337",
    "Address of the Kommo": "https://example.kommo.com",
    "Country": "BR",
    "Long-lived": ACCESS_TOKEN,
}


@pytest.fixture(autouse=True)
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("CALLLOGD_CONFIG", raising=False)


def settings() -> Iterator[tuple[str, str, Setting]]:
    """Every setting as (table, key, setting)."""
    for name, table in SECTIONS.items():
        yield from ((name, key, setting) for key, setting in table.items())
    yield from (("account", key, setting) for key, setting in ACCOUNT.items())
    yield from (("generic", key, setting) for key, setting in GENERIC.items())


def table(page: dict[str, Any], name: str) -> dict[str, Any]:
    account = page["accounts"][0]
    found = {"account": account, "generic": account["voip"]["generic"], **page}[name]
    assert isinstance(found, dict)
    return found


def written(path: Path, answers: Answers = COMPLETE) -> str:
    """Write a configuration without a terminal; return what was said."""
    said: list[str] = []
    init(path, answers, terminal=None, say=said.append)
    return "\n".join(said)


def answering(typed: dict[str, str | list[str]], said: list[str]) -> Terminal:
    """A terminal that answers each question by how it begins, a list one by one."""
    lines = {start: iter([words] if isinstance(words, str) else words) for start, words in typed.items()}

    def ask(question: str) -> str:
        said.append(question)
        return next(next(answers for start, answers in lines.items() if question.startswith(start)))

    return Terminal(ask=ask, ask_hidden=ask)


def command(*words: str) -> int:
    """Run `calllogd init` with arguments; return the exit code."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


SERVICES = service_settings()


def curl(said: str) -> list[str]:
    (line,) = (line for line in said.splitlines() if line.lstrip().startswith("curl "))
    return shlex.split(line)


def test_the_file_in_etc_is_the_manual() -> None:
    assert (ROOT / "etc/calllogd.toml").read_text(encoding="utf-8") == manual()


def test_the_manual_loads_as_it_is_with_every_default() -> None:
    page = tomllib.loads(manual())
    loaded = load(ROOT / "etc/calllogd.toml", environment={}, services=SERVICES)
    assert loaded.http.public_url == "https://calls.example.com"
    assert list(loaded.accounts) == [31337]
    for name, key, setting in settings():
        if setting.default is not None and setting.default is not REQUIRED:
            assert setting.read(table(page, name)[key]) == setting.default, f"{name}.{key}"


def test_the_manual_has_every_setting_and_nothing_else() -> None:
    page = tomllib.loads(PLACEHOLDER.sub("", manual()))
    for name in [*SECTIONS, "account", "generic"]:
        own = [(key, setting) for where, key, setting in settings() if where == name]
        known = {key for key, _ in own} | {f"{key}_file" for key, setting in own if setting.secret}
        assert table(page, name).keys() - {"extensions", "voip"} == known
    assert page["accounts"][0]["extensions"] == {"101": 111}
    assert page.keys() == {*SECTIONS, "accounts"}


def test_the_manual_has_every_other_voip_service_switched_off() -> None:
    assert list(tomllib.loads(manual())["accounts"][0]["voip"]) == ["generic"]
    on = tomllib.loads(re.sub(r"^#(?=[\[a-z])", "", manual(), flags=re.MULTILINE))["accounts"][0]["voip"]
    assert on.keys() == SERVICES.keys()
    for name, settings_of_it in SERVICES.items():
        if name != "generic":
            assert on[name].keys() == {"url", *settings_of_it}


@pytest.mark.parametrize(
    ("name", "key", "setting"), [pytest.param(*row, id=".".join(row[:2])) for row in settings()]
)
def test_each_setting_has_its_meaning_above_it(name: str, key: str, setting: Setting) -> None:
    assert re.search(rf"^# {re.escape(setting.meaning)} \[.+\]\n(# )?{key} = ", manual(), re.MULTILINE)


def test_no_secret_in_the_manual_is_on() -> None:
    page = tomllib.loads(manual())
    assert not [
        f"{name}.{key}" for name, key, setting in settings() if setting.secret and key in table(page, name)
    ]


def test_what_is_written_loads_and_has_the_answers(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"
    written(path)
    loaded = load(path, environment={}, services=SERVICES)
    account = loaded.accounts[31337]
    assert loaded.http.public_url == "https://calls.example.com"
    assert loaded.http.listen == ("127.0.0.1", 8080)
    assert (account.base_url, account.region, account.access_token) == (
        "https://example.kommo.com",
        "BR",
        ACCESS_TOKEN,
    )
    assert loaded.admin.token
    assert account.voip["generic"]["token"]


def test_the_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written(tmp_path / "new" / "calllogd.toml")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "calllogd.toml").stat().st_mode & 0o777 == 0o600


def test_secrets_are_new_each_time(tmp_path: Path) -> None:
    found = set()
    for name in ("a.toml", "b.toml"):
        written(tmp_path / name)
        loaded = load(tmp_path / name, environment={}, services=SERVICES)
        found |= {loaded.admin.token, loaded.accounts[31337].voip["generic"]["token"]}
    assert len(found) == 4


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"calllogd.toml: is already there and was left as it is"):
        written(path)
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_file_that_comes_while_questions_are_asked_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"

    def ask(_: str) -> str:
        path.write_text("mine", encoding="utf-8")
        return ACCESS_TOKEN

    given = Answers(
        public_url="https://c.example.com", account=1, base_url="https://e.kommo.com", region="US"
    )
    with pytest.raises(ConfigError, match="is already there"):
        init(path, given, terminal=Terminal(ask=ask, ask_hidden=ask), say=lambda _: None)
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "calllogd.toml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is already there"):
        written(tmp_path / "calllogd.toml")
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_is_left_of_a_file_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        written(tmp_path / "calllogd.toml")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"file: cannot be made: .*; run this with sudo, or name another file"
    ):
        init(tmp_path / "file" / "c.toml", Answers(), terminal=answering({}, []), say=lambda _: None)


@pytest.mark.parametrize(
    ("file", "user", "folder"),
    [
        ("/srv/a b/calllogd.toml", 1000, "/srv/a b"),
        ("/srv/a b/calllogd.toml", 0, "/var/lib/calllogd"),
        ("/etc/calllogd/two.toml", 1000, "/var/lib/calllogd"),
    ],
)
def test_the_ledger_is_where_its_program_may_write(
    file: str, user: int, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []

    def keep(_: Path, text: str) -> None:
        pages.append(text)

    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(console, "_make_room", lambda _: None)
    monkeypatch.setattr(console, "_write", keep)
    written(Path(file))
    (tmp_path / "calllogd.toml").write_text(pages[0], encoding="utf-8")
    loaded = load(tmp_path / "calllogd.toml", environment={}, services=SERVICES)
    assert loaded.database == Path(folder, "calllogd.db")
    assert loaded.recordings.path == Path(folder, "recordings")


def test_an_address_without_tls_is_where_calllogd_itself_listens(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"
    said = written(path, Answers(public_url="http://[::1]:9000", account=1, base_url="https://e.kommo.com"))
    assert load(path, environment={}, services=SERVICES).http.listen == ("::1", 9000)
    assert "http://[::1]:9000/voip/generic/1" in curl(said)


def test_what_is_said_has_the_webhook_and_a_curl_line_that_the_provider_takes(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"
    said = written(path)
    assert "\n  https://calls.example.com/voip/generic/31337\n" in said
    assert f"calllogd --config {path} check" in said
    words = curl(said)
    assert words[:3] == ["curl", "-i", "http://127.0.0.1:8080/voip/generic/31337"]
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1].encode()
    token = load(path, environment={}, services=SERVICES).accounts[31337].voip["generic"]["token"]
    assert token is not None
    generic = Generic(31337, tokens=Tokens({"token": token}))
    sent = Webhook(method="POST", url=words[2], headers=headers, body=body)
    generic.verify(sent, 0.0)
    (told,) = generic.parse(sent, 1_800_000_000.0)
    assert told.what == "call.ended"


def test_the_call_of_the_curl_line_is_a_new_one_each_time(tmp_path: Path) -> None:
    bodies = [json.loads(curl(written(tmp_path / name))[-1]) for name in ("a.toml", "b.toml")]
    assert bodies[0]["call_id"] != bodies[1]["call_id"]


def test_no_secret_is_said_but_the_webhooks_token_in_the_curl_line(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"
    said: list[str] = []
    init(path, Answers(), terminal=answering({**TYPED}, said), say=said.append)
    loaded = load(path, environment={}, services=SERVICES)
    everything = "\n".join(said)
    assert ACCESS_TOKEN not in everything
    assert str(loaded.admin.token) not in everything
    assert everything.count(str(loaded.accounts[31337].voip["generic"]["token"])) == 1


def test_a_wrong_answer_is_asked_again_with_what_would_be_right(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"
    said: list[str] = []
    typed: dict[str, str | list[str]] = {
        "Public address": ["http://calls.example.com", "calls.example.com/"],
        "Id of": ["", "example", "31337"],
        "Address of the Kommo": [
            "https://user@example.kommo.com",
            "https://example.kommo.com/leads/list/?x=1",
        ],
        "Country": ["XX", "br"],
        "Long-lived": ["two words", ACCESS_TOKEN],
    }
    init(path, Answers(), terminal=answering(typed, said), say=said.append)
    complaints = [line for line in said if line.startswith("  This should be ")]
    assert complaints == [
        "  This should be an https address; plain http only for a loopback address.",
        "  This should be a number, such as 31337.",
        "  This should be a number, such as 31337.",
        "  This should be a web address, such as https://calls.example.com.",
        "  This should be a country's two capital letters, such as US or BR.",
        "  This should be a token of printable ASCII characters, without spaces.",
    ]
    loaded = load(path, environment={}, services=SERVICES)
    assert loaded.http.public_url == "https://calls.example.com"
    assert (loaded.accounts[31337].base_url, loaded.accounts[31337].region) == (
        "https://example.kommo.com",
        "BR",
    )


def test_what_is_optional_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"
    said: list[str] = []
    init(
        path,
        Answers(),
        terminal=answering({**TYPED, "Country": "", "Long-lived": " "}, said),
        say=said.append,
    )
    account = load(path, environment={}, services=SERVICES).accounts[31337]
    assert (account.region, account.access_token) == (None, None)
    assert "There is no access token yet" in said[-1]


def test_a_machine_that_knows_its_full_name_suggests_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "calls.example.org")
    said: list[str] = []
    path = tmp_path / "calllogd.toml"
    init(path, Answers(), terminal=answering({**TYPED, "Public address": ""}, said), say=said.append)
    assert load(path, environment={}, services=SERVICES).http.public_url == "https://calls.example.org"


def test_what_is_given_is_not_asked(tmp_path: Path) -> None:
    init(tmp_path / "calllogd.toml", COMPLETE, terminal=answering({}, []), say=lambda _: None)
    assert load(tmp_path / "calllogd.toml", environment={}, services=SERVICES).accounts[31337].region == "BR"


def test_without_terminal_and_answers_the_file_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"
    said = written(path, Answers())
    assert "Still to be filled in there: http.public_url, accounts.id, accounts.base_url." in said
    with pytest.raises(ConfigError) as refused:
        load(path, environment={}, services=SERVICES)
    assert [mistake.split(":")[0] for mistake in refused.value.mistakes] == [
        "http.public_url",
        "accounts[0].id",
        "accounts[0].base_url",
    ]
    assert all("is missing" in mistake for mistake in refused.value.mistakes)


def test_the_command_takes_its_answers_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token, path = tmp_path / "token", tmp_path / "calllogd.toml"
    token.write_text(f"{ACCESS_TOKEN}\n", encoding="utf-8")
    words = "--public-url https://calls.example.com --account 31337 --base-url example.kommo.com --region US"
    assert command(str(path), *words.split(), "--access-token-file", str(token)) == EX_OK
    assert load(path, environment={}, services=SERVICES).accounts[31337].access_token == ACCESS_TOKEN
    out, err = capsys.readouterr()
    assert out.startswith(f"Wrote {path}, readable by its owner only.")
    assert err == ""


def test_the_command_refuses_every_wrong_argument_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token, path = tmp_path / "token", tmp_path / "calllogd.toml"
    token.write_text("two words", encoding="utf-8")
    words = ("--account", "one", "--base-url", "http://example.com", "--access-token-file", str(token))
    assert command(str(path), *words) == EX_CONFIG
    assert not path.exists()
    assert capsys.readouterr().err.splitlines() == [
        "calllogd: --account: should be a number, such as 31337, not 'one'",
        "calllogd: --base-url: should be an https address; plain http only for a loopback address, "
        "not 'http://example.com'",
        "calllogd: --access-token-file: should be a token of printable ASCII characters, without spaces",
    ]


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (str(tmp_path / "c.toml"), "--access-token-file", str(tmp_path / "none"))
    assert command(*words) == EX_CONFIG
    assert "--access-token-file: cannot be read: " in capsys.readouterr().err
    assert not (tmp_path / "c.toml").exists()


def test_the_command_exits_78_when_there_is_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").touch()
    assert command(str(tmp_path / "c.toml")) == EX_CONFIG
    assert "is already there" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["argument", "option", "variable"])
def test_the_file_is_named_by_argument_option_or_variable(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    add_arguments(parser)
    places = {
        "variable": tmp_path / "variable",
        "option": tmp_path / "option",
        "argument": tmp_path / "argument",
    }
    words: list[str] = []
    monkeypatch.setenv("CALLLOGD_CONFIG", str(places["variable"]))
    if name != "variable":
        words += ["--config", str(places["option"])]
    if name == "argument":
        words.append(str(places["argument"]))
    assert run(parser.parse_args(words)) == EX_OK
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert str(places[name]) in capsys.readouterr().out


PROGRAM = """
import argparse, fcntl, sys, termios
from calllogd.console.init import add_arguments, run
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that /dev/tty, which getpass reads, is this one
parser = argparse.ArgumentParser()
add_arguments(parser)
sys.exit(run(parser.parse_args()))
"""


def on_a_terminal(path: Path, play: Callable[[int, Callable[[str], None]], None]) -> tuple[int, str]:
    """Run the command on a terminal of its own; return its exit code and all that the terminal showed."""
    ours, its = pty.openpty()
    shown, seen = "", 0

    def until(words: str) -> None:
        nonlocal shown, seen
        while words not in shown[seen:]:
            shown += os.read(ours, 1000).decode()
        seen = shown.index(words, seen) + len(words)

    try:
        program = [sys.executable, "-c", PROGRAM, str(path)]
        with subprocess.Popen(program, stdin=its, stdout=its, stderr=its, start_new_session=True) as process:
            # The program alone holds its end now, so reading ends when the program does.
            os.close(its)
            try:
                play(ours, until)
                # That the program has ended is what the terminal then says with an error.
                with contextlib.suppress(OSError):
                    while chunk := os.read(ours, 1000):
                        shown += chunk.decode()
            except BaseException:
                # Else leaving the block would wait for a program that waits for us.
                process.kill()
                raise
            return process.wait(), shown
    finally:
        os.close(ours)


def test_on_a_real_terminal_the_token_typed_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "calllogd.toml"

    def play(terminal: int, until: Callable[[str], None]) -> None:
        for question, answer in TYPED.items():
            until(question)
            until(": ")
            os.write(terminal, f"{answer}\n".encode())

    code, shown = on_a_terminal(path, play)
    assert code == EX_OK
    assert "https://calls.example.com/voip/generic/31337" in shown
    assert ACCESS_TOKEN not in shown
    assert load(path, environment={}, services=SERVICES).accounts[31337].access_token == ACCESS_TOKEN


def test_the_end_of_the_input_ends_the_questions(tmp_path: Path) -> None:
    def play(terminal: int, until: Callable[[str], None]) -> None:
        until("Public address")
        until(": ")
        os.write(terminal, b"\x04")

    code, shown = on_a_terminal(tmp_path / "calllogd.toml", play)
    assert code == EX_FAILED
    assert "nothing was written" in shown
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_the_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not on a real terminal: Python notices an interrupt between prompt and read only at the next key.
    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert command(str(tmp_path / "calllogd.toml")) == EX_INTERRUPTED
    assert capsys.readouterr().err == "\ncalllogd: nothing was written\n"
    assert not list(tmp_path.iterdir())
