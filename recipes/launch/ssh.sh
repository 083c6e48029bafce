#!/bin/bash
# Pretrain on hosts that ssh reaches without a password: one launcher a host, its restarts, and one way to end them all.
#
#   recipes/launch/ssh.sh "host1 host2" 8 recipes/pretrain/llama3.yaml --model llama3.1-8b --output_dir /shared/runs/8b
#
# The hosts, the GPUs of each, the recipe. From the project's root, which is at the same path on all hosts, with its virtual
# environment active; data and output_dir are on a shared file system. The engine is accelerate_config.yaml (ZeRO-2), or the
# file named by CONFIG. Keys (W&B, Hub) come from files on the hosts: nothing of this environment goes there.
# INT, TERM or USR1 to this script: all save at the same step and end with 75; the same command goes on from there.

set -u
read -ra hosts <<<"$1"
gpus=$2
shift 2
config=${CONFIG:-accelerate_config.yaml}
port=${PORT:-29500}

stop() { # ask the launchers that are still there; they hand TERM on
    for rank in "${!running[@]}"; do
        ssh -n -o BatchMode=yes "${hosts[rank]}" "kill -TERM \$(cat ${PWD@Q}/.launch-$port-$rank.pid)" &
    done
}
running=()
stopping=
trap 'stopping=yes; stop' INT TERM USR1

launch() { # words for node.py; sets code to the first one that is not 0
    code=0
    for rank in "${!hosts[@]}"; do
        command=("$(command -v python)" recipes/launch/node.py --config_file "$config" --machine_rank "$rank"
            --num_machines "${#hosts[@]}" --num_processes $((${#hosts[@]} * gpus))
            --main_process_ip "${hosts[0]#*@}" --main_process_port "$port"
            --rdzv_backend c10d --rdzv_conf "is_host=$((rank == 0))" --deepspeed_multinode_launcher standard "$@")
        # a session of its own (setsid): Ctrl-C here must reach it once, by `stop`
        setsid ssh -n -o BatchMode=yes -o ServerAliveInterval=15 "${hosts[rank]}" \
            "cd ${PWD@Q} && echo \$\$ >.launch-$port-$rank.pid && exec ${command[*]@Q}" &
        running[rank]=$!
    done
    while [ ${#running[@]} -gt 0 ]; do
        sleep 1
        for rank in "${!running[@]}"; do
            kill -0 "${running[rank]}" 2>/dev/null && continue
            wait "${running[rank]}"
            status=$?
            unset "running[rank]"
            rm -f ".launch-$port-$rank.pid"
            if [ "$status" -ne 0 ] && [ "$code" -eq 0 ]; then
                code=$status
                stop # the others would wait for this host
            fi
        done
    done
}

launch -m llama_train.cli check --cluster "$@"
if [ "$code" -eq 0 ] && [ -z "$stopping" ]; then
    launch --max_restarts 3 recipes/pretrain.py "$@"
fi
exit "$code"
