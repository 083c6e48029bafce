"""The launch scripts on one host, with stand-ins for Slurm's commands and ssh: what is started, stopped, and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not os.path.exists("/bin/bash"), reason="the scripts are for bash")

STANDINS = {
    "scontrol": '[ "$1" = show ] && printf "127.0.0.1\\n127.0.0.1\\n" || echo "scontrol $*" >>"$RECORD"',
    "scancel": 'echo "scancel $*" >>"$RECORD"; kill -TERM $(cat "$NODES") 2>/dev/null',
    "srun": """
        echo "srun $*" >>"$RECORD"
        while [[ $1 == --* ]]; do shift; done
        for node in 0 1; do SLURM_NODEID=$node "$@" & nodes+=($!); done
        echo "${nodes[*]}" >"$NODES"
        for node in "${nodes[@]}"; do wait "$node"; status=$?; [ $status -gt "${most:-0}" ] && most=$status; done
        exit "${most:-0}"
    """,
    "ssh": """
        while [[ $1 == -* ]]; do [ "$1" = -o ] && shift; shift; done
        echo "ssh $*" >>"$RECORD"
        exec bash -c "$2"
    """,
    # instead of training: ends as RANK_0 and RANK_1 say; `wait` until it is told to stop
    "python": """
        echo "python $*" >>"$RECORD"
        [[ $* == *--cluster* ]] && exit "${CHECK:-0}"
        trap 'sleep 0.5; exit 75' TERM
        if [[ $* == *"--machine_rank 0"* ]]; then outcome=$RANK_0; else outcome=$RANK_1; fi
        [ "$outcome" = wait ] || exit "$outcome"
        echo waiting >>"$RECORD"
        for _ in {1..200}; do sleep 0.1; done
    """,
}
RECIPE = ["recipe.yaml", "--run_name", "two words"]


def free_port() -> int:
    """A free port among those that slurm.sh makes of job numbers."""
    for port in range(15000 + os.getpid() % 5000, 25000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError


@pytest.fixture
def stage(tmp_path, root) -> dict[str, str]:
    """The environment of a job with two nodes, where the stand-ins come first; what they are called with is in RECORD."""
    for name, text in STANDINS.items():
        (tmp_path / name).write_text("#!/bin/bash\n" + text)
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": str(free_port() - 15000), "SLURM_JOB_NODELIST": "n[0-1]", "SLURM_JOB_NUM_NODES": "2"}
    files = {"RECORD": str(tmp_path / "record"), "NODES": str(tmp_path / "nodes"), "RANK_0": "0", "RANK_1": "0"}
    python = {"PYTHONPATH": str(root), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return os.environ | slurm | files | python | {"PORT": str(free_port())}


def start(script: str, words: list[str], stage: dict[str, str], folder: Path) -> subprocess.Popen:
    pipe = subprocess.PIPE
    file = Path(__file__).resolve().parents[2] / "recipes" / "launch" / script
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell cannot trap what is ignored where tests run
    command = ["bash", str(file), *words]
    return subprocess.Popen(command, cwd=folder, env=stage, stdout=pipe, stderr=pipe, text=True, preexec_fn=heard)


def record(stage: dict[str, str], word: str) -> list[str]:
    file = Path(stage["RECORD"])
    return [line for line in file.read_text().splitlines() if line.startswith(word)] if file.exists() else []


def until(condition, run: subprocess.Popen, seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert run.poll() is None and time.monotonic() < deadline, run.communicate(timeout=20)
        time.sleep(0.02)


@pytest.mark.parametrize("script", ["slurm.sh", "ssh.sh"])
def test_scripts_are_valid_bash(script, root):
    assert subprocess.run(["bash", "-n", str(root / "recipes" / "launch" / script)]).returncode == 0


def test_slurm_starts_a_check_and_then_the_run_on_every_node(stage, tmp_path):
    run = start("slurm.sh", RECIPE, stage, tmp_path)
    assert run.wait(30) == 0, run.communicate()
    checks, runs = record(stage, "python")[:2], record(stage, "python")[2:]
    for node, line in enumerate(sorted(runs)):
        assert line.startswith(f"python recipes/launch/node.py --machine_rank {node} --rdzv_conf is_host={1 - node} ")
        assert line.endswith(" --max_restarts 3 recipes/pretrain.py recipe.yaml --run_name two words")
        port = 15000 + int(stage["SLURM_JOB_ID"])
        assert f"--num_machines 2 --num_processes 2 --main_process_ip 127.0.0.1 --main_process_port {port} " in line
    assert len(runs) == len(checks) == 2
    assert all(line.endswith("-m llama_train.cli check --cluster recipe.yaml --run_name two words") for line in checks)
    assert record(stage, "scontrol requeue") == []


@pytest.mark.parametrize(
    ("environment", "code", "requeued", "steps"),
    [
        ({"RANK_0": "75", "RANK_1": "75"}, 75, True, 2),  # told to stop from elsewhere, and saved
        ({"RANK_1": "1"}, 1, False, 2),
        ({"RANK_1": "70"}, 70, False, 2),
        ({"CHECK": "1"}, 1, False, 1),
    ],
)
def test_slurm_queues_again_what_can_go_on_and_nothing_else(environment, code, requeued, steps, stage, tmp_path):
    run = start("slurm.sh", RECIPE, stage | environment, tmp_path)
    assert run.wait(30) == code, run.communicate()
    assert record(stage, "scontrol") == [f"scontrol requeue {stage['SLURM_JOB_ID']}"] * requeued
    assert len(record(stage, "srun")) == steps


def test_slurm_hands_the_notice_to_the_nodes_and_waits_for_them(stage, tmp_path):
    run = start("slurm.sh", RECIPE, stage | {"RANK_0": "wait", "RANK_1": "wait"}, tmp_path)
    until(lambda: len(record(stage, "waiting")) == 2, run)
    run.send_signal(signal.SIGUSR1)
    assert run.wait(30) == 75, run.communicate()
    assert record(stage, "sc") == [
        f"scancel --signal=TERM {stage['SLURM_JOB_ID']}",
        f"scontrol requeue {stage['SLURM_JOB_ID']}",
    ]


def test_ssh_starts_a_check_and_then_the_run_on_every_host(stage, tmp_path):
    run = start("ssh.sh", ["127.0.0.1 me@localhost", "4", *RECIPE], stage, tmp_path)
    assert run.wait(30) == 0, run.communicate()
    started = record(stage, "python")
    assert len(started) == 4 and all(
        "--num_machines 2 --num_processes 8 --main_process_ip 127.0.0.1" in s for s in started
    )
    assert all(s.endswith("-m llama_train.cli check --cluster recipe.yaml --run_name two words") for s in started[:2])
    assert {s.partition("--machine_rank ")[2][0] for s in started[2:]} == {"0", "1"}
    assert all(s.endswith("--max_restarts 3 recipes/pretrain.py recipe.yaml --run_name two words") for s in started[2:])
    assert all("'--run_name' 'two words'" in line for line in record(stage, "ssh")), "each word arrives as one"
    assert list(tmp_path.glob(".launch-*")) == []


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_ssh_hands_signals_to_the_hosts_and_waits_for_them(sign, stage, tmp_path):
    run = start("ssh.sh", ["127.0.0.1 localhost", "1", *RECIPE], stage | {"RANK_0": "wait", "RANK_1": "wait"}, tmp_path)
    until(lambda: len(record(stage, "waiting")) == 2, run)
    run.send_signal(sign)
    assert run.wait(30) == 75, run.communicate()
    assert {line.split()[1] for line in record(stage, "ssh") if "kill -TERM" in line} == {"127.0.0.1", "localhost"}


def test_ssh_ends_the_other_hosts_when_one_fails(stage, tmp_path):
    run = start("ssh.sh", ["127.0.0.1 localhost", "1", *RECIPE], stage | {"RANK_0": "wait", "RANK_1": "3"}, tmp_path)
    assert run.wait(30) == 3, run.communicate()
    assert [line.split()[1] for line in record(stage, "ssh") if "kill -TERM" in line] == ["127.0.0.1"]


WORKER = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: sys.exit(75))
print("attempt", os.environ["TORCHELASTIC_RESTART_COUNT"], flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
elif sys.argv[1] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(sys.argv[1]))
"""


def launch_node(tmp_path: Path, root: Path, *words: str, launcher: str = "recipes/launch/node.py") -> subprocess.Popen:
    (tmp_path / "worker.py").write_text(WORKER)
    config = ["--config_file", "recipes/accelerate/ddp.yaml", "--num_processes", "1", "--main_process_port", "0"]
    command = [sys.executable, *launcher.split(), *config, *words[1:], str(tmp_path / "worker.py"), words[0]]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("outcome", "code"), [("0", 0), ("3", 3), ("75", 75), ("die", 128 + signal.SIGKILL)])
def test_a_node_ends_with_its_processes_exit_code(outcome, code, tmp_path, root):
    run = launch_node(tmp_path, root, outcome)
    said, complaints = run.communicate(timeout=60)
    assert run.returncode == code, complaints
    assert said.split() == ["attempt", "0"]


def test_accelerate_s_own_launcher_would_not(tmp_path, root):
    run = launch_node(tmp_path, root, "75", launcher="-m accelerate.commands.launch")
    run.communicate(timeout=60)
    assert run.returncode == 1


def test_a_node_starts_again_what_failed(tmp_path, root):
    run = launch_node(tmp_path, root, "3", "--max_restarts", "2", "--rdzv_backend", "c10d")
    assert run.communicate(timeout=60)[0].split() == "attempt 0 attempt 1 attempt 2".split()
    assert run.returncode == 3


@pytest.mark.parametrize(
    ("launcher", "number", "code"),
    [
        ("recipes/launch/node.py", signal.SIGTERM, 75),
        ("recipes/launch/node.py", signal.SIGUSR1, 75),
        ("-m accelerate.commands.launch", signal.SIGUSR1, -signal.SIGUSR1),  # it dies and leaves its process behind
    ],
)
def test_a_node_hands_signals_on_and_does_not_restart_after_them(launcher, number, code, tmp_path, root):
    run = launch_node(tmp_path, root, "wait", "--max_restarts", "2", launcher=launcher)
    assert run.stdout.readline() == "attempt 0\n"
    worker = int(subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout)
    run.send_signal(number)
    assert run.wait(60) == code
    if code < 0:
        os.kill(worker, signal.SIGKILL)
    assert run.communicate(timeout=60)[0] == "", "no second attempt"


def test_a_preempted_slurm_job_goes_on_where_it_was(stage, tiny_shards, tmp_path, root):
    """The real thing: the cluster's check, two launchers, USR1 in the middle of training, and the requeued job's end."""
    (tmp_path / "python").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    stage |= {"CONFIG": "recipes/accelerate/ddp.yaml", "OMP_NUM_THREADS": "1"}
    sizes = "--hidden_size 32 --intermediate_size 64 --num_hidden_layers 2 --num_attention_heads 4 --vocab_size 96"
    words = f"{sizes} --max_length 48 --use_cpu --bf16 false --logging_steps 1 --save_steps 10 --max_steps 2000"
    out = tmp_path / "out"
    words += f" --dataset_path {tiny_shards} --output_dir {out} --cpu_threads 1"
    run = start("slurm.sh", words.split(), stage, root)
    until(lambda: list(out.glob("checkpoint-*")), run)
    run.send_signal(signal.SIGUSR1)
    said, complaints = run.communicate(timeout=100)
    assert run.returncode == 75, said + complaints
    assert record(stage, "scontrol requeue")
    stopped = max(int(path.name.split("-")[1]) for path in out.glob("checkpoint-*"))
    again = start("slurm.sh", [*words.split(), "--max_steps", str(stopped + 5)], stage, root)
    said, complaints = again.communicate(timeout=100)
    assert again.returncode == 0, said + complaints
    assert f"resuming from {out}/checkpoint-{stopped}" in said
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, stopped + 6)), "one history"
    assert len(record(stage, "scontrol requeue")) == 1
