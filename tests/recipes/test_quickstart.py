"""The main job on text of one's own: forty real books where they exist, and a small folder anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.quickstart import VOCABULARY, vocabulary_for


def quickstart(root: Path, data: Path, out: Path, *more: str) -> str:
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PYTHONPATH": str(root), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    command = [sys.executable, "recipes/quickstart.py", "--data", str(data), "--output_dir", str(out), *more]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


def evaluations(out: Path) -> list[dict]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "eval_loss" in row]


@pytest.mark.slow
def test_three_hundred_steps_on_real_books_beat_the_unigram_entropy(root, books, tmp_path):
    out = quickstart(
        root, books, tmp_path, *"--max_steps 300 --per_device_train_batch_size 4 --warmup_steps 30".split()
    )
    entropy = float(out.split("unigram entropy of the held-out text: ")[1].split()[0])
    rows = evaluations(tmp_path)
    assert [row["step"] for row in rows] == [0, 200, 300]
    assert rows[0]["eval_loss"] > entropy, "random weights do not even know how frequent a token is"
    assert rows[-1]["eval_loss"] < entropy - 0.5
    assert rows[-1]["eval_bits_per_byte"] < rows[0]["eval_bits_per_byte"] / 1.5


def test_a_small_folder_works_and_a_second_run_reuses_it(root, tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("README.md", "CONTRIBUTING.md", "docs/settings.md", "docs/training.md", "LICENSE"):
        (tmp_path / "texts" / f"{Path(name).stem}.txt").write_text((root / name).read_text(encoding="utf-8"))
    less = "--max_steps 3 --warmup_steps 1 --per_device_train_batch_size 1 --max_length 64".split()
    first = quickstart(root, tmp_path / "texts", tmp_path / "run", *less)
    assert "Next:" in first
    second = quickstart(root, tmp_path / "texts", tmp_path / "run", *less)
    assert "reusing" in second
    assert "is trained to step 3 of 3 already" in second
    (tmp_path / "texts" / "more.txt").write_text("Another text changes the corpus, and so the model of it.\n" * 50)
    third = quickstart(root, tmp_path / "texts", tmp_path / "run", *less)
    assert "resuming" not in third
    assert (tmp_path / "run" / "previous-1" / "final").is_dir()


def test_the_vocabulary_follows_the_amount_of_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a" * 300_000)
    assert vocabulary_for(tmp_path) == 300_000 // 256 // 64 * 64
    (tmp_path / "b.txt").write_bytes(b"b" * 3_000_000)
    assert vocabulary_for(tmp_path) == VOCABULARY


def test_a_folder_without_text_is_one_line(root, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "recipes/quickstart.py", "--data", str(tmp_path), "--output_dir", str(tmp_path / "run")]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.count("error: ") == 1
    assert "Traceback" not in run.stderr
