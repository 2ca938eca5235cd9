"""The commented stack.yaml that `init` writes."""

from __future__ import annotations

from dataclasses import dataclass

TEMPLATE_NAME = "stack.yaml.j2"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the wizard or the flags say."""

    name: str
    host: str
    username: str | None = None
    asked: bool = True
    mode: str = "paper"
    identity: str | None = None
    domain: str | None = None
    image_tag: str = "stable"
    profile: str = "e2-micro"

    @property
    def image(self) -> str:
        """The image with the tag, or with a digest when that was given."""
        separator = "@" if self.image_tag.startswith("sha256:") else ":"
        return f"ghcr.io/gnzsnz/ib-gateway{separator}{self.image_tag}"


def text(answers: Answers) -> str:
    """A whole stack.yaml with one target."""
    return HEAD + target_text(answers)


def target_text(answers: Answers) -> str:
    """One target, indented to stand below `targets:`."""
    from infrastructure.config.host import Host
    from infrastructure.render.templates import TEMPLATES, render

    host = Host.model_validate(answers.host)
    return render(TEMPLATES / TEMPLATE_NAME, answers=answers, host=host)


def added(existing: str, answers: Answers) -> str:
    """An existing file with one more target; comments and order stay as they are."""
    if "\ntargets:" not in f"\n{existing}":
        return existing.rstrip("\n") + "\n\ntargets:\n" + target_text(answers)
    lines = existing.rstrip("\n").split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("targets:"))
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or lines[end][0] in " #\t"):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    new = ["", *target_text(answers).rstrip("\n").split("\n")]
    return "\n".join([*lines[:end], *new, *lines[end:]]) + "\n"


HEAD = """\
# Where and how to run the stack. Every key, with its default: docs/configuration.md
# Check it with ./deploy.py config --check; no secret ever stands in this file.

targets:
"""
