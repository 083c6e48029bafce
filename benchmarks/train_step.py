"""One training step: ours beside transformers' Trainer with bf16, on the same weights, token ids and machine.

    python benchmarks/train_step.py [--rounds 3] [--size quickstart|100m]

The two take turns (ours, theirs, ours, ...), each in a fresh process; a step's time is the median after warm-up."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

# width, feed-forward, layers, heads, key/value heads, vocabulary; rows, tokens a row
SIZES = {"quickstart": (256, 704, 4, 4, 2, 8192, 8, 512), "100m": (768, 2048, 12, 12, 4, 32000, 2, 512)}
NAMES = "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads vocab_size".split()
WARM_UP, STEPS = 3, 10


def config(size: str):
    """A tied, grouped-query Llama of the named size."""
    from transformers import LlamaConfig

    sizes = dict(zip(NAMES, SIZES[size], strict=False))
    return LlamaConfig(**sizes, tie_word_embeddings=True, max_position_embeddings=SIZES[size][-1])


def token_ids(size: str):
    """(steps, rows, tokens): the frequencies fall like those of words (Zipf), the same each time."""
    import numpy as np

    *_, vocabulary, rows, tokens = SIZES[size]
    ranks = np.random.default_rng(0).zipf(1.3, (WARM_UP + STEPS, rows, tokens))
    return np.minimum(ranks, vocabulary - 1).astype(np.int64)


def ours(size: str) -> dict:
    """Step times and losses of our loop's step."""
    import numpy as np
    import torch
    from accelerate import Accelerator

    from llama_train.data.batches import collate_packed
    from llama_train.model.llama import LlamaForCausalLM
    from llama_train.train.step import train_step

    torch.manual_seed(0)
    model = LlamaForCausalLM(config(size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0, fused=True)
    accelerator = Accelerator(mixed_precision="bf16")
    model, optimizer = accelerator.prepare(model, optimizer)
    times, losses = [], []
    for rows in token_ids(size):
        started = time.perf_counter()
        batch = collate_packed([(row, np.arange(len(row))) for row in rows])
        batch = {key: value.to(accelerator.device) if torch.is_tensor(value) else value for key, value in batch.items()}
        loss, _ = train_step(model, optimizer, [batch], accelerator, max_grad_norm=1.0)
        losses.append(loss.item())
        times.append(time.perf_counter() - started)
    return {"times": times[WARM_UP:], "losses": losses}


def trainer(size: str) -> dict:
    """Step times and losses of transformers' Trainer on transformers' model."""
    import torch
    from transformers import LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    torch.manual_seed(0)
    model = LlamaForCausalLM(config(size))
    rows = token_ids(size).reshape(-1, SIZES[size][-1])
    data = [{"input_ids": row, "labels": row} for row in rows]
    stamps, losses = [], []

    class Clock(TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            stamps.append(time.perf_counter())

        def on_step_end(self, *args, **kwargs):
            stamps.append(time.perf_counter())

        def on_log(self, args, state, control, logs=None, **kwargs):
            losses.extend([logs["loss"]] if "loss" in logs else [])

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            bf16=True,
            per_device_train_batch_size=SIZES[size][-2],
            max_steps=WARM_UP + STEPS,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            adam_beta2=0.999,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            train_sampling_strategy="sequential",
        )
        Trainer(model, arguments, train_dataset=data, callbacks=[Clock()]).train()
    return {"times": [b - a for a, b in zip(stamps, stamps[1:], strict=False)][WARM_UP:], "losses": losses}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="quickstart")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("ours", "trainer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"ours": ours, "trainer": trainer}[options.side](options.size)))
        return
    import torch
    import transformers

    tokens = SIZES[options.size][-2] * SIZES[options.size][-1]
    speeds: dict[str, list[float]] = {"ours": [], "trainer": []}
    results = {}
    environment = os.environ | {"GOMP_SPINCOUNT": "10000"}  # for both: else a busy moment decides the ratio
    for _ in range(options.rounds):
        for side in speeds:
            command = [sys.executable, __file__, "--size", options.size, "--side", side]
            out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            results[side] = json.loads(out.splitlines()[-1])
            speeds[side].append(tokens / statistics.median(results[side]["times"]))
    gap = abs(results["ours"]["losses"][-1] - results["trainer"]["losses"][-1])
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    for side, values in speeds.items():
        print(
            f"{side:8} {statistics.median(values):8,.0f} tokens/s   rounds: {', '.join(f'{value:,.0f}' for value in values)}"
        )
    ratio = statistics.median(speeds["ours"]) / statistics.median(speeds["trainer"])
    print(f"ratio    {ratio:.2f}   loss of the last step differs by {gap:.4f}")


if __name__ == "__main__":
    main()
