"""`llama-train check --cluster`: a cluster as it should be passes, and each thing wrong with one is said with the machine."""

import copy
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llama_train.cluster_verdict import WRITTEN, bytes_needed, clock_offsets, problems, table
from llama_train.planner import plan
from llama_train.settings import load_settings
from recipes.pretrain import main as pretrain
from tests.two_machines import finish, start

GIB = 2**30
SIZES = "--hidden_size 32 --intermediate_size 64 --num_hidden_layers 2 --num_attention_heads 4 --vocab_size 96".split()
TINY = [*SIZES, *"--max_length 48 --use_cpu --bf16 false --max_steps 10".split()]


@pytest.fixture
def reports() -> list[dict]:
    """Three machines with two processes each, nothing wrong; the clocks were read five times, once late by 0.4 s."""
    same = {"torch": "2.13.0", "deepspeed": "0.19.8", "commit": "a1b2c3d", "settings": "5e77"}
    fine = {"same": same, "matmul": 0.010, "all_reduce": 1e11, "write": WRITTEN / 1e9}
    fine |= {"failed": "", "unseen": [], "free": 100 * GIB, "held": 0}
    clocks = [1000.0, 1001.0, 1002.0, 1003.0, 1004.0]
    return [
        {
            **copy.deepcopy(fine),
            "host": f"node{rank // 2}",
            "rank": rank,
            "clocks": [clocks[0] + 0.4 * rank, *clocks[1:]],
        }
        for rank in range(6)
    ]


def test_a_cluster_as_it_should_be_has_no_problems(reports):
    assert problems(reports, needed=90 * GIB) == []
    reports[4]["same"]["commit"] = None  # no git there: the fingerprint of the code is compared all the same
    assert problems(reports, needed=90 * GIB) == []
    assert problems(reports[:1], needed=0) == []


@pytest.mark.parametrize(
    ("ranks", "change", "expected"),
    [
        ([4, 5], {"torch": "2.12.1"}, "torch is 2.12.1 on node2 (process 4), node2 (process 5), 2.13.0 on the others"),
        ([1], {"deepspeed": "not installed"}, "deepspeed is not installed on node0 (process 1), 0.19.8 on the others"),
        ([0, 1], {"settings": "0000"}, "settings is 0000 on node0 (process 0), node0 (process 1), 5e77 on the others"),
        ([3], {"commit": "f00-dirty"}, "commit is f00-dirty on node1 (process 3), a1b2c3d on the others"),
    ],
)
def test_what_is_not_the_same_everywhere_is_named(ranks, change, expected, reports):
    for rank in ranks:
        reports[rank]["same"] |= change
    assert problems(reports, 0) == [expected]


@pytest.mark.parametrize(
    ("rank", "change", "expected"),
    [
        (2, {"failed": "Permission denied"}, "output_dir cannot be written on node1 (process 2) (Permission denied)"),
        (
            0,
            {"failed": "No space left on device", "free": 0},
            "output_dir cannot be written on node0 (process 0) (No space",
        ),
        (4, {"unseen": [0]}, "not one folder for all: node2 (process 4) does not see what node0 (process 0) wrote"),
        (
            0,
            {"free": 3 * GIB, "held": 2 * GIB},
            "node0 (process 0) has 5.00 GiB free for output_dir, the run's checkpoints need 90",
        ),
        (5, {"clocks": [1007.0, 1004.5, 1005.5, 1006.5, 1008.0]}, "the clock is +3.5 s off on node2 (process 5)"),
        (5, {"matmul": 0.031}, "node2 (process 5) takes 3.1 times as long as the others for a matrix product"),
    ],
)
def test_what_is_wrong_with_a_machine_is_said_with_its_name(rank, change, expected, reports):
    reports[rank] |= change
    (line,) = problems(reports, 90 * GIB)
    assert expected in line and "\n" not in line


def test_many_machines_are_named_in_short(reports):
    for report in reports[:4]:
        report["failed"] = "Read-only file system"
    (line,) = problems(reports, 0)
    assert "node0 (process 0), node0 (process 1), node1 (process 2) and 1 more" in line


def test_a_process_that_was_late_is_not_a_clock_that_is_wrong(reports):
    assert max(map(abs, clock_offsets(reports))) == 0.0
    for rank in (2, 3):
        reports[rank]["clocks"] = [moment - 7.25 for moment in reports[rank]["clocks"]]
    assert clock_offsets(reports)[2:4] == [-7.25, -7.25]


def test_the_table_has_a_line_for_each_machine_and_names_the_slowest(reports):
    reports[3]["matmul"] = 0.015
    text = table(reports, 90 * GIB)
    assert [line.split()[:2] for line in text.splitlines()[1:4]] == [
        ["node0", "0-1"],
        ["node1", "2-3"],
        ["node2", "4-5"],
    ]
    assert "node1 (process 3), 1.50 x the median" in text
    assert "100.00 GB/s a process" in text and "6.00 GB/s written by all at once" in text


@pytest.mark.parametrize(
    ("words", "bytes_each"),
    [
        ("--save_steps 10 --save_total_limit 2", 12 * 3 + 4),  # two kept, one being written, final
        ("--save_steps 10 --save_total_limit 2 --eval_dataset_path x", 12 * 4 + 4),  # and the best
        ("--save_steps 10 --save_total_limit 0", 12 * 10 + 4),
        ("--save_steps 0 --save_total_limit 2", 12 + 4),
        ("--save_steps 60 --save_total_limit 5", 12 * 2 + 4),  # at 60 and 100
    ],
)
def test_the_room_a_run_needs(words, bytes_each):
    run = plan(load_settings([*TINY, "--max_steps", "100", *words.split(), "--dry_run"]), 1)
    assert bytes_needed(run) == bytes_each * run.parameters


def test_the_room_a_run_needs_is_what_it_takes(tiny_shards, tmp_path):
    words = [*TINY, "--hidden_size", "128", "--dataset_path", str(tiny_shards), "--output_dir", str(tmp_path)]
    pretrain([*words, "--max_steps", "2", "--save_total_limit", "1"])
    taken = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    run = plan(load_settings([*words, "--max_steps", "2"]), 1)
    assert run.parameters * 16 <= taken <= run.parameters * 16 * 1.1, "one checkpoint and final"


def test_the_page_s_figures_follow_its_formula(root):
    page = (root / "docs" / "clusters.md").read_text(encoding="utf-8")
    gpu_hours = 54 * 24 / 419 * 16_384  # between unexpected interruptions of Llama 3's 405B run
    assert f"{round(gpu_hours, -2):,.0f} GPU-hours" in page
    units = {"years": 8766, "days": 24, "h": 1, "min": 1 / 60}
    rows = [re.split(r" *\| *", line)[1:-1] for line in page.splitlines() if re.match(r"\| \d{1,4} \|", line)]
    lines = [row for row in rows if len(row) == 5]
    assert [int(gpus) for gpus, *_ in lines] == [2, 8, 64, 512, 2048]
    for gpus, _, between, interval, share in lines:
        fault = gpu_hours / int(gpus)  # hours
        best = math.sqrt(2 * 30 / 3600 * fault)
        for text, hours in ((between, fault), (interval, best)):
            number, unit = text.split()
            assert float(number) * units[unit] == pytest.approx(hours, rel=0.02)
        assert float(share.removesuffix(" %")) == pytest.approx(100 * math.sqrt(2 * 30 / 3600 / fault), abs=0.05)


def test_two_machines_that_are_alike_pass(tiny_shards, tmp_path, root):
    words = [*TINY, "--dataset_path", str(tiny_shards), "--output_dir", str(tmp_path / "out")]
    launched = start(root, "recipes/accelerate/ddp.yaml", "-m", "llama_train.cli", "check", "--cluster", *words)
    said = finish(launched)
    assert [run.returncode for run in launched] == [0, 0], said
    together = "".join(said)
    assert together.count("all-reduce") == 1 and "GB/s a process" in together
    assert list((tmp_path / "out").iterdir()) == [], "nothing is left behind"


def test_two_machines_that_differ_are_refused_in_one_line(tiny_shards, tmp_path, root):
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()  # a relative output_dir is then another folder on each: not shared
    words = [*TINY, "--dataset_path", str(tiny_shards), "--output_dir", "out"]
    launched = start(
        root,
        "recipes/accelerate/ddp.yaml",
        *["-m", "llama_train.cli", "check", "--cluster", *words],
        own=([], ["--learning_rate", "0.02"]),
        folders=folders,
    )
    together = "".join(finish(launched))
    assert [run.returncode for run in launched] == [1, 1], together
    (line,) = [line for line in together.splitlines() if line.startswith("error")]
    assert "settings is " in line and "(process 1)" in line
    assert "output_dir is not one folder for all" in line


def test_a_folder_that_cannot_be_written_is_refused_on_one_process_too(tiny_shards, tmp_path, root):
    (tmp_path / "file").touch()
    words = [*TINY, "--dataset_path", str(tiny_shards), "--output_dir", str(tmp_path / "file" / "out")]
    command = [sys.executable, "-m", "llama_train.cli", "check", "--cluster", *words]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "error: output_dir cannot be written on " in run.stderr and "(Not a directory)" in run.stderr
    assert Path(tmp_path / "file").is_file()
