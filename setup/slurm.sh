#!/usr/bin/env bash
# A Slurm cluster of this one machine, without root, accounting or authentication: for trying the pipeline and for the tests.
#   slurm.sh --install      install Slurm where it is missing (root on Debian or Ubuntu; else says how to)
#   slurm.sh start FOLDER   start it as the user who calls, all its files in FOLDER; then: export SLURM_CONF=FOLDER/slurm.conf
#   slurm.sh stop FOLDER    stop it and its jobs
set -euo pipefail
packages=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins)

have() {
    PATH="$PATH:/usr/sbin" command -v slurmctld >/dev/null && PATH="$PATH:/usr/sbin" command -v slurmd >/dev/null && command -v sbatch >/dev/null
}

free_port() {
    python3 -c 'import socket
with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    print(one.getsockname()[1])'
}

case "${1:-}" in
--install)
    if have; then exit 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "error: no Slurm; run: sudo apt-get install ${packages[*]}" >&2
        exit 2
    fi
    echo "installing system packages: ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Their services would run a cluster of the whole machine's; nothing here is to start by itself.
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    ;;
start)
    have || { echo "error: no Slurm; run '$0 --install' first" >&2; exit 2; }
    [ $# = 2 ] || { echo "error: $0 start FOLDER" >&2; exit 2; }
    # The machine's GPUs; where it has none two that only pretend, so that asking for one can be tried everywhere.
    gpus=(/dev/nvidia[0-9]*)
    [ -e "${gpus[0]}" ] || gpus=(/dev/null /dev/zero)
    mkdir -p "$2"/{state,spool}
    folder=$(cd "$2" && pwd)
    [ ! -e "$folder/slurmctld.pid" ] || { echo "error: $folder: a cluster runs there; run '$0 stop $folder' first" >&2; exit 2; }
    cat >"$folder/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
GresTypes=gpu
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SchedulerParameters=sched_interval=1,sched_min_interval=0
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo) Gres=gpu:${#gpus[@]} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    { echo AutoDetect=off; printf 'Name=gpu File=%s\n' "${gpus[@]}"; } >"$folder/gres.conf"
    export SLURM_CONF="$folder/slurm.conf" PATH="$PATH:/usr/sbin"
    slurmctld </dev/null >/dev/null 2>&1
    slurmd </dev/null >/dev/null 2>&1
    for _ in $(seq 60); do
        if [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; then exit 0; fi
        sleep 0.5
    done
    echo "error: the cluster did not come up; see $folder/slurmctld.log and $folder/slurmd.log" >&2
    tail -n 5 "$folder"/slurm*.log >&2
    exit 1
    ;;
stop)
    folder=$(cd "$2" && pwd)
    export SLURM_CONF="$folder/slurm.conf"
    timeout 10 scancel --user "$(id -un)" 2>/dev/null || true
    for daemon in slurmd slurmctld; do
        if [ -s "$folder/$daemon.pid" ]; then
            pid=$(cat "$folder/$daemon.pid")
            kill "$pid" 2>/dev/null || true
            timeout 20 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null || true
            rm -f "$folder/$daemon.pid"
        fi
    done
    ;;
*)
    sed -n '2,5p' "$0" >&2
    exit 2
    ;;
esac
