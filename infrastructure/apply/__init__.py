"""Carries a plan out on a host.

`session.Session` starts the program of `apply.host` there and talks to it in JSON lines: the
request and the release go in, events come out. That program takes the lock, unpacks, switches,
starts, gates on health, and restores the previous release when that fails.
"""
