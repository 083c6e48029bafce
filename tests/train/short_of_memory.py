"""The recipe in a process that may map only so many MiB more than it has once everything is imported.

python short_of_memory.py MIB RANK [YAML] [--key value]...   (RANK: the process that is kept short)"""

import os
import resource
import sys

import accelerate  # noqa: F401  what a run imports is not to count
import matplotlib.pyplot  # noqa: F401
import psutil
import torch
import torch._dynamo  # noqa: F401
import transformers.generation  # noqa: F401

import llama_train.model.llama  # noqa: F401
import llama_train.train.loop  # noqa: F401
from llama_train.errors import one_line_errors
from recipes.pretrain import main

if __name__ == "__main__":
    mebibytes, rank, *words = sys.argv[1:]
    torch.ones(1 << 20).sum()  # starts the threads
    if os.environ.get("RANK", "0") == rank:
        limit = psutil.Process().memory_info().vms + int(mebibytes) * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with one_line_errors():
        main(words)
