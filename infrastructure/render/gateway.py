"""The gateway's files and variables, exactly as the image reads them."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from bridge.login.lines import shell_table
from infrastructure.config.schedule import image_time, schedule
from infrastructure.config.secrets import USERNAME, user_name
from infrastructure.errors import UsageError
from infrastructure.program import PROJECT
from infrastructure.release_files import HOOKS_FOLDER, REQUESTS_FOLDER, STATE_FOLDER, TOTP_SEED
from infrastructure.render.layout import (
    API_PORTS,
    COMMAND_PORTS,
    JAVA_PROCESSES,
    MOUNTED_SECRETS,
    RELAY_PORTS,
    SETTINGS_FOLDER,
    SETTINGS_PATH,
    bind,
)
from infrastructure.render.model import TEMPLATES, RenderedFile, render, secret_file
from infrastructure.runtime.containers import IBG_CONTROLLER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infrastructure.config.models import Stack
    from infrastructure.config.target import Target

HOOKS = ("start/10-settings.sh", "start/20-jvm.sh", "start/30-ibc.sh", "start/40-login.sh")
SCRIPTS = ("healthcheck.sh", "login.sh", "second-factor.sh")
PASSWORD = "tws-password"  # noqa: S105 - a name
PAPER_PASSWORD = "tws-password-paper"  # noqa: S105 - a name
_COLLECTORS = {"serial": "Serial", "g1": "G1", "parallel": "Parallel"}
_SERVICE = ("gateway",)
AUTHENTICATOR = "Mobile Authenticator app"
"""The entry of IBKR's list whose codes a seed gives."""
IBG_CONTROLLER_STOPS = 90
"""Seconds that ibg-controller wants for a clean log-off through the window."""


def files(target: Target, secrets: Mapping[str, bytes]) -> list[RenderedFile]:
    """What is mounted into the gateway's container, and its passwords."""
    texts = {
        "jts.ini": jts_ini(target),
        "jvm.options": "".join(f"{option}\n" for option in jvm_options(target.stack)),
        "ibc.settings": ibc_settings(target.stack),
        "login-lines": shell_table(),
    }
    rendered = [
        RenderedFile(f"gateway/{path}", text.encode(), 0o644, services=_SERVICE)
        for path, text in texts.items()
    ]
    for path in (*HOOKS, *SCRIPTS):
        content = (TEMPLATES / "gateway" / path).read_bytes()
        rendered.append(RenderedFile(f"gateway/{path}", content, 0o755, services=_SERVICE))
    for name in secret_names(target):
        content = usable(target, name)(secrets[name], name)
        rendered.append(secret_file(name, content, "gateway"))
    return rendered


def service(target: Target, user: str) -> dict[str, Any]:
    """What is the gateway's own in compose.yaml."""
    settings, stack = target.stack.gateway, target.stack
    ports = [str(API_PORTS[session]) for session in stack.sessions]
    stops = IBG_CONTROLLER_STOPS if settings.controller == IBG_CONTROLLER else 0
    data = target.base / "data"
    own: dict[str, Any] = {
        "image": settings.image,
        "stop_grace_period": f"{max(settings.stop_grace, stops)}s",
        "pids_limit": JAVA_PROCESSES,
        "environment": environment(target, user),
        "secrets": secret_names(target),
        "volumes": [
            bind(data / "gateway", SETTINGS_FOLDER, read_only=False),
            bind(data / "state", STATE_FOLDER, read_only=False),
            bind(data / "requests", REQUESTS_FOLDER),
            bind(target.base / "current" / "gateway", HOOKS_FOLDER),
        ],
        "networks": ["tws"],
        "healthcheck": {
            "test": ["CMD", "bash", f"{HOOKS_FOLDER}/healthcheck.sh", *ports],
            "interval": "15s",
            "timeout": f"{12 * len(ports)}s",
            "retries": 3,
            "start_period": f"{settings.login_dialog_timeout + 180}s",
        },
    }
    if settings.publish_api:
        own["ports"] = [f"{settings.publish_api}:{RELAY_PORTS[stack.session]}"]
    return own


def secret_names(target: Target) -> tuple[str, ...]:
    """The secrets that the gateway reads, by their names below `secrets/`."""
    if target.stack.runtime == "sandbox":  # nobody logs in there
        return ()
    both = target.stack.gateway.mode == "both"
    totp = target.stack.gateway.two_factor.totp is not None
    return (PASSWORD, *([PAPER_PASSWORD] if both else []), *([TOTP_SEED] if totp else []))


def usable(target: Target, name: str) -> Callable[[bytes, str], bytes]:
    """What gives a secret as its file must hold it, or says why it cannot be used."""
    if name == TOTP_SEED:
        return totp_seed
    own = target.stack.gateway.controller == IBG_CONTROLLER
    return plain_password if own else ibc_password


def jts_ini(target: Target) -> str:
    """The gateway's settings file for a fresh settings folder."""
    return render(PROJECT / "jts.ini.tmpl", time_zone=target.stack.gateway.time_zone)


def jvm_options(stack: Stack) -> tuple[str, ...]:
    """The options that must show up on the running process, in this order."""
    jvm, megabytes = stack.gateway.jvm, stack.heap
    initial = jvm.initial_heap or (megabytes if jvm.pretouch else None)
    options = [f"-Xmx{megabytes}m"]
    if initial is not None:
        options.append(f"-Xms{initial}m")
    options += [f"-XX:+Use{_COLLECTORS[jvm.collector]}GC", f"-XX:MaxMetaspaceSize={jvm.metaspace}m"]
    if jvm.pretouch:
        options.append("-XX:+AlwaysPreTouch")
    if jvm.exit_on_out_of_memory:
        options.append("-XX:+ExitOnOutOfMemoryError")
    return (*options, *jvm.options)


def ibc_settings(stack: Stack) -> str:
    """Keys of IBC's config.ini that the image has no variable for."""
    return (
        f"LoginDialogDisplayTimeout={stack.gateway.login_dialog_timeout}\n"
        "CommandServerPort=1${SOCAT_PORT}\n"
        "BindAddress=127.0.0.1\n"
        "ControlFrom=127.0.0.1\n"
    )


def username(target: Target, secrets: Mapping[str, bytes]) -> str:
    """The user name: as set, else as stored."""
    return target.stack.gateway.username or user_name(target, secrets[USERNAME]).decode()


def environment(target: Target, user: str) -> dict[str, str]:
    """The image's variables. What is None is left out, because blank is not always the default."""
    gateway, stack = target.stack.gateway, target.stack
    restart, logoff, cold = schedule(gateway)
    values: dict[str, str | None] = {
        "TRADING_MODE": gateway.mode,
        "TWS_USERID": user,
        "TWS_PASSWORD_FILE": f"{MOUNTED_SECRETS}/{PASSWORD}",
        "TWS_SETTINGS_PATH": SETTINGS_PATH,
        "START_SCRIPTS": "gangway/start",
        "TIME_ZONE": gateway.time_zone,
        "TZ": gateway.time_zone,
        "READ_ONLY_API": _word(stack.read_only),
        "TWS_ACCEPT_INCOMING": gateway.accept_incoming,
        "EXISTING_SESSION_DETECTED_ACTION": gateway.existing_session,
        "TWOFA_TIMEOUT_ACTION": gateway.two_factor.timeout_action,
        "TWOFA_EXIT_INTERVAL": str(gateway.two_factor.exit_interval),
        "TWOFA_DEVICE": _device(target),
        "RELOGIN_AFTER_TWOFA_TIMEOUT": _word(gateway.two_factor.relogin),
        "AUTO_RESTART_TIME": image_time(restart) if restart else None,
        "AUTO_LOGOFF_TIME": image_time(logoff) if logoff else None,
        "TWS_COLD_RESTART": cold,
        "BYPASS_WARNING": _word(gateway.bypass_order_warnings),
        "ALLOW_BLIND_TRADING": _word(gateway.allow_blind_trading),
        "SAVE_TWS_SETTINGS": gateway.save_settings,
        "TWS_MASTER_CLIENT_ID": str(stack.master_client_id),
    }
    if gateway.mode == "both":
        values["TWS_USERID_PAPER"] = gateway.paper_username
        values["TWS_PASSWORD_PAPER_FILE"] = f"{MOUNTED_SECRETS}/{PAPER_PASSWORD}"
    if gateway.controller == IBG_CONTROLLER:
        values |= _ibg_controller(target, logoff)
    return {name: value for name, value in values.items() if value is not None} | dict(
        gateway.environment
    )


def _ibg_controller(target: Target, logoff: str | None) -> dict[str, str | None]:
    """Where ibg-controller reads the variables otherwise, and its own.

    Its AUTO_LOGOFF_TIME is `HH:MM`; BYPASS_WARNING is a list of buttons there and TWS_COLD_RESTART
    yes or no, so neither is passed on. Its command server takes IBC's words.
    """
    values: dict[str, str | None] = {
        "USE_IBG_CONTROLLER": "yes",
        "AUTO_LOGOFF_TIME": logoff,
        "BYPASS_WARNING": None,
        "TWS_COLD_RESTART": None,
    }
    if target.stack.gateway.two_factor.totp is not None:
        values["TWOFACTOR_CODE_FILE"] = f"{MOUNTED_SECRETS}/{TOTP_SEED}"
    if target.stack.gateway.mode != "both":
        values["CONTROLLER_COMMAND_SERVER_HOST"] = "127.0.0.1"
        values["CONTROLLER_COMMAND_SERVER_PORT"] = str(COMMAND_PORTS[target.stack.session])
    return values


def _device(target: Target) -> str | None:
    """The device's name: for IBC it passes a file of Java properties."""
    factor = target.stack.gateway.two_factor
    device = factor.device or (AUTHENTICATOR if factor.totp else None)
    if device is None or target.stack.gateway.controller == IBG_CONTROLLER:
        return device
    return java_property(device)


def _word(value: bool) -> str:
    return "yes" if value else "no"


# --- passwords, on their way through a shell, envsubst and a Java properties file -----------------
# The image reads the file with `$(<file)`, puts it into config.ini with envsubst (which does not
# look at `$` inside a value), and IBC reads config.ini as Java properties: there a backslash starts
# an escape, bytes are Latin-1, and blanks at both ends are cut off. ibg-controller reads no file of
# properties: what stands in the file is what it types.
def ibc_password(value: bytes, name: str) -> bytes:
    """The password as the file must hold it, so that IBC types what was meant.

    UsageError (which names the secret, never shows it) for what cannot arrive: not UTF-8, outside
    Latin-1, control characters, blanks at either end, or nothing at all.
    """
    text = _password(value, name)
    if any(ord(letter) > 255 for letter in text):
        hint = "IBC reads Latin-1 only; change the password at IBKR"
        raise _bad(name, "holds a character outside Latin-1", hint)
    if text != text.strip(" "):
        hint = "IBC cuts blanks off both ends of every value; change the password at IBKR"
        raise _bad(name, "begins or ends with a blank, which cannot arrive", hint)
    return java_property(text).encode("ascii")


def plain_password(value: bytes, name: str) -> bytes:
    """The password as ibg-controller reads it: as it is. UsageError for what cannot be typed."""
    text = _password(value, name)
    if not text.isprintable():
        raise _bad(name, "holds a character that cannot be seen", "store one line of plain text")
    return text.encode()


def _password(value: bytes, name: str) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad(name, "is not UTF-8 text", "store it as plain text") from None
    if not text:
        raise _bad(name, "is empty", f"./deploy.py secrets set {name}")
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
        raise _bad(name, "holds a line break or control character", "store one line of text")
    return text


def totp_seed(value: bytes, name: str) -> bytes:
    """A seed as its file must hold it: base32 in capitals, from IBKR's text or an otpauth address.

    UsageError (which never shows it) for what gives no codes of 6 digits each 30 seconds.
    """
    hint = "store the seed that IBKR showed for the authenticator app, such as JBSW Y3DP …"
    text = value.decode("ascii", "replace").strip()
    if text.lower().startswith("otpauth://"):
        found = dict(parse_qsl(urlsplit(text).query))
        usual = (found.get("digits", "6"), found.get("period", "30"))
        if usual != ("6", "30") or found.get("algorithm", "SHA1").upper() != "SHA1":
            raise _bad(name, "gives other codes than 6 digits each 30 seconds with SHA1", hint)
        text = found.get("secret", "")
    text = re.sub(r"[\s-]", "", text).upper().rstrip("=")
    try:
        key = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        key = b""
    if not 10 <= len(key) <= 64:
        raise _bad(name, "is no seed in base32", hint)
    return text.encode()


def java_property(text: str) -> str:
    """A value as it has to stand in a file of Java properties."""
    return "".join(_escape(letter) for letter in text)


def _escape(letter: str) -> str:
    if letter == "\\":
        return "\\\\"
    if ord(letter) < 128:
        return letter
    halves = letter.encode("utf-16-be").hex()
    return "".join(f"\\u{halves[at : at + 4]}" for at in range(0, len(halves), 4))


def _bad(name: str, what: str, hint: str) -> UsageError:
    return UsageError(f"secret '{name}' {what}", hint=hint, code="bad-secret")
