"""The command group: its table of commands, lazily imported; global and shared options.

To add a command: write `infrastructure/cli/commands/NAME.py` with a function of that name (or a
`typer.Typer` named `app` for commands with sub-commands), and add its line to `TABLE`.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from infrastructure.cli.commands.completion import as_typed, targets
from infrastructure.cli.settings import Settings
from infrastructure.program import COMPLETE_VARIABLE, INSTALLED, NAME, worded

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]
Wait = Annotated[
    float | None,
    typer.Option("--wait", min=1, metavar="SECONDS", help="Until healthy, 2FA not counted"),
]


class Entry(NamedTuple):
    """A command: its name, its line in the list, and the module that holds it."""

    name: str
    summary: str
    module: str


_ROOT = "infrastructure.cli.commands."

TABLE: dict[str, tuple[Entry, ...]] = {
    "Configure": (
        Entry("init", "Write a commented stack.yaml", _ROOT + "init"),
        Entry("config", "Print the resolved configuration, secrets masked", _ROOT + "config"),
        Entry("render", "Write every file that a deploy would push", _ROOT + "render"),
        Entry("secrets", "Store, list and check secrets", _ROOT + "secrets"),
        Entry("completion", "Tab completion for bash, zsh or fish", _ROOT + "completion"),
    ),
    "Deploy": (
        Entry("plan", "What `up` would change, and whether 2FA will be needed", _ROOT + "plan"),
        Entry("up", "Deploy, and wait until it is really healthy", _ROOT + "up"),
        Entry("sync", "Ship the bridge's sources; the gateway keeps its session", _ROOT + "sync"),
        Entry("rebuild", "Build the bridge afresh; the gateway stays", _ROOT + "sync"),
        Entry("upgrade", "Take a newer image; restored when it fails", _ROOT + "upgrade"),
        Entry("restart", "Restart a service; the gateway keeps its session", _ROOT + "restart"),
        Entry("rollback", "Serve an earlier release again", _ROOT + "rollback"),
        Entry("down", "Stop the stack; data and history stay", _ROOT + "down"),
    ),
    "Look": (
        Entry("status", "What runs, the gateway's login, the bridge's health", _ROOT + "status"),
        Entry("doctor", "Check this machine, the host and the stack", _ROOT + "doctor"),
        Entry("diagnose", "Try the bridge from outside, and explain", _ROOT + "diagnose"),
        Entry("logs", "What the services say", _ROOT + "logs"),
        Entry("history", "Past deploys and how they went", _ROOT + "rollback"),
    ),
    "Use": (
        Entry("halt", "Stop trading, with or without the bridge", _ROOT + "halt"),
        Entry("resume", "Let orders through again", _ROOT + "halt"),
        Entry("apikey", "Create, list and revoke API keys", _ROOT + "apikey"),
        Entry("journal", "The journal of orders; accept a restored one", _ROOT + "journal"),
        Entry("tunnel", "The API or the bridge on a local port", _ROOT + "tunnel"),
        Entry("mcp", "The bridge as tools for an agent, over stdio", _ROOT + "mcp"),
        Entry("login", "What the gateway's login waits for; type a code", _ROOT + "login"),
        Entry("vnc", "The gateway's screen, for as long as you look", _ROOT + "vnc"),
        Entry("rules", "The position manager's rules; tried without a gateway", _ROOT + "rules"),
        Entry("alerts", "Send a test message to every alert address", _ROOT + "alerts"),
    ),
    "Host": (
        Entry("backup", "Copy journal, settings, certificates to a file", _ROOT + "backup"),
        Entry("restore", "Put a backup onto a host; it starts halted", _ROOT + "backup"),
        Entry("move", "Stop here, copy, start on another machine", _ROOT + "backup"),
        Entry("prepare", "Make a bare VM ready: Docker, swap, clock, firewall", _ROOT + "prepare"),
    ),
}

ENTRIES: dict[str, Entry] = {entry.name: entry for group in TABLE.values() for entry in group}


class LazyGroup(TyperGroup):
    """Lists commands from the table and imports a command's module only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the table's order."""
        return list(ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; None when there is no such name."""
        if cmd_name not in ENTRIES:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Suggests the nearest name for an unknown one."""
        if args and args[0] not in ENTRIES and not args[0].startswith("-"):
            import difflib

            from infrastructure.errors import UsageError

            close = difflib.get_close_matches(args[0].lower(), ENTRIES, 1, 0.5)
            hint = f"did you mean '{close[0]}'?" if close else "./deploy.py --help lists them"
            raise UsageError(f"there is no command '{args[0]}'", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of `--help`, without importing any command."""
        for title, entries in TABLE.items():
            with formatter.section(title):
                formatter.write_dl([(entry.name, entry.summary) for entry in entries])


def _load(name: str) -> Any:
    module = importlib.import_module(ENTRIES[name].module)
    if hasattr(module, "app"):
        app: typer.Typer = module.app
        app.info.name = name
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name)(getattr(module, name))
    command = typer.main.get_command(app)
    command.name = name
    return _worded(command) if INSTALLED else command


def _worded(command: Any) -> Any:
    """The command with the texts of its help, and of its own commands, as its user types them."""
    for part in (command, *command.params):
        for text in ("help", "epilog"):
            if getattr(part, text, None):
                setattr(part, text, worded(getattr(part, text)))
    for below in getattr(command, "commands", {}).values():
        _worded(below)
    return command


def _version(asked: bool) -> None:
    """Answers before anything else is looked at: a command is not needed for it."""
    if asked:
        from bridge import __version__

        typer.echo(f"gangway {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(
    epilog=worded("Try it without an account: ./deploy.py up   Each command: COMMAND --help")
)
def _root(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Configuration [stack.yaml]")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="NAME", help="Which target of the file", autocompletion=targets
        ),
    ] = None,
    trust_host_key: Annotated[
        str | None,
        typer.Option("--trust-host-key", metavar="SHA256:…", help="Accept this host key"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="More detail, and tracebacks")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; results and errors only")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Puts IB Gateway, a REST + WebSocket bridge and Caddy on a host, and keeps them there."""
    found = context.ensure_object(Settings)
    found.config, found.target_name, found.verbose = config, target, verbose
    found.trust_host_key, found.quiet = trust_host_key, quiet
    found.out.json = as_json


def run(words: list[str], *, as_json: bool, verbose: bool) -> int:
    """Reads the words and calls the command; its exit code. What typer refuses is told here."""
    from infrastructure.cli import output
    from infrastructure.errors import Interrupted, UsageError

    if COMPLETE_VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
        as_typed(os.environ)
    try:
        result = app(
            words,
            prog_name=NAME,
            complete_var=COMPLETE_VARIABLE,
            standalone_mode=False,
        )
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(error.format_message() + "\n")
            if not as_json:
                return UsageError.exit_code
            refused = UsageError("missing command")
        else:
            refused = UsageError(*_usage(error))
        return output.failure(refused, as_json=as_json, verbose=verbose)
    except typer.Abort:
        return output.failure(Interrupted("interrupted"), as_json=as_json, verbose=verbose)
    if result == Interrupted.exit_code and not ({"-f", "--follow"} & set(words)):
        return output.failure(Interrupted("interrupted"), as_json=as_json, verbose=verbose)
    return result if isinstance(result, int) else 0


def _usage(error: typer.TyperException) -> tuple[str, None, str]:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else NAME
    message = error.format_message().rstrip(".")
    way = path if INSTALLED else f"./{path}"
    return message[:1].lower() + message[1:], None, f"{way} --help"


def confirm(
    current: Settings, question: str = "go on?", *, yes: bool, default: bool = True
) -> None:
    """Asks a person on a terminal; with `--yes`, `--json` or no terminal the answer is yes.

    Raises:
        typer.Abort: the person does not want it.
    """
    if not yes and not current.out.json and sys.stdin.isatty():
        typer.confirm(question, default=default, abort=True, err=True)
