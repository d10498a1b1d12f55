#!/usr/bin/env bash
# sandbox.sh: a real Slurm with virtual nodes n1, n2 ... on this computer, to be thrown away; for the tests in this
# folder and for trying the commands of slurm/README.md. It is no cluster, and not for production.
#   sandbox.sh start [-n NODES] [-c CPUS]   prints the sandbox's folder F (under /tmp); NODES nodes (2) of CPUS CPUs (2)
#                                           each, however many cores there are
#   sandbox.sh exec F COMMAND...            runs COMMAND (sbatch, squeue, bash ...) as on the login node, in this folder
#   sandbox.sh kill-node F NODE             power cut: all processes of the node die at once, and Slurm is told so
#   sandbox.sh start-node F NODE            power on
#   sandbox.sh stop F                       ends everything and removes F
# Every node, and the controller 'ctl', is a process with its own hostname, process table, /dev/shm and /etc/hosts
# (Linux namespaces). Open MPI tells hosts apart by these, and killing the process acts like a real power cut. The
# sandbox needs root and the packages in slurm/README.md; it changes nothing in /etc and listens on 127.0.0.1 only.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
self=$(realpath "${BASH_SOURCE[0]}")
fail() { echo "sandbox.sh: $1" >&2; exit 2; }

init_of() { cat "$folder/run/$1.pid" 2> /dev/null; }
# alive NAME: whether the first process of that node runs and belongs to this sandbox (process ids are reused)
alive() { tr '\0' ' ' 2> /dev/null < "/proc/$(init_of "$1")/cmdline" | grep -qF -- "--init $folder $1"; }
nodes() { sed -n 's/^NodeName=\([^ ]*\) .*/\1/p' "$folder/slurm.conf"; }
on_login_node() {
    nsenter -t "$(init_of ctl)" -m -u -i -p env SLURM_CONF="$folder/slurm.conf" \
        bash -c 'cd "$1"; shift; exec "$@"' - "$PWD" "$@"
}

# init NAME: the first process of a node. It sets up the node's namespaces and runs the daemon. As process 1 it also
# reaps orphaned processes.
init() {
    local name=$1 outer daemon
    read -r outer _ < /proc/self/stat  # /proc is still that of the host: this is the host's number of this process
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

# power_on NAME: starts a node after deleting what a reboot deletes; leftovers of PMIx would make a requeued job fail.
power_on() {
    rm -rf "$folder/run/$1.pid" "$folder/spool.$1" "$folder/tmp.$1"
    mkdir -p "$folder/spool.$1" "$folder/tmp.$1"
    setsid unshare --pid --fork --mount --uts --ipc --propagation private bash "$self" --init "$folder" "$1" \
        < /dev/null >> "$folder/log/$1.out" 2>&1 9>&- &
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
    if pid=$(cat "$folder/run/munged.pid" 2> /dev/null) &&
        tr '\0' ' ' < "/proc/$pid/cmdline" | grep -qF "$folder/"; then
        kill "$pid"
        for _ in $(seq 500); do [ -d "/proc/$pid" ] || break; sleep 0.01; done
    fi 2> /dev/null
    rm -rf "$folder"
}

# configure NODES CPUS PORT: writes slurm.conf and the files that belong to it
configure() {
    local node
    { echo "127.0.0.1 localhost ctl"; for node in $(seq "$1"); do echo "127.0.0.1 n$node"; done; } > "$folder/hosts"
    # The environment of every job script and rank: Open MPI as root, on the loopback network, yielding the few
    # real cores to other ranks
    cat > "$folder/prolog" <<'END'
#!/bin/sh
echo export OMPI_ALLOW_RUN_AS_ROOT=1
echo export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
echo export OMPI_MCA_oob_tcp_if_include=lo
echo export OMPI_MCA_btl_tcp_if_include=lo
echo export OMPI_MCA_mpi_yield_when_idle=1
END
    chmod 755 "$folder/prolog"
    # cred_expire: a requeued job waits that long and 1 s (at least 5; default 120). TmpFS: holds PMIx's sockets,
    # which nodes may not share. PreemptType: partition 'urgent' takes nodes from 'main'. MinJobAge: 'scontrol show
    # job' keeps showing jobs that have ended. NoInAddrAny: nothing listens on the network. config_overrides: a node
    # may claim more CPUs than the computer has.
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
    for node in $(seq "$1"); do
        echo "NodeName=n$node NodeAddr=127.0.0.1 Port=$(($3 + node)) CPUs=$2 State=UNKNOWN" >> "$folder/slurm.conf"
    done
}

# free_port COUNT: prints the first of COUNT free ports; the caller holds the lock until the ports are used.
free_port() {
    local busy base ports
    busy=$(ss -Hltn | awk '{n = split($4, a, ":"); print a[n]}')
    while
        base=$((20000 + RANDOM % 10000))
        ports=$(seq "$base" $((base + $1 - 1)))
        grep -qxF "$ports" <<< "$busy"
    do :; done
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
    [ "$(id -u)" = 0 ] || fail "start it as root"
    for program in munged slurmctld slurmd sinfo ss unshare nsenter; do
        command -v $program > /dev/null || fail "there is no $program; slurm/README.md names the packages"
    done
    folder=$(mktemp -d /tmp/slurm.XXXXXX)  # a short path, since the paths of sockets begin with it
    chmod 755 "$folder"
    mkdir "$folder"/{run,log,state}
    exec 9> /tmp/.longlora-slurm-sandbox && flock 9
    configure "$nodes" "$cpus" "$(free_port $((nodes + 1)))"
    head -c 128 /dev/urandom > "$folder/munge.key" && chmod 400 "$folder/munge.key"
    munged --key-file="$folder/munge.key" --socket="$folder/munge.sock" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed" 9>&-
    for node in ctl $(nodes); do power_on "$node"; done
    exec 9>&-
    for _ in $(seq 300); do
        if [ "$(on_login_node sinfo -h -N -o %T 2> /dev/null | grep -cx idle)" -ge $((2 * nodes)) ]; then
            echo "$folder"
            return
        fi
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
    exec | kill-node | start-node | stop)
        folder=$(realpath "${1:-/}")
        [ -f "$folder/slurm.conf" ] || fail "'${1:-}' is not the folder of a sandbox"
        shift
        ;;
    *) fail "the first word must be start, exec, kill-node, start-node or stop; see the first lines of this file" ;;
esac
case $action in
    exec) alive ctl || fail "the sandbox does not run"; on_login_node "$@" ;;
    kill-node) power_off "$1"; on_login_node scontrol update NodeName="$1" State=DOWN Reason="power cut" ;;
    start-node) alive "$1" && fail "$1 runs already"; power_on "$1" ;;
    stop) stop ;;
esac
