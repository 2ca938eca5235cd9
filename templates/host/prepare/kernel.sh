# Kernel settings: swap as a buffer, not as a habit; a JVM that may reserve more than there is.
# Limits of files and sockets stay the system's own, which are higher than any that we would need.

kernel_title() { echo "kernel settings for a small machine with a JVM"; }

KERNEL_FILE=/etc/sysctl.d/90-gangway.conf

kernel_wanted() {
    cat <<'EOF'
# Written by gangway prepare.
vm.swappiness = 10
vm.overcommit_memory = 1
EOF
}

KERNEL_READER=/usr/lib/systemd/systemd-sysctl

# What a file that comes after ours would set instead, at the next boot.
kernel_overruled() {
    [ -x "$KERNEL_READER" ] || return 0
    kernel_wanted | grep -v '^#' | while IFS=' =' read -r key value; do
        last=$("$KERNEL_READER" --cat-config 2>/dev/null | tr -d ' \t' | grep "^$key=" | tail -n 1)
        [ "${last#*=}" = "$value" ] || echo "another file sets $last at the next boot"
    done
}

kernel_check() {
    kernel_wanted | same "$KERNEL_FILE" || { echo "$KERNEL_FILE is not ours"; return 1; }
    overruled=$(kernel_overruled)
    [ -z "$overruled" ] || { echo "$overruled"; return 1; }
    kernel_wanted | grep -v '^#' | while IFS=' =' read -r key value; do
        now=$(sysctl -n "$key" 2>/dev/null) || continue
        [ "$now" = "$value" ] || { echo "$key is $now"; exit 1; }
    done
}

kernel_apply() {
    kernel_wanted | put "$KERNEL_FILE" 644
    [ $? -le 1 ] && sysctl -q -p "$KERNEL_FILE"
}
