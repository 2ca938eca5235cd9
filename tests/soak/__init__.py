"""Faults of every kind at once, with all that users do meanwhile, judged from outside."""
