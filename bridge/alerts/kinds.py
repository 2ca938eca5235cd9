"""The occasions, with what is said; the words are those of `alerts.events` in stack.yaml."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class AlertKind(StrEnum):
    """One occasion."""

    WAITING_2FA = "waiting-2fa"
    CONNECTION_LOST = "connection-lost"
    BAD_CREDENTIALS = "bad-credentials"
    LOGIN_LOCKED = "login-locked"
    LOGIN_BLOCKED = "login-blocked"
    ORDER_UNKNOWN = "order-unknown"
    JOURNAL = "journal"
    MESSAGE_SET_ASIDE = "message-set-aside"
    CLOCK = "clock"
    PORTAL_LOGIN = "portal-login"
    CERTIFICATE = "certificate"
    DISK_LOW = "disk-low"
    DEPLOY_FAILED = "deploy-failed"
    TEST = "test"


TITLES: dict[AlertKind, str] = {
    AlertKind.WAITING_2FA: "The gateway waits for your approval (2FA)",
    AlertKind.CONNECTION_LOST: "No connection to the broker",
    AlertKind.BAD_CREDENTIALS: "The gateway's login was refused",
    AlertKind.LOGIN_LOCKED: "The gateway's login is locked",
    AlertKind.LOGIN_BLOCKED: "The gateway's login waits for a person",
    AlertKind.ORDER_UNKNOWN: "An order may or may not have reached the broker",
    AlertKind.JOURNAL: "The journal of orders needs a person",
    AlertKind.MESSAGE_SET_ASIDE: "A message of the broker's could not be kept",
    AlertKind.CLOCK: "The clock of the bridge's machine is wrong",
    AlertKind.PORTAL_LOGIN: "The Client Portal needs a login",
    AlertKind.CERTIFICATE: "The certificate needs a look",
    AlertKind.DISK_LOW: "The disk is nearly full",
    AlertKind.DEPLOY_FAILED: "A deploy failed",
    AlertKind.TEST: "Test message",
}

RESOLVED: dict[AlertKind, str] = {
    AlertKind.WAITING_2FA: "The gateway no longer waits for an approval",
    AlertKind.CONNECTION_LOST: "The connection to the broker is back",
    AlertKind.BAD_CREDENTIALS: "The gateway's login is no longer refused",
    AlertKind.LOGIN_LOCKED: "The gateway's login is no longer locked",
    AlertKind.JOURNAL: "The journal of orders is fine again",
    AlertKind.CLOCK: "The clock of the bridge's machine is right again",
    AlertKind.LOGIN_BLOCKED: "The gateway's login goes on",
    AlertKind.PORTAL_LOGIN: "The Client Portal session is back",
    AlertKind.CERTIFICATE: "The certificate is fine again",
    AlertKind.DISK_LOW: "The disk has room again",
}
"""What is said when a condition has ended; kinds that are single events are not here."""


class Message(Struct, frozen=True, kw_only=True):
    """One message; `level` is `warning`, `failure`, `success` or `info`."""

    title: str
    body: str
    level: str = "warning"
