# Docker Engine and Compose v2: from the distribution where it has both, else from Docker's own repository.

docker_title() { echo "Docker Engine with Compose v2, started at boot"; }

docker_distribution_packages() {
    . /etc/os-release
    case "$ID:$VERSION_ID" in
    debian:13) echo "docker.io docker-cli docker-compose docker-buildx" ;;
    ubuntu:*) echo "docker.io docker-compose-v2 docker-buildx" ;;
    esac
}

docker_check() {
    has docker || { echo "docker is not installed"; return 1; }
    compose=$(docker compose version --short 2>/dev/null) || { echo "docker has no Compose v2"; return 1; }
    if systemd; then
        systemctl is-enabled --quiet docker || { echo "docker does not start at boot"; return 1; }
        systemctl is-active --quiet docker || { echo "docker is not running"; return 1; }
    fi
    echo "Docker $(docker version -f '{{.Server.Version}}' 2>/dev/null), Compose $compose"
}

docker_from_docker() {
    . /etc/os-release
    key=$(mktemp)
    curl -fsSL "https://download.docker.com/linux/$ID/gpg" -o "$key" || { echo "Docker's repository cannot be reached"; return 1; }
    put /etc/apt/keyrings/docker.asc 644 <"$key"
    [ $? -le 1 ] || return 1
    rm -f "$key"
    printf 'deb [arch=%s signed-by=/etc/apt/keyrings/docker.asc] https://download.docker.com/linux/%s %s stable\n' \
        "$(dpkg --print-architecture)" "$ID" "$VERSION_CODENAME" | put /etc/apt/sources.list.d/docker.list 644
    [ $? -le 1 ] || return 1
    UPDATED=0
    install docker-ce docker-ce-cli containerd.io docker-compose-plugin docker-buildx-plugin
}

docker_apply() {
    if ! has docker || ! docker compose version >/dev/null 2>&1; then
        packages=$(docker_distribution_packages)
        if [ -n "$packages" ]; then install $packages; else docker_from_docker; fi || return 1
    fi
    systemd && systemctl enable --now docker
}
