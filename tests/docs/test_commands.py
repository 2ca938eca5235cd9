"""Every command of README and docs: run on a sandbox, or held to what its program understands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from infrastructure.cli.app import app
from infrastructure.cli.running import hoist
from tests.docs.pages import PAGES, PROJECT, Block, blocks, name, spans

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.stack import Sandbox

SHELL = [block for page in PAGES for block in blocks(page, "sh")]
SPOKEN = sorted(
    {(str(block), line) for block in SHELL for line in block.commands}
    | {(name(page), span) for page in PAGES for span in spans(page)}
)
DEPLOY = [(at, text) for at, text in SPOKEN if re.search(r"(^|\| )\./deploy\.py \S", text)]
MAKE = [(at, text) for at, text in SPOKEN if re.match(r"(sudo )?make [a-z]", text)]


VALUES = {"SECONDS": "60", "…": "x"}
"""What stands for a number in examples; other values are text in capitals as they are."""


@pytest.mark.parametrize(("at", "text"), DEPLOY)
def test_deploy_understands(at: str, text: str) -> None:
    """Command, arguments and options are what the parser takes; nothing is carried out."""
    spoken = re.split(r" [|>] ", text.partition("./deploy.py ")[2])[0]
    words = hoist([VALUES.get(word, word) for word in shlex.split(spoken, comments=True)])
    command: Any = typer.main.get_command(app)
    while words and words[0].startswith("-"):
        words = words[1:] if words[0] in {"--json", "-v", "--help"} else words[2:]
    while words and hasattr(command, "list_commands") and words[0] != "--help":
        if words[0] == "COMMAND":
            return
        command = command.get_command(None, words.pop(0))
        assert command is not None, f"{at}: {text}"
    if not hasattr(command, "list_commands") and "--help" not in words:
        command.make_context("deploy.py", words)


@pytest.mark.parametrize(("at", "text"), MAKE)
def test_make_has_the_target(at: str, text: str) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    for word in shlex.split(text.partition("make ")[2], comments=True):
        name, is_variable, _ = word.partition("=")
        known = f"$({name})" in makefile or f"$(or $({name})," in makefile
        assert known if is_variable else word in targets, f"{at}: {text}"


@pytest.fixture
def folder(sandbox: Sandbox, tmp_path: Path) -> Path:
    """A checkout as far as commands can tell, with the sandbox's files where they usually are."""
    for entry in PROJECT.iterdir():
        if entry.name not in {".git", ".gangway", "stack.yaml"}:
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / ".gangway").symlink_to(sandbox.folder)
    return tmp_path


def run(sandbox: Sandbox, folder: Path, *command: str) -> str:
    """The command as a reader would run it; its output. A failure shows the line that failed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{PROJECT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "GANGWAY_SANDBOX_DIR": str(sandbox.folder),
            "BRIDGE_DATA_DIR": str(folder / "bridge-data"),
            "KEY": sandbox.key,
        },
        input="a password\n",
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def here(sandbox: Sandbox, text: str) -> str:
    """The text for this sandbox: its ports, and an option that lives."""
    ports = sandbox.ports
    for usual, own in (
        (8080, "bridge"),
        (8088, "http"),
        (5000, "portal"),
        (4099, "control"),
        (4002, "tws"),
    ):
        text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{ports[own]}")
    text = text.replace("localhost:8443", f"localhost:{ports['https']}")
    if "EXPIRATION=" in text:
        expiration, strike = an_option(sandbox)
        text = re.sub(
            r"EXPIRATION=\d+ STRIKE=\d+", f"EXPIRATION={expiration} STRIKE={strike}", text
        )
    return text


def an_option(sandbox: Sandbox) -> tuple[str, int]:
    """An expiration of AAPL in some weeks, and a strike near the money."""
    chain = sandbox.get("/options/chain?symbol=AAPL")
    later = (datetime.now(UTC) + timedelta(days=20)).strftime("%Y%m%d")
    listed = [one["expiration"] for one in chain["expirations"]]
    last = sandbox.get("/quote/AAPL")["last"]["value"]
    return next(one for one in listed if one >= later), round(last / 5) * 5


PASTED = {
    page: text
    for page in PAGES
    if (text := "".join(block.text for block in blocks(page, "sh") if not block.not_run))
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", PASTED, ids=name)
def test_commands_work_when_pasted(page: Path, sandbox: Sandbox, folder: Path) -> None:
    """All of a page in one shell, from top to bottom, as a reader would."""
    script = folder / "page.sh"
    trap = "set -Eeuo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n"
    script.write_text(trap + here(sandbox, PASTED[page]))
    run(sandbox, folder, "bash", str(script))


PYTHON = [block for page in PAGES for block in blocks(page, "python")]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("block", [block for block in PYTHON if not block.not_run], ids=str)
def test_python_works_when_pasted(block: Block, sandbox: Sandbox, folder: Path) -> None:
    script = folder / "page.py"
    script.write_text(here(sandbox, block.text))
    assert run(sandbox, folder, "python", str(script)).strip()


SCRIPTS = [block for page in PAGES for block in blocks(page, "js")]


@pytest.mark.timeout(60)
@pytest.mark.skipif(not shutil.which("node"), reason="needs Node: sudo apt-get install nodejs")
@pytest.mark.parametrize("block", [block for block in SCRIPTS if not block.not_run], ids=str)
def test_javascript_works_when_pasted(block: Block, sandbox: Sandbox, folder: Path) -> None:
    script = folder / "page.mjs"
    script.write_text(here(sandbox, block.text))
    assert run(sandbox, folder, "node", str(script)).startswith("true ")


def test_nothing_but_429_is_repeated_by_an_example() -> None:
    """A repeated 503 hammers a bridge that has said why, and glues its answers together."""
    assert not [str(block) for block in SHELL if "--retry" in block.text]


def test_what_is_not_run_says_why() -> None:
    for block in SHELL + PYTHON + SCRIPTS:
        assert not block.not_run or len(block.not_run) > 12, block
