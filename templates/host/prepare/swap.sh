# Swap, so that a memory peak of the gateway slows the machine instead of killing it. Permanent.

SWAP_FILE=/swapfile
FSTAB=${FSTAB:-/etc/fstab}
FSTAB_GENERATOR=/usr/lib/systemd/system-generators/systemd-fstab-generator

swap_title() { echo "at least $SWAP_MB MB of swap, also after a reboot"; }

swap_active_mb() { awk 'NR > 1 { sum += $3 } END { printf "%d", (sum + 1023) / 1024 }' /proc/swaps; }

swap_check() {
    [ "$SWAP_MB" -eq 0 ] && { echo "not wanted for this profile"; return 0; }
    active=$(swap_active_mb)
    # mkswap keeps one page for itself, so a file of 1024 MB shows a little less.
    [ "$((active + 1))" -ge "$SWAP_MB" ] || { echo "$active MB active"; return 1; }
    if damaged "$FSTAB"; then echo "$FSTAB is damaged (NUL bytes, as a power loss leaves them)"; return 1; fi
    if grep -q "^$SWAP_FILE " /proc/swaps && ! swap_next_boot; then
        echo "$SWAP_FILE is active, but the next boot would not bring it"
        return 1
    fi
    echo "$active MB active"
}

# Whether the next boot swaps on our file: by the program that reads the table then, where there is one.
swap_next_boot() {
    fstab_wanted | same "$FSTAB" || return 1
    # In a container it reads no swap at all: no boot of its own is to be foreseen there.
    if [ ! -x "$FSTAB_GENERATOR" ] || systemd-detect-virt --quiet --container; then return 0; fi
    units=$(mktemp -d)
    SYSTEMD_FSTAB="$FSTAB" "$FSTAB_GENERATOR" "$units" "$units" "$units" >/dev/null 2>&1
    found=$(find "$units" -name 'swapfile.swap' | head -n 1)
    rm -rf "$units"
    [ -n "$found" ]
}

# The table with our line, once and whole: without holes, and without what a cut write left of it.
fstab_wanted() {
    [ ! -f "$FSTAB" ] || tr -d '\000' <"$FSTAB" | awk -v file="$SWAP_FILE" '
        { start = substr($0, 1, length(file)) }
        start == file && ($1 == file || NF == 1) { next }
        NF == 1 && length($1) > 1 && index(file " none swap sw 0 0", $1) == 1 { next }
        { print }'
    printf '%s none swap sw 0 0\n' "$SWAP_FILE"
}

swap_make() {
    rm -f "$SWAP_FILE"
    if [ "$(stat -f -c %T /)" = btrfs ]; then
        # On btrfs a swap file must be neither copied on write nor compressed, from its first byte.
        truncate -s 0 "$SWAP_FILE" && chattr +C "$SWAP_FILE" || return 1
    fi
    # Written out and not only reserved: xfs refuses a swap file with holes.
    (umask 077 && dd if=/dev/zero of="$SWAP_FILE" bs=1M count="$1" status=none) || { rm -f "$SWAP_FILE"; return 1; }
    chmod 600 "$SWAP_FILE" && mkswap -q "$SWAP_FILE" >/dev/null && sync "$SWAP_FILE"
}

swap_apply() {
    if [ "$(($(swap_active_mb) + 1))" -lt "$SWAP_MB" ]; then
        grep -q "^$SWAP_FILE " /proc/swaps && { swapoff "$SWAP_FILE" || return 1; }
        wanted=$((SWAP_MB - $(swap_active_mb)))
        free=$(df -Pm / | awk 'NR == 2 { print $4 }')
        [ "$free" -gt "$((wanted + 512))" ] || { echo "only $free MB free on /, $wanted MB of swap wanted and 512 MB must stay"; return 1; }
        swap_make "$wanted" && swapon "$SWAP_FILE" || return 1
    fi
    grep -q "^$SWAP_FILE " /proc/swaps || ! damaged "$FSTAB" || { fstab_mended; return; }
    grep -q "^$SWAP_FILE " /proc/swaps || return 0
    fstab_wanted | put "$FSTAB" 644
    [ $? -le 1 ]
}

# Other swap serves, and the table is not ours: only its holes go.
fstab_mended() {
    # shellcheck disable=SC2094 # put reads all of it before it takes the place
    tr -d '\000' <"$FSTAB" | put "$FSTAB" 644
    [ $? -le 1 ]
}
