"""SIGKILL at any instant: started again, a run ends with the bits of one that was never killed."""

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.survival import runs, warm

STEPS, EVERY = 40, 5
KILLS = int(os.environ.get("LLAMA_TRAIN_KILLS", 20))
WORLDS = {"single": 1, "ddp": 2, "zero2": 2}
CASES = [("single", False, 0.3), ("ddp", False, 0.35), ("zero2", False, 0.2), ("ddp", True, 0.15)]  # engine, async_save


@dataclass
class Storm:
    """What happened while a run was killed again and again."""

    kills: int = 0
    during_save: int = 0
    lives: list[Path] = field(default_factory=list)
    recomputed: list[int] = field(default_factory=list)


def arguments(shards: Path, out: Path, engine: str, *more: str) -> list[str]:
    words = f"--max_steps {STEPS} --save_steps {EVERY} --eval_steps 10".split()
    return runs.words(shards, out, WORLDS[engine], *words, "--eval_dataset_path", str(shards), *more)


def wait_for_save(run: warm.Run, out: Path, step: int, files: int) -> None:
    """Return as soon as the save of `step` has written so many files, or has just ended."""
    begun, staging, seen = time.time_ns(), out / f".staging-checkpoint-{step}", False
    while run.running():
        try:
            fresh = staging.stat().st_ctime_ns > begun  # not what an earlier kill left
            seen = seen or fresh
            if fresh and len(list(staging.iterdir())) >= files:
                return
        except FileNotFoundError:
            if seen:
                return
        time.sleep(0.0003)


def storm(engine: str, shards: Path, folder: Path, seconds: float, kills: int, more: list[str]) -> Storm:
    """Start runs and kill them until `kills` were killed, then let the last one finish.

    seconds: how long a run takes that is not killed. A third of the kills is aimed at a save."""
    draw, seen = random.Random(kills), Storm()
    processes = WORLDS[engine]
    while seen.kills < kills:
        out = folder / f"life-{len(seen.lives)}"
        seen.lives.append(out)
        reached = resumed = starts = 0
        while True:
            before = staged(out)
            run = warm.Run(
                engine, processes, arguments(shards, out, engine, *more), folder / f"{out.name}-{starts}.txt"
            )
            if killing := seen.kills < kills:
                if draw.random() < 1 / 3:
                    done = min(reached, STEPS - 1) // EVERY
                    wait_for_save(run, out, draw.randrange(done, STEPS // EVERY) * EVERY + EVERY, draw.randrange(10))
                else:
                    time.sleep(draw.uniform(0, seconds))
                run.kill(draw.choice([list(range(processes)), [draw.randrange(processes)]]))
            codes = run.wait(timeout=180)
            if killing := killing and -signal.SIGKILL in codes:
                seen.kills += 1
                seen.during_save += bool(staged(out) - before)
            text, starts = run.text(), starts + 1
            if (start := runs.resumed_from(text)) is not None or "step 1/" in text:
                start = start or 0
                assert start >= resumed, "what was saved is never lost"
                seen.recomputed.append(reached - start)
                resumed = start
            if not killing:
                assert not any(codes), f"{codes}: {text[-3000:]}"
                if starts == 1:  # nobody was quick enough to kill it
                    seconds = min(seconds, time.monotonic() - run.started)
                break
            reached = max(reached, runs.last_step(out))
    return seen


def staged(out: Path) -> set[tuple[str, int]]:
    """The saves that lie half-written, by name and inode."""
    return {(path.name, path.stat().st_ino) for path in out.glob(".staging-checkpoint-*")}


@pytest.fixture(scope="module")
def unbroken(tiny_shards, tmp_path_factory):
    """The unbroken run of each engine, and the seconds it took."""
    done: dict[str, tuple[Path, float]] = {}

    def of(engine: str) -> tuple[Path, float]:
        if engine not in done:
            warm.run(
                "single", 1, ["--dry_run", *runs.BASE, "--max_steps", "10"], tmp_path_factory.mktemp("imports") / "log"
            )
            out = tmp_path_factory.mktemp(engine) / "whole"
            begun = time.monotonic()
            warm.run(engine, WORLDS[engine], arguments(tiny_shards, out, engine), out.with_suffix(".txt"))
            done[engine] = out, time.monotonic() - begun
        return done[engine]

    return of


@pytest.mark.parametrize(("engine", "background", "share"), CASES, ids=["single", "ddp", "zero2", "async_save"])
def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(engine, background, share, unbroken, tiny_shards, tmp_path):
    whole, seconds = unbroken(engine)
    expected = runs.artefacts(whole, STEPS)
    kills = max(1, round(KILLS * share))
    seen = storm(engine, tiny_shards, tmp_path, seconds, kills, ["--async_save"] * background)
    for out in seen.lives:
        assert runs.differences(runs.artefacts(out, STEPS), expected) == []
        assert [row["step"] for row in runs.rows(out) if "loss" in row] == list(range(1, STEPS + 1))
    assert seen.kills == kills
    # in the background a save may still be under way when the next one is due
    assert max(seen.recomputed) <= EVERY * (2 if background else 1)
    print(f"{engine}: {kills} kills, {seen.during_save} within a save, {len(seen.lives)} runs, {seconds:.1f} s each")


def test_wandb_has_each_step_once_after_kills(unbroken, tiny_shards, tmp_path):
    pytest.importorskip("wandb", reason="W&B is not installed")
    from tests.train.wandb_server import WandbServer

    server, out = WandbServer(), tmp_path / "run"
    speak = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "k" * 40, "WANDB_MODE": "online"}
    for number, step in enumerate((8, 17, 33, STEPS + 1)):
        words = arguments(tiny_shards, out, "single", "--report_to", "wandb")
        run = warm.Run("single", 1, words, tmp_path / f"{number}.txt", **speak)
        while runs.last_step(out) < step and run.running():
            time.sleep(0.002)
        run.kill([0])
        assert run.wait() == ([-signal.SIGKILL] if step < STEPS else [0])
    assert runs.differences(runs.artefacts(out, STEPS), runs.artefacts(unbroken("single")[0], STEPS)) == []
    (history,) = [server.rows(name) for name in server.runs]
    server.stop()
    assert [row["_step"] for row in history] == list(range(STEPS + 1))  # of step 0 the held-out loss
    expected: dict[int, dict] = {}
    for row in runs.rows(out):
        expected.setdefault(row["step"], {}).update(row)
    for row in history:
        assert expected[row["_step"]].items() <= (row | {"step": row["_step"]}).items()


def test_one_byte_one_figure_or_another_seed_is_seen(unbroken, tiny_shards, tmp_path):
    """The planted mistakes."""
    whole, _ = unbroken("single")
    expected = runs.artefacts(whole, STEPS)
    for name, content in expected.items():
        if isinstance(content, bytes):
            wrong = content[:-1] + bytes([content[-1] ^ 1])
        else:
            wrong = [
                row | {"grad_norm": row["grad_norm"] * (1 + 1e-15)} if row["step"] == 7 else row for row in content
            ]
        assert runs.differences(expected | {name: wrong}, expected) == [name]
    warm.run("single", 1, arguments(tiny_shards, tmp_path, "single", "--seed", "7"), tmp_path / "log")
    found = set(runs.differences(runs.artefacts(tmp_path, STEPS), expected))
    state = {
        f"checkpoint-{STEPS}/{name}" for name in ("model.safetensors", "rng-00000.safetensors", "trainer_state.json")
    }
    assert found >= state | {"metrics.jsonl", "final/model.safetensors"}


def test_a_kill_while_deepspeed_builds_its_kernel_does_not_hang_the_next_start(tiny_shards, tmp_path):
    kernels = shutil.copytree(warm.kernels(), tmp_path / "kernels")
    (kernels / "deepspeed_shm_comm" / "lock").touch()  # what torch leaves there when it is killed
    words = runs.words(tiny_shards, tmp_path / "out", 1, "--max_steps", "6")
    run = warm.Run("zero2", 1, words, tmp_path / "log", TORCH_EXTENSIONS_DIR=str(kernels))
    assert run.wait(timeout=60) == [0], run.text()
