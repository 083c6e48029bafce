"""LaTeX: papers unpacked, macros expanded and cut, beside pylatexenc, which only parses them into nodes.

    python -m benchmarks.latex PATH --out latex.json

PATH: an arXiv package or a folder of them, as `llama-data build --source arxiv` takes them. MB are those of their files."""

from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.beside import beside
from data_pipelines.account import Account
from data_pipelines.sources.arxiv import packages
from data_pipelines.text.arxiv_paper import Package

REPEATS = 10  # of each paper: three take a twentieth of a second


def papers(path: Path) -> Iterable[Package]:
    return list(packages([path], False, Account())) * REPEATS


def megabytes(package: Package) -> float:
    return sum(map(len, package.files.values())) / 1e6


def ours() -> Callable[[Package], object]:
    from data_pipelines.text.arxiv_paper import extract

    return extract


def pylatexenc() -> Callable[[Package], object]:
    from pylatexenc.latexwalker import LatexWalker

    def parse(package: Package) -> None:
        for content in package.files.values():
            LatexWalker(content.decode("utf-8", "replace")).get_latex_nodes()

    return parse


if __name__ == "__main__":
    beside("latex", __doc__ or "", papers, megabytes, {"ours": ours, "pylatexenc": pylatexenc})
