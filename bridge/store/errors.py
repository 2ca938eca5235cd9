"""What can be wrong with the journal.

StoreError
StoreBusyError     another process has the journal open
StoreBehindError   it does not keep up with what the broker says
StoreTooNewError   written by a newer bridge that changed what older ones rely on
DamagedRowError    one row cannot be read
"""

from __future__ import annotations

from bridge.errors import BridgeError, Kind


class StoreError(BridgeError):
    """The journal cannot be used; `detail` says why and `next_step` what to do."""

    code = "store-unavailable"
    kind = Kind.UNAVAILABLE


class StoreBusyError(StoreError):
    """Another bridge has this data folder open: two writers would send orders twice."""

    code = "store-busy"


class StoreBehindError(StoreError):
    """What came before could not be written in time."""

    code = "journal-behind"
    next_step = "Nothing was sent. /health says what keeps the journal from being written"


class StoreTooNewError(StoreError):
    """The file was made by a newer release, in a way that this one would misread."""

    code = "store-too-new"


class DamagedRowError(StoreError):
    """One row of the journal cannot be read; the others can."""

    code = "row-damaged"
    next_step = "Nothing was sent for it. Look in TWS; restore the data folder from its last backup"
