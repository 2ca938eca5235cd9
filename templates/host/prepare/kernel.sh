# Kernel settings: swap as a buffer, not as a habit; a JVM that may reserve more than there is; room for files.

kernel_title() { echo "kernel settings for a small machine with a JVM"; }

KERNEL_FILE=/etc/sysctl.d/90-gangway.conf

kernel_wanted() {
    cat <<'EOF'
# Written by gangway prepare.
vm.swappiness = 10
vm.overcommit_memory = 1
fs.file-max = 200000
net.core.somaxconn = 1024
EOF
}

KERNEL_READER=/usr/lib/systemd/systemd-sysctl

# What a file that comes after ours would set instead, at the next boot.
kernel_overruled() {
    [ -x "$KERNEL_READER" ] || return 0
    kernel_wanted | grep -v '^#' | while IFS=' =' read -r key value; do
        last=$("$KERNEL_READER" --cat-config 2>/dev/null | tr -d ' \t' | grep "^$key=" | tail -n 1)
        kernel_enough "$key" "${last#*=}" "$value" || echo "another file sets $last at the next boot"
    done
}

# kernel_enough KEY NOW WANTED: of a limit more is as good; a shell does not count as far as the kernel.
kernel_enough() {
    case $1 in
    fs.file-max | net.core.somaxconn) [ ${#2} -gt 12 ] || [ "$2" -ge "$3" ] 2>/dev/null ;;
    *) [ "$2" = "$3" ] ;;
    esac
}

kernel_check() {
    kernel_wanted | same "$KERNEL_FILE" || { echo "$KERNEL_FILE is not ours"; return 1; }
    overruled=$(kernel_overruled)
    [ -z "$overruled" ] || { echo "$overruled"; return 1; }
    kernel_wanted | grep -v '^#' | while IFS=' =' read -r key value; do
        now=$(sysctl -n "$key" 2>/dev/null) || continue
        kernel_enough "$key" "$now" "$value" || { echo "$key is $now"; exit 1; }
    done
}

kernel_apply() {
    kernel_wanted | put "$KERNEL_FILE" 644
    [ $? -le 1 ] || return 1
    kernel_wanted | grep -v '^#' | while IFS=' =' read -r key value; do
        kernel_enough "$key" "$(sysctl -n "$key" 2>/dev/null)" "$value" || sysctl -q "$key=$value" || exit 1
    done
}
