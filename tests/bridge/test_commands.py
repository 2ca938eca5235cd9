"""`python -m bridge settings` with and without a bridge that runs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from bridge.environment import Environment
from bridge.process import Bridge, listen
from bridge.settings.cipher import FILE_NAME, KeyFile, new_key
from bridge.settings.service import SettingsService
from tests.bridge.portal.running import ADMIN_KEY

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "correct horse battery staple"


def run(
    folder: Path, *arguments: str, part: str = "settings", **variables: str
) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if "BRIDGE" not in name}
    return subprocess.run(
        [sys.executable, "-m", "bridge", part, *arguments],
        env={**inherited, "BRIDGE_DATA_DIR": str(folder / "data"), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def filled(folder: Path) -> None:
    """A data folder whose bridge stored a secret and has ended."""
    environment = Environment(tws_port=1, data_dir=folder / "data")
    async with Bridge(environment) as bridge:
        service = bridge.services[SettingsService]
        await service.put("default", {"port": 4010}, {"portalPassword": PASSWORD})


async def opened(folder: Path, **fields: Any) -> tuple[str | None, int]:
    """What the next bridge makes of the data folder: its problem, and the port it dials."""
    environment = Environment(tws_port=1, data_dir=folder / "data", **fields)
    async with Bridge(environment) as bridge:
        service = bridge.services[SettingsService]
        return service.problem, service.current.port


async def test_the_key_is_rotated_in_the_journal(tmp_path: Path) -> None:
    await filled(tmp_path)
    before = KeyFile(tmp_path / "data" / FILE_NAME).read()
    done = await asyncio.to_thread(run, tmp_path, "rotate-key")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"secretsSealed": 1}
    assert KeyFile(tmp_path / "data" / FILE_NAME).read() != before
    assert await opened(tmp_path) == (None, 4010)
    shown = await asyncio.to_thread(run, tmp_path, "show")
    assert json.loads(shown.stdout)["port"] == 4010
    assert PASSWORD not in shown.stdout + shown.stderr


async def test_a_running_bridge_does_it_itself(tmp_path: Path) -> None:
    await filled(tmp_path)
    key = tmp_path / "admin.key"
    key.write_text(ADMIN_KEY)
    key.chmod(0o600)
    environment = Environment(
        tws_port=1, data_dir=tmp_path / "data", admin_key_file=key, listen_port=0
    )
    listener = listen(environment)
    async with Bridge(environment) as bridge:
        config = uvicorn.Config(bridge.app, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        server.capture_signals = _none  # type: ignore[method-assign]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        port = listener.getsockname()[1]
        done = await asyncio.to_thread(
            run,
            tmp_path,
            "rotate-key",
            BRIDGE_LISTEN=f"127.0.0.1:{port}",
            BRIDGE_ADMIN_KEY_FILE=str(key),
        )
        keyless = await asyncio.to_thread(run, tmp_path, "rotate-key")
        server.should_exit = True
        await serving
    listener.close()
    assert json.loads(done.stdout) == {"secretsSealed": 1}, done.stderr
    assert keyless.returncode == 1
    assert keyless.stderr.startswith("error: a bridge is running on this data folder\nhint: ")


async def test_errors_are_one_line_and_a_hint(tmp_path: Path) -> None:
    await filled(tmp_path)
    KeyFile(tmp_path / "data" / FILE_NAME).write((new_key(),))
    wrong = await asyncio.to_thread(run, tmp_path, "rotate-key")
    assert wrong.returncode == 1
    assert wrong.stdout == ""
    lines = wrong.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]
    assert "no key in" in lines[0]


async def test_a_journal_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "journal.sqlite3").write_bytes(b"not a database, certainly not one" * 50)
    done = await asyncio.to_thread(run, tmp_path, "show")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "hint: " in done.stderr
    assert (folder / "journal.sqlite3").read_bytes().startswith(b"not a database")


async def test_a_key_file_of_ones_own(tmp_path: Path) -> None:
    given = tmp_path / "given.key"
    given.write_text(new_key() + "\n")
    environment = Environment(tws_port=1, data_dir=tmp_path / "data", settings_key_file=given)
    async with Bridge(environment) as bridge:
        await bridge.services[SettingsService].put("default", {}, {"portalPassword": PASSWORD})
    assert not (tmp_path / "data" / FILE_NAME).exists()
    assert (await opened(tmp_path, settings_key_file=given))[0] is None
    assert "cannot read the key file" in ((await opened(tmp_path))[0] or "")


def _none() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize(
    ("name", "value"),
    [("BRIDGE_PORTAL_URL", "http://portal.example.com"), ("BRIDGE_TWS_HOST", "two words")],
)
async def test_an_impossible_environment_is_one_line(tmp_path: Path, name: str, value: str) -> None:
    await filled(tmp_path)
    done = await asyncio.to_thread(run, tmp_path, "show", **{name: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {name}: ")


@pytest.mark.parametrize("bound", ["--max-notional", "--max-orders-per-day"])
def test_a_bound_of_nothing_makes_no_key_without_it(tmp_path: Path, bound: str) -> None:
    """It could trade as much as it likes, where nothing was meant."""
    done = run(tmp_path, "create", "--label", "x", "--scope", "trade", bound, "0", part="apikey")
    assert (done.returncode, done.stdout) == (1, "")
    assert "bounds" in done.stderr
