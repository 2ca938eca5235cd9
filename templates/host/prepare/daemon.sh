# The engine's settings: logs that end, file limits that the gateway can live with, and containers
# that survive an upgrade of the engine (the gateway's session is precious).

daemon_title() { echo "engine: bounded logs, file limits, containers survive its restarts"; }

# merge wanted keys into what is there; prints the result, exit 1 when it is the same as before
daemon_merge() {
    python3 - "$1" "$(docker info -f '{{.Swarm.LocalNodeState}}' 2>/dev/null)" <<'EOF'
import json, os, pathlib, sys

path = pathlib.Path(os.environ.get("DAEMON_FILE") or "/etc/docker/daemon.json")
try:
    now = json.loads(path.read_text() or "{}") if path.exists() else {}
    if not isinstance(now, dict):
        raise ValueError
except ValueError:
    if sys.argv[1] == "check":
        print(f"{path} is damaged: it is no JSON object")
        sys.exit(1)
    path.replace(path.with_suffix(".damaged"))  # kept: somebody's settings may be in it
    now = {}
wanted = json.loads(json.dumps(now))
# An engine that does not take one of these would not start at the next boot.
if sys.argv[2] in ("", "inactive"):  # a swarm and live-restore exclude each other
    wanted["live-restore"] = True
options = wanted.get("log-opts") or {}
# Options without a driver are json-file's, the engine's own: `local` may not know them.
wanted.setdefault("log-driver", "json-file" if options else "local")
if wanted["log-driver"] in ("local", "json-file"):
    wanted["log-opts"] = {"max-size": "10m", "max-file": "3", **options}
if not isinstance(wanted.get("default-ulimits"), dict):
    wanted["default-ulimits"] = {}
wanted["default-ulimits"].setdefault("nofile", {"Name": "nofile", "Soft": 10000, "Hard": 10000})
if wanted == now:
    sys.exit(0)
if sys.argv[1] == "check":
    print("missing: " + ", ".join(key for key in wanted if wanted[key] != now.get(key)))
    sys.exit(1)
path.parent.mkdir(parents=True, exist_ok=True)
fresh = path.with_suffix(".gangway-new")
with fresh.open("w") as file:
    file.write(json.dumps(wanted, indent=2) + "\n")
    file.flush()
    os.fsync(file.fileno())
fresh.replace(path)
folder = os.open(path.parent, os.O_RDONLY)
os.fsync(folder)
EOF
}

daemon_check() { daemon_merge check; }

daemon_apply() {
    daemon_merge apply || return 1
    systemd || return 0
    # With containers running only a reload: it brings live-restore, and the rest comes with the next boot.
    if [ -n "$(docker ps -q 2>/dev/null)" ]; then systemctl reload docker; else systemctl restart docker; fi
}
