# Swap, so that a memory peak of the gateway slows the machine instead of killing it. Permanent.

SWAP_FILE=${SWAP_FILE:-/swapfile}
FSTAB=${FSTAB:-/etc/fstab}
FSTAB_GENERATOR=/usr/lib/systemd/system-generators/systemd-fstab-generator

swap_title() { echo "at least $SWAP_MB MB of swap, also after a reboot"; }

SWAPS=${SWAPS:-/proc/swaps}

# MB of swap that is active and comes again at the next boot; ours counts, and is looked after below.
swap_active_mb() {
    awk 'NR > 1 { print $1, $3 }' "$SWAPS" | while read -r file size; do
        if swap_lasts "$file"; then echo "$size"; fi
    done | awk '{ sum += $1 } END { printf "%d", (sum + 1023) / 1024 }'
}

# Whether something brings it at a boot: one that a person has only switched on has no file of a unit.
swap_lasts() {
    if [ "$1" = "$SWAP_FILE" ] || ! systemd || systemd-detect-virt --quiet --container; then return 0; fi
    case $1 in /dev/zram*) return 0 ;; esac # a service's script switches it on
    unit=$(systemd-escape -p --suffix=swap "$1") || return 0
    for one in "$unit" $(systemctl show -p Following --value "$unit"); do
        [ -z "$(systemctl show -p FragmentPath --value "$one")" ] || return 0
    done
    return 1
}

swap_ours() { grep -q "^$SWAP_FILE " "$SWAPS"; }

swap_check() {
    [ "$SWAP_MB" -eq 0 ] && { echo "not wanted for this profile"; return 0; }
    active=$(swap_active_mb)
    # mkswap keeps one page for itself, so a file of 1024 MB shows a little less.
    [ "$((active + 1))" -ge "$SWAP_MB" ] || { echo "$active MB active"; return 1; }
    if damaged "$FSTAB"; then echo "$FSTAB is damaged (NUL bytes, as a power loss leaves them)"; return 1; fi
    if swap_ours && ! swap_next_boot; then
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

# MB that our file takes on the disk, in use or not: it goes before another one is made.
swap_file_mb() { if [ -f "$SWAP_FILE" ]; then du -m "$SWAP_FILE" | cut -f 1; else echo 0; fi; }

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
        # What there is stays until there is room for what takes its place.
        before=$(awk -v file="$SWAP_FILE" '$1 == file { printf "%d", ($3 + 1023) / 1024 }' "$SWAPS")
        wanted=$((SWAP_MB - $(swap_active_mb) + ${before:-0}))
        free=$(($(df -Pm / | awk 'NR == 2 { print $4 }') + $(swap_file_mb)))
        [ "$free" -gt "$((wanted + 512))" ] || { echo "only $free MB free on /, $wanted MB of swap wanted and 512 MB must stay"; return 1; }
        ! swap_ours || swapoff "$SWAP_FILE" || return 1
        if ! { swap_make "$wanted" && swapon "$SWAP_FILE"; }; then
            if ! { [ -n "$before" ] && swap_make "$before" && swapon "$SWAP_FILE"; }; then rm -f "$SWAP_FILE"; fi
            return 1
        fi
    fi
    swap_ours || ! damaged "$FSTAB" || { fstab_mended; return; }
    swap_ours || return 0
    fstab_wanted | put "$FSTAB" 644
    [ $? -le 1 ]
}

# Other swap serves, and the table is not ours: only its holes go.
fstab_mended() {
    # shellcheck disable=SC2094 # put reads all of it before it takes the place
    tr -d '\000' <"$FSTAB" | put "$FSTAB" 644
    [ $? -le 1 ]
}
