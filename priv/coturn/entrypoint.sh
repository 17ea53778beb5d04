#!/bin/sh
# Starts coturn as the environment says, or says why not (exit status 1).
#
#   entrypoint.sh            writes the configuration, becomes turnserver
#   entrypoint.sh health     asks the running one for a Binding: 0 when it answers
#
# coturn expands no variables in its file, and its command line is for everybody to see in `ps`. So
# the secrets go from the environment into a file of mode 600 in a directory of mode 700, by the shell's
# own printf, and turnserver's environment has them no more. docs/coturn.md has the variables.
set -euf
umask 077
LC_ALL=C
export LC_ALL

here=$(dirname "$0")
base=${TURN_CONFIG:-$here/turnserver.conf}
realm=${TURN_REALM:-cromulent_turn}
port=${TURN_PORT:-3478}
tls_port=${TURN_TLS_PORT:-5349}
relay_ports=${TURN_RELAY_PORTS:-49152-49452}

fail() {
    printf 'coturn entrypoint: %s\n' "$*" >&2
    exit 1
}

# trim TEXT: without the blanks around it.
trim() {
    trimmed=$1
    trimmed=${trimmed#"${trimmed%%[![:space:]]*}"}
    printf '%s' "${trimmed%"${trimmed##*[![:space:]]}"}"
}

# each FUNCTION LIST: calls it with every item of a list separated by commas.
each() {
    each_call=$1
    each_rest=$2,
    while [ -n "$each_rest" ]; do
        each_item=$(trim "${each_rest%%,*}")
        each_rest=${each_rest#*,}
        "$each_call" "$each_item"
    done
}

# ---- what is right ----

# A secret is never shown, not even a wrong one.
check_secret() {
    case $1 in
    '') fail "TURN_SECRET is not set, or has an empty entry: make one with \`openssl rand -hex 32\`" ;;
    *\$\{* | \$[A-Za-z_]*) fail "TURN_SECRET still reads like a variable that nothing expanded (\${...}): give the secret itself" ;;
    *[[:cntrl:]]*) fail "TURN_SECRET has control characters, such as a line end" ;;
    esac
    [ ${#1} -ge 16 ] || fail "TURN_SECRET is too short: at least 16 characters, such as from \`openssl rand -hex 32\`"
    [ ${#1} -le 256 ] || fail "TURN_SECRET is too long: at most 256 characters"
    secrets=$((secrets + 1))
    [ $secrets -le 8 ] || fail "TURN_SECRET has too many entries: at most 8 secrets"
}

# is_number TEXT FROM TO
is_number() {
    case $1 in '' | *[!0-9]* | 0[0-9]* | ??????????*) return 1 ;; esac
    [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

check_number() {
    is_number "$2" "$3" "$4" || fail "$1=$2: must be a number from $3 to $4"
}

is_ipv4() {
    case $1 in *[!0-9.]* | *.*.*.*.* | .* | *.) return 1 ;; *.*.*.*) ;; *) return 1 ;; esac
    ipv4_rest=$1.
    while [ -n "$ipv4_rest" ]; do
        is_number "${ipv4_rest%%.*}" 0 255 || return 1
        ipv4_rest=${ipv4_rest#*.}
    done
}

# RFC 4291 §2.2, forms 1 and 2: eight groups, or fewer and one `::`.
is_ipv6() {
    case $1 in *[!0-9A-Fa-f:]* | *:::* | *::*::* | *[!:]: | :[!:]*) return 1 ;; *:*) ;; *) return 1 ;; esac
    ipv6_groups=0
    ipv6_rest=$1:
    while [ -n "$ipv6_rest" ]; do
        case ${ipv6_rest%%:*} in
        '') ;;
        ?????*) return 1 ;;
        *) ipv6_groups=$((ipv6_groups + 1)) ;;
        esac
        ipv6_rest=${ipv6_rest#*:}
    done
    case $1 in *::*) [ $ipv6_groups -lt 8 ] ;; *) [ $ipv6_groups -eq 8 ] ;; esac
}

is_ip() {
    is_ipv4 "$1" || is_ipv6 "$1"
}

# ---- lines of the configuration ----

line() {
    printf '%s\n' "$1" >>"$config"
}

# Quoted: coturn skips `=` and blanks before a value, and takes quotes away.
secret_line() {
    line "static-auth-secret=\"$1\""
}

listen_line() {
    is_ip "$1" || fail "TURN_LISTEN_IP=$1: must be addresses of this host, such as 192.0.2.10"
    line "listening-ip=$1"
}

relay_line() {
    is_ip "$1" || fail "TURN_RELAY_IP=$1: must be addresses of this host, such as 192.0.2.10"
    line "relay-ip=$1"
}

# ipv4_range PREFIX: `10.1.0.0/16` as `10.1.0.0-10.1.255.255`.
ipv4_range() {
    is_ipv4 "${1%/*}" && is_number "${1#*/}" 0 32 || return 1
    range_rest=${1%/*}.
    range_from=0
    while [ -n "$range_rest" ]; do
        range_from=$((range_from * 256 + ${range_rest%%.*}))
        range_rest=${range_rest#*.}
    done
    range_size=$((1 << (32 - ${1#*/})))
    range_from=$((range_from / range_size * range_size))
    printf '%s-%s' "$(ipv4 $range_from)" "$(ipv4 $((range_from + range_size - 1)))"
}

ipv4() {
    printf '%d.%d.%d.%d' $(($1 >> 24)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255))
}

# coturn only logs a rule that it cannot read, and goes on without it: so none gets there.
# peer_range ITEM: as coturn wants it.
peer_range() {
    case $1 in
    */*) ipv4_range "$1" ;;
    *-*)
        { is_ipv4 "${1%%-*}" && is_ipv4 "${1#*-}"; } || { is_ipv6 "${1%%-*}" && is_ipv6 "${1#*-}"; } || return 1
        printf '%s' "$1"
        ;;
    *)
        is_ip "$1" || return 1
        printf '%s' "$1"
        ;;
    esac
}

peers_are="must be addresses, ranges FROM-TO, or IPv4 blocks such as 10.1.0.0/16"

allow_line() {
    allow_range=$(peer_range "$1") || fail "TURN_ALLOW_PEERS=$1: $peers_are"
    line "allowed-peer-ip=$allow_range"
    # These have a lock of their own; all but the allowed ones stay denied by range.
    case $allow_range in 127.* | ::1) loopback_peers=yes ;; esac
}

deny_line() {
    deny_range=$(peer_range "$1") || fail "TURN_DENY_PEERS=$1: $peers_are"
    line "denied-peer-ip=$deny_range"
}

# Of the host's own addresses the first of that family.
own_ip() {
    for own in $(hostname -I 2>/dev/null); do
        "$1" "$own" && printf '%s' "$own" && return
    done
    return 1
}

# local_ip FAMILY: the address that stands behind an external one.
local_ip() {
    if [ -z "${TURN_RELAY_IP:-}" ]; then
        own_ip "$1"
    else
        local_rest=$TURN_RELAY_IP,
        while [ -n "$local_rest" ]; do
            local_item=$(trim "${local_rest%%,*}")
            local_rest=${local_rest#*,}
            "$1" "$local_item" && printf '%s' "$local_item" && return
        done
        return 1
    fi
}

# Always as a pair: two clients that are both relayed here reach each other by the external address, which
# coturn takes for the local one, which is private and denied. Its pairs are exempt.
external_line() {
    external_is="must be an IP address, or EXTERNAL/LOCAL pairs of them, such as 203.0.113.5 or 203.0.113.5/10.0.0.5"
    external=${1%%/*}
    if is_ipv4 "$external"; then family=is_ipv4; else family=is_ipv6; fi
    "$family" "$external" || fail "TURN_EXTERNAL_IP=$1: $external_is"
    case $1 in
    */*) own=${1#*/} ;;
    *) own=$(local_ip $family) || fail "TURN_EXTERNAL_IP=$1: no local address of that family is known: $external_is" ;;
    esac
    "$family" "$own" || fail "TURN_EXTERNAL_IP=$1: $external_is"
    [ -n "${TURN_RELAY_IP:-}" ] || line "relay-ip=$own"
    [ "$external" = "$own" ] || line "external-ip=$external/$own"
    externals="${externals:+$externals, }$external on $own"
}

# off NAME: not wanted. Newer servers have it off, an option --NAME to turn it on, and a complaint for
# --no-NAME.
off() {
    case $help in
    *"--$1"[[:space:]]*) ;;
    *) line "no-$1" ;;
    esac
}

tls_lines() {
    if [ -z "${TURN_TLS_CERT:-}${TURN_TLS_KEY:-}" ]; then
        line "no-tls"
        return
    fi
    [ -r "${TURN_TLS_CERT:-}" ] || fail "TURN_TLS_CERT=${TURN_TLS_CERT:-}: must be a file that $(id -un) may read (PEM, with the chain)"
    [ -r "${TURN_TLS_KEY:-}" ] || fail "TURN_TLS_KEY=${TURN_TLS_KEY:-}: must be a file that $(id -un) may read (PEM)"
    line "cert=$TURN_TLS_CERT"
    line "pkey=$TURN_TLS_KEY"
    line "tls-listening-port=$tls_port"
}

# Root binds and reads what only root may, then coturn gives root up.
user_lines() {
    [ "$(id -u)" -eq 0 ] || return 0
    user=${TURN_USER:-nobody}
    group=$(id -gn "$user" 2>/dev/null) || fail "TURN_USER=$user: there is no such user"
    [ "$(id -u "$user")" -ne 0 ] || fail "TURN_USER=$user: must not be root"
    line "proc-user=$user"
    line "proc-group=$group"
    chown "$user:$group" "$run" "$config"
}

# ---- start ----

check() {
    secrets=0
    each check_secret "${TURN_SECRET:-}"
    case $realm in *[[:cntrl:]\"]*) fail "TURN_REALM: must be text without quotes" ;; esac
    [ ${#realm} -le 127 ] || fail "TURN_REALM: must be at most 127 bytes"
    check_number TURN_PORT "$port" 1 65535
    check_number TURN_TLS_PORT "$tls_port" 1 65535
    min_port=${relay_ports%-*}
    max_port=${relay_ports#*-}
    { is_number "$min_port" 1024 65535 && is_number "$max_port" "$min_port" 65535; } ||
        fail "TURN_RELAY_PORTS=$relay_ports: must be a range within 1024-65535, such as 49152-49452"
    user_quota=${TURN_USER_QUOTA:-32}
    total_quota=${TURN_TOTAL_QUOTA:-$((max_port - min_port + 1))}
    check_number TURN_USER_QUOTA "$user_quota" 0 1000000
    check_number TURN_TOTAL_QUOTA "$total_quota" 0 1000000
    [ -r "$base" ] || fail "TURN_CONFIG=$base: must be a file that can be read"
    command -v turnserver >/dev/null || fail "turnserver is not in PATH: install coturn"
}

# A directory of its own; one that is given is for this alone, and best on a tmpfs. systemd gives one too.
prepare() {
    run=${TURN_RUN_DIR:-${RUNTIME_DIRECTORY:-}}
    if [ -n "$run" ]; then
        { mkdir -p "$run" && chmod 700 "$run"; } || fail "TURN_RUN_DIR=$run: must be a directory of $(id -un)"
    else
        run=$(mktemp -d "${TMPDIR:-/tmp}/coturn.XXXXXX") || fail "no directory for the configuration: set TURN_RUN_DIR"
    fi
    config=$run/turnserver.conf
    # Anew: an old one may have other rights.
    rm -f "$config" "$run/turndb"
    cat "$base" >"$config" || fail "cannot write $config"
}

write() {
    externals=
    loopback_peers=
    help=$(turnserver -h 2>/dev/null) || fail "turnserver -h does not work"
    line ""
    off cli
    off dtls
    each secret_line "$TURN_SECRET"
    line "realm=\"$realm\""
    line "listening-port=$port"
    line "min-port=$min_port"
    line "max-port=$max_port"
    line "user-quota=$user_quota"
    line "total-quota=$total_quota"
    line "userdb=$run/turndb"
    line "pidfile=$run/turnserver.pid"
    if [ -n "${TURN_LISTEN_IP:-}" ]; then each listen_line "$TURN_LISTEN_IP"; fi
    if [ -n "${TURN_RELAY_IP:-}" ]; then each relay_line "$TURN_RELAY_IP"; fi
    if [ -n "${TURN_EXTERNAL_IP:-}" ]; then each external_line "$TURN_EXTERNAL_IP"; fi
    if [ -n "${TURN_ALLOW_PEERS:-}" ]; then each allow_line "$TURN_ALLOW_PEERS"; fi
    if [ -n "${TURN_DENY_PEERS:-}" ]; then each deny_line "$TURN_DENY_PEERS"; fi
    if [ -n "$loopback_peers" ]; then line "allow-loopback-peers"; fi
    tls_lines
    user_lines
}

health() {
    address=${TURN_LISTEN_IP:-127.0.0.1}
    timeout 3 turnutils_stunclient -p "$port" "$(trim "${address%%,*}")" >/dev/null 2>&1
}

case ${1:-} in
health) health ;;
'')
    check
    prepare
    write
    echo "coturn entrypoint: $(turnserver --version 2>/dev/null | tail -n 1), realm $realm, port $port, relay ports $relay_ports, secrets $secrets${externals:+, external $externals}"
    unset TURN_SECRET
    exec turnserver -c "$config"
    ;;
*) fail "$1: takes no arguments but health" ;;
esac
