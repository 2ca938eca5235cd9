"""The bridge's journal: one SQLite file that survives crashes, restarts and releases.

One module a subject; each holds plain functions over a `sqlite3.Connection`, so several of them
can share one transaction. `database.Database` is the only place that opens the file, and the only
place that knows about threads.

    await database.write(lambda connection: keys.add(connection, key))
    rows = await database.read(keys.active)
"""

from bridge.store.database import Database
from bridge.store.errors import (
    DamagedRowError,
    StoreBehindError,
    StoreBusyError,
    StoreError,
    StoreTooNewError,
)

__all__ = [
    "DamagedRowError",
    "Database",
    "StoreBehindError",
    "StoreBusyError",
    "StoreError",
    "StoreTooNewError",
]
