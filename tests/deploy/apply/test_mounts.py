"""Which releases containers hold by their mounts."""

from pathlib import Path

from infrastructure.runtime.containers import mounted, mounted_releases

MOUNTINFO = """\
690 601 8:1 /opt/gangway/prod/releases/1f2e/gateway /etc/gangway ro,relatime - ext4 /dev/sda1 rw
691 601 8:1 /opt/gangway/prod/data/gateway /home/ibgateway/settings rw - ext4 /dev/sda1 rw
692 601 8:1 /releases/77aa/secrets/tws-password /run/secrets/tws-password rw - ext4 /dev/sdb rw
693 601 0:52 / /proc rw,nosuid - proc proc rw
"""


def test_mounted_releases() -> None:
    assert mounted(MOUNTINFO) == {"1f2e", "77aa"}


def test_processes_that_ended_or_cannot_be_seen(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5/mountinfo").write_text(MOUNTINFO)
    assert mounted_releases([4, 5], tmp_path) == {"1f2e", "77aa"}
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_bytes(MOUNTINFO.encode() + b"9 9 8:1 /\xff /x rw - x x rw\n")
    assert mounted_releases([7], tmp_path) == {"1f2e", "77aa"}
    (tmp_path / "6/mountinfo").mkdir(parents=True)  # reading it is an OSError
    assert mounted_releases([5, 6], tmp_path) is None
