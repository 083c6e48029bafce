"""Pretrain a Llama: settings -> plan -> engine -> model -> rows -> the loop.

accelerate launch --config_file accelerate_config.yaml recipes/pretrain.py RECIPE.yaml [--key value]..."""

import gc
import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_train.errors import PREEMPTED, one_line_errors
from llama_train.families import CONFIG_FIELDS
from llama_train.planner import Plan, plan, render
from llama_train.settings import PretrainSettings, load_settings
from llama_train.tokenizers.folder import fingerprint

# Read when torch is loaded: how long a thread spins before it sleeps. OpenMP's own 300,000 makes a step several times
# slower on a CPU that also does something else (10,000: 1.5 s instead of 5 to 20); on an idle one both take 0.4 s.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from llama_train.data.shards import Shards
    from llama_train.model.llama import LlamaForCausalLM


def main(argv: list[str]) -> None:
    """Run the recipe for `[YAML] [--key value]...`."""
    settings = load_settings(argv)
    if settings.dry_run:
        if os.environ.get("RANK", "0") == "0":
            print(render(plan(settings, int(os.environ.get("WORLD_SIZE", 1)))))
        return
    pretrain(settings)
    gc.collect()  # DDP is a cycle, and holds the world: see engine.build_accelerator


def pretrain(settings: PretrainSettings) -> None:
    """Train, write output_dir/final, and print what came out of it."""
    from transformers.utils import logging

    from llama_train.data.packing import Rows
    from llama_train.data.remote import with_local_shards
    from llama_train.data.shards import Shards
    from llama_train.train.checkpoint import find_checkpoint, open_output_dir, peek, resume_again
    from llama_train.train.control import Control, explained_ends
    from llama_train.train.engine import asked, build_accelerator, describe
    from llama_train.train.ledger import keep_global_batch
    from llama_train.train.loop import train
    from llama_train.train.out_of_memory import explain_out_of_memory
    from llama_train.train.tracking import start_trackers

    if not settings.dataset_path:
        raise ValueError("dataset_path is not set: give the folder of token shards to train on (see docs/data.md)")
    given = settings
    settings = with_local_shards(given)
    shards = Shards(settings.dataset_path)
    rows = Rows(shards, settings.max_length)
    eval_rows = None
    if settings.eval_dataset_path:
        eval_rows = Rows(Shards(settings.eval_dataset_path), settings.max_length, partial=True)
    settings.tokenizer_name_or_path = settings.tokenizer_name_or_path or find_tokenizer(settings, shards)
    check_vocabulary(settings, shards, eval_rows.shards if eval_rows else shards)
    output_dir, processes = Path(settings.output_dir), asked(os.environ)[1]
    resume = resume_again(settings.resume_from_checkpoint, output_dir, os.environ)
    saved = peek(resume, output_dir)
    shared = keep_global_batch(settings, plan(settings, processes).rows_per_step, processes, saved)
    run = plan(shared, processes)

    logging.disable_progress_bar()  # transformers' own, for each file it reads or writes
    accelerator = build_accelerator(shared, run.accumulation)
    if accelerator.is_main_process:
        print(describe(accelerator, settings.bf16), flush=True)
        if shared is not settings:
            share = f"{shared.per_device_train_batch_size} rows x accumulation {run.accumulation} x {processes}"
            print(f"the checkpoint's global batch of {run.rows_per_step} rows is kept: {share} processes", flush=True)
    # what is written down is where the shards are for everyone, not where they lie on this machine
    settings = replace(shared, dataset_path=given.dataset_path, eval_dataset_path=given.eval_dataset_path)
    alone = open_output_dir(output_dir) if accelerator.is_main_process else nullcontext()
    memory = explain_out_of_memory(settings, run, accelerator.device)
    with explained_ends(), alone, Control(accelerator) as control, memory:
        control.sum(0)  # the folder is there, and what a killed run left in it is gone
        checkpoint = find_checkpoint(resume, output_dir, accelerator, control)
        if checkpoint and accelerator.is_main_process:
            print(f"resuming from {checkpoint}", flush=True)
        model = build_model(settings, shards, checkpoint)
        start_trackers(settings, accelerator)
        figures = train(model, rows, eval_rows, settings, run, accelerator, control, checkpoint)
    if accelerator.is_main_process:
        where = f"saved at step {figures['step']}" if figures["step"] else "nothing trained yet"
        stopped = f"told to stop: {where}; the same command goes on from there"
        print(stopped if figures["stopped"] else report(settings, run, figures), flush=True)
    if figures["stopped"]:
        raise SystemExit(PREEMPTED)


def find_tokenizer(settings: PretrainSettings, shards: "Shards") -> str | None:
    """The folder of the tokenizer that made the shards, if it lies beside them or with the weights to start from."""
    beside = [Path(settings.dataset_path).parent / "tokenizer", Path(settings.model_name_or_path or "tokenizer")]
    found = [folder for folder in beside if (folder / "tokenizer.json").is_file()]
    return next((str(folder) for folder in found if fingerprint(folder) == shards.tokenizer["sha256"]), None)


def check_vocabulary(settings: PretrainSettings, shards: "Shards", eval_shards: "Shards") -> None:
    """Raises ValueError where model, tokenizer and shards do not speak of the same token ids."""
    if settings.vocab_size is not None and settings.vocab_size != shards.vocab_size and not settings.model_name_or_path:
        raise ValueError(
            f"vocab_size is {settings.vocab_size}, the shards in {shards.path} were made with {shards.vocab_size} token ids: "
            f"set vocab_size: {shards.vocab_size}, or build the shards with this model's tokenizer"
        )
    if (eval_shards.vocab_size, eval_shards.tokenizer) != (shards.vocab_size, shards.tokenizer):
        raise ValueError(
            f"{eval_shards.path} was made with another tokenizer ({eval_shards.vocab_size} ids) than {shards.path} "
            f"({shards.vocab_size} ids): build both with the same one"
        )
    if settings.tokenizer_name_or_path:
        ours, theirs = fingerprint(Path(settings.tokenizer_name_or_path)), shards.tokenizer["sha256"]
        if ours != theirs:
            raise ValueError(
                f"{settings.tokenizer_name_or_path} is not the tokenizer that made {shards.path} (sha256 {ours[:12]}, "
                f"not {theirs[:12]}): give that one, or build the shards again"
            )


def build_model(settings: PretrainSettings, shards: "Shards", checkpoint: Path | None) -> "LlamaForCausalLM":
    """The model in fp32: a checkpoint's, an existing one's, or a new one from `seed`, alike on every process."""
    import torch

    from llama_train.model.llama import LlamaForCausalLM

    if source := checkpoint or settings.model_name_or_path:
        model = LlamaForCausalLM.from_pretrained(
            source, dtype=torch.float32, attn_implementation=settings.attn_implementation
        )
        if model.config.vocab_size < shards.vocab_size:
            raise ValueError(
                f"{source} knows {model.config.vocab_size} token ids, the shards in {shards.path} use {shards.vocab_size}: "
                "build the shards with this model's tokenizer"
            )
    else:
        ids = {name: shards.tokenizer[name] for name in ("bos_token_id", "eos_token_id")}
        torch.manual_seed(settings.seed)
        model = LlamaForCausalLM(settings.config(attn_implementation=settings.attn_implementation, **ids))
    if checkpoint:
        sizes = {name: (getattr(settings, name), getattr(model.config, name)) for name in CONFIG_FIELDS}
        if changed := [f"{name} {now}, not {then}" for name, (now, then) in sizes.items() if now not in (None, then)]:
            raise ValueError(
                f"{checkpoint} is another model ({', '.join(changed)}): put the sizes back, or choose another --output_dir"
            )
    if settings.activation_checkpointing:
        # the name of transformers 6, and the one before it
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if settings.torch_compile:
        for layer in model.model.layers:
            layer.compile()
    return model


def report(settings: PretrainSettings, run: Plan, figures: dict[str, Any]) -> str:
    """The table at the end of a run."""
    from llama_train.train.tracking import summary

    final = f"{settings.output_dir}/final"
    table = {"parameters": f"{run.parameters:,}", "optimizer steps": f"{figures['step']:,}"}
    if "loss" in figures:
        speed, mfu = figures["tokens_per_second"], figures["mfu"]
        table["training loss"] = f"{figures['loss']:.4f} nats per token"
        table["speed"] = f"{speed:,.0f} tokens/s, MFU {mfu:.0%} (6N + 6LHQT; peak: {figures['peak']})"
    if "eval_loss" in figures:
        before = figures.get("untrained_eval_loss")
        table["held-out loss"] = f"{figures['eval_loss']:.4f} nats per token"
        table["held-out loss"] += f", {before:.4f} before training" if before else ""
        if figures["unigram_entropy"] is not None:
            table["unigram entropy"] = f"{figures['unigram_entropy']:.4f} nats per token of the same text"
        table["bits per byte"] = f"{figures['eval_bits_per_byte']:.4f} on the held-out text"
    commands = [f"python -m json.tool --json-lines {settings.output_dir}/metrics.jsonl"]
    if settings.tokenizer_name_or_path:
        table["weights, tokenizer"] = final
        commands = [
            f'llama-train chat {final} --prompt "def main("',
            f"llama-train evaluate {final} --text README.md",
            *commands,
        ]
    else:
        table["weights"] = f"{final}, without a tokenizer: set tokenizer_name_or_path to have it saved beside them"
    table["checkpoints"] = f"{settings.output_dir}/checkpoint-*"
    table["curve, figures"] = f"{settings.output_dir}/loss.png, metrics.jsonl, config.yaml"
    return summary(settings.run_name, table, commands)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
