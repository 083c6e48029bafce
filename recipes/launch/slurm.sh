#!/bin/bash
# Pretrain under Slurm on 2 to 2048 GPUs: one launcher a node, its restarts, and the way out and back when nodes are taken.
#
#   sbatch --nodes=4 recipes/launch/slurm.sh recipes/pretrain/llama3.yaml --model llama3.1-8b --output_dir /shared/runs/8b
#
# From the project's root, with its virtual environment active. Code, data and output_dir are on a shared file system.
# The engine is accelerate_config.yaml (ZeRO-2), or the file named by CONFIG. docs/clusters.md says more.

#SBATCH --job-name=llama-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@600
# The last one: ten minutes before the job ends, tell this script. Longer than a checkpoint takes to write.

set -u
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
config=${CONFIG:-accelerate_config.yaml}
gpus=$((${SLURM_GPUS_ON_NODE:-0} > 0 ? SLURM_GPUS_ON_NODE : 1)) # without GPUs: one process a node
port=$((15000 + SLURM_JOB_ID % 10000))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4} # Accelerate would set 1
# Where nodes are on several networks, say which one is meant, to both:
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

# Slurm sends TERM to the steps of a job that is preempted, USR1 to this script alone. Signals to srun would end it, so the
# steps are told by scancel: their launchers hand TERM on, all processes save at the same step and end with 75.
stopping=
trap 'stopping=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1 TERM

launch() { # words for node.py; sets code
    # `exec`: Slurm signals the task itself, which must be the launcher. --wait: nodes end seconds apart
    # shellcheck disable=SC2016  # each node reads its own SLURM_NODEID
    srun --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=120 bash -c '
        exec python recipes/launch/node.py --machine_rank "$SLURM_NODEID" --rdzv_conf "is_host=$((SLURM_NODEID == 0))" "$@"' \
        node --config_file "$config" --num_machines "$SLURM_JOB_NUM_NODES" --num_processes $((SLURM_JOB_NUM_NODES * gpus)) \
        --main_process_ip "$first" --main_process_port "$port" --rdzv_backend c10d \
        --deepspeed_multinode_launcher standard "$@" &
    while wait $!; code=$?; kill -0 $! 2>/dev/null; do :; done # a trap interrupts `wait`
}

launch -m llama_train.cli check --cluster "$@"
if [ "$code" -eq 0 ] && [ -z "$stopping" ]; then
    launch --max_restarts 3 recipes/pretrain.py "$@"
fi
if [ "$code" -eq 75 ] || { [ "$code" -ne 0 ] && [ -n "$stopping" ]; }; then
    scontrol requeue "$SLURM_JOB_ID" # goes on from the newest checkpoint
fi
exit "$code"
