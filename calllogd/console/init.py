"""`calllogd init`: writes a configuration that works, and says what to do next."""

import argparse
import contextlib
import getpass
import json
import os
import secrets
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from calllogd.config import ACCOUNT, SECTIONS, Setting
from calllogd.console.exits import EX_CONFIG, EX_FAILED, EX_INTERRUPTED, EX_OK
from calllogd.console.manual import literal, page
from calllogd.errors import ConfigError

DEFAULT_FILE = Path("/etc/calllogd/calllogd.toml")
STATE_FOLDER = Path("/var/lib/calllogd")
TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What only the reader of a configuration knows; None is still to be filled in."""

    public_url: str | None = None
    account: int | None = None
    base_url: str | None = None
    region: str | None = None
    access_token: str | None = None


@dataclass(frozen=True, slots=True)
class Terminal:
    """How a person is asked: both functions take the words to show and return the line typed."""

    ask: Callable[[str], str]
    ask_hidden: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One thing to ask; `tidy` turns what people type into what the setting reads."""

    name: str
    words: str
    setting: Setting
    tidy: Callable[[str], Any] = str
    suggestion: Callable[[], str] = str

    @property
    def argument(self) -> str:
        """Its name on the command line, which anybody can read: a secret is named by its file there."""
        return f"{self.name}_file" if self.setting.secret else self.name

    def read(self, typed: str) -> Any:
        """Return the setting's value; raises ValueError saying what would be right."""
        return self.setting.read(self.tidy(typed.strip()))


def _with_scheme(typed: str) -> str:
    return typed if "://" in typed else f"https://{typed}"


def _origin(typed: str) -> str:
    """Return an address without its path: people copy it from a page of Kommo that is open."""
    scheme, _, rest = _with_scheme(typed).partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _own_name() -> str:
    """Return the address by which this machine calls itself, if that is more than a nickname."""
    name = socket.gethostname()
    return f"https://{name}" if "." in name else ""


def _number(typed: str) -> int:
    if not (typed.isascii() and typed.isdigit()):
        raise ValueError("a number, such as 31337")
    return int(typed)


_QUESTIONS = (
    _Question(
        name="public_url",
        words="Public address of calllogd, such as https://calls.example.com",
        setting=SECTIONS["http"]["public_url"],
        tidy=_with_scheme,
        suggestion=_own_name,
    ),
    _Question(
        name="account",
        words="Id of the Kommo account (in Kommo: Settings, General settings)",
        setting=ACCOUNT["id"],
        tidy=_number,
    ),
    _Question(
        name="base_url",
        words="Address of the Kommo account, such as https://example.kommo.com",
        setting=ACCOUNT["base_url"],
        tidy=_origin,
    ),
    _Question(
        name="region",
        words="Country of its national phone numbers, two letters (Enter: numbers come with a country code)",
        setting=ACCOUNT["region"],
        tidy=str.upper,
    ),
    _Question(
        name="access_token",
        words="Long-lived token of the private integration, not shown (Enter: later, or OAuth)",
        setting=ACCOUNT["access_token"],
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `calllogd init` takes."""
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help=f"where to write; $CALLLOGD_CONFIG or {DEFAULT_FILE} if not given",
    )
    parser.add_argument("--public-url", metavar="URL", help="how the world reaches calllogd")
    parser.add_argument("--account", metavar="ID", help="id of the Kommo account")
    parser.add_argument("--base-url", metavar="URL", help="address of the Kommo account")
    parser.add_argument("--region", metavar="XX", help="country of its national phone numbers")
    parser.add_argument(
        "--access-token-file",
        type=Path,
        metavar="FILE",
        help="file from which its long-lived token is read; the token is then written into the configuration",
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry out `calllogd init`; return the exit code.

    Where no FILE is named, the program's own --config counts, if the command line has one.
    """
    named = arguments.file or getattr(arguments, "config", None) or os.environ.get("CALLLOGD_CONFIG")
    person = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        init(
            Path(named or DEFAULT_FILE),
            _given(arguments),
            terminal=Terminal(ask=input, ask_hidden=getpass.getpass) if person else None,
            say=_say,
        )
    except ConfigError as error:
        sys.stderr.writelines(f"calllogd: {mistake}\n" for mistake in error.mistakes)
        return EX_CONFIG
    except (EOFError, KeyboardInterrupt) as end:
        sys.stderr.write("\ncalllogd: nothing was written\n")
        return EX_FAILED if isinstance(end, EOFError) else EX_INTERRUPTED
    return EX_OK


def init(path: Path, given: Answers, *, terminal: Terminal | None, say: Callable[[str], None]) -> None:
    """Write a new configuration and say what comes next.

    What is not given is asked for on the terminal; without one it stays off, and `calllogd check` names it.
    Raises ConfigError, with nothing written, when there is a file already or it cannot be made.
    """
    path = path.absolute()
    _make_room(path)
    answers = given if terminal is None else _asked(given, terminal, say)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    listen = _listen(answers)
    _write(path, page(_values(path, answers, listen=listen, token=token)))
    say(_next_steps(path, answers, listen=listen, token=token))


def _given(arguments: argparse.Namespace) -> Answers:
    """Return what the command line says; raises ConfigError with every mistake in it."""
    values: dict[str, Any] = {}
    mistakes = []
    for question in _QUESTIONS:
        typed = getattr(arguments, question.argument)
        flag = "--" + question.argument.replace("_", "-")
        try:
            if question.setting.secret and typed is not None:
                typed = typed.read_text(encoding="utf-8")
            values[question.name] = None if typed is None else question.read(typed)
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"{flag}: cannot be read: {error}")
        except ValueError as error:
            # The value of a secret is not repeated.
            shown = "" if question.setting.secret else f", not {typed!r}"
            mistakes.append(f"{flag}: should be {error}{shown}")
    if mistakes:
        raise ConfigError(*mistakes)
    return Answers(**values)


def _asked(given: Answers, terminal: Terminal, say: Callable[[str], None]) -> Answers:
    say("A few questions. Enter takes what stands in brackets; Ctrl-C ends without writing anything.\n")
    return Answers(
        **{
            question.name: _answer(question, terminal, say)
            if getattr(given, question.name) is None
            else getattr(given, question.name)
            for question in _QUESTIONS
        }
    )


def _answer(question: _Question, terminal: Terminal, say: Callable[[str], None]) -> Any:
    """Return the first right answer, or None where Enter leaves the setting out."""
    suggestion = question.suggestion()
    words = f"{question.words} [{suggestion}]: " if suggestion else f"{question.words}: "
    ask = terminal.ask_hidden if question.setting.secret else terminal.ask
    while True:
        typed = ask(words).strip() or suggestion
        if not typed and question.setting.default is None:
            return None
        try:
            return question.read(typed)
        except ValueError as error:
            say(f"  This should be {error}.")


def _listen(answers: Answers) -> str:
    """Return where to listen.

    A public address without TLS is a loopback one, with no proxy in front: calllogd itself has to be there.
    """
    parts = urlsplit(answers.public_url or "")
    if parts.scheme != "http":
        host, port = SECTIONS["http"]["listen"].default
        return f"{host}:{port}"
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{host}:{parts.port or 80}"


def _values(path: Path, answers: Answers, *, listen: str, token: str) -> Mapping[str, str]:
    own = os.geteuid() != 0 and not path.is_relative_to(DEFAULT_FILE.parent)
    folder = path.parent if own else STATE_FOLDER
    values = {
        "http.listen": listen,
        "http.public_url": answers.public_url,
        "kommo.redirect_uri": answers.public_url and f"{answers.public_url}/oauth/callback",
        "database.url": f"sqlite:///{quote(str(folder / 'calllogd.db'))}",
        "recordings.path": str(folder / "recordings"),
        "admin.token": secrets.token_urlsafe(TOKEN_BYTES),
        "account.id": answers.account,
        "account.base_url": answers.base_url,
        "account.region": answers.region,
        "account.access_token": answers.access_token,
        "generic.token": token,
    }
    return {name: literal(value) for name, value in values.items() if value is not None}


def _make_room(path: Path) -> None:
    """Refuse, before anything is asked, what could not be written in the end; make the folder."""
    if path.exists() or path.is_symlink():
        raise _already_there(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent}: cannot be made: {error.strerror}; {_ELSEWHERE}") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{path.parent}: you may not write there; {_ELSEWHERE}")


_ELSEWHERE = "run this with sudo, or name another file: calllogd init calllogd.toml"


def _already_there(path: Path) -> ConfigError:
    return ConfigError(f"{path}: is already there and was left as it is; move it away or name another file")


def _write(path: Path, text: str) -> None:
    """Make the file, for its owner alone, or leave nothing behind."""
    try:
        # O_EXCL: never an existing file, nor one that a link points to; 0600 from its first moment.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise _already_there(path) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _next_steps(path: Path, answers: Answers, *, listen: str, token: str) -> str:
    """Return what to do now. The only secret in it is the webhook's token, within the curl line."""
    usual = path == DEFAULT_FILE
    program = "calllogd" if usual else f"calllogd --config {shlex.quote(str(path))}"
    missing = [
        name
        for name, value in (
            ("http.public_url", answers.public_url),
            ("accounts.id", answers.account),
            ("accounts.base_url", answers.base_url),
        )
        if value is None
    ]
    lines = [f"Wrote {path}, readable by its owner only.", ""]
    if missing:
        lines += [f"Still to be filled in there: {', '.join(missing)}.", ""]
    if answers.access_token is None:
        lines += [
            "There is no access token yet. Set access_token; or enter the integration's client_id and",
            "client_secret under [kommo], start calllogd, and let an administrator of Kommo open",
            f"  {answers.public_url or 'PUBLIC_URL'}/oauth/install",
            "",
        ]
    account = answers.account or "ACCOUNT_ID"
    public = answers.public_url or "PUBLIC_URL"
    lines += [
        "Next",
        f"  {program} check",
        "      says whether everything is right, and what would be",
        f"  {'systemctl enable --now calllogd' if usual else program}",
        "      starts it",
        "",
        "At the VoIP service, enter as the address of its webhook",
        f"  {public}/voip/generic/{account}",
        "with the bearer token that stands in the line below and under [accounts.voip.generic] in the file.",
        "",
        "Try it on this machine, once calllogd runs; the call then stands in Kommo, as an incoming lead",
        "unless somebody there has the number:",
        f"  {_curl(f'http://{listen}/voip/generic/{account}', token)}",
    ]
    return "\n".join(lines) + "\n"


def _curl(address: str, token: str) -> str:
    call = {
        "event": "call.ended",
        "call_id": f"try-{uuid4()}",
        "direction": "inbound",
        # Reserved for examples: nobody is called back by mistake.
        "phone": "+12025550123",
        "duration": 42,
        "status": "answered",
    }
    headers = (f"Authorization: Bearer {token}", "Content-Type: application/json")
    words = ["curl", "-i", address]
    for header in headers:
        words += ["-H", header]
    return shlex.join([*words, "-d", json.dumps(call)])


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
