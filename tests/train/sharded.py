"""Two steps of a tiny model under torch's fully_shard (FSDP2), or on one process, a save after each: sharded.py OUT [CHECKPOINT].

It goes on from CHECKPOINT where one is given. Accelerate ignores FSDP on CPU, so this stands in for it."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig

from llama_train.model.llama import LlamaForCausalLM
from llama_train.train.checkpoint import load_training_state
from llama_train.train.control import Control
from llama_train.train.saving import Saver

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 97}
STEPS = 2


def main(out: Path, checkpoint: Path | None) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
    kind = "FSDP" if world > 1 else "NO"
    accelerator = SimpleNamespace(
        process_index=rank, num_processes=world, is_main_process=rank == 0, distributed_type=kind
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    if world > 1:
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    optimizer = SimpleNamespace(optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True))
    out.mkdir(exist_ok=True)
    first = 1
    if checkpoint:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()  # so that the weights are the checkpoint's
        first += load_training_state(accelerator, model, optimizer, checkpoint, weights=True)["step"]
    saver = Saver(accelerator, Control(accelerator))
    for step in range(first, STEPS + 1):
        ids = torch.randint(97, (4, 16), generator=torch.Generator().manual_seed(step))
        mine = ids.chunk(world)[rank]
        model(mine, labels=mine, num_items_in_batch=ids[:, 1:].numel() / world).loss.backward()
        optimizer.optimizer.step()
        optimizer.optimizer.zero_grad()
        saver.checkpoint(
            model, optimizer, out, {"step": step, "engine": kind, "num_processes": world, "eval_loss": None}
        )
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None)
