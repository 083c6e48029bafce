"""A resumed run takes the rows that were left, however often it is resumed, and no others without being told to."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from llama_train.data.batches import train_batches
from llama_train.data.packing import Rows
from llama_train.data.shards import Shards, ShardWriter
from tests.survival import runs, warm

SKIP = {5, 12, 13, 25}
EVERY_THIRD = "--max_steps 12 --save_steps 3 --save_total_limit 0".split()


def batches(rows: Rows, start: int, count: int, seed: int = 3, **options) -> list:
    """`count` global batches of 8 rows from batch `start` on, as process 1 of 2 sees them."""
    world = {"per_device_batch_size": 2, "accumulation": 2, "rank": 1, "world": 2}
    return list(itertools.islice(train_batches(rows, seed=seed, start_batch=start, **world, **options), count))


def same(ours: list, theirs: list) -> bool:
    """Bit by bit: every tensor of every micro-batch of every batch."""
    pairs = [pair for batch in zip(ours, theirs, strict=True) for pair in zip(*batch, strict=True)]
    return all(
        a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key])) for key in a)
        for a, b in pairs
    )


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("skip", [set(), SKIP], ids=["all", "some left out"])
def test_resuming_twice_gives_the_same_next_batches(workers, skip, tiny_shards):
    rows = Rows(Shards(tiny_shards), 48)
    assert len(rows) % 8 and 1 < len(rows) / 8 < 12, "epochs end within a batch, and more than one of them ends"
    unbroken = batches(rows, 0, 30, skip=skip)
    taken = [batch for batch in range(40) if batch not in skip]
    first, second = 4, 15  # the places of two resumes, mid-epoch, the second in another epoch
    resumed = batches(rows, 0, first, skip=skip, num_workers=workers)
    resumed += batches(rows, taken[first], second - first, skip=skip, num_workers=workers)
    resumed += batches(rows, taken[second], 30 - second, skip=skip, num_workers=workers)
    assert same(resumed, unbroken)
    assert not same(batches(rows, taken[second] + 1, 5, skip=skip), unbroken[second : second + 5]), (
        "planted: one too far"
    )
    assert not same(batches(rows, 0, 5, seed=4, skip=skip), unbroken[:5]), "planted: another seed"


def read_rows(out: Path) -> list:
    return [json.loads(line) for line in (out / "rows-0.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def stopped(tiny_shards, tmp_path_factory) -> Path:
    """A run of twelve steps with a checkpoint every third, and the rows it took."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    out.mkdir()
    warm.run("single", 1, runs.words(tiny_shards, out, 1, *EVERY_THIRD), out.with_suffix(".txt"), RECORD_ROWS=str(out))
    return out


def after(stopped: Path, step: int, out: Path) -> Path:
    """That run as it was when it had just saved `step`."""
    out.mkdir(parents=True)
    for saved in range(3, step + 1, 3):
        shutil.copytree(stopped / f"checkpoint-{saved}", out / f"checkpoint-{saved}")
    lines = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= step))
    return out


@pytest.mark.parametrize("workers", ["1", "4"])
def test_a_run_resumed_twice_takes_the_rows_of_an_unbroken_one(workers, stopped, tiny_shards, tmp_path):
    last = stopped
    for step in (3, 9):
        out = after(last, step, tmp_path / f"from-{step}")
        words = [*EVERY_THIRD, "--dataloader_num_workers", workers]
        log = tmp_path / f"{step}.txt"
        text = warm.run("single", 1, runs.words(tiny_shards, out, 1, *words), log, RECORD_ROWS=str(out))
        assert f"resuming from {out}/checkpoint-{step}" in text
        assert read_rows(out) == read_rows(stopped)[step:]
        assert runs.losses(out) == runs.losses(stopped)
        last = out


def shards(out: Path, seed: int = 1, sha256: str = "0" * 64) -> Path:
    """Sixty documents over the tiny vocabulary."""
    generator, tokenizer = np.random.default_rng(seed), {"sha256": sha256, "bos_token_id": 94, "eos_token_id": 95}
    with ShardWriter(out, 96, tokenizer, np.array([1] * 94 + [0, 0], dtype=np.uint16)) as writer:
        for _ in range(60):
            text = generator.integers(0, 94, 70).tolist()
            writer.add([94, *text, 95], len(text))
    return out


def start(data: Path, out: Path, *more: str) -> tuple[int, str]:
    """Go on to step 18. Returns the exit code and what was printed."""
    words = [*runs.words(data, out, 1, "--max_steps", "18", "--save_steps", "3", "--save_total_limit", "0"), *more]
    log = out.parent / "log.txt"
    log.unlink(missing_ok=True)
    (out / "rows-0.jsonl").unlink(missing_ok=True)
    run = warm.Run("single", 1, words, log, RECORD_ROWS=str(out))
    return run.wait()[0], run.text()


def everything(out: Path) -> dict[str, bytes]:
    found = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]  # who looked last
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def segments(out: Path, step: int) -> list[dict]:
    return json.loads((out / f"checkpoint-{step}" / "trainer_state.json").read_text())["ledger"]


def test_other_data_is_refused_with_the_difference_and_nothing_is_touched(stopped, tiny_shards, tmp_path):
    out, other = after(stopped, 12, tmp_path / "run"), shards(tmp_path / "other")
    before = everything(out)
    code, text = start(other, out)
    assert code == 1 and "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    for data in (tiny_shards, other):
        assert str(data) in line and Shards(data).fingerprint[:12] in line and f"{len(Shards(data)):,} tokens" in line
    assert "the token shards" in line and "--accept_changed_data" in line and f"{out}/checkpoint-12" in line
    assert everything(out) == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "7"], "seed (42 then, 7 now)"),
        (["--max_length", "40", "--max_position_embeddings", "48"], "max_length (48 then, 40 now)"),
        (["--per_device_train_batch_size", "3"], "the rows of a step"),
    ],
    ids=["seed", "max_length", "batch"],
)
def test_another_order_is_refused_too(more, said, stopped, tiny_shards, tmp_path):
    out = after(stopped, 12, tmp_path / "run")
    before = everything(out)
    code, text = start(tiny_shards, out, *more)
    assert code == 1 and said in text, text
    assert everything(out) == before


def test_another_tokenizer_is_refused_with_both_named(stopped, tiny_shards, tmp_path):
    """The same tokens, which another tokenizer is said to have made."""
    out, same_tokens = after(stopped, 12, tmp_path / "run"), shutil.copytree(tiny_shards, tmp_path / "same")
    manifest = json.loads((same_tokens / "manifest.json").read_text())
    manifest["tokenizer"]["sha256"] = "1" * 64
    (same_tokens / "manifest.json").write_text(json.dumps(manifest))
    code, text = start(same_tokens, out)
    assert code == 1
    assert f"the tokenizer ({'0' * 12} then, {'1' * 12} now)" in text, text


def test_accepted_data_is_a_new_segment_from_its_beginning(stopped, tiny_shards, tmp_path):
    out, other = after(stopped, 12, tmp_path / "run"), shards(tmp_path / "other")
    code, text = start(other, out, "--accept_changed_data", "--max_steps", "15")
    assert code == 0, text
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert start(other, fresh)[0] == 0
    assert read_rows(out) == read_rows(fresh)[:3], "from the first row on"
    first, second = segments(out, 15)
    assert (first["from_step"], second["from_step"]) == (0, 12)
    assert [segment["shards"] for segment in (first, second)] == [
        Shards(data).fingerprint for data in (tiny_shards, other)
    ]
    assert first == segments(stopped, 12)[0]
    figures = runs.rows(out)
    assert [row["step"] for row in figures] == list(range(1, 16)), "one history"
    state = json.loads((out / "checkpoint-15" / "trainer_state.json").read_text())
    assert (state["batch"], state["num_input_tokens_seen"]) == (3, 15 * 8 * 48)

    code, text = start(other, out)  # the flag is not needed again
    assert code == 0, text
    assert read_rows(out) == read_rows(fresh)[3:6], "and goes on where it was"
    assert len(segments(out, 18)) == 2

    code, text = start(tiny_shards, out, "--max_steps", "20")
    assert code == 1 and "the token shards" in text, "back to the first data is a change, too"
