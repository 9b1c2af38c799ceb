#!/usr/bin/env bash
# Stops what start.sh started, and nothing else. Usage: stop.sh FOLDER
export SLURM_CONF="$1/slurm.conf"
scontrol shutdown
if [ -s /run/munge/kronlit-test.pid ]; then kill "$(cat /run/munge/kronlit-test.pid)"; fi
