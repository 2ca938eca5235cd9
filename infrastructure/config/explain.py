"""Turns what pydantic found into sentences with a place, a hint and a suggestion."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from infrastructure.config.models import Stack
from infrastructure.errors import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from infrastructure.config.document import Document

_HINTS = {
    "password": "./deploy.py secrets set NAME stores it; or give {file: …} or {command: …}",
    "time_zone": "a name such as America/New_York or Europe/Berlin",
    "auto_restart": "24 hours ('23:30') or '11:30 PM'; off switches it off",
    "auto_logoff": "24 hours ('23:30') or '11:30 PM'; off switches it off",
    "cold_restart": "24 hours ('09:00') or '9:00 AM'; off switches it off",
    "username": "your IBKR user name",
    "host": "user@host:port; local: this machine; or the keys address, user, port, identity, jump",
    "domain": "a name such as trade.example.org that points to the host; leave it out for none",
    "heap": "megabytes as a plain number, without a unit, 128 at least",
    "trust_host_key": "ssh-keygen -lf FILE prints it",
    "max_body": "such as 1MB",
    "url": "such as https://192.0.2.9:5000",
    "publish_api": "such as 127.0.0.1:4001; from elsewhere use ./deploy.py tunnel api",
    "image": "such as ghcr.io/gnzsnz/ib-gateway:stable or …@sha256:…",
    "save_settings": "'Every 30 mins', 'Every 2 hours' or times such as '08:00 17:30'",
    "read_timeout": "such as 60s",
    "write_timeout": "such as 30s",
    "dial_timeout": "such as 2s or 500ms",
    "response_timeout": "such as 35s",
    "stream_timeout": "such as 24h",
    "urls": "{stored: alert-url}, and the address by ./deploy.py secrets set alert-url, such as "
    "ntfy://my-topic, tgram://TOKEN/CHAT or discord://ID/TOKEN",
    "options": "one option a line, such as -XX:+UseStringDeduplication",
}


def explain(document: Document, name: str, error: Mapping[str, Any]) -> Problem:
    """One pydantic error as a problem; `name` is the target's."""
    location = tuple(part for part in error["loc"] if part != "[key]")
    kind = error["type"]
    place = document.target_place(name, location, key=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        return unknown_key(place, str(location[-1]), known_keys(location[:-1]))
    if kind == "missing":
        key = str(location[-1])
        return Problem(f"'{key}' is missing", place, _HINTS.get(key, ""), code="missing-key")
    return Problem(_message(error), place, _hint(location, error), code="bad-value")


def causes(problems: list[Problem]) -> list[Problem]:
    """Without those that only follow from another: a key is missing because it was misspelt."""
    meant = {
        (problem.place.path.rpartition(".")[0], problem.hint)
        for problem in problems
        if problem.code == "unknown-key" and problem.place
    }
    return [problem for problem in problems if not _follows(problem, meant)]


def _follows(problem: Problem, meant: set[tuple[str, str]]) -> bool:
    if problem.code != "missing-key" or problem.place is None:
        return False
    section, _, key = problem.place.path.rpartition(".")
    return (section, f"did you mean '{key}'?") in meant


def objection(path: tuple[str, ...], value: object) -> tuple[str, str] | None:
    """What is wrong with one value of a target, and a hint; None: it will load."""
    nested: object = value
    for key in reversed(path):
        nested = {key: nested}
    try:
        Stack.model_validate({"host": "user@192.0.2.1", **nested})  # type: ignore[dict-item]
    except ValidationError as error:
        for each in error.errors():
            if each["loc"][: len(path)] == path:
                return _message(each), _hint(each["loc"], each)
    return None


def unknown_key(place: Place, key: str, known: Iterable[str]) -> Problem:
    """The problem of a key that nothing reads, with the likely one that was meant."""
    names = sorted(known)
    close = difflib.get_close_matches(key.lower().replace("-", "_"), names, 1, 0.6)
    hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(names)}"
    return Problem(f"unknown key '{key}'", place, hint, code="unknown-key")


def known_keys(path: Iterable[str | int]) -> list[str]:
    """The keys that the section at this path of a target has."""
    section: type[BaseModel] = Stack
    for part in path:
        field = section.model_fields.get(str(part))
        if field is None:
            continue
        inner = model_in(field.annotation)
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside a field's type, also inside Optional or tuple; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = model_in(inner)
        if found is not None:
            return found
    return None


def _message(error: Mapping[str, Any]) -> str:
    kind, message = error["type"], str(error["msg"])
    if kind == "literal_error":
        return f"{error['loc'][-1]} must be {error['ctx']['expected']}"
    if kind in {"model_type", "dict_type"}:
        return "a mapping (keys below it) is wanted here"
    if kind in {"bool_parsing", "bool_type"}:
        return "true or false is wanted here"
    if kind in {"int_parsing", "int_type", "int_from_float", "float_parsing", "float_type"}:
        return "a number is wanted here"
    if kind == "string_type":
        return "text is wanted here"
    if kind in {"tuple_type", "list_type"}:
        return "a list is wanted here"
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:] if message.startswith("Should") else message


def _hint(location: tuple[int | str, ...], error: Mapping[str, Any]) -> str:
    if error["type"] == "literal_error":
        expected = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
        given = str(error.get("input", ""))
        close = difflib.get_close_matches(given.lower(), expected.split(", "), 1, 0.5)
        return f"did you mean '{close[0]}'?" if close else ""
    if error["type"] == "string_type" and isinstance(error.get("input"), int | float):
        return "put it in quotes"
    for part in reversed(location):
        if isinstance(part, str):
            key = "password" if "password" in part or part == "admin_key" else part
            if key in _HINTS:
                return _HINTS[key]
    return ""
