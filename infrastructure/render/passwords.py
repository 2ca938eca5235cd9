"""Passwords on their way through a shell, envsubst and a Java properties file.

The image reads the file with `$(<file)`, puts it into config.ini with envsubst (which does not
look at `$` inside a value), and IBC reads config.ini as Java properties: there a backslash starts
an escape, bytes are Latin-1, and blanks at both ends are cut off.
"""

from __future__ import annotations

from infrastructure.errors import UsageError


def ibc_password(value: bytes, name: str) -> bytes:
    """The password as the file must hold it, so that IBC types what was meant.

    UsageError (which names the secret, never shows it) for what cannot arrive: not UTF-8, outside
    Latin-1, control characters, blanks at either end, or nothing at all.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad(name, "is not UTF-8 text", "store it as plain text") from None
    if not text:
        raise _bad(name, "is empty", f"./deploy.py secrets set {name}")
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
        raise _bad(name, "holds a line break or control character", "store one line of text")
    if any(ord(letter) > 255 for letter in text):
        hint = "IBC reads Latin-1 only; change the password at IBKR"
        raise _bad(name, "holds a character outside Latin-1", hint)
    if text != text.strip(" "):
        hint = "IBC cuts blanks off both ends of every value; change the password at IBKR"
        raise _bad(name, "begins or ends with a blank, which cannot arrive", hint)
    return java_property(text).encode("ascii")


def java_property(text: str) -> str:
    """A value as it has to stand in a file of Java properties."""
    return "".join(_escape(letter) for letter in text)


def _escape(letter: str) -> str:
    if letter == "\\":
        return "\\\\"
    if ord(letter) < 128:
        return letter
    halves = letter.encode("utf-16-be").hex()
    return "".join(f"\\u{halves[at : at + 4]}" for at in range(0, len(halves), 4))


def _bad(name: str, what: str, hint: str) -> UsageError:
    return UsageError(f"secret '{name}' {what}", hint=hint, code="bad-secret")
