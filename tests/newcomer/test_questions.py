"""What a newcomer asks is one link from docs/README.md, and the answer is short."""

from __future__ import annotations

import re

import pytest

from infrastructure.config.gateway import Gateway
from infrastructure.config.schedule import schedule
from tests.docs.pages import PROJECT, links

INDEX = PROJECT / "docs" / "README.md"
LONGEST = 200
"""Words: what one reads in a minute."""
QUESTIONS = {
    "how do I upgrade the image": (
        "upgrade-the-image",
        ["gateway.image", "plan", "rollback", "2FA"],
    ),
    "how do I back up": ("back-up", ["backup gangway.backup", "--encrypt-to", "stack.yaml"]),
    "how do I move to another machine": (
        "move-to-another-machine",
        ["move --to", "halted", "journal accept"],
    ),
    "how do I uninstall": ("uninstall", ["down", "rm -r", "halt --all"]),
    "I lost a phone with our key on it": ("i-lost-a-phone", ["apikey revoke", "halt"]),
    "I lost a phone with IBKR Mobile on it": (
        "i-lost-a-phone",
        ["IBKR Mobile", "Call the broker", "--cold"],
    ),
    "what have I earned": ("see-profit-and-loss", ["/pnl", "realizedPnl"]),
    "how do I run my own bot": (
        "run-my-own-bot",
        ["apikey create", "Idempotency-Key", "clients.md"],
    ),
    "how do I set a stop loss": ("set-a-stop-loss", ["stopLoss", "STP_LMT", "options.md"]),
    "what happens on Sunday": ("what-happens-on-sunday", ["01:00 New York", "approve", "paper"]),
    "at which hour, if I set none": (
        "what-happens-on-sunday",
        ["09:00 New York", "gateway.cold_restart"],
    ),
}


def section(anchor: str) -> str:
    """The part of the page below the heading that is linked to as `anchor`."""
    text = (PROJECT / "docs" / "how-do-i.md").read_text(encoding="utf-8")
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        if re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") == anchor:
            return part
    raise AssertionError(anchor)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_is_one_link_away(question: str) -> None:
    anchor, facts = QUESTIONS[question]
    assert f"how-do-i.md#{anchor}" in links(INDEX), question
    answer = section(anchor)
    assert [fact for fact in facts if fact not in answer] == []
    assert len(re.sub(r"```.*?```", "", answer, flags=re.DOTALL).split()) <= LONGEST


def test_sundays_default_hour_is_what_the_page_says() -> None:
    answer = section("what-happens-on-sunday")
    live = schedule(Gateway(mode="live"))
    paper = schedule(Gateway(mode="paper"))
    assert f"**{live.cold_restart} New York**" in answer
    assert (paper.cold_restart, paper.auto_logoff) == (None, "23:30")
    assert f"at {paper.auto_logoff} New York" in answer
