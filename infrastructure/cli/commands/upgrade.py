"""`upgrade [SERVICE] [--to TAG] [--check]`: a newer image under a name, or another tag."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infrastructure.cli.app import Wait, Yes, confirm
from infrastructure.cli.commands.completion import services
from infrastructure.cli.settings import Settings, settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from infrastructure.apply.protocol.documents import ImageState, Newer
    from infrastructure.apply.session import Session
    from infrastructure.cli.host import Planned
    from infrastructure.config import Target
    from infrastructure.plan.compute import Plan

UPGRADED = ("gateway", "caddy", "portal")
"""Services whose images come from a registry; the bridge is built from this checkout."""
BRIDGE = (
    "git pull, then ./deploy.py up takes newer sources; ./deploy.py rebuild bridge a newer base"
)


def upgrade(
    context: typer.Context,
    service: Annotated[
        str | None,
        typer.Argument(
            help="gateway, caddy, portal or a worker; none: all", autocompletion=services
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TAG", help="Another tag of the same image")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look; exit 3 when there is something newer")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what did not become healthy here before")
    ] = False,
    weekly: Annotated[
        bool | None,
        typer.Option(
            "--weekly/--no-weekly", help="Only: the host looks every week, and an alert tells"
        ),
    ] = None,
    yes: Yes = False,
    wait: Wait = None,
) -> None:
    """Take a newer image: a tag such as `stable` moves, and `up` never looks at it again.

    The host asks the registry and pulls by digest; nothing stops before the image is there and is
    for this kind of machine. Then it goes as with `up`: the old container stops first, and comes
    back, with its image under its name, when the new one does not become healthy. Such an image is
    not taken again without --again. A worker is its owner's: one that ends is told, and stays as it
    is. With --to, write the tag into stack.yaml when it serves.
    The bridge's image is built on the host from the sources that lie here: `up` and `sync bridge`
    take new sources, `rebuild bridge` a newer base image.

    \b
    Examples:
      ./deploy.py upgrade --check
      ./deploy.py upgrade gateway
      ./deploy.py upgrade gateway --to 10.45.1j
      ./deploy.py upgrade --weekly
    """
    from infrastructure.cli.host import planned
    from infrastructure.errors import ChangesPending, UsageError

    current = settings(context)
    if service is not None and not _from_registry(current, service):
        what = "is built here" if service == "bridge" else "has no image of its own at a registry"
        hint = (
            BRIDGE
            if service == "bridge"
            else f"one of {', '.join(UPGRADED)}, or a worker with an image"
        )
        raise UsageError(f"'{service}' {what}", hint=hint)
    if weekly is not None:
        _weekly(current, wanted=weekly)
        return
    if to is not None and service is None:
        raise UsageError("--to needs a service", hint="./deploy.py upgrade gateway --to TAG")
    with planned(current, lock=not check, change=_other_tag(service, to)) as found:
        if found.observed.release is None:
            raise UsageError("nothing is deployed yet", hint="./deploy.py up", code="not-deployed")
        if not found.observed.services and not check:
            hint = "./deploy.py up starts it, then upgrade"
            raise UsageError("nothing of the stack runs", hint=hint, code="not-deployed")
        wanted = {
            one.name: one.image
            for one in found.release.services
            if (one.name in UPGRADED or (one.worker and not one.builds))
            and service in (None, one.name)
        }
        looked = found.session.newer(wanted)
        for one in looked:
            current.out.row(line(one))
        newer = [one for one in looked if is_newer(one) and (again or not one.refused)]
        document = {"changed": bool(newer), "services": [_shown(one) for one in looked]}
        if check or not newer:
            current.out.document(document)
            if not newer:
                current.out.say("nothing newer to take")
                return
            pending = ChangesPending(f"{len(newer)} newer", hint="./deploy.py upgrade")
            pending.reported = True
            raise pending
        with _telling(current, to):
            _take(current, found, newer, document, service, yes=yes, wait=wait)


@contextmanager
def _telling(current: Settings, to: str | None) -> Iterator[None]:
    """What is left to be done where the new one stays: it serves, or waits, or is a worker."""
    from infrastructure.errors import GangwayError

    stays = False
    try:
        yield
        stays = True
    except GangwayError as error:
        stays = error.code in ("waiting-2fa", "worker-ends")
        raise
    finally:
        if to is not None and stays:
            current.out.say(f"now write the tag {to} into stack.yaml, or the next up goes back")


def _weekly(current: Settings, *, wanted: bool) -> None:
    from infrastructure.cli.host import connected
    from infrastructure.errors import UsageError

    target = current.target()
    if target.stack.runtime == "sandbox":
        raise UsageError("the sandbox has no images of a registry's")
    if wanted and not target.stack.alerts.urls:
        place = target.place("alerts", "urls")
        hint = "alerts.urls in stack.yaml, then up; or look by hand: upgrade --check"
        raise UsageError("nobody would be told", place, hint)
    with connected(current, target) as session:
        session.open()
        changed = session.watch_images(wanted=wanted)
    current.out.document({"weekly": wanted, "changed": changed})
    ended = "the host looks no longer" if changed else "the host did not look"
    current.out.say("the host looks every week; an alert tells what is newer" if wanted else ended)


def _from_registry(current: Settings, service: str) -> bool:
    """Whether a service's image comes from a registry."""
    if service in UPGRADED:
        return True
    worker = current.target().stack.workers.get(service)
    return worker is not None and worker.image is not None


def _other_tag(service: str | None, to: str | None) -> Any:
    """Changes the target's image to another tag, before it is rendered."""
    if service is None or to is None:
        return None

    def change(target: Target) -> Target:
        from infrastructure.config.base import check_image
        from infrastructure.errors import UsageError
        from infrastructure.runtime.compose import repository_of

        workers = target.stack.workers
        section = workers.get(service) or getattr(target.stack, service)
        image = f"{repository_of(str(section.image))}:{to}"
        try:
            check_image(image)
        except ValueError:
            hint = "such as stable, latest or 10.45.1j"
            raise UsageError(f"'{to}' is no tag", hint=hint) from None
        changed = section.model_copy(update={"image": image})
        update = {service: changed}
        if service in workers:
            update = {"workers": {**workers, service: changed}}
        stack = target.stack.model_copy(update=update)
        return dataclasses.replace(target, stack=stack)

    return change


def is_newer(one: Newer) -> bool:
    """Whether the name stands for something else at the registry than what runs."""
    other = one.runs.name != one.found.name
    return bool(one.found.digest) and (other or one.runs.digest != one.found.digest)


def line(one: Newer) -> str:
    """What runs and what there is, for people."""
    if not one.found.digest:
        return f"{one.service}: the registry does not tell about {one.found.name}: {one.why}"
    runs = f"{one.runs.version or one.runs.name} ({_mark(one.runs)})"
    if not is_newer(one):
        return f"{one.service}: {runs} is what {one.found.name} stands for"
    text = f"{one.service}: {runs} -> {one.found.name} ({_mark(one.found)})"
    return text + (f"; did not become healthy here, {one.refused}" if one.refused else "")


def _mark(image: ImageState) -> str:
    digest = image.digest.removeprefix("sha256:")[:12] or "of no registry"
    return f"{digest}, {image.created}" if image.created else digest


def _shown(one: Newer) -> dict[str, Any]:
    return {
        "service": one.service,
        "newer": is_newer(one),
        "from": vars(one.runs),
        "to": vars(one.found),
        "refused": one.refused or None,
        "why": one.why or None,
    }


def _take(
    current: Settings,
    found: Planned,
    newer: list[Newer],
    document: dict[str, Any],
    service: str | None,
    *,
    yes: bool,
    wait: float | None,
) -> None:
    from infrastructure.cli.commands.up import ailing, closing, ending, failing, require_worker
    from infrastructure.cli.plan_view import lines
    from infrastructure.plan.compute import upgraded

    fetched = {one.service: _fetched(current, found.session, one) for one in newer}
    causes = {
        name: f"a newer image: {image.version or image.name} ({_mark(image)})"
        for name, image in fetched.items()
    }
    also, others = beside(found.plan, fetched)
    for name, what in also.items():
        causes[name] += f"; and what is otherwise than at the last up: {what}"
    plan = upgraded(found.target, found.release, found.observed, causes)
    for text in lines(plan, diffs=current.verbose):
        current.out.say(text)
    if others:
        current.out.say(f"left alone, although changed: {', '.join(others)} (./deploy.py plan)")
    if plan.forecast.expected or also:
        confirm(current, yes=yes)
    with failing(current, document):
        outcome = found.session.apply(
            plan,
            found.release,
            wait=wait,
            command="upgrade",
            images={image.name: image.id for image in fetched.values()},
        )
        require_worker(outcome, service or "")
    current.out.document({**document, **ending(outcome)})
    current.out.say(closing(plan, outcome))
    for told in ailing(outcome):
        current.out.say(told)


def beside(plan: Plan, taken: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """What comes along with a newer image, by service, and the services that are left alone.

    A container is made from stack.yaml as it is now: another user or mode would come unsaid.
    """
    also, others = {}, []
    for change in plan.changes:
        if change.action == "unchanged":
            continue
        if change.service not in taken:
            others.append(change.service)
            continue
        found = [one for one in change.cause.split(", ") if not one.startswith("image ")]
        if change.action == "update" and found:
            also[change.service] = ", ".join(found)
    return also, others


def _fetched(current: Settings, session: Session, one: Newer) -> ImageState:
    image = session.fetch(one.found.name, one.found.digest)
    current.out.say(f"{one.service}: {image.version or image.name} of {image.created} is there")
    return image
