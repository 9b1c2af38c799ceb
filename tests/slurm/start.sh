#!/usr/bin/env bash
# A Slurm of one node on the loopback, without systemd and cgroups; root, and Debian's slurm-wlm and munge.
# Usage: start.sh FOLDER. It is there when FOLDER/slurm.conf is named by SLURM_CONF.
set -euo pipefail
folder=$1
host=$(hostname -s)
mkdir -p "$folder"/{state,spool,log} /run/munge /var/log/munge /var/lib/munge
chown -R munge: /run/munge /var/log/munge /var/lib/munge /etc/munge
chmod 755 "$folder" /run/munge
if [ ! -s /etc/munge/munge.key ]; then
  head -c 1024 /dev/urandom > /etc/munge/munge.key
  chown munge: /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
fi
getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >> /etc/hosts
: > "$folder/cgroup.conf"
# Four cores whatever there are, so that two tasks fit, and two jobs beside each other
cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
SlurmctldPort=16827
SlurmdPort=16828
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=300
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=9
CONF
export SLURM_CONF="$folder/slurm.conf"
if ! munge -n >/dev/null 2>&1; then
  setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged --pid-file=/run/munge/kronlit-test.pid --force
fi
slurmctld -c
slurmd -c
until sinfo --noheader --format=%T 2>/dev/null | grep -q '^idle'; do sleep 0.2; done
