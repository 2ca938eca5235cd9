"""Every command in one table: all that `--help` and completion need, without importing any.

To add one: write `infrastructure/cli/commands/NAME.py` with a function of that name (or a
`typer.Typer` named `app` for commands with sub-commands), and add its line here.
"""

from __future__ import annotations

from typing import NamedTuple


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
