"""Backup and restore on a sandbox: what is put back starts halted, and repeats nothing."""

from __future__ import annotations

import json
import stat
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.stack import Sandbox

pytestmark = pytest.mark.timeout(300)
ORDER = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", "limitPrice": 1.0}


def place(sandbox: Sandbox, key: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{sandbox.address}/order",
        json.dumps(ORDER).encode(),
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
