# A firewall that also holds for published container ports: Docker's own rules come before INPUT's,
# so the container part stands in DOCKER-USER, which Docker leaves to us and passes first.

firewall_title() {
    [ "$FIREWALL" = 1 ] || { echo "firewall: none of gangway's"; return; }
    echo "firewall: SSH, $(firewall_ports); all else closed, for containers too"
}

FIREWALL_PROGRAM=${FIREWALL_PROGRAM:-/usr/local/sbin/gangway-firewall}
FIREWALL_UNIT=/etc/systemd/system/gangway-firewall.service
IPV6=${IPV6:-/proc/net/if_inet6}

# Ours, and what is open already: a stack of another stack.yaml may need it, and who prepares one stack
# must not cut another one off. Removing the program and preparing again forgets them.
firewall_ports() {
    {
        printf '%s\n' $FIREWALL_PORTS
        sed -n 's/^PORTS="\([0-9 ]*\)"$/\1/p' "$FIREWALL_PROGRAM" 2>/dev/null | tr ' ' '\n'
    } | grep -x '[1-9][0-9]*' | sort -un | tr '\n' ' ' | sed 's/ $//'
}

firewall_program() {
    cat <<EOF
#!/bin/sh
# Written by gangway prepare. Run again at any time; \`gangway-firewall stop\` takes the rules away.
PORTS="$(firewall_ports)"
SSH_PORTS="$FIREWALL_SSH_PORTS"
EOF
    cat <<'EOF'
set -u
outside=$({ ip -o route show default; ip -6 -o route show default; } 2>/dev/null | awk '{ for (i = 1; i < NF; i++) if ($i == "dev") print $(i + 1) }' | sort -u)
[ -n "$outside" ] || outside=$(awk '$2 == "00000000" { print $1 }' /proc/net/route | sort -u)

tables() {
    "$1" -w -n -L >/dev/null 2>&1 || return 0
    # A chain of our own, filled before it is hooked in: there is no moment without rules.
    for chain in GANGWAY-INPUT GANGWAY-DOCKER; do "$1" -w -N $chain 2>/dev/null || "$1" -w -F $chain; done
    "$1" -w -A GANGWAY-INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
    "$1" -w -A GANGWAY-INPUT -p "$2" -j RETURN
    if [ "$1" = ip6tables ]; then lease="547 546"; else lease="67 68"; fi
    "$1" -w -A GANGWAY-INPUT -p udp --sport "${lease% *}" --dport "${lease#* }" -j RETURN
    for port in $SSH_PORTS $PORTS; do "$1" -w -A GANGWAY-INPUT -p tcp --dport "$port" -j RETURN; done
    "$1" -w -A GANGWAY-INPUT -p udp --dport 443 -j RETURN
    "$1" -w -A GANGWAY-INPUT -j DROP
    "$1" -w -A GANGWAY-DOCKER -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
    for port in $PORTS; do "$1" -w -A GANGWAY-DOCKER -p tcp -m conntrack --ctorigdstport "$port" -j RETURN; done
    "$1" -w -A GANGWAY-DOCKER -p udp -m conntrack --ctorigdstport 443 -j RETURN
    "$1" -w -A GANGWAY-DOCKER -j DROP
    "$1" -w -N DOCKER-USER 2>/dev/null
    for interface in $outside; do
        "$1" -w -C INPUT -i "$interface" -j GANGWAY-INPUT 2>/dev/null || "$1" -w -I INPUT -i "$interface" -j GANGWAY-INPUT
        "$1" -w -C DOCKER-USER -i "$interface" -j GANGWAY-DOCKER 2>/dev/null || "$1" -w -I DOCKER-USER -i "$interface" -j GANGWAY-DOCKER
    done
}

clear_tables() {
    for pair in INPUT:GANGWAY-INPUT DOCKER-USER:GANGWAY-DOCKER; do
        "$1" -w -S "${pair%%:*}" 2>/dev/null | grep -- "-j ${pair##*:}" | sed 's/^-A/-D/' | while read -r rule; do "$1" -w $rule; done
        "$1" -w -F "${pair##*:}" 2>/dev/null && "$1" -w -X "${pair##*:}"
    done
}

case ${1:-start} in
stop) clear_tables iptables; clear_tables ip6tables ;;
*) [ -n "$outside" ] || { echo "no interface has a default route yet"; exit 1; }
   tables iptables icmp; tables ip6tables ipv6-icmp ;;
esac
exit 0
EOF
}

firewall_unit() {
    cat <<EOF
# Written by gangway prepare.
[Unit]
Description=gangway firewall, also for published container ports
Before=docker.service
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$FIREWALL_PROGRAM
ExecStop=$FIREWALL_PROGRAM stop
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target docker.service
EOF
}

# The ports that sshd really listens on, and the one that this very session came in by.
# What an earlier preparation has kept open stays: somebody may come in by it.
firewall_ssh_ports() {
    {
        sshd -T 2>/dev/null | awk '/^port /{ print $2 } /^listenaddress /{ n = split($2, part, ":"); print part[n] }'
        systemctl show -p Listen ssh.socket sshd.socket 2>/dev/null | sed -n 's/^Listen=.*:\([0-9]*\) (Stream)$/\1/p'
        sed -n 's/^SSH_PORTS="\([0-9 ]*\)"$/\1/p' "$FIREWALL_PROGRAM" 2>/dev/null | tr ' ' '\n'
        echo "$SSH_PORT"
        echo "$SESSION_PORT"
    } | grep -x '[1-9][0-9]*' | sort -un | tr '\n' ' ' | sed 's/ $//'
}

# Both chains are passed: other programs may have put tables of their own in place of these.
firewall_in_force() {
    for tables in iptables ip6tables; do
        [ "$tables" = iptables ] || { [ -e "$IPV6" ] && ip6tables -w -n -L >/dev/null 2>&1; } || continue
        for pair in INPUT:GANGWAY-INPUT DOCKER-USER:GANGWAY-DOCKER; do
            "$tables" -w -S "${pair%%:*}" 2>/dev/null | grep -q -- "-j ${pair##*:}" && continue
            echo "its rules are not in force (${pair%%:*}$([ "$tables" = iptables ] || echo ', IPv6'))"
            return 1
        done
    done
}

firewall_check() {
    if [ "$FIREWALL" != 1 ]; then
        ! iptables -w -S INPUT 2>/dev/null | grep -q -- '-j GANGWAY-INPUT' || { echo "not wanted, and in force still from an earlier prepare; to end it: systemctl disable --now gangway-firewall"; return 0; }
        echo "not wanted"
        return 0
    fi
    FIREWALL_SSH_PORTS=$(firewall_ssh_ports)
    firewall_program | same "$FIREWALL_PROGRAM" || { echo "not installed, or for other ports"; return 1; }
    systemd || return 0
    firewall_unit | same "$FIREWALL_UNIT" || { echo "not run at boot"; return 1; }
    systemctl is-enabled --quiet gangway-firewall || { echo "not run at boot"; return 1; }
    verified=$(systemd-analyze verify "$FIREWALL_UNIT" 2>&1) || { echo "systemd would not take its unit: $verified"; return 1; }
    firewall_in_force
}

firewall_apply() {
    FIREWALL_SSH_PORTS=$(firewall_ssh_ports)
    firewall_program | put "$FIREWALL_PROGRAM" 755
    [ $? -le 1 ] || return 1
    systemd || return 0
    firewall_unit | put "$FIREWALL_UNIT" 644
    [ $? -le 1 ] && systemctl daemon-reload && systemctl enable gangway-firewall && systemctl restart gangway-firewall
}
