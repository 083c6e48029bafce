"""LaTeX: MB/s of papers unpacked, macros expanded and cut, or (--peer) parsed into nodes by pylatexenc, without any of that.

    python benchmarks/latex.py PATH... [--repeats 20] [--peer]

PATH: arXiv packages, as `llama-data build --source arxiv` takes them. One process, everything read beforehand. The last
line is the JSON that alternate.py takes; MB are 10^6 bytes of the TeX files read."""

import argparse
import json
import time
from pathlib import Path

from data_pipelines.account import Account
from data_pipelines.sources.arxiv import packages
from data_pipelines.text.arxiv_paper import Package, extract


def parse(package: Package) -> None:
    """What pylatexenc reads of the same files."""
    from pylatexenc.latexwalker import LatexWalker

    for content in package.files.values():
        LatexWalker(content.decode("utf-8", "replace")).get_latex_nodes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--peer", action="store_true")
    arguments = parser.parse_args()
    read = list(packages(arguments.paths, False, Account()))
    megabytes = arguments.repeats * sum(len(content) for package in read for content in package.files.values()) / 1e6
    start = time.perf_counter()
    for _ in range(arguments.repeats):
        for package in read:
            (parse if arguments.peer else extract)(package)
    seconds = time.perf_counter() - start
    print(f"{len(read)} papers, {megabytes:.1f} MB of TeX: {megabytes / seconds:.1f} MB/s")
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
