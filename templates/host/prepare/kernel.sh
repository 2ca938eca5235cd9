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

kernel_check() {
    kernel_wanted | same "$KERNEL_FILE" || { echo "$KERNEL_FILE is not ours"; return 1; }
    kernel_wanted | grep -v '^#' | while IFS=' =' read -r key value; do
        now=$(sysctl -n "$key" 2>/dev/null) || continue
        if [ "$key" = fs.file-max ]; then [ "$now" -ge "$value" ] 2>/dev/null || { [ ${#now} -gt 12 ] || { echo "$key is $now"; exit 1; }; }
        elif [ "$now" != "$value" ]; then echo "$key is $now"; exit 1; fi
    done
}

kernel_apply() {
    kernel_wanted | put "$KERNEL_FILE" 644
    [ $? -le 1 ] && sysctl -q -p "$KERNEL_FILE"
}
