"""The command line: what calllogd can be asked for."""

import argparse
import asyncio
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from calllogd import __version__
from calllogd.config import Settings, load
from calllogd.console.exits import EX_CONFIG, EX_FAILED, EX_INTERRUPTED, EX_OK
from calllogd.console.moments import moment
from calllogd.domain.call import CallState
from calllogd.errors import CalllogdError, ConfigError
from calllogd.log import set_up
from calllogd.voip.provider import service_settings
from calllogd.voip.simulation import CLIENT, Kind

CONFIG = Path("/etc/calllogd/calllogd.toml")

MOST_DAYS = 3650

DESCRIPTION = """\
calllogd logs phone calls in Kommo: a call ends, and Kommo shows it once.

Without a command it runs the daemon: it takes webhooks of VoIP services by HTTP and
keeps every call's entry in Kommo up to date, whatever comes and whatever fails.
"""

EPILOG = """\
first steps:
  calllogd demo              see it work, without Kommo and without a configuration
  calllogd init              write a configuration with fresh secrets
  calllogd check             see whether everything is right before you start it
  calllogd                   run it; systemd/calllogd.service does that for you

exit codes: 0 done or asked to stop, 1 something is wrong and was said, 2 wrong usage,
75 something is left to do (--once), 78 the configuration or the database cannot be used
"""

Command = Callable[[Settings, argparse.Namespace], Awaitable[int]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except ConfigError as error:
        for mistake in error.mistakes:
            sys.stderr.write(f"calllogd: {mistake}\n")
        return EX_CONFIG
    except CalllogdError as error:
        sys.stderr.write(f"calllogd: {error}\n")
        return EX_FAILED
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; nothing may be written at exit, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_OK


def _run(arguments: argparse.Namespace) -> int:
    """Carry out what was asked for; a module is imported when its command is."""
    match arguments.command:
        case "init":
            from calllogd.console import init  # noqa: PLC0415

            return init.run(arguments)
        case "demo":
            from calllogd.console import demo  # noqa: PLC0415

            return demo.run(chaos=arguments.chaos, keep=arguments.keep)
        case None:
            return _daemon(arguments)
        case command:
            settings = load(_config(arguments), services=service_settings())
            return asyncio.run(_command(command)(settings, arguments))  # type: ignore[arg-type]


def _command(name: str) -> Command:
    if name == "check":
        from calllogd.console.check import check  # noqa: PLC0415

        return check
    if name == "3cx-template":
        from calllogd.console.template import threecx_template  # noqa: PLC0415

        return threecx_template
    if name == "simulate":
        from calllogd.console.simulate import simulate  # noqa: PLC0415

        return simulate
    if name == "import":
        from calllogd.console.import_calls import import_calls  # noqa: PLC0415

        return import_calls
    if name == "replay":
        from calllogd.console.replay import replay  # noqa: PLC0415

        return replay
    from calllogd.console import ledger_commands, secret_commands  # noqa: PLC0415

    commands: dict[str, Command] = {
        "status": ledger_commands.status,
        "calls": ledger_commands.calls,
        "show": ledger_commands.show,
        "retry": ledger_commands.retry,
        "forget": ledger_commands.forget,
        "voip-token": secret_commands.voip_token,
        "rotate-key": secret_commands.rotate_key,
    }
    return commands[name]


def _daemon(arguments: argparse.Namespace) -> int:
    # A core dump would hold every secret.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = _config(arguments)
    settings = load(path, services=service_settings())
    set_up(file=settings.log.file, form=settings.log.format, level=settings.log.level)
    if arguments.once:
        from calllogd.console.once import once  # noqa: PLC0415

        return once(settings)
    from calllogd.console.serve import serve  # noqa: PLC0415

    serve(settings, lambda: load(path, services=service_settings()))
    return EX_OK


def _config(arguments: argparse.Namespace) -> Path:
    named = getattr(arguments, "config", None) or os.environ.get("CALLLOGD_CONFIG")
    return Path(named) if named else CONFIG


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"the configuration; else $CALLLOGD_CONFIG, else {CONFIG}",
    )
    parser = argparse.ArgumentParser(
        prog="calllogd",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[shared],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"calllogd {__version__}")
    parser.add_argument(
        "--once",
        action="store_true",
        help="no HTTP: drain every call that is due and exit; 0 all done, 75 something is left",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(name: str, help_: str) -> argparse.ArgumentParser:
        text = help_[0].upper() + help_[1:] + "."
        return commands.add_parser(name, help=help_, description=text, parents=[shared])

    _add_init(add("init", "write a configuration with fresh secrets, and say what to do next"))
    demo = add(
        "demo", "show everything with a stand-in of Kommo; needs no configuration and leaves nothing behind"
    )
    demo.add_argument("--chaos", action="store_true", help="with faults of Kommo and kill -9 of the daemon")
    demo.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    status = add("status", "tell how many calls are in which state, and how the accounts are")
    status.add_argument("--json", action="store_true", help="one JSON object")
    listing = add("calls", "list calls, the newest first")
    listing.add_argument("--account", type=int, metavar="N", help="of one Kommo account")
    listing.add_argument(
        "--state", choices=[state.value for state in CallState], metavar="S", help="in one state"
    )
    listing.add_argument("--phone", metavar="P", help="with these digits in the number")
    listing.add_argument("--limit", type=_positive, default=50, metavar="N", help="how many at most (50)")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = add(
        "show", "tell one call's whole story: what arrived, what was done, and why it stands where it does"
    )
    show.add_argument("account", type=int, metavar="ACCOUNT", help="id of the Kommo account")
    show.add_argument("call_id", metavar="CALL_ID", help="the VoIP service's id of the call")
    show.add_argument("--json", action="store_true", help="one JSON object")
    retry = add(
        "retry", "put failed calls back, safely: nothing that may be in Kommo already is created again"
    )
    retry.add_argument("account", type=int, nargs="?", metavar="ACCOUNT", help="id of the Kommo account")
    retry.add_argument("call_id", nargs="?", metavar="CALL_ID", help="the VoIP service's id of the call")
    retry.add_argument("--state", choices=["failed"], help="all failed calls")
    forget = add("forget", "delete a call's recording: its link goes dead and leaves the note in Kommo")
    forget.add_argument("account", type=int, metavar="ACCOUNT", help="id of the Kommo account")
    forget.add_argument("call_id", metavar="CALL_ID", help="the VoIP service's id of the call")
    _add_simulate(
        add("simulate", "post a call to the running daemon as a VoIP service would; Kommo will show it")
    )
    _add_import(add("import", "take calls of the past from VoIP services' lists or files; nothing doubles"))
    replay = add("replay", "read again what VoIP services sent and calllogd could not understand")
    replay.add_argument("--account", type=int, metavar="N", help="of one Kommo account")
    replay.add_argument("--service", metavar="NAME", help="of one VoIP service")
    replay.add_argument("--drop", action="store_true", help="drop what is still not understood")
    template = add("3cx-template", "print the file that is uploaded in 3CX, so that it tells of its calls")
    template.add_argument("account", type=int, metavar="ACCOUNT", help="id of the Kommo account")
    token = add("voip-token", "print the address and the token to enter at an account's VoIP service")
    token.add_argument("account", type=int, metavar="ACCOUNT", help="id of the Kommo account")
    token.add_argument(
        "--rotate", action="store_true", help="make a new one; the old one goes on for a while"
    )
    token.add_argument(
        "--keep-days", type=_days, default=7.0, metavar="N", help="how long the old one is good (7)"
    )
    rotate = add("rotate-key", "seal the ledger's secrets with a new key; safe beside a running daemon")
    rotate.add_argument(
        "--lost", action="store_true", help="the key is lost: give up what was sealed with it, and begin anew"
    )
    add("check", "check configuration, database, disk and each account's token, rights and clock")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("should be 1 or more")
    return number


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"should be 0 to {MOST_DAYS}")
    return days


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", help="the VoIP service, as in [accounts.voip.SERVICE]")
    parser.add_argument(
        "--account", type=int, metavar="N", help="the Kommo account, if several have the service"
    )
    parser.add_argument(
        "--kind", type=Kind, choices=list(Kind), default=Kind.INBOUND, help="what happens in it"
    )
    parser.add_argument("--phone", default=CLIENT, metavar="P", help=f"the client's number ({CLIENT})")
    parser.add_argument(
        "--extensions", default="101,102,103", metavar="E,E,E", help="whose telephones ring (101,102,103)"
    )
    parser.add_argument(
        "--talk", type=_positive, default=63, metavar="SECONDS", help="how long is talked (63)"
    )
    parser.add_argument("--recording", metavar="URL", help="address or reference of its recording")
    parser.add_argument("--twice", action="store_true", help="send each message twice")
    parser.add_argument("--shuffle", action="store_true", help="send the messages in any order")


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "service", nargs="?", metavar="SERVICE", help="of one VoIP service; else of all that list their calls"
    )
    parser.add_argument("--account", type=int, metavar="N", help="of one Kommo account")
    parser.add_argument(
        "--since", type=moment, metavar="WHEN", help="from then on: 2026-11-01, or 12h, 7d, 2w ago (1d)"
    )
    parser.add_argument("--until", type=moment, metavar="WHEN", help="up to then; else up to now")
    parser.add_argument(
        "--file",
        type=Path,
        action="append",
        metavar="FILE",
        help="a file that the service left: Asterisk's Master.csv, FreeSWITCH's *.cdr.json; may be repeated",
    )
    parser.add_argument("--restart", action="store_true", help="begin anew where an import broke off")


def _add_init(parser: argparse.ArgumentParser) -> None:
    from calllogd.console import init  # noqa: PLC0415

    init.add_arguments(parser)


if __name__ == "__main__":
    sys.exit(main())
