"""Sharded by FSDP2 or whole, a checkpoint is the same, and each goes on from the other's; what is missing is named."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from llama_train.train.fragments import Fragment, load_optimizer, to_write
from llama_train.train.manifest import verify


def start(processes, root, *words):
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [sys.executable, *run, "tests/train/sharded.py", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def whole(checkpoint):
    """Weights, and moments put together from all files."""
    parts = {}
    for file in checkpoint.glob("optimizer-*.safetensors"):
        for key, tensor in load_file(file).items():
            if key != "step":
                name, start = key.rsplit("/", 1)
                parts.setdefault(name, {})[int(start)] = tensor
    moments = {name: torch.cat([part for _, part in sorted(found.items())]) for name, found in parts.items()}
    return load_file(checkpoint / "model.safetensors") | moments


def test_fsdp2_and_one_process_go_on_from_each_other(tmp_path, root):
    start(1, root, tmp_path / "one")
    start(2, root, tmp_path / "two")
    start(1, root, tmp_path / "one-from-two", tmp_path / "two" / "checkpoint-1")
    start(2, root, tmp_path / "two-from-one", tmp_path / "one" / "checkpoint-1")
    expected = whole(tmp_path / "one" / "checkpoint-2")
    assert len(list((tmp_path / "two" / "checkpoint-2").glob("optimizer-*"))) == 2
    for name in ("two", "one-from-two", "two-from-one"):
        assert verify(tmp_path / name / "checkpoint-2") == []
        found = whole(tmp_path / name / "checkpoint-2")
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert (found[key].flatten() - tensor.flatten()).abs().max() <= 1e-5 * max(1, tensor.abs().max()), (
                name,
                key,
            )
    first = whole(tmp_path / "one" / "checkpoint-1")
    assert max((first[key] - expected[key]).abs().max() for key in expected) > 1e-3, "a step would be noticed"
    state = json.loads((tmp_path / "two-from-one" / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["num_processes"] == 2


ALONE = SimpleNamespace(process_index=0, num_processes=1, distributed_type="NO")


@pytest.fixture
def parameter():
    return torch.nn.Parameter(torch.zeros(3, 4))


def stored(folder, parts):
    """Optimizer files: for each (start, stop) one, of moments that count up."""
    for number, (start, stop) in enumerate(parts):
        moments = {f"w/{kind}/{start}": torch.arange(start, stop).float() for kind in ("exp_avg", "exp_avg_sq")}
        save_file(moments | {"step": torch.tensor(7.0)}, folder / f"optimizer-{number:05d}.safetensors")
    return sorted(folder.glob("optimizer-*"))


@pytest.mark.parametrize("parts", [[(0, 12)], [(0, 5), (5, 12)], [(4, 9), (0, 4), (9, 12)]])
@pytest.mark.parametrize("mine", [(0, 12), (3, 7), (11, 12)])
def test_any_run_of_elements_is_found_in_any_files(parameter, tmp_path, parts, mine):
    optimizer = SimpleNamespace(optimizer=torch.optim.AdamW([parameter], fused=True))
    owner = torch.zeros(mine[1] - mine[0] + 2) if mine != (0, 12) else parameter
    offset = 1 if mine != (0, 12) else 0
    load_optimizer([Fragment("w", *mine, owner, offset)], optimizer, stored(tmp_path, parts), {"w": 12})
    moments = optimizer.optimizer.state[owner]
    assert moments["exp_avg"].flatten()[offset : offset + mine[1] - mine[0]].tolist() == list(range(*mine))
    assert moments["step"] == 7


@pytest.mark.parametrize("parts", [[(0, 5), (6, 12)], [(0, 11)], [(2, 12)]])
def test_a_hole_in_the_files_is_named(parameter, tmp_path, parts):
    optimizer = SimpleNamespace(optimizer=torch.optim.AdamW([parameter], fused=True))
    with pytest.raises(ValueError, match=r"the optimizer state of w .exp_avg. is missing from element \d+ of 12 on"):
        load_optimizer([Fragment("w", 0, 12, parameter, 0)], optimizer, stored(tmp_path, parts), {"w": 12})


def test_no_optimizer_files_are_no_optimizer_state(parameter, tmp_path):
    optimizer = SimpleNamespace(optimizer=torch.optim.AdamW([parameter], fused=True))
    with pytest.raises(ValueError, match="no optimizer files"):
        load_optimizer([Fragment("w", 0, 12, parameter, 0)], optimizer, [], {"w": 12})


@pytest.mark.parametrize("world", [1, 2, 3, 5, 20])
def test_processes_that_all_hold_everything_write_each_element_once(parameter, world):
    mine = [Fragment("w", 0, 12, parameter, 0), Fragment("v", 0, 1, torch.zeros(1), 0)]
    written = []
    for rank in range(world):
        accelerator = SimpleNamespace(process_index=rank, num_processes=world, distributed_type="MULTI_CPU")
        written += [(f.name, i) for f in to_write(mine, accelerator) for i in range(f.start, f.stop)]
    assert sorted(written) == [("v", 0)] + [("w", i) for i in range(12)]
