"""The gradient of one global batch of 8 rows, however it is split; run as a script, one process' share under a launcher."""

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from safetensors.torch import save_file
from transformers import LlamaConfig

from llama_train.data.batches import train_batches
from llama_train.data.packing import Rows
from llama_train.data.shards import Shards
from llama_train.model.llama import LlamaForCausalLM
from llama_train.train.step import train_step

ROWS, LENGTH = 8, 48


class Recorder(torch.optim.SGD):
    """Keeps the gradients it is asked to apply."""

    def step(self, closure=None):
        self.seen = [p.grad.clone() for group in self.param_groups for p in group["params"]]


def tiny_model(vocab_size: int = 96) -> LlamaForCausalLM:
    """Two layers, grouped queries, the same weights each time."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, num_key_value_heads=2, **sizes))


def gradients(shards: Path, accumulation: int, packing: bool) -> tuple[dict[str, torch.Tensor], float]:
    """(gradient by parameter name, loss) of the first global batch."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    model = tiny_model()
    names = [name for name, _ in model.named_parameters()]
    recorder = Recorder(model.parameters(), lr=0.0)
    model, optimizer = accelerator.prepare(model, recorder)
    batches = train_batches(
        Rows(Shards(shards), LENGTH),
        seed=1,
        per_device_batch_size=ROWS // accumulation // accelerator.num_processes,
        accumulation=accumulation,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        start_batch=0,
        num_workers=0,
        packing=packing,
        pin_memory=False,
    )
    loss, _ = train_step(model, optimizer, next(batches), accelerator, max_grad_norm=0.0)
    loss = float(accelerator.reduce(loss, reduction="sum"))
    return dict(zip(names, recorder.seen, strict=True)), loss


if __name__ == "__main__":
    shards, accumulation, packing, out = sys.argv[1:]
    found, loss = gradients(Path(shards), int(accumulation), packing == "packed")
    if os.environ["RANK"] == "0":
        save_file({**found, "loss": torch.tensor(loss)}, out)
    PartialState().destroy_process_group()  # else gloo's threads may abort the interpreter while it exits
