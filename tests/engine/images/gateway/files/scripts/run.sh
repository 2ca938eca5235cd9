#!/bin/bash
# Start-up of the container, in the order of the image that this one stands in for.
set -Eeo pipefail
echo ".> Starting IBC/IB gateway"
# It is noon at the broker whenever this starts: what a test sees does not hang on the hour of the night.
export GANGWAY_NEW_YORK=NOON$((10#$(date -u +%H) - 12))

file_variable() {  # NAME from NAME_FILE; both at once are refused
    local name=$1 file=${1}_FILE
    if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
        printf >&2 'error: both %s and %s are set (but are exclusive)\n' "$name" "$file"
        exit 1
    fi
    if [ -n "${!file:-}" ]; then export "$name"="$(<"${!file}")"; fi
}

forget_variable() { local file=${1}_FILE; if [ -n "${!file:-}" ]; then unset "$1"; fi; }

run_hooks() {
    [ -n "${1:-}" ] || return 0
    local folder=$HOME/$1
    if [ ! -d "$folder" ]; then echo "> No start scripts defined on $folder"; return 0; fi
    echo "> Running start up scripts on $folder"
    for hook in "$folder"/*.sh; do
        echo "> Running $hook"
        { [ -f "$hook" ] && bash "$hook"; } || echo "File $hook not found."
    done
}

wait_for_display() {
    for _ in $(seq 50); do [ -S /tmp/.X11-unix/X1 ] && return; sleep 0.2; done
    echo "Error: Timed out waiting for Xvfb socket!"; exit 1
}

set_ports() {
    case ${TRADING_MODE:-} in
    live) API_PORT=4001 SOCAT_PORT=4003 ;;
    paper) API_PORT=4002 SOCAT_PORT=4004 ;;
    *) echo ".> Invalid TRADING_MODE: ${TRADING_MODE:-}"; exit 1 ;;
    esac
    export API_PORT SOCAT_PORT
    echo ".> API_PORT set to: $API_PORT"
    echo ".> SOCAT_PORT set to: $SOCAT_PORT"
}

apply_settings() {
    if [ "${CUSTOM_CONFIG:-}" = yes ]; then echo ".> Using CUSTOM_CONFIG, (value:yes)"; return; fi
    file_variable TWS_PASSWORD
    envsubst <"$IBC_INI_TMPL" >"$IBC_INI"
    forget_variable TWS_PASSWORD
    local settings=${TWS_SETTINGS_PATH:-$TWS_PATH}
    echo ".> Settings directory set to: $settings"
    [ -d "$settings" ] || mkdir "$settings"
    if [ -f "$settings/$TWS_INI" ]; then
        echo ".> File jts.ini already exists, not setting timezone"
    else
        envsubst <"$TWS_PATH/$TWS_INI_TMPL" >"$settings/$TWS_INI"
    fi
}

start_session() {
    set_ports
    apply_settings
    echo ".> Starting socat"
    socat "TCP-LISTEN:$SOCAT_PORT,fork,reuseaddr" "TCP:127.0.0.1:$API_PORT" 2>/dev/null &
    if [ "${GANGWAY_STANDIN_CONTROLLER:-}" = ibcontroller ]; then start_ibcontroller; return; fi
    echo ".> Starting IBC in $TRADING_MODE mode"
    "$IBC_PATH/scripts/ibcstart.sh" "$TWS_MAJOR_VRSN" -g "--tws-path=$TWS_PATH" "--ibc-path=$IBC_PATH" \
        "--ibc-ini=$IBC_INI" "--on2fatimeout=${TWOFA_TIMEOUT_ACTION:-}" "--tws-settings-path=${TWS_SETTINGS_PATH:-}" &
    pids+=($!)
}

# No published image starts it yet: with the names that ibcontroller itself reads.
start_ibcontroller() {
    local relogin=false readonly_api=true
    [ "${RELOGIN_AFTER_TWOFA_TIMEOUT:-}" != yes ] || relogin=true
    [ "${READ_ONLY_API:-}" != no ] || readonly_api=false
    file_variable TWS_PASSWORD
    echo ".> Starting ibcontroller in $TRADING_MODE mode"
    env PYTHONHOME=/usr PYTHONPATH=/opt/controllers \
        IBC_USERID="${TWS_USERID:-}" IBC_PASSWORD="${TWS_PASSWORD:-}" IBC_TRADING_MODE="$TRADING_MODE" \
        IBC_TWS_PATH="$TWS_PATH" IBC_TWS_SETTINGS_PATH="${TWS_SETTINGS_PATH:-$TWS_PATH}" IBC_TWS_VERSION="$TWS_MAJOR_VRSN" \
        IBC_APP_DIR="$HOME/ibcontroller" IBC_READ_ONLY_API=$readonly_api IBC_RELOGIN_AFTER_MFA_TIMEOUT=$relogin \
        IBC_ACCEPT_INCOMING_CONNECTIONS="${TWS_ACCEPT_INCOMING:-}" IBC_EXISTING_SESSION_ACTION="${EXISTING_SESSION_DETECTED_ACTION:-}" \
        IBC_MFA_TIMEOUT_ACTION="${TWOFA_TIMEOUT_ACTION:-}" IBC_MFA_EXIT_INTERVAL="${TWOFA_EXIT_INTERVAL:-}" \
        IBC_AUTO_RESTART_TIME="${AUTO_RESTART_TIME:-}" IBC_AUTO_LOGOFF_TIME="${AUTO_LOGOFF_TIME:-}" IBC_COLD_RESTART_TIME="${TWS_COLD_RESTART:-}" \
        /opt/simulator/bin/python -c 'from ibcontroller.cli import main; main()' run &
    pids+=($!)
    forget_variable TWS_PASSWORD
}

stop() {
    echo ".> Received SIGINT or SIGTERM. Shutting down IB Gateway."
    pkill x11vnc || true
    pkill Xvfb || true
    pkill socat || true
    kill -TERM "${pids[@]}" || true
    wait "${pids[@]}"
}

pids=()
run_hooks "${START_SCRIPTS:-}"
rm -f /tmp/.X1-lock
export DISPLAY=:1
Xvfb :1 -ac -screen 0 1024x768x16 &
if [ -n "${JAVA_HEAP_SIZE:-}" ]; then
    sed -i "s/-Xmx768m/-Xmx${JAVA_HEAP_SIZE}m/g" "$TWS_PATH/ibgateway/$IB_GATEWAY_VERSION/ibgateway.vmoptions"
    echo ".> Java heap size set to ${JAVA_HEAP_SIZE}m"
fi
wait_for_display
file_variable VNC_SERVER_PASSWORD
if [ -n "${VNC_SERVER_PASSWORD:-}" ]; then
    echo ".> Starting VNC server"
    x11vnc -ncache_cr -display :1 -forever -shared -bg -noipv6 -passwd "$VNC_SERVER_PASSWORD" >/dev/null 2>&1 &
else
    echo ".> VNC server disabled"
fi
forget_variable VNC_SERVER_PASSWORD
run_hooks "${X_SCRIPTS:-}"

if [ "${TRADING_MODE:-}" = both ]; then
    base_ini=$IBC_INI base_settings=${TWS_SETTINGS_PATH:-$TWS_PATH}
    export TRADING_MODE=live IBC_INI=${base_ini}_live TWS_SETTINGS_PATH=${base_settings}_live
    start_session
    export TRADING_MODE=paper IBC_INI=${base_ini}_paper TWS_SETTINGS_PATH=${base_settings}_paper
    export TWS_USERID=${TWS_USERID_PAPER:-}
    if [ -n "${TWS_PASSWORD_PAPER_FILE:-}" ]; then
        export TWS_PASSWORD_FILE=$TWS_PASSWORD_PAPER_FILE
    else
        export TWS_PASSWORD=${TWS_PASSWORD_PAPER:-}
    fi
    sleep 15
fi
start_session
run_hooks "${IBC_SCRIPTS:-}"
trap stop SIGINT SIGTERM
wait "${pids[@]}"
