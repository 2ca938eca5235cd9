from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from bridge.settings.cipher import KeyFile, new_key
from bridge.settings.errors import KeyFileError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_key_of_ours_is_a_fernet_key() -> None:
    key = new_key()
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"x")) == b"x"
    assert new_key() != key


def test_the_first_use_makes_a_file_for_the_owner_to_read(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "secrets" / "settings.key")
    keys = file.read_or_create()
    assert file.read_or_create() == keys
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o400
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def test_writing_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "settings.key")
    keys = (new_key(), new_key())
    file.write((new_key(),))
    file.write(keys)
    assert file.read() == keys
    assert [path.name for path in tmp_path.iterdir()] == ["settings.key"]


@pytest.mark.parametrize("content", ["", "\n", "not a key\n", "ü", "QUJD\n"])
def test_a_file_with_something_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.key"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(KeyFileError) as raised:
        KeyFile(path).read_or_create()
    assert raised.value.next_step
    assert path.read_text(encoding="utf-8") == content


def test_a_given_file_is_never_made_or_changed(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "given.key", given=True)
    with pytest.raises(KeyFileError, match="cannot read"):
        file.read_or_create()
    with pytest.raises(KeyFileError, match="given from outside"):
        file.write((new_key(),))


def test_a_folder_that_cannot_be_written_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KeyFileError, match="cannot write"):
        KeyFile(tmp_path / "file" / "settings.key").write((new_key(),))
