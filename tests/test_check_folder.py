"""A checkpoint is good to the last byte and number, or the command says what is wrong and exits with 1."""

import json
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file, save_file

from llama_train.check_folder import checkpoint_problems
from llama_train.cli import main
from llama_train.train.manifest import describe_file, read_manifest, write_manifest
from recipes.pretrain import main as pretrain

WORDS = """
--hidden_size 16 --intermediate_size 32 --num_hidden_layers 1 --num_attention_heads 2 --vocab_size 96 --max_length 48
--use_cpu --bf16 false --logging_steps 1 --max_steps 3 --save_steps 1 --save_total_limit 0
""".split()


@pytest.fixture
def run(tiny_shards: Path, tmp_path: Path) -> Path:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    pretrain([*WORDS, "--dataset_path", str(tiny_shards), "--output_dir", str(tmp_path / "run")])
    return tmp_path / "run"


def check(folder: Path, capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    """Exit code, output and the error line of `llama-train check`."""
    capsys.readouterr()
    code = 0
    try:
        main(["check", str(folder), *words])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == bool(code)
    return code, said.out, said.err


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def rewrite(checkpoint: Path, file: str, change) -> None:
    """Change the tensors of a file, and let the manifest say so: its bytes are what was meant, and still wrong."""
    tensors = load_file(checkpoint / file)
    change(tensors)
    save_file(tensors, checkpoint / file)
    manifest = read_manifest(checkpoint)
    about = {key: value for key, value in manifest.items() if key not in ("files", "format")}
    write_manifest(checkpoint, manifest["files"] | {file: describe_file(checkpoint / file)}, about)


def test_a_good_checkpoint_tells_what_it_is(run, capsys):
    code, out, _ = check(run / "checkpoint-2", capsys)
    size = sum(file.stat().st_size for file in (run / "checkpoint-2").iterdir() if file.name != "manifest.json")
    assert code == 0
    assert f"{run}/checkpoint-2: good\n  step 2, 96 tokens seen; saved by single, 1 process; " in out
    assert f"{size:,} bytes" in out and f"torch {torch.__version__}" in out
    assert check(run / "final", capsys)[0] == 0


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "trainer_state.json", "rng-00000.safetensors"])
def test_a_flipped_bit_and_a_missing_file_are_found(run, file, capsys):
    flip(run / "checkpoint-2" / file)
    code, _, err = check(run / "checkpoint-2", capsys)
    assert code == 1 and err.startswith(f"error: {run}/checkpoint-2: {file} has other bytes than were written")
    (run / "checkpoint-2" / file).unlink()
    code, _, err = check(run / "checkpoint-2", capsys)
    assert code == 1 and f"{file}: No such file" in err


@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        ("model.safetensors", lambda t: t["model.norm.weight"].fill_(torch.nan), "model.norm.weight is not finite"),
        ("optimizer-00000-of-00001.safetensors", lambda t: t["step"].fill_(torch.inf), "step is not finite"),
        (
            "model.safetensors",
            lambda t: t.pop("lm_head.weight"),
            r"lm_head.weight: missing, config.json says \[96, 16\]",
        ),
        ("model.safetensors", lambda t: t.update(x=torch.ones(2)), r"x: \[2\], config.json says none"),
        (
            "model.safetensors",
            lambda t: t.update({"model.norm.weight": torch.ones(8)}),
            r"model.norm.weight: \[8\], config.json says \[16\]",
        ),
    ],
    ids=["nan", "inf", "missing", "unknown", "shape"],
)
def test_right_bytes_that_are_no_model_are_found(run, file, change, problem):
    assert checkpoint_problems(run / "checkpoint-2") == []
    rewrite(run / "checkpoint-2", file, change)
    with pytest.raises(ValueError, match=problem):
        raise ValueError(checkpoint_problems(run / "checkpoint-2"))


def test_a_tied_head_is_not_missed(tiny_shards, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    words = [*WORDS, "--tie_word_embeddings", "--dataset_path", str(tiny_shards), "--output_dir", str(tmp_path / "run")]
    pretrain(words)
    assert checkpoint_problems(tmp_path / "run" / "checkpoint-3") == []


def test_a_folder_without_a_manifest_cannot_be_verified(run, tmp_path, capsys):
    (run / "final" / "manifest.json").unlink()
    for folder in (run / "final", tmp_path):
        code, _, err = check(folder, capsys)
        assert code == 1 and "nothing can be verified, it has no manifest.json" in err


def test_a_run_s_checkpoints_are_listed_and_left_as_they_are(run, capsys):
    code, out, _ = check(run, capsys)
    assert code == 0 and [line for line in out.splitlines() if not line.startswith(" ")] == [
        *("checkpoint-1: good", "checkpoint-2: good", "checkpoint-3: good", "final: good"),
        "a resume takes: checkpoint-3",
    ]
    flip(run / "checkpoint-3" / "model.safetensors")
    (run / "quarantine" / "checkpoint-9-1").mkdir(parents=True)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    code, out, err = check(run, capsys)
    assert code == 1 and err == f"error: {run}: damaged: checkpoint-3\n"
    assert "checkpoint-3: DAMAGED: model.safetensors has other bytes" in out and "a resume takes: checkpoint-2" in out
    assert "in quarantine: checkpoint-9-1" in out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_renamed_checkpoint_is_not_the_step_it_says(run, capsys):
    (run / "checkpoint-3").rename(run / "checkpoint-30")
    code, out, _ = check(run, capsys)
    assert code == 1 and "checkpoint-30: DAMAGED: it holds step 3" in out and "a resume takes: checkpoint-2" in out


def test_settings_do_not_go_with_a_folder(run, capsys):
    code, _, err = check(run, capsys, "--bf16", "true")
    assert code == 1 and err == "error: a folder is checked as it is, without settings: --bf16 true\n"


def test_nothing_is_read_but_json_and_safetensors(run):
    names = {file.suffix for file in (run / "checkpoint-3").iterdir()}
    assert names == {".json", ".safetensors"}
    assert json.loads((run / "checkpoint-3" / "trainer_state.json").read_text())["step"] == 3
