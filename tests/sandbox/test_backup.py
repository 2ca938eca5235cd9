"""Backup and restore on a sandbox: what is put back starts halted, and repeats nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.stack import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(300)
ORDER = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", "limitPrice": 1.0}
AT_THE_MARKET = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"}


def place(sandbox: Sandbox, key: str, body: dict[str, Any] = ORDER) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{sandbox.address}/order",
        json.dumps(body).encode(),
        {
            "X-API-KEY": sandbox.key,
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def book(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The orders that the simulated broker has."""
    address = f"http://127.0.0.1:{sandbox.ports['control']}/book"
    with urllib.request.urlopen(address, timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)["orders"]
    return found


def test_what_is_put_back_starts_halted_and_repeats_nothing(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    status, first = place(sandbox, "before-the-backup")
    assert status == 201, first
    word = tmp_path / "word"
    word.write_text("correct horse battery\n")
    file = tmp_path / "gangway.backup"
    sealed = ("--passphrase-file", str(word))
    done = sandbox.deploy("backup", str(file), *sealed, "--json")
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().startswith(b"age-encryption.org/v1")
    assert json.loads(done.stdout)["journal"]["orders"] == 1
    again = sandbox.deploy("backup", str(file), *sealed)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)

    running = sandbox.deploy("restore", str(file), *sealed, "--yes")
    assert (running.returncode, "the stack runs here" in running.stderr) == (1, True)
    assert sandbox.deploy("down").returncode == 0  # account and journal are gone
    assert sandbox.deploy("restore", str(file), "--yes").returncode == 2  # encrypted

    done = sandbox.deploy("restore", str(file), *sealed, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["journal"]["orders"] == 1
    up = sandbox.deploy("up", seconds=180)
    status, refused = place(sandbox, "a-new-one")
    assert (status, refused["code"]) == (423, "trading-halted"), (up.stderr, refused)
    # the key of an order from before the backup is known, and sends nothing
    assert sandbox.deploy("journal", "accept", "--yes").returncode == 0
    status, known = place(sandbox, "before-the-backup")
    assert status == 504 or known["orderId"] == first["orderId"], known
    # the simulated account was in the backup, too: the order is there as it was, once
    (there,) = book(sandbox)
    assert (there["orderRef"], there["permId"]) == (first["orderRef"], first["permId"])
    status, fresh = place(sandbox, "a-new-one")
    assert status == 201, fresh
    found = sorted(order["orderRef"] for order in book(sandbox))
    assert found == sorted([first["orderRef"], fresh["orderRef"]])


def destroy(sandbox: Sandbox) -> str:
    """The machine is gone in the middle of everything; what the broker knows of the account."""
    state = sandbox.base / "data" / "gateway" / "simulated-account.json"
    first = int((sandbox.base / "run" / "supervisord.pid").read_text())
    processes = [first, *below(first)]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # nobody restarts or tells anybody anything
        for process in processes:
            os.kill(process, number)
    until(lambda: not any(alive(one) for one in processes), "a process is left")
    account = state.read_text()
    shutil.rmtree(sandbox.base)
    return account


def below(parent: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found + [one for each in found for one in below(each)]


def alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def order(sandbox: Sandbox, key: str, body: dict[str, Any]) -> dict[str, Any]:
    status, answer = place(sandbox, key, body)
    assert status == 201, answer
    return answer


def until(found: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.restic
def test_a_machine_destroyed_while_it_trades(tmp_path: Path) -> None:
    """The account lies with the broker, outside; the last backup does not know the last orders."""
    word = tmp_path / "word"
    word.write_text("correct horse battery\n")
    repository = ("--passphrase-file", str(word), "--yes", "--json")
    place_of = str(tmp_path / "nas" / "backups")
    old, new = (Sandbox(tmp_path / name) for name in ("old", "new"))
    old.folder.mkdir()
    new.folder.mkdir()
    try:
        assert old.deploy("up").returncode == 0
        early = order(old, "before-the-backup", ORDER)
        done = old.deploy("backup", "--to", place_of, *repository[:2], "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["journal"]["orders"] == 1
        working = order(old, "after-the-backup", ORDER)
        filled = order(old, "filled-after-the-backup", AT_THE_MARKET)
        references = sorted(each["orderRef"] for each in (early, working, filled))
        until(lambda: filled["orderRef"] in fills(old), "it was not filled")
        account = old.base / "data" / "gateway" / "simulated-account.json"
        until(lambda: all(one in account.read_text() for one in references), "the broker's file")
        at_the_broker = destroy(old)

        began = time.monotonic()
        done = new.deploy("restore", "--from", place_of, *repository)
        assert done.returncode == 0, done.stderr
        (new.base / "data" / "gateway" / "simulated-account.json").write_text(at_the_broker)
        up = new.deploy("up", seconds=290)
        until(lambda: new.get("/health")["connected"], up.stderr)
        assert time.monotonic() - began < 300

        assert place(new, "a-new-one")[0] == 423  # halted, whatever anybody wants
        until(lambda: len(new.get("/orders")["orders"]) == 3, "not every order was adopted")
        known = {one["orderRef"]: one for one in new.get("/orders")["orders"]}
        assert sorted(known) == references
        assert known[filled["orderRef"]]["status"] == "Filled"
        executions = new.get("/executions")["executions"]
        assert [one["orderRef"] for one in executions] == [filled["orderRef"]]
        assert sorted(one["orderRef"] for one in book(new)) == references

        assert new.deploy("journal", "accept", "--yes").returncode == 0
        again = {
            "before-the-backup": (ORDER, early),
            "after-the-backup": (ORDER, working),
            "filled-after-the-backup": (AT_THE_MARKET, filled),
        }
        for key, (body, before) in again.items():  # a client that has heard nothing asks again
            _, answer = place(new, key, body)
            assert answer.get("orderRef") in (None, before["orderRef"]), answer
        assert sorted(one["orderRef"] for one in book(new)) == references
        fresh = order(new, "a-new-one", ORDER)
        assert sorted(one["orderRef"] for one in book(new)) == sorted(
            [*references, fresh["orderRef"]]
        )
    finally:
        for one in (old, new):
            if one.base.exists():
                one.deploy("down")


def fills(sandbox: Sandbox) -> set[str]:
    return {one["orderRef"] for one in sandbox.get("/executions")["executions"]}
