"""What lies where in a release and in its containers. It travels: standard library, Python 3.9."""

COMPOSE_FILE, SANDBOX_FILE = "compose.yaml", "sandbox.json"
"""The services' definitions, by the runtime that carries the stack."""
RELEASE_FILE = "release.json"
"""In every release: `{"id", "files": {path: digest}, "services": {name: hash}}`; no contents."""
HASH_LABEL = "gangway.hash"
"""The container label that holds `Service.hash`: Compose does not see changed bind mounts."""

SERVICES = ("gateway", "portal", "bridge", "caddy")
"""The services that are gangway's own; any other of a stack is a worker of its owner's."""
WORKERS = "workers"
"""The folder of a release with what workers are built of, and of `data/` with their keys."""

SECRETS = "secrets"
"""The folder of secrets in a release."""
ADMIN_KEY, ALERTS = "bridge-admin-key", "bridge-alerts"
"""The bridge's first API key, and the addresses that alerts go to, one a line."""
TOTP_SEED = "totp-seed"
"""The seed of an authenticator app's codes, which the gateway's container alone has."""
FLEX_TOKEN = "flex-token"  # noqa: S105 - its name
"""The token of the broker's Flex Web Service."""
ADMIN_KEY_FILE, ALERTS_FILE = f"{SECRETS}/{ADMIN_KEY}", f"{SECRETS}/{ALERTS}"

HOOKS_FOLDER = "/home/ibgateway/gangway"
"""Where the release's `gateway/` is mounted; START_SCRIPTS is relative to the home folder."""
STATE_FOLDER = "/home/ibgateway/state"
"""Where the gateway's start hook keeps the login's state; on the host it is `data/state`."""
REQUESTS_FOLDER = "/home/ibgateway/requests"
"""Where the bridge leaves requests to the controller; on the host it is `data/requests`."""
BACKUP_STATE = "backup.json"
"""Beside the journal: `{"every": seconds, "since", "succeededAt"}` of the backups on a schedule."""
