"""Train the recipe with weights split into files of at most so many bytes: many_files.py BYTES WORDS..."""

import functools
import sys

from llama_train.errors import one_line_errors
from llama_train.train import saving
from recipes.pretrain import main

if __name__ == "__main__":
    saving.plan_files = functools.partial(saving.plan_files, limit=int(sys.argv[1]))
    with one_line_errors():
        main(sys.argv[2:])
