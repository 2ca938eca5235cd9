"""What the system refuses, in words: a code, where, and what to do."""

from __future__ import annotations

import errno
import os

import pytest

from infrastructure.runtime.base import HostFailure


def refused(number: int, *where: str) -> HostFailure:
    return HostFailure.of(OSError(number, os.strerror(number), *where))


@pytest.mark.parametrize(
    ("number", "where", "code"),
    [
        (errno.ENOSPC, (), "disk-full"),
        (errno.EDQUOT, ("/opt/x",), "disk-full"),
        (errno.EROFS, ("/opt/x",), "disk-read-only"),
        (errno.EIO, (), "folder"),
        (errno.EACCES, ("/opt/x",), "folder-denied"),
        (errno.ENOTDIR, ("/opt/x",), "folder"),
        (errno.ENOMEM, (), "unexpected"),
        (errno.ECONNRESET, ("/opt/x",), "unexpected"),
    ],
)
def test_what_the_system_refuses(number: int, where: tuple[str, ...], code: str) -> None:
    failure = refused(number, *where)
    assert failure.code == code
    if code != "unexpected":
        assert (failure.hint != "", failure.details) == (True, "")
        assert all(one in failure.message for one in where)
        assert "nothing was changed" not in failure.message, "that is not known here"
