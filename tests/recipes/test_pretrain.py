"""The pretraining recipe as people run it: every engine the same curve, a resumed run the same weights, one line for mistakes."""

import json
import math
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llama_train.data.shards import ShardWriter
from llama_train.model.llama import LlamaForCausalLM
from llama_train.train.step import train_step
from recipes.pretrain import main

ENGINES = {
    "ddp": ["recipes/accelerate/ddp.yaml"],
    "zero1": ["recipes/accelerate/zero1.yaml"],
    "zero2": ["accelerate_config.yaml", "--num_processes", "2"],
    "zero3": ["recipes/accelerate/zero3.yaml"],
}
SIZES = "--hidden_size 32 --intermediate_size 64 --num_hidden_layers 2 --num_attention_heads 4 --num_key_value_heads 2".split()
BASE = [
    *SIZES,
    *"--vocab_size 96 --max_length 48 --use_cpu --bf16 false --learning_rate 0.01 --logging_steps 1".split(),
]


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps its state in the process: each run in here starts without it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def arguments(shards: Path, out: Path, *more: str) -> list[str]:
    return [*BASE, "--dataset_path", str(shards), "--output_dir", str(out), *more]


def rows(out: Path, key: str = "loss") -> dict[int, float]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row[key] for row in found if key in row}


def launch(
    config: list[str], words: list[str], root: Path, script: str = "recipes/pretrain.py", **options
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file", *config]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [*command, script, *words]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def one_process(tiny_shards, tmp_path_factory) -> dict[int, float]:
    """The curve of the whole batch on one process."""
    out = tmp_path_factory.mktemp("one")
    main(arguments(tiny_shards, out, "--max_steps", "20", "--per_device_train_batch_size", "8"))
    return rows(out)


LEFT = """
import os, sys
from pathlib import Path
import torch.distributed as dist
from recipes.pretrain import main

def gloo_threads():
    return sum("gloo" in open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task"))

main(sys.argv[1:])
left = gloo_threads()
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
dist.barrier()  # a thread that has worked has its name
Path(__file__).with_suffix("." + os.environ["RANK"]).write_text(f"{left} left, {gloo_threads() > 0}")
dist.destroy_process_group()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_thread_of_gloo_outlives_a_run(tiny_shards, tmp_path, root):
    """One that does may abort the interpreter as it exits, and a run that went well ends with exit code -6."""
    script = tmp_path / "left.py"
    script.write_text(LEFT)
    run = launch(ENGINES["ddp"], arguments(tiny_shards, tmp_path / "out", "--max_steps", "2"), root, script=str(script))
    assert run.returncode == 0, run.stderr[-3000:]
    assert {script.with_suffix(f".{rank}").read_text() for rank in (0, 1)} == {"0 left, True"}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_has_the_curve_of_one_process(engine, tiny_shards, one_process, tmp_path, root):
    share = "--max_steps 20 --per_device_train_batch_size 2 --gradient_accumulation_steps 2".split()
    run = launch(ENGINES[engine], arguments(tiny_shards, tmp_path, *share), root)
    assert run.returncode == 0, run.stderr[-3000:]
    name = {"ddp": "DDP"}.get(engine, f"DeepSpeed ZeRO-{engine[-1]}")
    assert f"engine: {name} processes: 2 precision: fp32" in run.stdout
    curve = rows(tmp_path)
    assert curve.keys() == one_process.keys()
    assert max(abs(curve[step] - one_process[step]) for step in curve) <= 1e-5
    assert curve[20] < curve[1] - 0.5, "it learns"
    ours = LlamaForCausalLM.from_pretrained(tmp_path / "final")
    assert all(p.numel() for p in ours.parameters()), "ZeRO-3 must save whole weights"


def test_another_batch_would_be_noticed(tiny_shards, one_process, tmp_path):
    """The planted mistake: half the rows per step."""
    main(arguments(tiny_shards, tmp_path, "--max_steps", "5", "--per_device_train_batch_size", "4"))
    curve = rows(tmp_path)
    assert max(abs(curve[step] - one_process[step]) for step in curve) > 1e-3


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_resumed_run_has_the_weights_of_an_unbroken_one(tiny_shards, tmp_path, workers):
    words = "--save_steps 4 --eval_steps 4 --warmup_steps 2 --dataloader_num_workers".split() + [workers]
    words += ["--eval_dataset_path", str(tiny_shards)]
    main(arguments(tiny_shards, tmp_path / "whole", "--max_steps", "8", *words))
    whole = rows(tmp_path / "whole"), rows(tmp_path / "whole", "eval_loss")
    broken = tmp_path / "broken"
    fresh_state()
    main(arguments(tiny_shards, broken, "--max_steps", "8", *words))
    for folder in ("checkpoint-8", "final"):  # as if it had been killed after step 7
        (broken / folder).rename(broken / f"lost-{folder}")
    fresh_state()
    main(arguments(tiny_shards, broken, "--max_steps", "8", *words))
    assert (rows(broken), rows(broken, "eval_loss")) == whole, "one history, the same to the last bit"
    for file in ("final/model.safetensors", "checkpoint-8/optimizer-00000-of-00001.safetensors"):
        ours, theirs = load_file(broken / file), load_file(tmp_path / "whole" / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def fresh_state() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def test_zero_resumes_where_it_stopped(tiny_shards, tmp_path, root):
    words = "--save_steps 3 --per_device_train_batch_size 2".split()
    first = launch(ENGINES["zero2"], arguments(tiny_shards, tmp_path, "--max_steps", "6", *words), root)
    assert first.returncode == 0, first.stderr[-3000:]
    whole = rows(tmp_path)
    (tmp_path / "checkpoint-6").rename(tmp_path / "lost")
    second = launch(ENGINES["zero2"], arguments(tiny_shards, tmp_path, "--max_steps", "6", *words), root)
    assert second.returncode == 0, second.stderr[-3000:]
    assert "resuming from" in second.stdout
    assert rows(tmp_path) == whole
    third = launch(ENGINES["ddp"], arguments(tiny_shards, tmp_path, "--max_steps", "9", *words), root)
    assert third.returncode == 0, third.stderr[-3000:]
    assert "resuming from" in third.stdout
    assert list(rows(tmp_path)) == list(range(1, 10))


def test_the_folder_is_what_transformers_opens(tiny_shards, tmp_path):
    main(
        arguments(
            tiny_shards, tmp_path, "--max_steps", "3", "--eval_dataset_path", str(tiny_shards), "--eval_steps", "2"
        )
    )
    ids = torch.randint(94, (2, 30))
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    assert type(stock).__module__.startswith("transformers."), "not ours"
    ours = LlamaForCausalLM.from_pretrained(tmp_path / "final")
    theirs = stock(ids).logits
    assert (ours(ids).logits - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))
    config = json.loads((tmp_path / "final" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    assert "auto_map" not in config
    assert list(rows(tmp_path, "eval_loss")) == [0, 2, 3]
    assert {path.name for path in tmp_path.iterdir()} >= {
        "config.yaml",
        "metrics.jsonl",
        "loss.png",
        "checkpoint-3",
        "final",
    }
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_resolved_settings_run_again_as_they_are(tiny_shards, tmp_path):
    main(arguments(tiny_shards, tmp_path / "a", "--max_steps", "3"))
    fresh_state()
    main([str(tmp_path / "a" / "config.yaml"), "--output_dir", str(tmp_path / "b")])
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_a_finished_run_is_not_trained_again(tiny_shards, tmp_path, capsys):
    words = arguments(tiny_shards, tmp_path, "--max_steps", "3")
    main(words)
    before = rows(tmp_path), (tmp_path / "final" / "model.safetensors").read_bytes()
    fresh_state()
    capsys.readouterr()
    main(words)
    assert (rows(tmp_path), (tmp_path / "final" / "model.safetensors").read_bytes()) == before
    assert "is trained to step 3 of 3 already" in capsys.readouterr().out


def test_none_starts_anew_and_keeps_the_earlier_run(tiny_shards, tmp_path):
    words = arguments(tiny_shards, tmp_path, "--max_steps", "2")
    main(words)
    fresh_state()
    main([*words, "--resume_from_checkpoint", "none", "--seed", "7"])
    assert rows(tmp_path) != rows(tmp_path / "previous-1")
    assert (tmp_path / "previous-1" / "final" / "model.safetensors").exists()


def test_shards_at_a_url_are_the_same_run(tiny_shards, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--max_steps", "3", "--eval_dataset_path"]
    main(arguments(tiny_shards, tmp_path / "here", *words, str(tiny_shards)))
    fresh_state()
    main(arguments(tiny_shards.as_uri(), tmp_path / "there", *words, tiny_shards.as_uri()))
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    assert f"\ndataset_path: {tiny_shards.as_uri()}\n" in (tmp_path / "there" / "config.yaml").read_text()
    fresh_state()
    main(arguments(tiny_shards, tmp_path / "there", *words, str(tiny_shards), "--max_steps", "4"))  # goes on
    assert list(rows(tmp_path / "there")) == [1, 2, 3, 4]


@pytest.mark.parametrize("scheme", ["packed", "padded"])
def test_padded_rows_train_like_packed_ones(tiny_shards, one_process, tmp_path, scheme):
    words = ["--max_steps", "20", "--per_device_train_batch_size", "8", "--packing", str(scheme == "packed").lower()]
    main(arguments(tiny_shards, tmp_path, *words))
    curve = rows(tmp_path)
    assert max(abs(curve[step] - one_process[step]) for step in curve) <= 1e-4


def test_activation_checkpointing_changes_nothing(tiny_shards, one_process, tmp_path):
    words = "--max_steps 20 --per_device_train_batch_size 8 --activation_checkpointing".split()
    main(arguments(tiny_shards, tmp_path, *words))
    assert rows(tmp_path) == one_process


def test_bf16_compute_keeps_fp32_weights_and_follows_fp32(tiny_shards, one_process, tmp_path):
    main(arguments(tiny_shards, tmp_path, *"--max_steps 20 --per_device_train_batch_size 8 --bf16 true".split()))
    curve = rows(tmp_path)
    assert 0 < max(abs(curve[step] - one_process[step]) for step in curve) < 0.05
    for file in ("final/model.safetensors", "checkpoint-20/optimizer-00000-of-00001.safetensors"):
        assert all(tensor.dtype == torch.float32 for tensor in load_file(tmp_path / file).values())


@pytest.mark.gpu
def test_a_gpu_follows_the_cpu_s_curve(tiny_shards, one_process, tmp_path):
    words = arguments(tiny_shards, tmp_path, *"--max_steps 20 --per_device_train_batch_size 8 --bf16 true".split())
    main([word for word in words if word != "--use_cpu"])
    curve = rows(tmp_path)
    assert max(abs(curve[step] - one_process[step]) for step in curve) < 0.05


def test_weights_of_another_run_can_be_the_start(tiny_shards, tmp_path):
    main(arguments(tiny_shards, tmp_path / "a", "--max_steps", "20"))
    fresh_state()
    main(
        arguments(
            tiny_shards, tmp_path / "b", "--max_steps", "2", "--model_name_or_path", str(tmp_path / "a" / "final")
        )
    )
    assert rows(tmp_path / "b")[1] < rows(tmp_path / "a")[1] - 0.3


# --- mistakes: one line, what and what to do, nothing saved is lost ---


def one_line(words: list[str], root: Path, **options) -> str:
    """The last line of stderr of a failing run, which must be the only one of ours and no traceback."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "recipes/pretrain.py", *words]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, **options)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    return lines[0]


def test_nan_stops_the_run_before_anything_is_saved_from_it(tiny_shards, tmp_path, monkeypatch):
    main(arguments(tiny_shards, tmp_path, "--max_steps", "4", "--save_steps", "2"))
    saved = {path: path.read_bytes() for path in tmp_path.glob("checkpoint-*/model.safetensors")}
    fresh_state()
    words = arguments(tiny_shards, tmp_path, "--max_steps", "8", "--save_steps", "2", "--logging_steps", "100")
    calls = []

    def poisoned(model, *others, **options):
        calls.append(model)
        if len(calls) == 2:
            with torch.no_grad():
                model.model.layers[1].mlp.up_proj.weight[3, 5] = math.nan
        return train_step(model, *others, **options)

    monkeypatch.setattr("llama_train.train.run.train_step", poisoned)
    layer = "model.layers.1.mlp.up_proj"
    said = f"step 6 cannot be trusted: its loss is nan, first in {layer}; of the weights {layer}.weight is not finite"
    with pytest.raises(FloatingPointError, match=said) as caught:
        main(words)
    assert "nothing was saved from it" in str(caught.value)
    assert f"the newest checkpoint is {tmp_path / 'checkpoint-4'}" in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.glob("checkpoint-*/model.safetensors")} == saved


def test_weights_spoilt_by_an_update_are_not_saved(tiny_shards, tmp_path):
    words = "--learning_rate 1e30 --warmup_steps 0 --max_steps 3 --max_grad_norm 0 --save_steps 1 --save_total_limit 1"
    with pytest.raises(
        FloatingPointError, match="step [12] cannot be trusted: .* nan, first in .*nothing was saved from it"
    ):
        main(arguments(tiny_shards, tmp_path, *words.split()))
    for file in tmp_path.glob("*/model.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values())
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_a_save_that_fails_on_one_process_ends_them_all(tiny_shards, tmp_path, root):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731  # the main one's weights are larger
    words = arguments(tiny_shards, tmp_path, "--max_steps", "2")
    run = launch(ENGINES["ddp"], words, root, preexec_fn=limit, timeout=120)
    assert run.returncode != 0
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "checkpoint-2 could not be written" in errors[0]


def test_a_full_disk_while_saving_is_one_line_and_loses_nothing(tiny_shards, tmp_path, root):
    words = arguments(tiny_shards, tmp_path, "--max_steps", "4", "--save_steps", "2")
    main(words)
    saved = {path: path.read_bytes() for path in tmp_path.glob("checkpoint-*/*")}
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731  # no file may grow further
    line = one_line(arguments(tiny_shards, tmp_path, "--max_steps", "6", "--save_steps", "2"), root, preexec_fn=limit)
    assert "checkpoint-6 could not be written" in line
    assert "make room" in line
    assert {path: path.read_bytes() for path in tmp_path.glob("checkpoint-*/*")} == saved
    assert not list(tmp_path.glob(".staging-*"))


def test_too_little_room_is_seen_before_anything_is_written(tiny_shards, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="could not be written .* MiB are needed"):
        main(arguments(tiny_shards, tmp_path, "--max_steps", "2"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--vocab_size", "128"],
            "vocab_size is 128, the shards in .* were made with 96 token ids: set vocab_size: 96",
        ),
        (["--max_length", "100000", "--max_position_embeddings", "100000"], "context longer than the rows"),
        (["--dataset_path", "nowhere"], "nowhere"),
        (["--eval_dataset_path", "nowhere"], "nowhere"),
        (["--dataset_path", "file:///nowhere"], "file:///nowhere holds no token shards"),
        (["--output_dir", "s3://bucket/run"], "output_dir: s3://bucket/run is a URL, it must be a folder"),
        (["--report_to", "nosuchtracker"], "nosuchtracker"),
        (["--resume_from_checkpoint", "nowhere"], "there is no folder nowhere"),
        (["--learning_rat", "1"], "learning_rate"),
    ],
)
def test_mistakes_are_one_line(words, message, tiny_shards, tmp_path, root):
    assert re.search(message, one_line(arguments(tiny_shards, tmp_path, "--max_steps", "2", *words), root))


def test_no_permission_to_write_is_one_line(tiny_shards, tmp_path, root):
    (tmp_path / "file").write_text("in the way")  # root may write anywhere; nobody may make a folder inside a file
    line = one_line(arguments(tiny_shards, tmp_path / "file" / "run", "--max_steps", "2"), root)
    assert "cannot be written" in line
    assert "--output_dir" in line


def test_changed_data_is_refused_at_resume(tiny_shards, tmp_path):
    main(arguments(tiny_shards, tmp_path, "--max_steps", "2"))
    fresh_state()
    with pytest.raises(ValueError, match="max_length .48 then, 40 now. changed since .*checkpoint-2"):
        main(
            arguments(
                tiny_shards, tmp_path, "--max_steps", "4", "--max_length", "40", "--max_position_embeddings", "48"
            )
        )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--seed 7", "seed .42 then, 7 now. changed since"),
        ("--hidden_size 64", "is another model .hidden_size 64, not 32"),
        ("--per_device_train_batch_size 3", "the rows of a step .* .1 then, 3 now. changed since"),
    ],
)
def test_another_run_s_settings_are_refused_at_resume_and_leave_it_as_it_was(word, message, tiny_shards, tmp_path):
    main(arguments(tiny_shards, tmp_path, "--max_steps", "2"))
    before = [(tmp_path / name).read_bytes() for name in ("metrics.jsonl", "config.yaml")]
    fresh_state()
    with pytest.raises(ValueError, match=message):
        main(arguments(tiny_shards, tmp_path, "--max_steps", "4", *word.split()))
    assert [(tmp_path / name).read_bytes() for name in ("metrics.jsonl", "config.yaml")] == before


def test_going_on_from_an_earlier_checkpoint_keeps_what_it_writes(tiny_shards, tmp_path):
    main(arguments(tiny_shards, tmp_path, "--max_steps", "4", "--save_steps", "2"))
    fresh_state()
    words = ["--resume_from_checkpoint", str(tmp_path / "checkpoint-2"), "--max_steps", "3", "--save_total_limit", "1"]
    main(arguments(tiny_shards, tmp_path, *words))
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert (tmp_path / "previous-1" / "checkpoint-4").is_dir()
    assert list(rows(tmp_path)) == [1, 2, 3]


def test_a_checkpoint_elsewhere_can_be_gone_on_from(tiny_shards, tmp_path, capsys):
    main(arguments(tiny_shards, tmp_path / "a", "--max_steps", "4"))
    fresh_state()
    words = ["--resume_from_checkpoint", str(tmp_path / "a" / "checkpoint-4"), "--max_steps", "4"]
    main(arguments(tiny_shards, tmp_path / "b", *words))
    assert re.search(r"optimizer steps +4\n", capsys.readouterr().out)
    assert (tmp_path / "b" / "final" / "model.safetensors").exists()


def test_held_out_shards_of_another_tokenizer_are_refused(tiny_shards, tmp_path):
    with ShardWriter(
        tmp_path / "eval", 96, {"sha256": "1" * 64, "bos_token_id": 94, "eos_token_id": 95}, np.ones(96)
    ) as writer:
        writer.add([94, 5, 6, 95], 2)
    with pytest.raises(ValueError, match="was made with another tokenizer"):
        main(arguments(tiny_shards, tmp_path, "--max_steps", "2", "--eval_dataset_path", str(tmp_path / "eval")))


def test_fsdp_on_cpu_is_refused_by_the_launched_run(tiny_shards, tmp_path, root):
    run = launch(
        ["recipes/accelerate/fsdp2.yaml", "--num_processes", "1"],
        arguments(tiny_shards, tmp_path, "--max_steps", "2"),
        root,
    )
    assert run.returncode != 0
    assert "fsdp2 needs GPUs" in run.stderr


def test_cpu_with_two_processes_is_refused_by_the_launched_run(tiny_shards, tmp_path, root):
    config = ["recipes/accelerate/cpu.yaml", "--num_processes", "2"]
    run = launch(config, arguments(tiny_shards, tmp_path, "--max_steps", "2"), root)
    assert run.returncode != 0
    assert "starts only one" in run.stderr


def test_a_dry_run_needs_nothing(root, tmp_path):
    words = ["recipes/pretrain/llama2.yaml", "--model", "llama2-70b", "--dry_run"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    run = subprocess.run(
        [sys.executable, "recipes/pretrain.py", *words], cwd=root, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "68,976,648,192" in run.stdout
