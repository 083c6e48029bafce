"""Saves: in the background the same bytes, in sight only when complete, whole or not at all, in as many files as it takes."""

import json
import os
import resource
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from llama_train.model.llama import LlamaForCausalLM
from llama_train.train import saving
from llama_train.train.manifest import read_manifest, verify, write_file
from llama_train.train.saving import Saver

CONTROL = SimpleNamespace(sum=lambda *values: list(values))
WORDS = "--hidden_size 32 --intermediate_size 64 --num_hidden_layers 2 --num_attention_heads 4 --num_key_value_heads 2".split()
WORDS += "--vocab_size 96 --max_length 48 --use_cpu --bf16 false --learning_rate 0.01 --logging_steps 1".split()


class Alone:
    """What a save asks of accelerate, in one process."""

    process_index, num_processes, is_main_process, distributed_type = 0, 1, True, "NO"


@pytest.fixture
def trained():
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
    }
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(96, (2, 16))
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    return model, SimpleNamespace(optimizer=optimizer)


def state(step):
    return {"step": step, "engine": "single", "num_processes": 1, "eval_loss": None}


def test_a_background_save_has_the_weights_of_its_step_and_is_seen_when_complete(trained, tmp_path, monkeypatch):
    model, optimizer = trained
    Saver(Alone(), CONTROL).checkpoint(model, optimizer, tmp_path, state(1))
    go = threading.Event()

    def slow(path, chunks):
        go.wait(30)
        return write_file(path, chunks)

    monkeypatch.setattr(saving, "write_file", slow)
    saver = Saver(Alone(), CONTROL, background=True)
    saver.checkpoint(model, optimizer, tmp_path, state(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # training goes on
    saver.poll(*saver.flags())
    assert (tmp_path / "latest").read_text() == "checkpoint-1\n"
    assert not (tmp_path / "checkpoint-2").exists()
    go.set()
    saver.wait()
    assert (tmp_path / "latest").read_text() == "checkpoint-2\n"
    assert verify(tmp_path / "checkpoint-1") == verify(tmp_path / "checkpoint-2") == []
    for name in read_manifest(tmp_path / "checkpoint-1")["files"]:
        if name not in ("trainer_state.json", "rng-00000.safetensors"):
            assert (tmp_path / "checkpoint-1" / name).read_bytes() == (tmp_path / "checkpoint-2" / name).read_bytes()
    assert saver.figures["save_bytes"] == sum(
        path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little")
        for path in (tmp_path / "checkpoint-2").glob("*.safetensors")
    ) + sum(path.stat().st_size for path in (tmp_path / "checkpoint-2").glob("*.json") if path.name != "manifest.json")
    assert 0 < saver.figures["save_stall_seconds"] <= saver.figures["save_seconds"]


def test_a_second_save_waits_for_the_first(trained, tmp_path):
    saver = Saver(Alone(), CONTROL, background=True)
    for step in range(1, 6):
        saver.checkpoint(*trained, tmp_path, state(step))
        assert step == 1 or verify(tmp_path / f"checkpoint-{step - 1}") == []
    saver.wait()
    assert verify(tmp_path / "checkpoint-5") == []


def test_what_reads_back_differently_is_not_a_checkpoint(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("llama_train.train.manifest.describe_file", lambda path: {"bytes": 0, "sha256": ""})
    with pytest.raises(OSError, match="checkpoint-1 could not be written .* reads back differently"):
        Saver(Alone(), CONTROL).checkpoint(*trained, tmp_path, state(1))
    assert list(tmp_path.iterdir()) == []


def test_what_is_found_wrong_with_a_save_in_the_background_is_told_at_the_next_look(trained, tmp_path, monkeypatch):
    saver = Saver(Alone(), CONTROL, background=True)
    saver.checkpoint(*trained, tmp_path, state(1))
    saver.wait()
    monkeypatch.setattr(saving, "write_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    saver.checkpoint(*trained, tmp_path, state(2))
    saver.under_way.thread.join()
    with pytest.raises(OSError, match="checkpoint-2 could not be written .*No space left on device.* make room"):
        saver.poll(*saver.flags())
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "latest"}


def launch(config, script, shards, out, root, *more, **options):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file", config]
    words = [*WORDS, "--dataset_path", str(shards), "--output_dir", str(out), *more]
    environment = os.environ | {"PYTHONPATH": str(root)}
    options = {"cwd": root, "env": environment, "capture_output": True, "text": True, "timeout": 120} | options
    return subprocess.run([*command, *script, *words], **options)


def test_zero3_gathers_a_few_files_at_a_time(tiny_shards, tmp_path, root):
    """Twelve files of weights for two processes are three rounds; they hold what one file holds."""
    zero3 = "recipes/accelerate/zero3.yaml"
    for name, script in (("one", ["recipes/pretrain.py"]), ("many", ["tests/train/many_files.py", "9000"])):
        run = launch(zero3, script, tiny_shards, tmp_path / name, root, "--max_steps", "4", "--save_steps", "2")
        assert run.returncode == 0, run.stderr[-3000:]
    many = tmp_path / "many" / "checkpoint-4"
    index = json.loads((many / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2 * saving.AT_ONCE
    assert verify(many) == []
    whole = load_file(tmp_path / "one" / "checkpoint-4" / "model.safetensors")
    split = {name: tensor for file in many.glob("model-*.safetensors") for name, tensor in load_file(file).items()}
    assert whole.keys() == split.keys()
    assert all(torch.equal(whole[name], split[name]) for name in whole)
    stock = AutoModelForCausalLM.from_pretrained(many).state_dict()
    assert all(torch.equal(whole[name], stock[name]) for name in whole)


def test_a_disk_that_fills_up_in_the_background_ends_all_processes_with_one_line(tiny_shards, tmp_path, root):
    words = ["--save_steps", "2", "--async_save"]
    first = launch(
        "recipes/accelerate/ddp.yaml", ["recipes/pretrain.py"], tiny_shards, tmp_path, root, "--max_steps", "4", *words
    )
    assert first.returncode == 0, first.stderr[-3000:]
    before = {path: path.read_bytes() for path in tmp_path.glob("checkpoint-*/*")}
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731  # no file may grow further
    run = launch(
        *("recipes/accelerate/ddp.yaml", ["recipes/pretrain.py"], tiny_shards, tmp_path, root, "--max_steps", "40"),
        *words,
        preexec_fn=limit,
    )
    assert run.returncode != 0
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "checkpoint-6 could not be written" in errors[0]
    assert {path: path.read_bytes() for path in tmp_path.glob("checkpoint-*/*")} == before
    assert not list(tmp_path.glob(".staging-*"))
