"""The gateway's settings: everything that the image honours, in words that people use.

Names, values and what the image does with them: docs/gateway-image.md. What cannot be right is
refused here, because the image reports most mistakes with one log line or not at all.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

from pydantic import Field, field_validator

from infrastructure.config.base import (
    Clock,
    Megabytes,
    SecretRef,
    Section,
    Zone,
    check_image,
    plain_text,
    stored,
)
from infrastructure.config.terms import user_name

Mode = Literal["paper", "live", "both"]
Controller = Literal["auto", "ibc", "ibg-controller"]


class Totp(Section):
    """Codes of an authenticator app that gangway types by itself."""

    seed: SecretRef = stored("totp-seed")
    """The app's seed: what IBKR showed when it was set up (base32), or the otpauth:// address."""
    i_accept_one_factor: bool = False
    """Must be true: the seed lies beside the password, so whoever gets the machine gets the
    account."""


class TwoFactor(Section):
    """What happens around the second factor at a login."""

    asked: bool = True
    """Whether a fresh login asks for approval on IBKR Mobile; `plan` says so beforehand."""
    timeout_action: Literal["exit", "restart"] = "restart"
    """When a login was not finished after the dialog closed: end, or start over."""
    relogin: bool = True
    """Ask again when the three minutes ran out, instead of waiting for a person at the screen."""
    device: str | None = None
    """Exact entry of the device list, such as `IB Key`, for accounts with several."""
    totp: Totp | None = None
    """Types the codes of an authenticator app, so that no login needs a person. Unset: a person
    approves."""
    exit_interval: int = Field(default=60, ge=1, le=3600)
    """Seconds after an early closed dialog until an unfinished login is given up."""
    wait: int = Field(default=600, ge=10, le=86_400)
    """Seconds that `up` waits for the approval before it ends with exit code 4."""


_SET_BY = (
    (r"-Xmx.*|-XX:MaxHeapSize=.*|-XX:[+-]AggressiveHeap", "heap"),
    (r"-Xms.*|-XX:(Initial|Min)HeapSize=.*", "initial_heap"),
    (r"-XX:MaxMetaspaceSize=.*", "metaspace"),
    (r"-XX:[+-]Use(?!AdaptiveSizePolicy)\w+GC", "collector"),
    (r"-XX:[+-]AlwaysPreTouch", "pretouch"),
    (r"-XX:[+-]ExitOnOutOfMemoryError", "exit_on_out_of_memory"),
)
"""Options that would take the place of a setting behind the back of what is checked.

With two collectors Java does not start at all.
"""


class Jvm(Section):
    """The gateway's Java machine."""

    heap: Megabytes | None = Field(default=None, ge=128)
    """Heap in MB (-Xmx); unset: as the profile says (256 on e2-micro)."""
    initial_heap: Megabytes | None = None
    """Initial heap in MB (-Xms); unset: the same as `heap` with `pretouch`, else not given."""
    metaspace: Megabytes = 128
    """Limit of class metadata in MB (-XX:MaxMetaspaceSize)."""
    collector: Literal["serial", "g1", "parallel"] = "serial"
    """Garbage collector; serial needs the least memory."""
    pretouch: bool = True
    """Claim the heap at the start (-XX:+AlwaysPreTouch), so memory is missing then or never."""
    exit_on_out_of_memory: bool = True
    """End instead of hanging when the heap is full (-XX:+ExitOnOutOfMemoryError)."""
    options: tuple[str, ...] = ()
    """More options, one each, appended last. No spaces, no -D (the image drops those), nothing that
    a key above sets."""

    @field_validator("options")
    @classmethod
    def _plain_options(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for option in value:
            if option.startswith("-D"):
                raise ValueError(f"'{option}' would be dropped: the image deletes every -D line")
            if not re.fullmatch(r"-X[A-Za-z0-9:+=._/-]+", option):
                raise ValueError(f"'{option}' is no single -X option")
            for pattern, key in _SET_BY:
                if re.fullmatch(pattern, option):
                    raise ValueError(f"'{option}' is gateway.jvm.{key}: set it there")
        return value


class Gateway(Section):
    """IB Gateway in its container."""

    image: str = "ghcr.io/gnzsnz/ib-gateway:stable"
    """Image by tag or digest; 10.37.1m (stable) or 10.40.1d (latest) at least."""
    controller: Controller = "auto"
    """What logs in: `ibc`, or `ibg-controller` for the image of that name; `auto`: as the image on
    the host tells."""
    mode: Mode = "paper"
    """Account kind: `paper`, `live`, or `both` (two Java machines: not on 1 GB)."""
    username: str | None = None
    """IBKR user name, with `both` the live one. Unset: the stored value `tws-username`."""
    password: SecretRef = stored("tws-password")
    """Its password."""
    paper_username: str | None = None
    """Paper user name, with `both` only."""
    paper_password: SecretRef = stored("tws-password-paper")
    """Its password, with `both` only."""
    time_zone: Zone = "America/New_York"
    """Time zone of the gateway, its logs and every time below."""
    read_only: bool | None = None
    """Refuse orders in the gateway. Unset: only in live mode without `trading.live`."""
    accept_incoming: Literal["accept", "reject", "manual"] = "accept"
    """API connections that the gateway does not know; the port is on the private network only."""
    existing_session: Literal["primary", "primaryoverride", "secondary", "manual"] = "primary"
    """When the user is logged in elsewhere; `manual` hangs until a person acts."""
    two_factor: TwoFactor = TwoFactor()
    """Second factor."""
    auto_restart: Clock | None = None
    """Daily restart that keeps the session, or `off`. Unset: in live mode, at 23:30 New York; in
    zones whose daylight saving differs an hour or two before that on some days."""
    auto_logoff: Clock | None = None
    """Daily log-off and fresh login, or `off`. Unset: in paper mode, at the same time."""
    cold_restart: Clock | None = None
    """Sunday's full restart (fresh login), or `off`. Unset: before the first restart after IBKR
    ends the week's session, Sunday 01:00 New York. ibg-controller has none."""
    allow_blind_trading: bool = False
    """Accept orders for instruments without market data."""
    bypass_order_warnings: bool = True
    """Confirm the gateway's order warnings for API orders, which nobody could click."""
    save_settings: str | None = None
    """When the gateway's settings are saved: `Every 30 mins`, or times such as `08:00 17:30`."""
    master_client_id: int | None = Field(default=None, ge=0)
    """Client id that hears of every client's orders and fills at once. Unset: the bridge's."""
    login_dialog_timeout: int = Field(default=180, ge=30, le=1800)
    """Seconds until the login window must be there; small machines need more than 60."""
    publish_api: str | None = None
    """Also publish the TWS API on the host, such as `127.0.0.1:4001`; loopback only. Unset: only
    the bridge reaches it."""
    watchdog: bool = True
    """Mend a gateway that hangs although it is logged in: connect its data anew, then restart it
    with its session kept, then tell a person; each at most once in six hours."""
    jvm: Jvm = Jvm()
    """Java machine."""
    stop_grace: int = Field(default=45, ge=10, le=300)
    """Seconds the gateway gets to end cleanly."""
    environment: dict[str, str] = Field(default_factory=dict)
    """More variables for the image; what it ignores or what is set above is refused."""

    @field_validator("environment")
    @classmethod
    def _environment(cls, value: dict[str, str]) -> dict[str, str]:
        for _ in map(plain_text, value.values()):
            pass
        return value

    @field_validator("controller", mode="before")
    @classmethod
    def _controller(cls, value: object) -> object:
        if value == "ibcontroller":
            raise ValueError("no gateway image with ibcontroller is published yet")
        return value

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        return check_image(value)

    @field_validator("save_settings")
    @classmethod
    def _save_settings(cls, value: str | None) -> str | None:
        if value is None or re.fullmatch(r"Every( [1-9][0-9]{0,3})? (mins|hours)", value):
            return value
        clock = r"([01][0-9]|2[0-3]):[0-5][0-9]"
        if not re.fullmatch(rf"{clock}( {clock})*", value):
            raise ValueError(f"'{value}' is no schedule for saving")
        return value

    @field_validator("publish_api", mode="before")
    @classmethod
    def _publish(cls, value: object) -> object:
        if value is False:
            return None
        text = f"127.0.0.1:{value}" if isinstance(value, int) and value is not True else value
        match = re.fullmatch(r"([0-9.]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})", str(text))
        if match is None or not 1 <= int(match[2]) <= 65535:
            raise ValueError("write the address and the port")
        try:
            address = ipaddress.ip_address(match[1].strip("[]"))
        except ValueError:
            raise ValueError(f"'{match[1]}' is no address") from None
        if not address.is_loopback:
            raise ValueError("the TWS API has no password: it must never be on a public address")
        return f"{f'[{address}]' if address.version == 6 else address}:{int(match[2])}"

    @field_validator("username", "paper_username")
    @classmethod
    def _username(cls, value: str | None) -> str | None:
        return value if value is None else user_name(value)


# --- what gateway.environment may not hold ------------------------------------------------------
_NO_CODES = (
    "the image enters no codes; gateway.two_factor.totp does (docs/two-factor-and-restarts.md)"
)

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
    "TWSUSERID": "only start scripts that the image has not read it; set gateway.username",
    "FIXUSERID": "the gateway is started without FIX",
    **dict.fromkeys(
        ("DUAL_MODE", "GATEWAY_OR_TWS", "TWS_MAJOR_VRSN", "IB_GATEWAY_VERSION"),
        "the image works it out from its own files and gateway.mode",
    ),
    **dict.fromkeys(
        ("SCRIPT_PATH", "TWS_INI", "TWS_INI_TMPL", "DISPLAY"),
        "the image's own scripts set it and depend on it",
    ),
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
    "TWOFACTOR_CODE_FILE": "gateway.two_factor.totp",
    "AUTO_RESTART_TIME": "gateway.auto_restart",
    "AUTO_LOGOFF_TIME": "gateway.auto_logoff",
    "TWS_COLD_RESTART": "gateway.cold_restart",
    "BYPASS_WARNING": "gateway.bypass_order_warnings",
    "ALLOW_BLIND_TRADING": "gateway.allow_blind_trading",
    "SAVE_TWS_SETTINGS": "gateway.save_settings",
    "TWS_MASTER_CLIENT_ID": "gateway.master_client_id",
    "TIME_ZONE": "gateway.time_zone",
    "TZ": "gateway.time_zone",
    "USE_IBG_CONTROLLER": "gateway.controller",
}

_KEPT = {
    *("TWS_SETTINGS_PATH", "START_SCRIPTS", "HOME", "TWS_PATH", "IBC_INI", "IBC_INI_TMPL"),
    # bash and glibc let nobody set them, or act on them before the first line of a script.
    *("UID", "EUID", "PPID", "IFS", "GCONV_PATH"),
}
# What the start hooks read: another value takes the spacing of logins, or a hold, away. And
# elsewhere than on the container's loopback the controller would take commands from the network.
_KEPT_BEGIN = ("GANGWAY_", "CONTROLLER_COMMAND_SERVER_")
_SHELL_BEGIN = ("BASH", "LD_")
_SHELL = frozenset(("PATH", "ENV", "SHELLOPTS", "POSIXLY_CORRECT"))
"""What changes how bash runs the image's scripts; some would show the password in the log."""
_SECRETS = (
    *("TWS_PASSWORD", "VNC_SERVER_PASSWORD", "SSH_PASSPHRASE"),
    # of IBC's own start scripts, which guides use with this image
    *("TWSPASSWORD", "FIXPASSWORD"),
)
_PROXY = frozenset(("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"))


def refusal(name: str) -> tuple[str, str] | None:
    """Why a variable is refused, and the hint; None when it is passed on."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return f"'{name}' is no name of a variable", "letters, digits and underscore"
    if name in DEAD:
        return f"{name} does nothing here", DEAD[name]
    if name.startswith("IBC_") and name != "IBC_SCRIPTS":
        return f"{name} does nothing here", "the image reads no IBC_* key; use gateway's own keys"
    if name.startswith("SSH_") and name != "SSH_PASSPHRASE":
        hint = (
            "its tunnel takes the place of the relay that the bridge needs; see ./deploy.py tunnel"
        )
        return f"{name} would close the API to the bridge", hint
    if name in OWNED:
        return f"{name} is set by gangway", f"set {OWNED[name]}"
    if name.startswith(_SECRETS):
        hint = "gateway.password is passed as a file; VNC has a password of its own per use"
        return f"{name} would show a secret in the container's environment", hint
    if name.islower() and name not in _PROXY:
        # IBC's ibcstart.sh sets neither mode nor java_path, tws_version, ib_password or others
        # before it reads them (3.24.1): a trading mode given so outranks the stack's.
        hint = "the image's scripts call their own variables so; use gateway's own keys"
        return f"{name} may change what the image's scripts do", hint
    if name in _SHELL or name.startswith(_SHELL_BEGIN):
        return f"{name} changes how the image's scripts run", "set it in a start hook of your own"
    if name in _KEPT or name.startswith(_KEPT_BEGIN):
        return f"{name} is set by gangway", "settings and start hooks depend on it"
    return None
