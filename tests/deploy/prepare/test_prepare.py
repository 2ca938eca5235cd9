"""The preparation script: sound shell, honest dry run, one report a step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infrastructure.errors import GangwayError
from infrastructure.prepare.cloud_init import PROGRAM, cloud_init
from infrastructure.prepare.run import StepReport, carry_out, parse
from infrastructure.prepare.script import STEPS, Wishes, script
from infrastructure.transport.local import LocalTransport

WISHES = Wishes(swap_mb=1024, folder="/opt/gangway", ports=(80, 443), ssh_port=2222)
SHELLCHECK = Path(sys.executable).with_name("shellcheck")


@pytest.mark.parametrize("dry_run", [False, True])
def test_is_clean_posix_shell(dry_run: bool) -> None:
    # SC2329: the steps are called by name; SC2086: lists of packages are split on purpose.
    found = subprocess.run(
        [SHELLCHECK, "-s", "sh", "-e", "SC1091,SC2086,SC2329", "-"],
        input=script(WISHES, dry_run=dry_run),
        text=True,
        capture_output=True,
        check=False,
    )
    assert found.stdout == ""
    assert found.returncode == 0


def test_every_step_has_its_file_and_its_three_functions() -> None:
    text = script(WISHES)
    for name in STEPS:
        for part in ("title", "check", "apply"):
            assert f"\n{name}_{part}()" in text


def test_settings_are_quoted() -> None:
    text = script(Wishes(swap_mb=0, folder="/srv/a b'; reboot #"))
    assert "DEPLOY_FOLDER='/srv/a b'\"'\"'; reboot #'\n" in text


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="the steps need root (sudo make test)")


@root_only
@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="only Debian and Ubuntu can be prepared")
def test_dry_run_over_a_transport_reports_each_step_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "gangway"
    wanted = Wishes(swap_mb=1 << 20, folder=str(folder))
    with LocalTransport() as transport:
        reports = list(carry_out(transport, script(wanted, dry_run=True)))
    assert [report.step for report in reports] == list(STEPS)
    assert {report.state for report in reports} <= {"ok", "would-change"}
    states = {report.step: report for report in reports}
    assert states["folder"].state == "would-change"
    assert states["folder"].detail == "it does not exist"
    assert states["swap"].state == "would-change"
    assert not folder.exists()


@root_only
def test_a_step_is_done_once_and_then_found_done(tmp_path: Path) -> None:
    import getpass

    folder = tmp_path / "gangway"
    wanted = Wishes(swap_mb=0, folder=str(folder), owner=getpass.getuser())
    text = script(wanted, steps=("folder", "swap"))
    with LocalTransport() as transport:
        first = list(carry_out(transport, text))
        second = list(carry_out(transport, text))
    assert [report.state for report in first] == ["changed", "ok"]
    assert [report.state for report in second] == ["ok", "ok"]
    assert folder.stat().st_mode & 0o777 == 0o700


@root_only
def test_a_failed_step_is_told_and_the_others_still_run(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    text = script(Wishes(swap_mb=0, folder=str(blocked / "gangway")), steps=("folder", "swap"))
    with LocalTransport() as transport:
        reports = list(carry_out(transport, text))
    assert [report.state for report in reports] == ["failed", "ok"]
    assert "Not a directory" in reports[0].detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_a_login_without_rights_is_told_what_it_lacks() -> None:
    with LocalTransport() as transport, pytest.raises(GangwayError) as caught:
        list(carry_out(transport, script(WISHES, dry_run=True)))
    assert caught.value.code == "prepare-failed"
    assert "sudo" in caught.value.hint


def test_only_reports_are_read_from_the_output() -> None:
    assert parse(b"Setting up docker.io\n") is None
    assert parse(b'{"other": 1}\n') is None
    line = b'{"step": "swap", "title": "t", "state": "ok", "detail": ""}\n'
    assert parse(line) == StepReport("swap", "t", "ok", "")


def test_cloud_init_carries_the_same_script() -> None:
    text = cloud_init(WISHES)
    assert text.startswith("#cloud-config\n")
    document = yaml.safe_load(text)
    assert document["write_files"][0]["content"] == script(WISHES)
    assert document["runcmd"] == [[PROGRAM]]
