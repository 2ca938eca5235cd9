"""Positions, account values, profit and loss. No HTTP in here."""
