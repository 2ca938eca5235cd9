"""What can go wrong with connection settings.

BridgeError
└── SettingsError
    ├── InvalidSettingsError      a value makes no sense; `extra["errors"]` lists them
    ├── UnknownProfileError       there is no profile of that name
    ├── ActiveProfileError        the active profile cannot be removed
    ├── DamagedSettingsError      a stored profile cannot be read; it stays as it is
    ├── SecretsUnreadableError    no key in the key file opens the stored secrets
    └── KeyFileError              the key file is missing, malformed or cannot be written
"""

from __future__ import annotations

from bridge.errors import BridgeError, Kind


class SettingsError(BridgeError):
    """What stored connection settings refuse; the others are kinds of it."""

    code = "settings-error"
    next_step = "docs/connection-settings.md describes the settings"


class InvalidSettingsError(SettingsError):
    """A value makes no sense."""

    code = "invalid-settings"
    kind = Kind.INVALID
    next_step = "Mend the fields that are listed; nothing was stored"


class UnknownProfileError(SettingsError):
    """There is no profile of that name."""

    code = "unknown-profile"
    kind = Kind.NOT_FOUND
    next_step = "GET /connection/settings lists the profiles"


class ActiveProfileError(SettingsError):
    """The active profile cannot be removed."""

    code = "profile-active"
    kind = Kind.CONFLICT
    next_step = "Make another profile active first"


class DamagedSettingsError(SettingsError):
    """A stored profile cannot be read; it is kept as it is."""

    code = "settings-damaged"
    kind = Kind.CONFLICT
    next_step = "Enter it again with PUT /connection/settings, or make another one active"


class SecretsUnreadableError(SettingsError):
    """The stored secrets cannot be opened; they are kept as they are."""

    code = "secrets-unreadable"
    kind = Kind.CONFLICT
    next_step = "Put the key they were encrypted with back into the key file, or enter them again"


class KeyFileError(SettingsError):
    """The key file cannot be used."""

    code = "settings-key-unusable"
    kind = Kind.INTERNAL
    next_step = "docs/connection-settings.md says where the key file is and what it holds"
