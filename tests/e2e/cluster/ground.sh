# The ground that the cluster stands on: run folder, processes, control groups, network.
# shellcheck shell=bash
#
# All that is made carries the mark ID, which is random and stands in RUN/settings before
# anything is made: `down` finds its own things by it, whenever and wherever `up` ended.
# Processes are never remembered by number: each daemon is started inside a control group
# of ours, which its children cannot leave, so the kernel says which processes are ours.

make_run_folder() { # nodes
  if [[ -e $RUN ]]; then
    [[ -f $RUN/settings || -z $(ls -A "$RUN") ]] || die "$RUN exists and is not a run folder of a cluster: choose another by MULTIRAFT_RUN"
    say "clearing what an earlier run left in $RUN"
    down
  fi
  mkdir -p "$RUN"
  ID=mr$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
  NODES=$1
  STARTED_BIN=$BIN
  NET=$(free_network)
  read -r ETCD_PORT ETCD_PEER_PORT MANAGER_PORT SCHEDULER_PORT DNS_HEALTH_PORT < <(free_ports 5)
  FORWARD_BEFORE=$(cat /proc/sys/net/ipv4/ip_forward)
  declare -p ID NODES NET STARTED_BIN ETCD_PORT ETCD_PEER_PORT MANAGER_PORT SCHEDULER_PORT DNS_HEALTH_PORT FORWARD_BEFORE |
    sed 's/^declare --/declare -g/' >"$RUN/settings.new"
  mv "$RUN/settings.new" "$RUN/settings"
  mkdir -p "$RUN"/{logs,daemons,etcd}
  mkdir -m 0700 -p "$RUN/certificates"
}

# A block 10.X.0.0/16 that no address or route of this machine touches:
#   10.X.0.0/24    the machine (.1) and the nodes (.10 + N)
#   10.X.64+N.0/24 pods of node N
#   10.X.128.0/20  Services
free_network() {
  local x
  for x in $(shuf -i 64-250); do
    [[ -z $(ip -4 route show table all root "10.$x.0.0/16") ]] || continue
    [[ -z $(ip -4 route show table all match "10.$x.0.0/16" | grep -v '^default') ]] || continue
    grep -qs "nameserver 10\.$x\." /etc/resolv.conf && continue
    echo "10.$x"
    return
  done
  die "no free block of addresses in 10.64.0.0 to 10.250.255.255"
}

free_ports() { # how many
  local port found=()
  while ((${#found[@]} < $1)); do
    port=$(shuf -i 20000-29999 -n 1)
    [[ -z $(ss -Htln "sport = :$port") && " ${found[*]} " != *" $port "* ]] && found+=("$port")
  done
  echo "${found[*]}"
}

# --- control groups -------------------------------------------------------------

groups_version() {
  if [[ $(stat -fc %T /sys/fs/cgroup) = cgroup2fs ]]; then echo 2; else echo 1; fi
}

# Every mounted hierarchy, each once.
hierarchies() {
  if [[ $(groups_version) = 2 ]]; then
    echo /sys/fs/cgroup
  else
    awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/mounts | sort -u
  fi
}

# The hierarchy by which processes are found.
process_groups() {
  if [[ $(groups_version) = 2 ]]; then echo "/sys/fs/cgroup/$ID"; else echo "/sys/fs/cgroup/pids/$ID"; fi
}

# A group below which a kubelet makes those of its pods.
make_pod_group() { # path below the hierarchy's root
  local hierarchy
  if [[ $(groups_version) = 2 ]]; then
    delegate /sys/fs/cgroup "$1"
    return
  fi
  for hierarchy in $(hierarchies); do
    mkdir -p "$hierarchy/$1" || [[ $hierarchy = */unified ]]
  done
  copy_cpuset "$1"
}

# Version 2: a controller can be used only where every group above hands it down.
delegate() { # group, path below it
  local group=$1 part
  for part in ${2//\// } .; do
    sed 's/[^ ]*/+&/g' "$group/cgroup.controllers" >"$group/cgroup.subtree_control" ||
      die "cannot hand the controllers of $group down: this machine's control groups are not delegated to us"
    group=$group/$part
    mkdir -p "$group"
  done
}

# Version 1: a new group of the cpuset controller takes no process until it is filled.
copy_cpuset() { # path
  local group=/sys/fs/cgroup/cpuset part file
  for part in ${1//\// }; do
    for file in cpuset.cpus cpuset.mems; do
      cat "$group/$file" >"$group/$part/$file"
    done
    group=$group/$part
  done
}

# All processes below a group, in any depth.
processes_of() { # group
  [[ -d $1 ]] || return 0
  find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# Kills all processes below a group until none is left: one may fork meanwhile.
kill_group() { # group
  local try pids
  for try in $(seq 100); do
    pids=$(processes_of "$1")
    [[ -n $pids ]] || return 0
    # shellcheck disable=SC2086
    kill -KILL $pids 2>/dev/null || true
    # shellcheck disable=SC2086
    kill -CONT $pids 2>/dev/null || true
    sleep 0.05
  done
  die "processes of $1 cannot be killed: $(processes_of "$1" | tr '\n' ' ')"
}

remove_groups() { # path below the hierarchy's root
  local hierarchy
  for hierarchy in $(hierarchies); do
    [[ -d $hierarchy/$1 ]] && find "$hierarchy/$1" -depth -type d -exec rmdir {} + 2>/dev/null
  done
  return 0
}

# --- daemons --------------------------------------------------------------------

# Starts a program in the background, and remembers how.
daemon() { # name, program, arguments…
  local name=$1
  shift
  printf '%q ' "$@" >"$RUN/daemons/$name"
  start_daemon "$name"
}

start_daemon() { # name
  local group
  group=$(process_groups)/daemons/$1
  mkdir -p "$group"
  # The shell joins the group, then becomes the program.
  setsid bash -c "cd '$RUN' && echo \$\$ >'$group/cgroup.procs' && exec $(cat "$RUN/daemons/$1")" \
    >>"$RUN/logs/$1.log" 2>&1 </dev/null &
  disown
}

kill_daemon() { # name
  kill_group "$(process_groups)/daemons/$1"
}

signal_daemon() { # signal, name
  # shellcheck disable=SC2046
  kill "-$1" $(processes_of "$(process_groups)/daemons/$2")
}

daemon_alive() { # name
  [[ -n $(processes_of "$(process_groups)/daemons/$1") ]]
}

all_daemons_alive() {
  local file
  for file in "$RUN"/daemons/*; do daemon_alive "${file##*/}" || return 1; done
}

daemon_states() {
  local file
  for file in "$RUN"/daemons/*; do
    if daemon_alive "${file##*/}"; then say "  ${file##*/}: runs"; else say "  ${file##*/}: STOPPED"; fi
  done
}

# --- network --------------------------------------------------------------------

bridge_name() { echo "${ID}b"; }
link_name() { echo "${ID}v$1"; }
space_name() { echo "$ID-n$1"; }

in_space() { # node, command…
  local node=$1
  shift
  # Not `ip netns exec`, which would hide later mounts from the machine.
  nsenter --net="/var/run/netns/$(space_name "$node")" "$@"
}

make_network() {
  local bridge n m
  bridge=$(bridge_name)
  ip link add "$bridge" type bridge
  ip addr add "$NET.0.1/24" dev "$bridge"
  ip link set "$bridge" up
  echo 1 >/proc/sys/net/ipv4/ip_forward
  allow_forwarding "$bridge"
  for n in $(seq "$NODES"); do
    ip netns add "$(space_name "$n")"
    ip link add "$(link_name "$n")" type veth peer name eth0 netns "$(space_name "$n")"
    ip link set "$(link_name "$n")" master "$bridge" up
    in_space "$n" sh -e <<COMMANDS
      ip link set lo up
      ip addr add $NET.0.1$n/24 dev eth0
      ip link set eth0 up
      ip route add default via $NET.0.1
      echo 1 >/proc/sys/net/ipv4/ip_forward
      $(for m in $(seq "$NODES"); do ((m == n)) || echo "ip route add $NET.$((64 + m)).0/24 via $NET.0.1$m"; done)
COMMANDS
    ip route add "$NET.$((64 + n)).0/24" via "$NET.0.1$n"
  done
  # From the machine itself Services are reached by way of node 1's kube-proxy.
  ip route add "$NET.128.0/20" via "$NET.0.11"
}

# Where a firewall drops forwarded packets by default (another container engine's
# does), ours are let through by two rules that name our bridge alone.
allow_forwarding() { # bridge
  iptables -S FORWARD 2>/dev/null | grep -q '^-P FORWARD ACCEPT' && return
  iptables -I FORWARD -i "$1" -m comment --comment "$ID" -j ACCEPT
  iptables -I FORWARD -o "$1" -m comment --comment "$ID" -j ACCEPT
}

remove_network() {
  local bridge n
  bridge=$(bridge_name)
  for n in $(seq "$NODES"); do
    ip link del "$(link_name "$n")" 2>/dev/null || true
    ip netns del "$(space_name "$n")" 2>/dev/null || true
  done
  ip link del "$bridge" 2>/dev/null || true
  iptables -D FORWARD -i "$bridge" -m comment --comment "$ID" -j ACCEPT 2>/dev/null || true
  iptables -D FORWARD -o "$bridge" -m comment --comment "$ID" -j ACCEPT 2>/dev/null || true
  # Another cluster of ours that still runs needs forwarding, too.
  ip -o link show type bridge | grep -qE ': mr[0-9a-f]{6}b:' || echo "$FORWARD_BEFORE" >/proc/sys/net/ipv4/ip_forward
}

# --- the end --------------------------------------------------------------------

# Unmounts everything below a folder, the deepest first.
unmount_below() { # folder
  local mount
  awk -v below="$1/" 'index($5, below) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r mount; do
    umount -l "$(printf '%b' "$mount")" 2>/dev/null || true
  done
}

# Works from RUN/settings alone, whatever state `up` or a crash left.
down() {
  [[ -e $RUN ]] || return 0
  if [[ ! -f $RUN/settings ]]; then
    [[ -z $(ls -A "$RUN") || -f $RUN/settings.new ]] || die "$RUN is not a run folder of a cluster"
    rm -rf "$RUN"
    return
  fi
  # shellcheck source=/dev/null
  source "$RUN/settings"
  # All of a sudden and all at once: nothing here is worth an orderly end.
  kill_group "$(process_groups)"
  unmount_below "$RUN"
  remove_network
  remove_groups "$ID"
  grep -q " $RUN/" /proc/self/mountinfo && die "mounts are left below $RUN; nothing in it is deleted"
  # Unpacked images take a disk up to 15 s to delete: nobody waits for that.
  mv "$RUN" "$RUN.gone.$ID"
  setsid rm -rf --one-file-system "$RUN".gone.mr?????? </dev/null >/dev/null 2>&1 &
}
