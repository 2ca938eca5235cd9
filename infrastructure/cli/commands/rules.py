"""`rules list`, `rules try`: the position manager's rules, here without a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.quantity import plain
from infrastructure.cli.settings import Settings, settings

if TYPE_CHECKING:
    from bridge.rules.trial import Happening, Moment, Outcome

_EXAMPLE = "docs/position-manager.md has an example"

app = typer.Typer(
    help="The position manager's rules.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """The position manager's rules (`rules:` in stack.yaml)."""


@app.command("list")
def list_rules(context: typer.Context) -> None:
    """Show the running bridge's rules, and how far each trigger is for each position.

    \b
    Examples:
      ./deploy.py rules list
    """
    from infrastructure.cli.host import ask_bridge

    current = settings(context)
    found = ask_bridge(current, "GET", "/rules")
    current.out.document(found)
    if found["waits"]:
        current.out.say(f"nothing is judged now: {found['waits']}")
    for where, rules in (("stack.yaml", found["fromFile"]["rules"]), ("API", found["rules"])):
        for rule in rules:
            state = "on" if rule["enabled"] else "off"
            hidden = where == "API" and rule["id"] in found.get("overridden", ())
            note = ", does nothing: stack.yaml has a rule of this name" if hidden else ""
            current.out.row(f"{rule['id']:<24} {state:<4} {where}{note}")
    for each in found["standing"]:
        for trigger in each["triggers"]:
            state = trigger["unknown"] or f"{trigger['value']} of {trigger['level']}"
            what = f"  {each['rule']} ({each['mode']}), {each['name']}"
            current.out.row(f"{what}: {trigger['name']} {state}")


@app.command("try")
def try_rules(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="YAML or JSON with rules, positions, prices; or a stack.yaml")
    ],
    prices: Annotated[
        Path | None,
        typer.Option("--prices", metavar="FILE", help="CSV at,name,bid,ask; or YAML or JSON"),
    ] = None,
    post: Annotated[
        bool, typer.Option("--post/--no-post", help="Send it to alerts.urls, where they are set")
    ] = True,
) -> int:
    """Say what rules would do with positions at the prices of a file. Nothing is ordered.

    No gateway, bridge or account is needed. What would be done is also posted to the addresses
    of `alerts.urls`, so that those are tried, too.

    \b
    Examples:
      ./deploy.py rules try my-rules.yaml
      ./deploy.py rules try stack.yaml --prices monday.csv --no-post
    """
    current = settings(context)
    outcome = _tried(current, file, prices)
    posted = _posted(current, outcome) if post and outcome.happenings else []
    import msgspec

    current.out.document({**msgspec.to_builtins(outcome), "posted": posted})
    _show(current, outcome)
    for one in posted:
        current.out.say(f"{'posted to' if one['sent'] else 'NOT taken by'} {one['service']}")
    return 0 if all(one["sent"] for one in posted) else 1


def _tried(current: Settings, file: Path, prices: Path | None) -> Outcome:
    """Raises UsageError for whatever is wrong in a file."""
    from zoneinfo import ZoneInfo

    from bridge.errors import BridgeError
    from bridge.rules import model, trial
    from infrastructure.errors import UsageError
    from infrastructure.files import given_text

    content = _content(file)
    beside: dict[str, Any] = {}
    moments: tuple[Moment, ...] | None = None
    try:
        if prices is not None and prices.suffix.lower() == ".csv":
            moments = trial.moments_of_csv(given_text(prices))
        elif prices is not None:
            found = _content(prices)
            beside = found if isinstance(found, dict) else {"prices": found}
        rules = model.read(_rules_of(current, content, file))
        positions = trial.positions_of(beside.get("positions", content.get("positions")))
        if moments is None:
            moments = trial.moments_of(beside.get("prices", content.get("prices") or []))
        zone = ZoneInfo(str(content.get("timeZone", "America/New_York")))
    except BridgeError as error:
        raise UsageError(f"{file}: {error.detail}", hint=error.next_step, code=error.code) from None
    except (KeyError, ValueError, OSError):
        raise UsageError(f"{file}: timeZone is no zone such as America/New_York") from None
    for what, there in (("rules", rules.rules), ("positions", positions), ("prices", moments)):
        if not there:
            raise UsageError(
                f"{file} has no {what}", hint="docs/position-manager.md has an example"
            )
    return trial.run(rules, positions, moments, zone=zone)


def _content(path: Path) -> Any:
    from infrastructure.config.places import parse
    from infrastructure.errors import ConfigError
    from infrastructure.files import given_text

    document = parse(given_text(path), str(path))
    if document.problems:
        first = document.problems[0]
        raise ConfigError(first.message, place=first.place, found=tuple(document.problems))
    return document.values


def _rules_of(current: Settings, content: Any, file: Path) -> Any:
    """The rules of a file of their own, or of one target of a stack.yaml."""
    from infrastructure.errors import UsageError

    if not isinstance(content, dict):
        raise UsageError(f"{file} has no rules", hint=_EXAMPLE)
    targets = content.get("targets")
    if not isinstance(targets, dict):
        return {name: content[name] for name in ("rules", "mode", "rules_mode") if name in content}
    name = current.target_name or next(iter(targets), "")
    chosen = {**(content.get("defaults") or {}), **(targets.get(name) or {})}
    return {key: chosen[key] for key in ("rules", "rules_mode") if key in chosen}


def _posted(current: Settings, outcome: Outcome) -> list[dict[str, Any]]:
    """What became of the message at each address; nothing without addresses."""
    target = current.target()
    if not target.stack.alerts.urls:
        return []
    import asyncio
    import tempfile

    from bridge.alerts.messages import Message, Sender
    from infrastructure.config.secrets import read

    body = "\n".join(_line(each) for each in outcome.happenings)
    message = Message(title=f"{target.name}: rules, tried", body=body[:3500], level="info")
    with tempfile.TemporaryDirectory() as folder:  # of mode 0700, gone with the command
        path = Path(folder, "addresses")
        path.touch(mode=0o600)
        path.write_bytes(b"\n".join(read(target, url).strip() for url in target.stack.alerts.urls))
        deliveries = asyncio.run(Sender(path).send(message))
    return [{"service": each.service, "sent": each.sent} for each in deliveries]


def _line(each: Happening) -> str:
    price = "at the market" if each.limit is None else f"at {plain(each.limit)}"
    order = f"{each.action} {plain(each.quantity)} {each.holding} {price}"
    profit = "" if each.profit is None else f", profit {each.profit:+.2f}"
    would = "would " if each.mode == "trade" else "would (simulate) "
    return f"{each.at:%Y-%m-%d %H:%M:%S}Z {each.rule} {would}{order}: {each.reason}{profit}"


def _show(current: Settings, outcome: Outcome) -> None:
    for happening in outcome.happenings:
        current.out.row(_line(happening))
    if not outcome.happenings:
        current.out.say(f"no rule would have done anything at {outcome.moments} prices")
    if outcome.standing:
        current.out.say("at the end, what is still held:")
    for each in outcome.standing:
        for trigger in each.triggers:
            state = trigger.unknown or f"{trigger.value} of {trigger.level}"
            current.out.row(f"  {each.rule}, {each.name}: {trigger.name} {state}")
