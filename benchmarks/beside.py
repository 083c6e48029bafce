"""A benchmark of functions: ours and each peer's on the same items, in processes of their own that take turns."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.alternate import COLUMNS, alternate, markdown_row
from llama_train.errors import one_line_errors


def beside(
    name: str,
    description: str,
    load: Callable[[Path], Iterable[Any]],
    size: Callable[[Any], float],
    sides: Mapping[str, Callable[[], Callable[[Any], object]]],
    unit: str = "MB",
    argv: list[str] | None = None,
) -> None:
    """The command line of a benchmark: PATH --out FILE.json [--rounds N]; writes the results and prints a table.

    load: the items in PATH, read before the clock starts; size: of one, in `unit`. sides: "ours" and, by the name of its
    package, each peer: something that imports what it needs and returns the function to call on every item. CPU time is
    measured, of one process."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("path", type=Path, metavar="PATH")
    parser.add_argument("--out", type=Path, default=Path(f"{name}.json"), metavar="FILE.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)  # be one of those that are compared
    options = parser.parse_args(argv)
    with one_line_errors():
        items = list(load(options.path))
        if options.side:
            function = sides[options.side]()
            start = time.process_time()
            for item in items:
                function(item)
            print(json.dumps({"seconds": time.process_time() - start}))
            return
        command = [sys.executable, "-m", f"benchmarks.{name}", str(options.path), "--side"]
        told = {"rounds": options.rounds, "unit": unit, "amount": round(sum(map(size, items)), 3)}
        results = [
            alternate(f"{name}, beside {peer}", [*command, "ours"], [*command, peer], packages=[peer], **told)
            for peer in sides
            if peer != "ours"
        ]
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print(COLUMNS, *map(markdown_row, results), sep="\n")
