"""A run that was started warm is the run that `accelerate launch` starts."""

import json
import os
import subprocess
import sys

import pytest

from tests.survival import runs, warm

OTHERS = (
    "ACCELERATE_DYNAMO_",
    "GROUP_",
    "MASTER_",
    "PYTHONPATH",
    "PYTORCH_NVML",
    "RANK",
    "LOCAL_RANK",
    "ROLE_",
    "TORCH",
)


def launched(engine: str, root, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--num_processes", "2"]
    command += ["--config_file", warm.CONFIGS[engine], *words]
    return subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, timeout=120
    )


@pytest.mark.parametrize("engine", ["ddp", "zero2", "zero3"])
def test_the_environment_is_what_the_launcher_leaves(engine, root, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import json, os\njson.dump(dict(os.environ), open(r'{tmp_path}/' + os.environ['RANK'], 'w'))")
    assert launched(engine, root, str(script)).returncode == 0
    values = json.loads((tmp_path / "1").read_text())
    added = {name: value for name, value in values.items() if os.environ.get(name) != value}
    ours = warm.environment(engine, 2)
    assert {name: value for name, value in added.items() if not name.startswith(OTHERS)} == {
        name: value for name, value in ours.items() if os.environ.get(name) != value
    }
    assert ours != warm.environment(engine, 1), "the planted mistake"


def test_a_warm_run_has_the_bits_of_a_cold_one(tiny_shards, root, tmp_path):
    words = "--max_steps 10 --save_steps 5".split()
    run = launched("ddp", root, "recipes/pretrain.py", *runs.words(tiny_shards, tmp_path / "cold", 2, *words))
    assert run.returncode == 0, run.stderr
    warm.run("ddp", 2, runs.words(tiny_shards, tmp_path / "warm", 2, *words), tmp_path / "log")
    cold = runs.artefacts(tmp_path / "cold", 10)
    assert cold["final/model.safetensors"]
    assert runs.differences(runs.artefacts(tmp_path / "warm", 10), cold) == []
