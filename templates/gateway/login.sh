#!/bin/bash
# Watches one session's login from inside the container, and keeps it gentle.
#
#   login.sh launch SCRIPT [ARGUMENT...]  runs the image's start script, its log passing a recorder
#   login.sh gate [SETTINGS]              before each launch of Java: waits its turn, or for a person
#   login.sh record                       reads the log on standard input and writes events down
#   login.sh recording                    the same for as long as the log goes on, whatever ends a recorder
#   login.sh watch                        records what launcher.log and a controller's /health say
#   login.sh requests                     passes on what the bridge asks for while the gateway hangs
#   login.sh next NOW TOKEN               prints when the next launch may come, from events on input
#   login.sh park PORT WORD SECONDS
#                                         has IBC end its gateway by a word (PAUSE keeps the session, STOP
#                                         logs off), and the container rest until it is stopped
#   login.sh events                       prints the events in a log on input
#
# Events go to $folder/login-MODE, a line each: SECONDS EVENT [ARGUMENT]. No text of the log is kept,
# only names of events, numbers and titles without digits. What they mean is judged elsewhere
# (bridge/login); decided here is only what cannot wait for anyone: a refused password is not tried
# again, a refused token means one cold start, and attempts are spaced out (bridge/login/spacing.py,
# which this is tested against). How the container ends is never changed by it.
set -u
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
folder=${GANGWAY_STATE_PATH:-$HOME/state}
if ! mkdir -p "$folder" 2>/dev/null || [ ! -w "$folder" ]; then
    folder=/tmp/gangway-state # what cannot be written down could not be held or spaced out
    mkdir -p "$folder"
fi
mode=${TRADING_MODE:-paper}
facts=$folder/login-$mode
held=$folder/held-$mode
# In memory: what the disk does not take, because it is full. An attempt that is not counted would be
# followed by the next at once, and a refused password that is not held be tried until it locks.
spare=${GANGWAY_SPARE_PATH:-/dev/shm/gangway}
spare_facts=$spare/login-$mode
spare_held=$spare/held-$mode
parked=$folder/parked-$mode
cold=$folder/cold-$mode
child_file=$folder/.child-$mode
heard=$folder/.heard-$mode
asks="gangway: is everything read that was said?" # of the recorder alone; it is in no log
rests=300 # seconds that a parked container waits for the stop; then its gateway comes up again
most_lines=600 kept_lines=300
lasting="^[0-9]+ (by|boot|parks|totp)( |\$)"
# The clock of the broker's maintenance; another one only where a test is not about the hour.
new_york=${GANGWAY_NEW_YORK:-EST5EDT,M3.2.0,M11.1.0}
first_pause=60 longest_pause=600 maintenance_pause=1200 lasts=120 stillborn=5 hour=3600 most_in_an_hour=9

# On the disk from now on. Where that cannot be said, the kernel does it within seconds.
keep() { sync "$1" 2>/dev/null || :; }

# Adds a line to the file $1, or to $2 where the first does not take it.
add() {
    { printf '%s\n' "$3" >>"$1"; } 2>/dev/null ||
        { mkdir -p "$spare" && printf '%s\n' "$3" >>"$2"; } 2>/dev/null
}

note() {
    local line
    printf -v line '%(%s)T %s' -1 "$*"
    add "$facts" "$spare_facts" "$line"
}

# All that was written down, in the order of time.
known() {
    if [ -e "$spare_facts" ]; then
        cat "$facts" "$spare_facts" 2>/dev/null | sort -s -n -k1,1
    else
        cat "$facts" 2>/dev/null
    fi
}

is_held() { [ -e "$held" ] || [ -e "$spare_held" ]; }

# Sets $why to the reason of what is held.
read_why() { read -r why _ < <(cat "$held" "$spare_held" 2>/dev/null); }

# --- the rule of spacing ---------------------------------------------------------------------------

# Sets $until to the end of the broker's maintenance that is under way at $1; 0: none is. Every night
# 00:15 to 01:45 New York, and Friday 23:00 to Saturday 03:00.
maintenance() {
    local weekday clock seconds
    TZ=$new_york printf -v clock '%(%u %H %M %S)T' "$1"
    read -r weekday hours minutes seconds <<<"$clock"
    seconds=$((10#$hours * 3600 + 10#$minutes * 60 + 10#$seconds))
    until=0
    if ((seconds >= 900 && seconds < 6300)); then until=6300; fi
    if ((weekday == 6 && seconds < 10800)); then until=10800; fi
    if ((weekday == 5 && seconds >= 82800)); then until=$((86400 + 10800)); fi
    ((until == 0)) || until=$(($1 - seconds + until))
}

# Sets $next and $why from events on standard input: when the next launch may come at $1, and why not
# at once (maintenance, row). $2 is yes when it continues a session with a token. What lies more than
# an hour ahead was written by a clock that has been set back since: it would hold up the login.
plan() {
    local now=$1 token=$2 at event rest row=0 login="" last pause until count
    local times=() alone="" spared="" row_before=0 login_before="" times_before=()
    while read -r at event rest; do
        [[ $at =~ ^[0-9]{1,11}$ ]] && ((10#$at <= now + hour)) || continue
        at=$((10#$at))
        case $event in
        begin) times=() row=0 login="" alone="" spared="" ;;
        launch)
            row_before=$row login_before=$login times_before=("${times[@]}")
            alone=""
            [ -n "$spared" ] || [ "${rest%% *}" != password ] || alone=$at
            if [ -n "$login" ] && ((at - login >= lasts)); then row=0; fi
            row=$((row + 1)) login=""
            times+=("$at")
            count=${#times[@]}
            ((count <= most_in_an_hour)) || times=("${times[@]:count-most_in_an_hour}")
            ;;
        login) login=${login:-$at} alone="" spared="" ;;
        exit) # a Java that could not start has asked the broker for nothing
            if [ -n "$alone" ] && ((at - alone <= stillborn)); then
                row=$row_before login=$login_before times=("${times_before[@]}") spared=yes
            fi
            alone=""
            ;;
        start | by | boot | parks | no-token | finished) ;;
        *) alone="" ;;
        esac
    done
    if [ -n "$login" ] && { [ "$token" = yes ] || ((now - login >= lasts)); }; then row=0; fi
    next=$now why=""
    count=${#times[@]}
    if ((row > 0 && count > 0)); then
        last=${times[count - 1]}
        pause=$((first_pause << (row > 7 ? 6 : row - 1)))
        ((pause <= longest_pause)) || pause=$longest_pause
        ((next >= last + pause)) || next=$((last + pause))
        maintenance "$next"
        if ((until > 0)); then
            ((until <= last + maintenance_pause)) || until=$((last + maintenance_pause))
            ((next >= until)) || next=$until
        fi
    fi
    if ((count == most_in_an_hour && next < times[0] + hour)); then next=$((times[0] + hour)); fi
    if ((next > now)); then
        maintenance "$now"
        if ((until > 0)); then why=maintenance; else why=row; fi
    fi
}

# --- before a launch -------------------------------------------------------------------------------

gate() {
    local settings=${1:-} token=no how=password now looked said="" parent=$PPID
    trim
    if [ -n "$settings" ] && [ -n "$(find "$settings" -maxdepth 2 -name autorestart -print -quit 2>/dev/null)" ]; then
        token=yes how=token
    fi
    while :; do
        if is_held; then
            read_why
            [ "$said" = held ] || {
                echo "gangway: the login is held: $why; nothing is tried until a person acts:" \
                    "./deploy.py restart gateway --cold, or up, begins afresh"
                said=held
            }
        else
            printf -v now '%(%s)T' -1
            plan "$now" "$token" < <(known)
            ((next > now)) || break
            [ -n "$said" ] || {
                note pause $((next - now)) # before it is said: who reads the line may look
                echo "gangway: the next login attempt is in $((next - now)) s ($why):" \
                    "attempts are spaced out, because a row of them can lock the account"
                said=pause
            }
        fi
        # Not to hold the log's pipe, and not to outlive whom it holds up. A clock that was set back
        # ends the wait: it is reckoned anew.
        printf -v looked '%(%s)T' -1
        while :; do
            sleep 1 >/dev/null 2>&1
            [ -d "/proc/$parent" ] || exit 0
            printf -v now '%(%s)T' -1
            if [ "$said" = held ]; then
                is_held || break
            else
                ((now >= looked && now < next)) && ! is_held || break
                looked=$now
            fi
        done
    done
    note launch "$how"
    keep "$facts" # counted also when the power is lost during the attempt
}

trim() {
    [ -f "$facts" ] || return 0
    local lines
    lines=$(wc -l <"$facts")
    ((lines > most_lines)) || return 0
    # Another part of us may write a line meanwhile: it comes after those that are kept.
    ln -f "$facts" "$facts.old" || return 0
    {
        # What the container is stays, however long ago it was started.
        head -n $((lines - kept_lines)) "$facts.old" | grep -E "$lasting" | tail -n 4
        head -n "$lines" "$facts.old" | tail -n "$kept_lines"
    } >"$facts.new" && mv "$facts.new" "$facts" &&
        tail -n "+$((lines + 1))" "$facts.old" >>"$facts"
    rm -f "$facts.old"
}

# --- recording -------------------------------------------------------------------------------------

events=() takes=() patterns=() relevant=""
read_table() {
    local event take pattern
    while IFS=$'\t' read -r event take pattern; do
        if [ "$event" = relevant ]; then
            relevant=$pattern
        else
            events+=("$event") takes+=("$take") patterns+=("$pattern")
        fi
    done <"$here/login-lines"
}

# A number's digits; of a title the words that cannot be an address, an id or a hash: without digits,
# dots inside, or great length.
plain() {
    local word words
    argument=""
    if [ "$2" = number ]; then
        argument=${1:0:9}
        return
    fi
    IFS=' ' read -r -a words <<<"$1"
    for word in "${words[@]}"; do
        ((${#word} <= 20)) && [[ ! $word =~ [0-9@/:]|[.]. ]] || continue
        word=${word//[!A-Za-z_ .,\'-]/}
        argument=$argument${word:+${argument:+ }$word}
    done
    argument=${argument:0:60}
    argument=${argument%"${argument##*[! ]}"}
}

record() {
    last="" how=password logged_in="" noted=0
    recall < <(known)
    each take
}

# Sets $how to what a recorder knew that was killed in this container: a refused token is no refused
# password. As `take` does it.
recall() {
    local event
    while read -r _ event _; do
        case $event in
        boot) how=password ;;
        resumes | token-refused) [ "$how" = settled ] || how=token ;;
        attempt) [ "$how" != settled ] || how=password ;;
        token) how=token ;;
        no-token) [ "$how" = settled ] || how=password ;;
        refused) [ "$how" != token ] || how=settled ;;
        esac
    done
}

# A recorder that is killed, such as for want of memory, begins anew with what it has not read: without
# one nothing would be held. One that never lives does not hold the log up for long.
recording() {
    local count
    for ((count = 0; count < 60; count++)); do
        bash "$here/login.sh" record
        (($? > 128)) || break
        sleep 1
    done
}

# Calls $1 with each event of the lines on standard input, and its argument.
each() {
    local line index argument launcher LC_ALL=C
    read_table
    while IFS= read -r -n 4096 line || [ -n "$line" ]; do
        [ "$line" != "$asks" ] || : >"$heard"
        [[ $line =~ $relevant ]] || continue
        launcher=""
        [[ ! $line =~ ^[0-9-]{10}\ [0-9:]{8}\.[0-9]{3}\  ]] || launcher=yes
        for index in "${!patterns[@]}"; do
            [[ $line =~ ${patterns[index]} ]] || continue
            [ "${events[index]}" != ignore ] || break
            argument=""
            [ "${takes[index]}" = no ] || plain "${BASH_REMATCH[1]}" "${takes[index]}"
            "$1" "${events[index]}" "$argument"
        done
    done
}

# One event: written down, and acted on when it cannot wait.
take() {
    local event=$1 said="$1${2:+ $2}"
    # IBC 3.24 says the same of every second factor: what it is told to choose tells a code from a push.
    case $event:${TWOFA_DEVICE:-} in
    push:*[Aa]uthenticator* | push:*SMS* | push:*[Cc]ode* | push:*[Cc]ard*) event=code said=code ;;
    esac
    case $event in
    resumes | token-refused) [ "$how" = settled ] || how=token ;;
    esac
    case $event in
    pause | held) return ;; # the gate's own lines: it wrote them down itself
    start | attempt | resumes) # the controller says so, too, but for one whose log is not read
        [ -z "$launcher" ] || [ "${USE_IBG_CONTROLLER:-}" = yes ] || return
        ;;
    esac
    [ "$said" != "$last" ] || [ "$event" = attempt ] || return 0
    last=$said
    note "$said"
    noted=$((noted + 1))
    ((noted % kept_lines)) || trim
    case $event in
    login) logged_in=yes ;;
    attempt)
        logged_in=""
        [ "$how" != settled ] || how=password
        ;;
    start | exit) logged_in="" ;;
    token) how=token ;;
    no-token) [ "$how" = settled ] || how=password ;;
    refused)
        case $how in
        token) cold_start ;;
        settled) ;; # the same refusal in other words: IBC's, IBKR's own
        *) hold bad-credentials ;;
        esac
        ;;
    locked) hold account-locked ;;
    passkey) hold passkey-required ;;
    several) hold several-paper-users ;;
    yielded) hold session-taken ;;
    esac
}

# Ends the gateway and keeps it ended: one more attempt could lock the account, or take a session
# that was left to another. A person begins afresh.
hold() {
    local line
    ! is_held || return 0
    printf -v line '%s %(%s)T' "$1" -1
    rm -f "$held.new" 2>/dev/null
    add "$held.new" "$spare_held" "$line"
    if [ -f "$held.new" ] && [ -s "$held.new" ]; then
        keep "$held.new"
        mv "$held.new" "$held" 2>/dev/null || add "$spare_held" "$spare_held" "$line"
    fi
    note held "$1"
    end_java
    keep "$folder" # a machine that loses its power now must not try again when it is back
}

# The saved session was refused: it goes, and the start script runs once more, with a full login.
cold_start() {
    : >"$cold"
    how=settled # until a password is typed
    drop_tokens
    end_java
}

drop_tokens() {
    [ -z "${TWS_SETTINGS_PATH:-}" ] || find "$TWS_SETTINGS_PATH" -maxdepth 2 -name autorestart -delete 2>/dev/null
}

end_java() {
    local child
    read -r child 2>/dev/null <"$child_file" && pkill -KILL -P "$child" -x java
}

# What is said elsewhere than in the log: IBKR's launcher.log, and ibg-controller's own /health.
watch() {
    local settings=${TWS_SETTINGS_PATH:-} port=${GANGWAY_HEALTH_PORT:-} word before=""
    [ -z "$settings" ] || tail -n 0 -F --pid="$PPID" "$settings/launcher.log" 2>/dev/null &
    while [ -n "$port" ] && [ -d "/proc/$PPID" ]; do
        word=$(controller_state "$port")
        [ -z "$word" ] || [ "$word" = "$before" ] || echo "gangway: controller $word"
        before=${word:-$before}
        sleep 3
    done
    wait
}

controller_state() {
    local answer
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return
    printf 'GET /health HTTP/1.0\r\n\r\n' >&3
    answer=$(timeout 2 head -c 4096 <&3 | tr -d '\n')
    exec 3<&- 3>&-
    [[ $answer =~ \"state\":\ *\"([A-Z_]+)\" ]] && echo "${BASH_REMATCH[1]}"
} 2>/dev/null

# --- around the start script -------------------------------------------------------------------------

launch() {
    local script=$1 code child="" tee recorder records log stopping="" helpers
    shift
    rm -f "$cold" "$child_file" "$parked"
    note by ibc
    note boot
    note parks
    # The log goes on without the recorder: tee does not mind when it ends.
    exec {records}> >(exec bash "$here/login.sh" recording >/dev/null 2>&1)
    recorder=$!
    bash "$here/login.sh" watch >&"$records" 2>/dev/null {records}>&- &
    bash "$here/login.sh" requests 2>/dev/null {records}>&- &
    helpers=("$!")
    if [ -r "${GANGWAY_TOTP_FILE:-/run/secrets/totp-seed}" ]; then
        note totp
        bash "$here/second-factor.sh" watch 2>/dev/null {records}>&- &
        helpers+=("$!")
    fi
    trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
    while :; do
        # A tee of its own, which ends when all is passed on that the script has said.
        exec {log}> >(exec tee -p "/dev/fd/$records")
        tee=$!
        "$script" "$@" >&"$log" {log}>&- {records}>&- &
        child=$!
        exec {log}>&-
        echo "$child" >"$child_file"
        [ -z "$stopping" ] || kill -TERM "$child" 2>/dev/null
        # A signal ends a wait early; the script's own status is still to be had then.
        while wait "$child"; code=$?; kill -0 "$child" 2>/dev/null; do :; done
        [ -z "$stopping" ] || { wait "$child"; code=$?; break; }
        settle "$code"
        [ ! -e "$parked" ] || break
        [ -e "$cold" ] || break
        rm -f "$cold"
        drop_tokens
    done
    if [ -z "$stopping" ] && [ -e "$parked" ]; then
        rest
    elif [ -z "$stopping" ] && is_held; then
        stay
        stopping=yes code=143
    fi
    [ -z "$stopping" ] || note stopped
    kill "${helpers[@]}" 2>/dev/null # they hold what the log goes to
    ended 20 "$tee"
    exit "$code"
}

# Waits until process $2 has ended, in at most $1 steps: something that the script left behind may
# still hold the log.
ended() {
    local tries
    for ((tries = 0; tries < $1; tries++)); do
        kill -0 "$2" 2>/dev/null || return 0
        sleep 0.02
    done
}

# Lets the recorder come to the end of what the script has said, so that it can still hold, however
# busy the machine is: what it has not read by then would be tried again.
settle() {
    local tries
    case $1 in
    77) hold bad-credentials ;;
    78) hold configuration ;;
    esac
    ended 50 "$tee"
    rm -f "$heard"
    printf '\n%s\n' "$asks" >&"$records" 2>/dev/null & # beside us: the recorder may be gone, or hang
    for ((tries = 0; tries < 500; tries++)); do
        [ ! -e "$heard" ] && kill -0 "$recorder" 2>/dev/null || break
        sleep 0.02
    done
}

# Up, without a gateway: the engine would start an ended container again, and the next attempt with it.
stay() {
    local why
    read_why
    echo "gangway: the login is held: $why; the container stays up without a gateway:" \
        "./deploy.py restart gateway --cold, or up, begins afresh"
    # In steps, because a signal may come between the question and the wait.
    while [ -z "$stopping" ]; do
        sleep 1 >/dev/null 2>&1 &
        wait "$!"
    done
}

# Up, without a gateway, until a deploy stops the container: were it to end, the engine would start it
# again, beside the new one. When nobody stops it, it ends by itself, and its gateway comes up again.
rest() {
    local count
    note parked
    echo "gangway: the gateway has ended as it was told, and waits to be exchanged"
    for ((count = 0; count < rests && !${#stopping}; count++)); do
        sleep 1 >/dev/null 2>&1 &
        wait "$!"
    done
    rm -f "$parked"
}

# Sets $answer to what the controller's command server on port $1 says to the word $2; "" when nothing.
say_word() {
    answer=""
    if exec 3<>"/dev/tcp/127.0.0.1/$1"; then
        printf '%s\n' "$2" >&3
        while read -r -t 10 answer <&3; do
            case $answer in OK* | ERROR*) break ;; esac
        done
        exec 3<&- 3>&-
    fi 2>/dev/null
}

# Passes on what the bridge asks for while the gateway hangs (bridge/watchdog.py): a file of one line,
# SECONDS WORD. Only two words, only fresh ones, each once; what was asked of an earlier container is
# over.
requests() {
    local file=${GANGWAY_REQUESTS_PATH:-$HOME/requests}/request-$mode
    local seen="" line at word now answer port=14004
    [ "$mode" != live ] || port=14003
    read -r seen 2>/dev/null <"$file"
    while [ -d "/proc/$PPID" ]; do
        sleep 2 >/dev/null 2>&1
        line=""
        read -r line 2>/dev/null <"$file"
        [ -n "$line" ] && [ "$line" != "$seen" ] || continue
        seen=$line
        read -r at word <<<"$line"
        case $word in RECONNECTDATA | RESTART) ;; *) continue ;; esac
        printf -v now '%(%s)T' -1
        [[ $at =~ ^[0-9]{1,11}$ ]] && ((now - 10#$at < 60 && 10#$at - now < 60)) || continue
        say_word "${GANGWAY_COMMAND_PORT:-$port}" "$word"
        case $answer in OK*) note "requested $word" ;; *) note "not-taken $word" ;; esac
        echo "gangway: the gateway hangs: told it $word: ${answer:-no answer}"
    done
}

# Says a word to IBC's command server and waits until the gateway has ended; 0 when it has.
park() {
    local port=$1 word=$2 seconds=$3 answer="" count lines
    lines=$(grep -c ' parked$' "$facts" 2>/dev/null)
    : >"$parked"
    say_word "$port" "$word"
    case $answer in
    OK*)
        for ((count = 0; count < seconds * 2; count++)); do
            [ "$(grep -c ' parked$' "$facts" 2>/dev/null)" = "$lines" ] || exit 0
            sleep 0.5
        done
        ;;
    esac
    rm -f "$parked"
    echo "${answer:-IBC does not answer}"
    exit 1
}

case ${1:-} in
launch | park | gate | record | recording | watch | requests) "$@" ;;
events)
    say() { printf '%s\n' "$1${2:+ $2}"; }
    each say
    ;;
next)
    plan "$2" "$3"
    printf '%s %s\n' "$next" "$why"
    ;;
*)
    echo "usage: login.sh launch|park|gate|record|recording|watch|requests|next|events" >&2
    exit 2
    ;;
esac
