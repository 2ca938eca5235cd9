"""The program that travels to the host: standard library, Python 3.9, and it answers."""

import ast
import json
import shlex
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrastructure.apply import bundle
from infrastructure.apply.host.main import Program
from infrastructure.apply.protocol import documents, encoding, requests


def modules() -> Iterator[tuple[str, str]]:
    _, packed = bundle.program().split(b"\n", 1)
    for name, (_, text) in json.loads(zlib.decompress(packed)).items():
        yield name, text


def test_the_sources_are_python_3_9() -> None:
    for name, text in modules():
        ast.parse(text, name, feature_version=(3, 9))


def test_they_import_the_standard_library_and_each_other_only() -> None:
    known = {name for name, _ in modules()}
    for name, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module:
                found = [node.module]
            elif isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            else:
                continue
            for one in found:
                own = one in known or one.startswith("infrastructure.runtime.sandbox")
                assert own or one.split(".")[0] in sys.stdlib_module_names, f"{name}: {one}"


def converse(*requests: dict[str, object], path: str) -> list[dict[str, object]]:
    text = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-u", "-c", bundle.LOADER],
        input=bundle.program() + text,
        capture_output=True,
        env={"PATH": path},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    hello, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert hello == {"event": "hello"}
    return answers


def test_it_runs_from_standard_input_and_names_what_is_missing(tmp_path: object) -> None:
    request = {
        "op": "open",
        "base": f"{tmp_path}/opt/prod",
        "project": "gangway-prod",
        "runtime": "compose",
        "lock": False,
        "by": "test",
    }
    answers = converse(request, {"op": "history"}, path=str(tmp_path))
    assert [answer["event"] for answer in answers] == ["failed"]
    assert answers[0]["code"] in ("docker-missing", "docker-not-running")


def runs(python: str) -> bool:
    """Whether it is one; a version manager's shim may stand for nothing."""
    return bool(shutil.which(python)) and not subprocess.run([python, "-V"], check=False).returncode


@pytest.mark.skipif(not runs("python3.9"), reason="there is no python3.9 here")
def test_the_oldest_python_reads_every_message(tmp_path: Path) -> None:
    program = bundle.LOADER.replace("main()\n", "") + (
        "from typing import get_type_hints\n"
        "from infrastructure.apply.protocol import encoding\n"
        "for kind in (*encoding.REQUESTS.values(), *encoding.EVENTS.values()):\n"
        "    get_type_hints(kind)\n"
    )
    done = subprocess.run(
        ["python3.9", "-I", "-S", "-c", program],
        input=bundle.program(),
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_every_message_comes_back_as_it_was() -> None:
    checks: documents.Checks = {"bridge": {"port": 8080}, "gateway": {"sessions": ["paper"]}}
    verify = requests.VerifyRequest(checks, 300, {"bridge": "h"}, afresh=True)
    asked = requests.ObserveRequest("r1", {"a": "d"}, verify)
    line = encoding.encode(asked)
    assert encoding.encode(encoding.request_of(line)) == line
    image = documents.ServiceImage("bridge", "b:1", builds=True)
    apply = requests.ApplyRequest("r1", [image], {"bridge": "update"}, checks, 300, "me", gate={})
    line = encoding.encode(apply)
    assert encoding.encode(encoding.request_of(line)) == line
    assert line.count(b"\n") == 1


def test_each_request_has_its_method_on_the_host() -> None:
    names = set(encoding.REQUESTS) - {"cancel", "close"}
    assert [name for name in sorted(names) if not hasattr(Program, f"_{name}")] == []


@pytest.mark.parametrize(("sudo", "word"), [(True, "sudo"), (False, "plain")])
def test_the_command_holds_no_secret_and_no_source(sudo: bool, word: str) -> None:
    command = bundle.command(sudo=sudo)
    assert command[:2] == ["sh", "-c"]
    assert command[4] == word
    line = shlex.join(command)
    assert len(line) < 4096
    assert not set(line) & set("\n!\\"), "what csh or fish take for something else"
