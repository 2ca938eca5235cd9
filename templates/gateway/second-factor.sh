#!/bin/bash
# Types the codes of an authenticator app into the gateway's window (gateway.two_factor.totp), without
# a port: x11vnc talks to whoever has started it (RFC 6143), and ends with it.
#
#   second-factor.sh watch   types a code of the seed whenever one is asked for
#   second-factor.sh type    types the line on standard input, then Enter
#   second-factor.sh code N  prints the code of the half minute N, for a seed on standard input
#
# The seed never leaves this program: nothing that it starts gets it as an argument or a variable. A
# code is typed once, one at most in each half minute (also over a restart), three at most until a
# login is complete or a person begins afresh: wrong codes could lock the account. Therefore none is
# typed that is good for less than ten seconds more: on a shared core typing it takes some of them.
set -u
seed_file=${GANGWAY_TOTP_FILE:-/run/secrets/totp-seed}
folder=${GANGWAY_STATE_PATH:-$HOME/state}
[ -w "$folder" ] || folder=/tmp/gangway-state
mode=${TRADING_MODE:-paper}
facts=$folder/login-$mode
used=$folder/.totp-$mode
# In memory: what the disk does not take, because it is full. The recorder writes there then (login.sh).
spare=${GANGWAY_SPARE_PATH:-/dev/shm/gangway}
spare_facts=$spare/login-$mode
spare_used=$spare/.totp-$mode
most=3 settles=5 leaves=10

screen() {
    # Some versions of x11vnc do not end when they are left: its process group does.
    exec setsid bash -c 'DISPLAY=${DISPLAY:-:1} \
        socat -T 40 STDIO EXEC:"x11vnc -inetd -nopw -quiet -noshm -noxdamage -nosel -norc"; kill -KILL 0' 2>/dev/null
}

# --- the window that asks ---------------------------------------------------------------------------

# Xvfb has no window manager: of two windows that open together either may keep the keys, and a code for
# the other one is lost. So the one that asks is clicked where it has not got them, in a corner, where
# nothing is. The X server tells whoever asks (X Window System Protocol, version 11; Xvfb runs with -ac).

# Sets the array $2 to the next $1 bytes of what can be read from $3, as numbers.
receive() {
    read -r -a "$2" < <(timeout 5 head -c "$1" <&"$3" | od -An -v -tu1 | tr '\n' ' ')
}

# Sets $told (its first 32 bytes) and $rest to the X server's answer to what was sent.
answer() {
    local -i more
    told=() rest=()
    receive 32 told "$from"
    [ "${told[0]:-}" = 1 ] || return 1
    more=$((4 * (told[4] + 256 * told[5] + 65536 * told[6])))
    ((more == 0)) || receive "$more" rest "$from"
    ((${#rest[@]} == more))
}

# Sets $id to the number in four bytes of $rest from $1, as it is sent.
number_at() { printf -v id '\\x%02x' "${rest[@]:$1:4}"; }

# Sets $told and $rest to the parent and the parts of the window $id.
ask_for_tree() {
    printf "\\x0f\\0\\2\\0$id" >&"$to"
    answer
}

# Sets $left $top $right $bottom to where the window $id is shown.
shown() {
    printf "\\3\\0\\2\\0$id" >&"$to"
    answer && [ "${told[26]}" = 2 ] || return 1
    printf "\\x0e\\0\\2\\0$id" >&"$to"
    answer || return 1
    left=$((told[12] + 256 * told[13])) top=$((told[14] + 256 * told[15]))
    ((left < 32768)) || left=$((left - 65536))
    ((top < 32768)) || top=$((top - 65536))
    right=$((left + told[16] + 256 * told[17])) bottom=$((top + told[18] + 256 * told[19]))
}

# Whether the window $id has the title of one that asks for a code.
asks() {
    local title="" length
    printf "\\x14\\0\\6\\0$id\\x27\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\x20\\0\\0\\0" >&"$to"
    answer || return 1
    length=$((told[16] + 256 * told[17]))
    ((length > 0)) || return 1
    printf -v title '\\x%02x' "${rest[@]:0:length}"
    printf -v title '%b' "$title"
    [ "$title" = "Second Factor Authentication" ] || [ "$title" = "Security Code Card Authentication" ]
}

# Whether one of the windows in $above is in front of the point $1 $2, or it is off the screen.
covered() {
    local at
    (($1 >= 0 && $2 >= 0)) || return 0
    for ((at = 0; at < ${#above[@]}; at += 4)); do
        (($1 < above[at] || $2 < above[at + 1] || $1 >= above[at + 2] || $2 >= above[at + 3])) || return 0
    done
    return 1
}

# Opens the X server, and sets $id to the root of its first screen.
open_display() {
    local display=${DISPLAY:-:1}
    display=${display#*:}
    coproc X11 { exec socat -T 20 STDIO "UNIX-CONNECT:/tmp/.X11-unix/X${display%%.*}" 2>/dev/null; }
    exec {from}<&"${X11[0]}" {to}>&"${X11[1]}"
    printf 'l\0\x0b\0\0\0\0\0\0\0\0\0' >&"$to"
    receive 8 told "$from"
    [ "${told[0]:-}" = 1 ] || return 1
    receive $((4 * (told[6] + 256 * told[7]))) rest "$from"
    ((${#rest[@]} > 32)) || return 1
    number_at $((32 + (rest[16] + 3) / 4 * 4 + 8 * rest[21]))
}

# Prints a corner of the window that asks for a code, one that no other window covers, and the window.
corner() (
    above=()
    open_display || exit 1
    ask_for_tree || exit 1
    children=("${rest[@]}")
    for ((at = ${#children[@]} - 4; at >= 0; at -= 4)); do # from the front
        rest=("${children[@]}")
        number_at "$at"
        shown || continue
        if ! asks; then
            above+=("$left" "$top" "$right" "$bottom")
            continue
        fi
        for x in $((left + 2)) $((right - 3)); do
            for y in $((top + 2)) $((bottom - 3)); do
                covered "$x" "$y" || { echo "$x $y $id"; exit; }
            done
        done
    done
    exit 1
)

# Whether the window $1 has the keys, or a part of it.
has_keys() (
    open_display || exit 1
    printf '\x2b\0\1\0' >&"$to"
    answer || exit 1
    printf -v id '\\x%02x' "${told[@]:8:4}"
    while [ "$id" != "$1" ]; do # its parents, up to the root
        ask_for_tree || exit 1
        printf -v id '\\x%02x' "${told[@]:12:4}"
    done
) 2>/dev/null

# --- a window's keys -------------------------------------------------------------------------------

# Gives the window $3 the keys by a click at $1 $2; the gateway hands them over when it gets to it.
click() {
    local at tries
    ! has_keys "$3" || return 0
    printf -v at '\\x%02x' $(($1 / 256)) $(($1 % 256)) $(($2 / 256)) $(($2 % 256))
    printf "\\5\\1$at\\5\\0$at" >&"$out"
    for ((tries = 0; tries < 40; tries++)); do
        sleep 0.25
        ! has_keys "$3" || break
    done
}

press() { printf "\\4\\$1\\0\\0\\0\\0\\x$2\\x$3" >&"$out"; }

key() {
    press 1 "$1" "$2"
    press 0 "$1" "$2"
}

# What is in the field already is selected, so that the first key replaces it: half of another code, a
# person's.
select_all() {
    press 1 ff e3
    key 00 61
    press 0 ff e3
}

# Whether all keys have been pressed: x11vnc takes one message after another, so its answer for one
# pixel comes after them, however slow the machine is.
all_pressed() {
    printf '\3\0\0\0\0\0\0\1\0\1' >&"$out"
    [ "$(timeout 15 head -c "$pixel" <&"$in" | wc -c)" = "$pixel" ]
}

type_line() {
    local text letter in out pixel pressed=0
    local -a screen place
    IFS= read -r text || [ -n "$text" ] || return 1
    [[ $text =~ ^[0-9A-Za-z]{1,64}$ ]] || return 1
    read -r -a place < <(corner)
    coproc VNC { screen; }
    exec {in}<&"${VNC[0]}" {out}>&"${VNC[1]}"
    [ "$(timeout 15 head -c 12 <&"$in" | head -c 4)" = "RFB " ] || return 1
    printf 'RFB 003.003\n' >&"$out"
    [ "$(timeout 5 head -c 4 <&"$in" | od -An -v -tu1 | tr -d ' ')" = 0001 ] || return 1 # without a password
    printf '\1' >&"$out"
    receive 24 screen "$in"
    [ "${#screen[@]}" = 24 ] || return 1
    pixel=$((16 + screen[4] / 8)) # a message of one pixel: 4 bytes, 12 of its place, its bits
    timeout 5 head -c $((screen[22] * 256 + screen[23])) <&"$in" >/dev/null # the screen's name
    [ "${#place[@]}" != 3 ] || click "${place[@]}"
    select_all
    while [ -n "$text" ]; do
        printf -v letter '%02x' "'${text:0:1}"
        key 00 "$letter"
        text=${text:1}
    done
    key ff 0d
    all_pressed || pressed=1
    exec {in}<&- {out}>&- {VNC[0]}<&- {VNC[1]}>&-
    wait "$VNC_PID" 2>/dev/null
    return "$pressed"
}

# --- a code of the seed (RFC 6238) -------------------------------------------------------------------

hex() { od -An -v -tx1 | tr -d ' \n'; }

# Writes bytes that are given in hexadecimal digits.
bytes() {
    local digits=$1 text=""
    while [ -n "$digits" ]; do
        text+="\\x${digits:0:2}"
        digits=${digits:2}
    done
    printf '%b' "$text"
}

sha1() { openssl dgst -sha1 -binary | hex; }

# HMAC by hand: openssl takes a key as an argument only, where everybody could read it.
hmac() {
    local key=$1 message=$2 inner="" outer="" at byte
    ((${#key} <= 128)) || key=$(bytes "$key" | sha1)
    for ((at = 0; at < 64; at++)); do
        byte=$((16#0${key:at * 2:2}))
        printf -v inner '%s%02x' "$inner" $((byte ^ 0x36))
        printf -v outer '%s%02x' "$outer" $((byte ^ 0x5c))
    done
    bytes "$outer$(bytes "$inner$message" | sha1)" | sha1
}

# Sets $code for the seed on standard input and the half minute $1.
make_code() {
    local seed key digest at number message
    read -r seed || [ -n "$seed" ] || return 1
    while ((${#seed} % 8)); do seed+="="; done
    key=$(printf '%s' "$seed" | base32 -d 2>/dev/null | hex)
    printf -v message '%016x' "$1"
    digest=$(hmac "$key" "$message")
    [ "${#digest}" = 40 ] || return 1
    at=$((16#${digest:39:1}))
    number=$((16#${digest:at * 2:8} & 0x7fffffff))
    printf -v code '%06d' $((number % 1000000))
}

# --- watching ----------------------------------------------------------------------------------------

note() {
    local line
    printf -v line '%(%s)T %s' -1 "$*"
    { printf '%s\n' "$line" >>"$facts"; } 2>/dev/null ||
        { mkdir -p "$spare" && printf '%s\n' "$line" >>"$spare_facts"; } 2>/dev/null
}

# Sets $last to the half minute of the last code, after $1 at the most: else a clock was set back.
last_used() {
    local file number
    last=0
    for file in "$used" "$spare_used"; do
        read -r number 2>/dev/null <"$file" || continue
        [[ $number =~ ^[0-9]{1,12}$ ]] && ((number <= $1 + 2 && number > last)) && last=$number
    done
}

keep_used() {
    { printf '%s\n' "$1" >"$used.new" && mv -T "$used.new" "$used"; } 2>/dev/null ||
        { mkdir -p "$spare" && printf '%s\n' "$1" >"$spare_used"; } 2>/dev/null
}

# Takes what the login's recorder has written down: whether a code is asked for, and since when; and when
# the controller ends the gateway, because a login takes too long.
take() {
    local at=$1
    case $2 in
    ends-soon) [[ ${3:-} =~ ^[0-9]{1,4}$ ]] && ends=$((at + $3)) ;;
    launch | attempt | exit | stopped | held | authenticated) ends="" ;;&
    by-push) kind=push ;;
    by-code) kind=code ;;
    code) asked=$at ;;
    push | challenge) [ "$kind" != code ] || asked=$at ;;
    authenticated | duration) asked="" ;;
    typed) typed=$((typed + 1)) ;;
    login | begin) asked="" kind="" typed=0 ;;
    launch | attempt | exit | stopped | held) asked="" kind="" ;;
    esac
}

watch() {
    local asked="" kind="" ends="" typed=0 at event more counter last said="" now parent=$PPID line feed
    while read -r at event more; do take "$at" "$event" "$more"; done < <(cat "$facts" "$spare_facts" 2>/dev/null | sort -s -n -k1,1)
    asked=""
    mkdir -p "$spare" 2>/dev/null
    exec {feed}< <(exec tail -q -n 0 -s 0.3 -F --pid="$parent" "$facts" "$spare_facts" 2>/dev/null)
    while [ -d "/proc/$parent" ]; do
        if read -r -t 1 line <&"$feed"; then
            read -r at event more <<<"$line"
            take "$at" "$event" "$more"
            continue
        fi
        printf -v now '%(%s)T' -1
        [ -n "$asked" ] && ((now >= asked + settles)) || continue
        if ((typed >= most)); then
            [ "$said" = "$asked" ] || note untyped
            said=$asked
            continue
        fi
        # A code for a gateway that is just being ended would be lost, and counted.
        [ -n "$ends" ] && ((now > ends - leaves && now < ends + leaves)) && continue
        counter=$((now / 30))
        last_used "$counter"
        ((counter > last && 30 - now % 30 >= leaves)) || continue
        enter "$counter"
    done
}

# One code into the window: written down before it is typed, whatever becomes of it.
enter() {
    local code=""
    make_code "$1" <"$seed_file" || { note untyped; asked=""; return; }
    keep_used "$1" && note typed || return # what is not counted is not typed
    echo "gangway: a code is typed for the second factor"
    type_line <<<"$code" || note untyped
    asked=$((now + 28)) # when it was not taken, the next one after it
}

case ${1:-} in
watch) watch ;;
type) type_line ;;
code) make_code "$2" && printf '%s\n' "$code" ;;
*)
    echo "usage: second-factor.sh watch|type|code" >&2
    exit 2
    ;;
esac
