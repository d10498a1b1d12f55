#!/usr/bin/env bash
# sandbox.sh: a real Slurm with virtual nodes n1, n2 ... on this computer, to be thrown away; for the tests beside it and for trying slurm/README.md. No cluster, nothing for production.
#   sandbox.sh start [-n NODES] [-c CPUS]      prints its folder F (under /tmp); NODES of CPUS each (default 2 and 2), however many cores there are
#   sandbox.sh exec F COMMAND...               runs COMMAND as on the login node, in this folder: sbatch, squeue, bash ...
#   sandbox.sh kill-node F NODE                power cut: everything on the node dies at once, and Slurm is told that it is down
#   sandbox.sh start-node F NODE               power on
#   sandbox.sh stop F                          ends everything and removes F
# Every node, and the controller 'ctl', is a process with a hostname, process table, /dev/shm and /etc/hosts of its own (Linux namespaces): Open MPI tells hosts apart by these, and killing
# that process is an honest power cut. Needs root and the packages in slurm/README.md; touches nothing in /etc and listens on 127.0.0.1 only.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
self=$(realpath "${BASH_SOURCE[0]}")
fail() { echo "sandbox.sh: $1" >&2; exit 2; }

init_of() { cat "$folder/run/$1.pid" 2> /dev/null; }
# alive NAME: that node's first process is there and ours (pids come again)
alive() { tr '\0' ' ' 2> /dev/null < "/proc/$(init_of "$1")/cmdline" | grep -qF -- "--init $folder $1"; }
nodes() { sed -n 's/^NodeName=\([^ ]*\) .*/\1/p' "$folder/slurm.conf"; }
on_login_node() { nsenter -t "$(init_of ctl)" -m -u -i -p env SLURM_CONF="$folder/slurm.conf" bash -c 'cd "$1"; shift; exec "$@"' - "$PWD" "$@"; }

# The first process of a node: makes its surroundings and runs its daemon. As process 1 it also reaps what is orphaned there.
init() {
    local name=$1 outer daemon
    read -r outer _ < /proc/self/stat  # /proc is still the outer one: our number as others see it
    hostname "$name"
    mount --make-rprivate /
    mount --bind "$folder/hosts" /etc/hosts
    mount -t tmpfs -o mode=1777 shm /dev/shm
    mount -t proc proc /proc
    echo "$outer" > "$folder/run/$name.new" && mv "$folder/run/$name.new" "$folder/run/$name.pid"
    cd "$folder"
    if [ "$name" = ctl ]; then slurmctld -D -i -f slurm.conf & else slurmd -D -f "$folder/slurm.conf" -N "$name" & fi
    daemon=$!
    while kill -0 $daemon 2> /dev/null; do wait $daemon || true; done
}

# power_on NAME: what a reboot clears is cleared; PMIx's leftovers would make a requeued job fail
power_on() {
    rm -rf "$folder/run/$1.pid" "$folder/spool.$1" "$folder/tmp.$1"
    mkdir -p "$folder/spool.$1" "$folder/tmp.$1"
    setsid unshare --pid --fork --mount --uts --ipc --propagation private bash "$self" --init "$folder" "$1" < /dev/null >> "$folder/log/$1.out" 2>&1 9>&- &
    for _ in $(seq 500); do [ -s "$folder/run/$1.pid" ] && return; sleep 0.01; done
    fail "$1 does not start: $(cat "$folder/log/$1.out")"
}

power_off() {
    local pid
    if alive "$1"; then
        pid=$(init_of "$1")
        kill -KILL "$pid"
        for _ in $(seq 500); do [ -d "/proc/$pid" ] || break; sleep 0.01; done
    fi
    rm -f "$folder/run/$1.pid"
}

stop() {
    local name pid
    for name in $(nodes) ctl; do power_off "$name" & done
    wait
    if pid=$(cat "$folder/run/munged.pid" 2> /dev/null) && tr '\0' ' ' < "/proc/$pid/cmdline" | grep -qF "$folder/"; then
        kill "$pid"
        for _ in $(seq 500); do [ -d "/proc/$pid" ] || break; sleep 0.01; done
    fi 2> /dev/null
    rm -rf "$folder"
}

# configure NODES CPUS PORT: slurm.conf and what goes with it
configure() {
    local node
    { echo "127.0.0.1 localhost ctl"; for node in $(seq "$1"); do echo "127.0.0.1 n$node"; done; } > "$folder/hosts"
    # Environment of every job script and rank: Open MPI as root, on the loopback network, giving way to others on the few real cores.
    cat > "$folder/prolog" <<'END'
#!/bin/sh
echo export OMPI_ALLOW_RUN_AS_ROOT=1
echo export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
echo export OMPI_MCA_oob_tcp_if_include=lo
echo export OMPI_MCA_btl_tcp_if_include=lo
echo export OMPI_MCA_mpi_yield_when_idle=1
END
    chmod 755 "$folder/prolog"
    # cred_expire: a requeued job waits that long and 1 s (least 5; default 120). TmpFS: PMIx's sockets, which nodes may not share. PreemptType: partition 'urgent' takes nodes from 'main'.
    # MinJobAge: ended jobs stay in 'scontrol show job'. NoInAddrAny: nothing listens on the network. config_overrides: a node may claim more CPUs than there are.
    cat > "$folder/slurm.conf" <<END
ClusterName=sandbox
SlurmctldHost=ctl(127.0.0.1)
SlurmctldPort=$3
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
TmpFS=$folder/tmp.%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$folder/prolog
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=5
CompleteWait=0
MinJobAge=86400
SlurmdTimeout=10
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES DefaultTime=5 PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL DefaultTime=5 PriorityTier=10 State=UP
END
    for node in $(seq "$1"); do echo "NodeName=n$node NodeAddr=127.0.0.1 Port=$(($3 + node)) CPUs=$2 State=UNKNOWN" >> "$folder/slurm.conf"; done
}

# free_port COUNT: the first of COUNT free ports; whoever asks holds the lock until they are taken
free_port() {
    local busy base ports
    busy=$(ss -Hltn | awk '{n = split($4, a, ":"); print a[n]}')
    while base=$((20000 + RANDOM % 10000)); ports=$(seq "$base" $((base + $1 - 1))); grep -qxF "$ports" <<< "$busy"; do :; done
    echo "$base"
}

start() {
    local nodes=2 cpus=2 program node
    while [ $# -gt 0 ]; do
        case $1 in
            -n) nodes=${2:?}; shift 2 ;;
            -c) cpus=${2:?}; shift 2 ;;
            *) fail "unknown option '$1'" ;;
        esac
    done
    [ "$(id -u)" = 0 ] || fail "needs root"
    for program in munged slurmctld slurmd sinfo ss unshare nsenter; do command -v $program > /dev/null || fail "no $program; slurm/README.md names the packages"; done
    folder=$(mktemp -d /tmp/slurm.XXXXXX)  # a short name: sockets are under it
    chmod 755 "$folder"
    mkdir "$folder"/{run,log,state}
    exec 9> /tmp/.longlora-slurm-sandbox && flock 9
    configure "$nodes" "$cpus" "$(free_port $((nodes + 1)))"
    head -c 128 /dev/urandom > "$folder/munge.key" && chmod 400 "$folder/munge.key"
    munged --key-file="$folder/munge.key" --socket="$folder/munge.sock" --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed" 9>&-
    for node in ctl $(nodes); do power_on "$node"; done
    exec 9>&-
    for _ in $(seq 300); do
        if [ "$(on_login_node sinfo -h -N -o %T 2> /dev/null | grep -cx idle)" -ge $((2 * nodes)) ]; then echo "$folder"; return; fi
        sleep 0.1
    done
    grep -hE 'error|fatal' "$folder"/log/* | tail -5 >&2
    stop
    fail "Slurm does not start"
}

action=${1:-}
shift || true
case $action in
    start) start "$@"; exit ;;
    --init) folder=$1; init "$2"; exit ;;
    exec | kill-node | start-node | stop) folder=$(realpath "${1:-/}"); [ -f "$folder/slurm.conf" ] || fail "'${1:-}' is no sandbox"; shift ;;
    *) fail "say start, exec, kill-node, start-node or stop; the first lines of this file explain" ;;
esac
case $action in
    exec) alive ctl || fail "it does not run"; on_login_node "$@" ;;
    kill-node) power_off "$1"; on_login_node scontrol update NodeName="$1" State=DOWN Reason="power cut" ;;
    start-node) alive "$1" && fail "$1 is on"; power_on "$1" ;;
    stop) stop ;;
esac
