"""Which names in `gateway.environment` are refused, and what to write instead."""

from __future__ import annotations

import re

_NO_CODES = "the image enters no codes; approve on IBKR Mobile (docs/two-factor-and-restarts.md)"

DEAD: dict[str, str] = {
    "TWS_EXTRA_ARGS": "the image never reads it; set gateway.jvm.options",
    "JAVA_TOOL_OPTIONS": "the image's start script blanks it; set gateway.jvm.options",
    "JDK_JAVA_OPTIONS": "it loses to the vmoptions file; set gateway.jvm.options",
    "_JAVA_OPTIONS": "it also reaches the image's probe JVMs; set gateway.jvm.options",
    "JAVA_HEAP_SIZE": "it only replaces the text -Xmx768m, which is gone; set gateway.jvm.heap",
    "TWS_API_PORT": "the image never reads it; the port follows from gateway.mode",
    "API_PORT": "the image overwrites it; the port follows from gateway.mode",
    "SOCAT_PORT": "the image overwrites it; the port follows from gateway.mode",
    "ACCEPT_INCOMING_CONNECTION": "the image never reads it; set gateway.accept_incoming",
    "MASTER_CLIENT_ID": "the image never reads it; set gateway.master_client_id",
    "RELOGIN_AFTER_2FA_TIMEOUT": "the image never reads it; set gateway.two_factor.relogin",
    "TOTP_KEY": _NO_CODES,
    "TWOFACTOR_CODE": _NO_CODES,
    "CUSTOM_CONFIG": "it switches off all that gangway sets, and the password files",
}

OWNED: dict[str, str] = {
    "TRADING_MODE": "gateway.mode",
    "TWS_USERID": "gateway.username",
    "TWS_USERID_PAPER": "gateway.paper_username",
    "READ_ONLY_API": "gateway.read_only",
    "TWS_ACCEPT_INCOMING": "gateway.accept_incoming",
    "EXISTING_SESSION_DETECTED_ACTION": "gateway.existing_session",
    "TWOFA_TIMEOUT_ACTION": "gateway.two_factor.timeout_action",
    "TWOFA_DEVICE": "gateway.two_factor.device",
    "TWOFA_EXIT_INTERVAL": "gateway.two_factor.exit_interval",
    "RELOGIN_AFTER_TWOFA_TIMEOUT": "gateway.two_factor.relogin",
    "AUTO_RESTART_TIME": "gateway.auto_restart",
    "AUTO_LOGOFF_TIME": "gateway.auto_logoff",
    "TWS_COLD_RESTART": "gateway.cold_restart",
    "BYPASS_WARNING": "gateway.bypass_order_warnings",
    "ALLOW_BLIND_TRADING": "gateway.allow_blind_trading",
    "SAVE_TWS_SETTINGS": "gateway.save_settings",
    "TWS_MASTER_CLIENT_ID": "gateway.master_client_id",
    "TIME_ZONE": "gateway.time_zone",
    "TZ": "gateway.time_zone",
}

_KEPT = {"TWS_SETTINGS_PATH", "START_SCRIPTS", "HOME", "TWS_PATH", "IBC_INI", "IBC_INI_TMPL"}
_SECRETS = ("TWS_PASSWORD", "VNC_SERVER_PASSWORD", "SSH_PASSPHRASE")


def refusal(name: str) -> tuple[str, str] | None:
    """Why a variable is refused, and the hint; None when it is passed on."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return f"'{name}' is no name of a variable", "letters, digits and underscore"
    if name in DEAD:
        return f"{name} does nothing here", DEAD[name]
    if name.startswith("IBC_") and name != "IBC_SCRIPTS":
        return f"{name} does nothing here", "the image reads no IBC_* key; use gateway's own keys"
    if name in OWNED:
        return f"{name} is set by gangway", f"set {OWNED[name]}"
    if name.startswith(_SECRETS):
        hint = "gateway.password is passed as a file; VNC has a password of its own per use"
        return f"{name} would show a secret in the container's environment", hint
    if name in _KEPT:
        return f"{name} is set by gangway", "settings and start hooks depend on it"
    return None
