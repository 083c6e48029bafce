"""Every command of the README, as typed, in a copy of the project; only the long ones are told to train less."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LESS = "--max_steps 4 --warmup_steps 1 --eval_steps 0 --save_steps 0 --max_eval_rows 8 --per_device_train_batch_size 2".split()


def commands(readme: str) -> list[str]:
    """The lines of the bash blocks."""
    return [line for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def project(root, tmp_path_factory) -> Path:
    """A copy of what the commands touch, with the quickstart run once."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("recipes", "docs", "llama_train", "data_pipelines"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "Makefile", "accelerate_config.yaml", "pyproject.toml"):
        shutil.copy(root / name, copy / name)
    out = run([sys.executable, "recipes/quickstart.py", *LESS], copy)
    assert "held-out loss" in out
    assert "Done in" in out
    return copy


def run(command: list[str], folder: Path) -> str:
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_the_two_commands_are_the_makefile_s(root):
    dry = subprocess.run(["make", "-n", "quickstart", "test"], cwd=root, capture_output=True, text=True)
    assert "recipes/quickstart.py" in dry.stdout
    assert "-m pytest" in dry.stdout


@pytest.mark.parametrize("command", commands((Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")))
def test_readme_command_works_as_typed(command, project):
    if command.startswith("make quickstart DATA="):  # .venv is made already: this one is ours
        recipe = "recipes/quickstart.py --output_dir runs/mine --data " + command.split("DATA=")[1]
        out = run([sys.executable, *recipe.split(), *LESS], project)
        assert "Done in" in out
    elif "recipes/pretrain.py" in command and "--dry_run" not in command:
        assert "training loss" in run(with_port(command), project)
    else:
        assert run(["bash", "-c", command], project).strip()


def test_the_proof_of_every_promise_is_there(root):
    for page in ("README.md", "docs/survival.md"):
        text = (root / page).read_text(encoding="utf-8")
        proofs = [name for command in re.findall(r"`pytest ([^`]+)`", text) for name in command.split()]
        assert len(proofs) >= 8
        assert [name for name in proofs if not (root / name).is_file()] == []


def with_port(command: str) -> list[str]:
    """The launch on a free port, training less."""
    return [*command.replace("launch ", "launch --main_process_port 0 ").split(), *LESS]
