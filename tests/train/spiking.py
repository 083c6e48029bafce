"""Train the recipe with a batch that spikes, without it, or seen only by its gradient: spiking.py HOW BATCH WORDS...

HOW: `guarded`: as it is; `without`: the batch is not in the data, and nothing is guarded; `late`: its loss passes, and
its gradient norm is called a spike."""

import functools
import sys

from llama_train.errors import one_line_errors
from llama_train.train import run
from llama_train.train.guard import Guard
from recipes.pretrain import main


def start(how: str, batch: int, words: list[str]) -> None:
    if how == "without":
        run.train_batches = functools.partial(_without, run.train_batches, batch)
    if how == "late":
        norms = []

        def accepts(self, name, value, before):
            norms.extend([value] if name == "gradient norm" else [])
            self.verdict = "its gradient norm is planted" if name == "gradient norm" and len(norms) == batch + 1 else ""
            return not self.verdict

        Guard._accepts = accepts
    with one_line_errors():
        main(words)


def _without(train_batches, batch, rows, *, skip, **options):
    return train_batches(rows, skip=skip | {batch}, **options)


if __name__ == "__main__":
    start(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
