"""A run saved by one engine and number of processes goes on under any other: the same rows, the same losses."""

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llama_train.train.manifest import describe_file, read_manifest, write_manifest
from tests.survival import runs, warm

STEPS, SAVED, BOUND = 50, 25, 1e-5
World = tuple[str, int]
WORLDS: list[World] = [(engine, n) for engine in ("ddp", "zero1", "zero2", "zero3") for n in (1, 2)]
PAIRS: list[tuple[World, World]] = [
    (("ddp", 1), ("zero1", 2)),
    (("ddp", 2), ("zero2", 1)),
    (("ddp", 1), ("zero3", 2)),
    (("zero1", 2), ("ddp", 1)),
    (("zero1", 1), ("zero2", 2)),
    (("zero1", 2), ("zero3", 1)),
    (("zero2", 1), ("ddp", 2)),
    (("zero2", 2), ("zero1", 1)),
    (("zero2", 2), ("zero3", 2)),
    (("zero3", 2), ("ddp", 2)),
    (("zero3", 1), ("zero1", 2)),
    (("zero3", 2), ("zero2", 1)),
]
if os.environ.get("LLAMA_TRAIN_WORLDS") == "all":  # the square, and four processes: `make soak`
    WORLDS = [(engine, n) for engine in ("ddp", "zero1", "zero2", "zero3") for n in (1, 2, 4)]
    PAIRS = list(itertools.product(WORLDS, WORLDS))


def name(world: World) -> str:
    return f"{world[0]}-{world[1]}"


def start(world: World, arguments: list[str], out: Path) -> None:
    """Run in this world; one process of DDP is a plain process."""
    out.mkdir(parents=True, exist_ok=True)
    engine, processes = world
    engine = "single" if world == ("ddp", 1) else engine
    warm.run(engine, processes, arguments, out.with_suffix(".txt"), timeout=120, RECORD_ROWS=str(out))


def row_order(out: Path) -> list[list[str]]:
    """The rows of each global batch in their order: micro-batch by micro-batch, in each process by process."""
    files = sorted(out.glob("rows-*.jsonl"))
    lines = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    batches = zip(*lines, strict=True)  # of each process its micro-batches
    return [[row for micro in zip(*batch, strict=True) for part in micro for row in part] for batch in batches]


def optimizer(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Each parameter's whole moments, flat, from the parts all processes wrote."""
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for file in checkpoint.glob("optimizer-*.safetensors"):
        for key, tensor in load_file(file).items():
            if key != "step":
                moment, begin = key.rsplit("/", 1)
                parts.setdefault(moment, {})[int(begin)] = tensor
    return {moment: torch.cat([part for _, part in sorted(found.items())]) for moment, found in parts.items()}


def largest(ours: dict, theirs: dict) -> float:
    """The largest difference of two tables with the same keys, of tensors relative to the largest element."""
    assert ours.keys() == theirs.keys() and ours
    return max(
        float((ours[key] - theirs[key]).abs().max() / theirs[key].abs().max())
        if torch.is_tensor(theirs[key])
        else abs(ours[key] - theirs[key])
        for key in theirs
    )


@pytest.fixture(scope="module")
def unbroken(tiny_shards, tmp_path_factory) -> Path:
    """One process, from the first step to the last."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    words = ["--max_steps", str(STEPS), "--save_steps", str(SAVED)]
    start(("ddp", 1), runs.words(tiny_shards, out, 1, *words), out)
    return out


@pytest.fixture(scope="module")
def saved(tiny_shards, tmp_path_factory):
    """checkpoint-25 of a run in each world, and the arguments it was started with but for output_dir."""
    folder, done = tmp_path_factory.mktemp("saved"), {}

    def by(world: World) -> tuple[Path, list[str]]:
        if world not in done:
            words = ["--max_steps", str(STEPS), "--save_steps", str(SAVED)]
            arguments = runs.words(tiny_shards, folder / name(world), world[1], *words)
            start(world, arguments, folder / name(world))
            done[world] = folder / name(world) / f"checkpoint-{SAVED}", arguments
        return done[world]

    return by


def go_on(checkpoint: Path, arguments: list[str], world: World, out: Path) -> None:
    """Start the same command in another world and folder, in which only the checkpoint lies."""
    shutil.copytree(checkpoint, out / checkpoint.name)
    start(world, [*arguments, "--output_dir", str(out)], out)
    assert f"resuming from {out / checkpoint.name}" in out.with_suffix(".txt").read_text()


def test_the_pairs_cover_all_worlds_and_all_changes_of_the_engine():
    assert {source for source, _ in PAIRS} == {target for _, target in PAIRS} == set(WORLDS)
    changes = {(source[0], target[0]) for source, target in PAIRS}
    assert changes >= set(itertools.permutations(["ddp", "zero1", "zero2", "zero3"], 2))


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda world: name(world))
def test_a_run_goes_on_in_another_world(source, target, saved, unbroken, tmp_path):
    checkpoint, arguments = saved(source)
    out = tmp_path / "run"
    go_on(checkpoint, arguments, target, out)
    assert row_order(out) == row_order(unbroken)[SAVED:], "not a row more, less, or elsewhere"
    whole = runs.losses(unbroken)
    for part, steps in ((checkpoint.parent, range(1, SAVED + 1)), (out, range(SAVED + 1, STEPS + 1))):
        assert (
            largest({step: runs.losses(part)[step] for step in steps}, {step: whole[step] for step in steps}) <= BOUND
        )
    last = f"checkpoint-{STEPS}"
    ours, theirs = (json.loads((path / last / "trainer_state.json").read_text()) for path in (out, unbroken))
    for key in ("step", "batch", "num_input_tokens_seen"):
        assert ours[key] == theirs[key]
    assert (ours["engine"], ours["num_processes"]) == (("single" if target == ("ddp", 1) else target[0]), target[1])
    assert largest(optimizer(out / last), optimizer(unbroken / last)) <= 1e-3
    weights = [load_file(path / "final" / "model.safetensors") for path in (out, unbroken)]
    assert largest(*weights) <= 1e-3


def change(checkpoint: Path, file: str, how) -> None:
    """Change a tensor file or a JSON file of a checkpoint, and its manifest, so that it verifies."""
    path, manifest = checkpoint / file, read_manifest(checkpoint)
    if file.endswith(".json"):
        path.write_text(json.dumps(how(json.loads(path.read_text()))))
    else:
        save_file(how(load_file(path)), path)
    manifest["files"][file] = describe_file(path)
    about = {key: value for key, value in manifest.items() if key not in ("format", "files", "sha256")}
    write_manifest(checkpoint, manifest["files"], about)


@pytest.mark.parametrize("mistake", ["moments are lost", "a batch is left out"])
def test_a_wrong_resume_is_seen(mistake, saved, unbroken, tmp_path):
    """The planted mistakes."""
    source, arguments = saved(("zero1", 2))
    checkpoint = Path(shutil.copytree(source, tmp_path / "copy" / source.name))
    if mistake == "moments are lost":
        for file in checkpoint.glob("optimizer-*"):
            change(
                checkpoint, file.name, lambda tensors: {key: value * (key == "step") for key, value in tensors.items()}
            )
    else:
        change(checkpoint, "trainer_state.json", lambda state: state | {"batch": state["batch"] + 1})
    out = tmp_path / "run"
    go_on(checkpoint, arguments, ("ddp", 2), out)
    assert (row_order(out) == row_order(unbroken)[SAVED:]) == (mistake == "moments are lost")
    ours, theirs = runs.losses(out), runs.losses(unbroken)
    assert largest(ours, {step: theirs[step] for step in ours}) > 100 * BOUND
