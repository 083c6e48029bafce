"""A run's settings shrunk to a width that a CPU trains in seconds, with rows to train on; what makes it itself stays."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_train.settings import PretrainSettings

STEPS, ROWS = 6, 4  # optimizer steps, and rows in each
EPOCH = 16  # rows of text: the run goes over them more than once
LONGEST = 160  # tokens in a row: longer than a block of the CPU's attention
SPREAD = (
    0.08  # of the weights: with the usual 0.02 so small a model hardly attends, and what is wrong there moves nothing
)


def shrink(settings: "PretrainSettings", folder: Path) -> "PretrainSettings":
    """Resolved settings of a tiny run like this one, on text and with weights (if it starts from some) written to `folder`.

    Kept: query heads per key/value head, the widths' proportions, tied or not, RoPE with its base, scaling and context,
    packing, optimizer, kind of schedule, clipping, seed. It is fp32 and uncompiled, and its batch is whole: how it is
    split, and output_dir, are the caller's. Raises OSError where the weights' config cannot be read."""
    heads, groups = settings.num_attention_heads, settings.num_key_value_heads
    assert heads and groups and settings.hidden_size and settings.head_dim and settings.intermediate_size
    few = min(groups, 2)
    queries = few * heads // groups
    channels = max(4, 32 // queries) * 2  # even, and a width of 64 where there are few heads
    width = queries * channels
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": max(8, width * settings.intermediate_size // settings.hidden_size),
        "num_hidden_layers": min(settings.num_hidden_layers or 2, 2),
        "num_attention_heads": queries,
        "num_key_value_heads": few,
        "head_dim": channels if settings.head_dim * heads == settings.hidden_size else 2 * channels,
        "vocab_size": min(settings.vocab_size or 256, 256),
        "initializer_range": SPREAD,
    }
    changes: dict[str, Any] = {
        **sizes,
        "max_length": min(settings.max_length or LONGEST, LONGEST),
        "dataset_path": str(folder / "shards"),
        "eval_dataset_path": None,
        "tokenizer_name_or_path": None,
        "max_steps": STEPS,
        "num_train_epochs": None,
        "max_train_tokens": None,
        "per_device_train_batch_size": ROWS,
        "gradient_accumulation_steps": 1,
        "global_batch_tokens": None,
        "warmup_steps": _few_steps(settings.warmup_steps),
        "decay_steps": _few_steps(settings.decay_steps),
        "dataloader_num_workers": min(settings.dataloader_num_workers, 1),
        "bf16": False,
        "torch_compile": False,
        "use_cpu": True,
        "cpu_threads": 1,
        "spike_threshold": None,
        "hang_timeout": 0,  # the caller waits for a while only
        "save_steps": 1,
        "save_total_limit": 0,
        "logging_steps": 1,
        "report_to": None,
        "dry_run": False,
    }
    if settings.model_name_or_path:
        changes["model_name_or_path"] = _tiny_start(settings.model_name_or_path, sizes, settings.seed, folder / "start")
    tiny = replace(settings, **changes)
    write_shards(folder / "shards", tiny)
    return tiny


def _few_steps(steps: int | float | None) -> int | float | None:
    return steps if steps is None or steps < 1 else min(int(steps), 2)


def _tiny_start(source: str, sizes: dict[str, Any], seed: int, folder: Path) -> str:
    """Random weights under the config of the ones the run starts from, so that its RoPE, norms and biases stay."""
    import torch
    from transformers import LlamaConfig

    from llama_train.model.llama import LlamaForCausalLM

    config = LlamaConfig.from_pretrained(source, local_files_only=True)
    config.update({**sizes, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None})
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def write_shards(folder: Path, tiny: "PretrainSettings") -> None:
    """Documents of 4 to 200 tokens in which each token foretells the next, enough for EPOCH rows; the same each time."""
    import numpy as np

    from llama_train.data.shards import ShardWriter

    assert tiny.vocab_size and tiny.max_length
    letters = tiny.vocab_size - 2
    bos, eos = letters, letters + 1
    generator = np.random.default_rng(0)
    token_bytes = np.array([1] * letters + [0, 0], dtype=np.uint16)
    tokenizer = {"sha256": "0" * 64, "bos_token_id": bos, "eos_token_id": eos}
    with ShardWriter(folder, tiny.vocab_size, tokenizer, token_bytes) as writer:
        written = 0
        while written < EPOCH * tiny.max_length:
            length = int(generator.integers(2, 199))
            text = (int(generator.integers(letters)) + np.cumsum(generator.integers(1, 4, length))) % letters
            writer.add([bos, *text.tolist(), eos], length)
            written += length + 2
