"""Commissions by the execution they belong to. They come before, with or long after it."""

from __future__ import annotations

import sqlite3

from bridge.model import CommissionReport
from bridge.store.execution_ids import split


def record(connection: sqlite3.Connection, report: CommissionReport) -> bool:
    """Keeps a report; False when it says nothing new. The newest correction wins."""
    stem, revision = split(report.exec_id)
    values = (revision, report.commission, report.currency, report.realized_pnl)
    known = connection.execute(
        "SELECT revision, commission, currency, realized_pnl FROM commissions WHERE stem = ?",
        (stem,),
    ).fetchone()
    if known is not None and (known["revision"] > revision or tuple(known) == values):
        return False
    connection.execute("INSERT OR REPLACE INTO commissions VALUES (?, ?, ?, ?, ?)", (stem, *values))
    return True
