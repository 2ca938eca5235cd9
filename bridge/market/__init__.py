"""Contracts, quotes, option chains and history: what the reading routes call. No HTTP in here."""
