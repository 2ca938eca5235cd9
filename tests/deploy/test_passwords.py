"""Passwords arrive as they were meant."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrastructure.errors import UsageError
from infrastructure.render.gateway import ibc_password, plain_password, totp_seed


def java_properties_value(line: bytes) -> str:
    """How java.util.Properties reads the value of one line (its documented rules)."""
    text = line.decode("latin-1").lstrip(" \t\f")

    def unescape(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] == "u" else code

    return re.sub(r"\\(u[0-9a-f]{4}|.)", unescape, text).strip(" ")  # as IBC does


LATIN = st.characters(min_codepoint=32, max_codepoint=255).filter(
    lambda letter: not 127 <= ord(letter) < 160
)


@given(st.text(LATIN, min_size=1, max_size=40).filter(lambda text: text == text.strip(" ")))
def test_what_java_reads_is_what_was_meant(password: str) -> None:
    written = ibc_password(password.encode(), "p")
    assert java_properties_value(written) == password
    assert written.isascii()


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        (b"plain$1#!", b"plain$1#!"),
        (rb"pa\ss", rb"pa\\ss"),
        (b"in  side", b"in  side"),
        ("é".encode(), rb"\u00e9"),
    ],
)
def test_known_answers(password: bytes, expected: bytes) -> None:
    assert ibc_password(password, "p") == expected


@pytest.mark.parametrize(
    "password",
    [b"", "€uro".encode(), b"a\tb", b"\xff\xfe", "\x85".encode(), b" x", b"x ", b"  two  "],
)
def test_what_cannot_arrive_is_refused_without_being_shown(password: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        ibc_password(password, "tws-password")
    assert "tws-password" in caught.value.message
    shown = f"{caught.value.message} {caught.value.hint} {caught.value!r}"
    assert not password.strip() or password.decode("latin-1") not in shown
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("password", [rb"pa\ss$1", "\u00e9\u20acuro".encode(), b" x "])
def test_ibg_controller_reads_what_was_meant(password: bytes) -> None:
    assert plain_password(password, "p") == password


@pytest.mark.parametrize(
    "password", [b"", b"a\tb", b"\xff\xfe", "\ufeffx".encode(), "a\u200bb".encode()]
)
def test_ibg_controller_gets_nothing_that_cannot_be_typed(password: bytes) -> None:
    with pytest.raises(UsageError, match="tws-password"):
        plain_password(password, "tws-password")


SEED = b"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.mark.parametrize(
    "written",
    [
        SEED,
        b" jbsw y3dp ehpk 3pxp jbsw y3dp ehpk 3pxp ",
        b"JBSW-Y3DP-EHPK-3PXP-JBSW-Y3DP-EHPK-3PXP",
        b"otpauth://totp/IBKR:alice?secret=" + SEED.lower() + b"&issuer=IBKR&digits=6&period=30",
    ],
)
def test_a_seed_arrives_however_it_was_written_down(written: bytes) -> None:
    assert totp_seed(written, "totp-seed") == SEED


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"123456",
        b"JBSWY3DP",
        b"JBSWY3DPEHPK3PX!",
        b"otpauth://totp/x?secret=" + SEED + b"&digits=8",
        b"otpauth://totp/x?secret=" + SEED + b"&algorithm=SHA256",
        b"otpauth://hotp/x",
        SEED * 5,
    ],
)
def test_what_is_no_seed_is_refused_without_being_shown(written: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        totp_seed(written, "totp-seed")
    assert not written or written.decode() not in f"{caught.value.message} {caught.value!r}"
