# Swap, so that a memory peak of the gateway slows the machine instead of killing it. Permanent.

SWAP_FILE=/swapfile

swap_title() { echo "at least $SWAP_MB MB of swap, also after a reboot"; }

swap_active_mb() { awk 'NR > 1 { sum += $3 } END { printf "%d", (sum + 1023) / 1024 }' /proc/swaps; }

swap_check() {
    [ "$SWAP_MB" -eq 0 ] && { echo "not wanted for this profile"; return 0; }
    active=$(swap_active_mb)
    # mkswap keeps one page for itself, so a file of 1024 MB shows a little less.
    [ "$((active + 1))" -ge "$SWAP_MB" ] || { echo "$active MB active"; return 1; }
    if grep -q "^$SWAP_FILE " /proc/swaps && ! grep -Eq "^${SWAP_FILE}[[:space:]]" /etc/fstab; then
        echo "$SWAP_FILE is active but not in /etc/fstab"
        return 1
    fi
    echo "$active MB active"
}

swap_make() {
    rm -f "$SWAP_FILE"
    if [ "$(stat -f -c %T /)" = btrfs ]; then
        # On btrfs a swap file must be neither copied on write nor compressed, from its first byte.
        truncate -s 0 "$SWAP_FILE" && chattr +C "$SWAP_FILE" || return 1
    fi
    # Written out and not only reserved: xfs refuses a swap file with holes.
    (umask 077 && dd if=/dev/zero of="$SWAP_FILE" bs=1M count="$1" status=none) || { rm -f "$SWAP_FILE"; return 1; }
    chmod 600 "$SWAP_FILE" && mkswap -q "$SWAP_FILE" >/dev/null
}

swap_apply() {
    if [ "$(($(swap_active_mb) + 1))" -lt "$SWAP_MB" ]; then
        grep -q "^$SWAP_FILE " /proc/swaps && { swapoff "$SWAP_FILE" || return 1; }
        wanted=$((SWAP_MB - $(swap_active_mb)))
        free=$(df -Pm / | awk 'NR == 2 { print $4 }')
        [ "$free" -gt "$((wanted + 512))" ] || { echo "only $free MB free on /, $wanted MB of swap wanted and 512 MB must stay"; return 1; }
        swap_make "$wanted" && swapon "$SWAP_FILE" || return 1
    fi
    grep -Eq "^${SWAP_FILE}[[:space:]]" /etc/fstab || printf '%s none swap sw 0 0\n' "$SWAP_FILE" >>/etc/fstab
}
