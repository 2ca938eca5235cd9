"""Files that a person names, of kinds that nobody thinks of: pipes, devices, folders, no names."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from infrastructure import files
from infrastructure.config import kept, load
from infrastructure.config.base import SecretRef
from infrastructure.config.host import likely_host
from infrastructure.config.secrets import read
from infrastructure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.config import Target


@pytest.fixture
def fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipe that nobody writes to; nobody waits long for it."""
    monkeypatch.setattr(files, "WAITED", 0.05)
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def test_a_pipe_that_nobody_writes_to_ends(fifo: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*: nothing came through it in 0.05 sec"):
        files.given(fifo)


def test_what_comes_through_a_pipe_is_read(fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from `<(op read …)`: the writer may open it after us, and write in parts."""
    monkeypatch.setattr(files, "WAITED", 30.0)

    def write() -> None:
        with fifo.open("w") as to:
            for part in ("a pass", "phrase\n"):
                to.write(part)
                to.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert files.given_text(fifo) == "a passphrase\n"
    writer.join()


def test_a_device_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has more than 16 MB"):
        files.given(type(tmp_path)("/dev/zero"))


@pytest.mark.parametrize("name", ["", "~nobody-of-this-name/x", "x" * 300, "missing", "a/b"])
def test_a_name_that_leads_nowhere_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^cannot read .*: [A-Z]") as refused:
        files.given(type(tmp_path)(name))
    assert refused.value.hint


def test_a_configuration_is_a_plain_file(fifo: Path) -> None:
    """It is read more than once, and the second time a pipe is empty."""
    for reading in (load, kept.load):
        with pytest.raises(UsageError, match="it is a pipe or a device") as refused:
            reading(fifo)
        assert refused.value.hint
    assert likely_host(fifo, None) is None


def test_a_configuration_of_an_impossible_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no xxx") as refused:
        load("x" * 300)
    assert refused.value.code == "no-configuration"
    with pytest.raises(UsageError, match="Is a directory"):
        load(tmp_path)


def test_a_secret_behind_a_silent_pipe_or_nobodys_home(
    make: Callable[..., Target], fifo: Path
) -> None:
    target = make()
    with pytest.raises(UsageError, match="nothing came through it"):
        read(target, SecretRef(file=str(fifo)))
    with pytest.raises(UsageError, match="is not there"):
        read(target, SecretRef(file="~nobody-of-this-name/x"))


@pytest.mark.parametrize("value", [b"\xff\xfe\xfd", b"caf\xe9", b"a\nb", b"a\0b", b"\n"])
def test_a_secret_that_is_no_line_of_text(
    make: Callable[..., Target], tmp_path: Path, value: bytes
) -> None:
    (tmp_path / "value").write_bytes(value)
    (tmp_path / "value").chmod(0o600)
    with pytest.raises(UsageError) as refused:
        read(make(), SecretRef(file=str(tmp_path / "value")))
    assert refused.value.hint


def test_nothing_is_written_over(tmp_path: Path) -> None:
    taken = tmp_path / "stack.yaml"
    taken.write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for path in (taken, tmp_path, tmp_path / "link"):
        with pytest.raises(UsageError, match="is there already"):
            files.write_new(path, b"new")
    assert taken.read_text() == "mine"
    with pytest.raises(UsageError, match="there is no folder"):
        files.refuse_existing(tmp_path / "no" / "x")
