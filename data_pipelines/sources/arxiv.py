"""arXiv: LaTeX papers from the bulk source tars (arXiv_src_YYMM_NNN.tar) or from single packages (ID.tar.gz, ID.gz)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.dumps.arxiv_package import Broken, Dropped, unpack
from data_pipelines.dumps.find import find_files, sizes_and_times
from data_pipelines.dumps.tar import Stream, read_tar
from data_pipelines.pool import Failure, run_guarded
from data_pipelines.text.arxiv_paper import Package, extract
from data_pipelines.text.language import identify

DEFAULTS: dict[str, Any] = {"abstract": False, "workers": 1}
MAX_PACKAGE = 100_000_000  # bytes, twice what arXiv takes; a member of a bulk tar is in memory while it is unpacked
SECONDS, MEGABYTES = 20, 512  # of one paper: 125 kB take 20 ms and 5 MB
NO_WORDS = re.compile(r"\\[A-Za-z]+|\$[^$]{0,500}\$|[{}\\]")  # what would tell of LaTeX, and not of a language

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tex.gz")
# 1202.3665v1 or, until March 2007, hep-th/9901001: in file names without the slash, with a subject class at times (math.AG)
_ID = re.compile(
    r"(?:arXiv[-_.:]?)?(?:(\d\d(?:0[1-9]|1[0-2])\.\d{4,5})|([a-z]+(?:-[a-z]+)?)(?:\.[A-Z]{2})?[-_]?(\d\d(?:0[1-9]|1[0-2])\d{3}))"
    r"(v\d{1,2})?(?!\d)"
)


def inputs(paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None) -> list[tuple[str, int, int]]:
    """(name, bytes, modification time in ns) of every file `read` would open, in its order."""
    return sizes_and_times(_find(paths))


def read(
    paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """One document per paper: its LaTeX with \\input files in place, the author's macros written out with their arguments,
    no comments, from the first section on and without the bibliography (LLaMA, section 2.1; Lewkowycz et al. 2022).

    `settings`: "abstract" (False) keeps title and abstract too; "workers" (1) is how many processes parse. The text is
    that of UTF-8, or else of the encoding the paper declares. Each .gz and .pdf of a bulk tar, and each single package,
    is one record of `account`. Raises FileNotFoundError for a path that is not there, ValueError where there is no
    package at all."""
    settings = DEFAULTS | dict(settings or {})
    account = Account() if account is None else account
    found = packages(paths, bool(settings["abstract"]), account)
    papers = run_guarded(extract, found, seconds=SECONDS, megabytes=MEGABYTES, workers=settings["workers"])
    for package, paper in papers:
        if isinstance(paper, Failure) or paper.error:
            account.errors[paper.reason if isinstance(paper, Failure) else paper.error] += 1
        elif paper.dropped:
            account.dropped[paper.dropped] += 1
        else:
            account.kept += 1
            made_of = {"main_file": paper.main, "missing_files": list(paper.missing)}
            made_of["language"], _ = identify(NO_WORDS.sub(" ", paper.text[:20_000]))
            yield Document(
                text=paper.text, id=f"arxiv/{package.metadata['arxiv_id']}", metadata=package.metadata | made_of
            )


def _find(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    return find_files(paths, _is_package, "arXiv packages (ID.gz, ID.tar.gz, arXiv_src_YYMM_NNN.tar)")


def _is_package(name: str) -> bool:
    return name.endswith(_SUFFIXES) or name.endswith(".gz") and _ID.fullmatch(name[:-3]) is not None


def packages(paths: Sequence[str | Path], abstract: bool, account: Account) -> Iterator[Package]:
    """The papers as they came, unpacked; what holds none, or cannot be unpacked, is in the account."""
    for name, path in _find(paths):
        with path.open("rb") as file:
            if not name.endswith(".tar"):
                yield from _package(path.name, path.stat().st_size, file, abstract, account)
                continue
            try:
                for header, content in read_tar(file, MAX_PACKAGE):
                    if header.special:
                        account.drop(header.special)
                    elif header.size > MAX_PACKAGE:
                        account.drop(f"package above {MAX_PACKAGE // 10**6} MB")
                    else:
                        yield from _package(header.name, header.size, BytesIO(content), abstract, account)
            except ValueError as error:
                account.fail(f"bulk tar: {error}")


def _package(name: str, size: int, packed: Stream, abstract: bool, account: Account) -> Iterator[Package]:
    """The package of one file or member, if it can be unpacked."""
    try:
        if name.endswith(".pdf"):
            raise Dropped("PDF, no TeX")
        if not name.endswith((".gz", ".tgz")):
            raise Dropped("neither .gz nor .pdf")
        files = unpack(packed)
    except Dropped as reason:
        account.drop(str(reason))
    except Broken as error:
        account.fail(str(error))
    else:
        account.seen += 1
        yield Package(_metadata(name) | {"bytes": size}, files, abstract)


def _metadata(name: str) -> dict[str, Any]:
    name = name.rpartition("/")[2]
    found = _ID.match(name)
    number = (found[1] or found[3]) if found else ""
    known = f"{found[2]}/{number}" if found and found[2] else number
    year = ("19" if found and found[3] and number >= "91" else "20") + number[:2]
    version = (found[4] or "") if found else ""
    return {
        "source": "arxiv",
        "language": "",
        "url": f"https://arxiv.org/abs/{known}{version}" if known else name,
        "license": None,  # each author chooses one; the dump does not say which
        "date": f"{year}-{number[2:4]}" if known else None,
        "arxiv_id": f"{known}{version}" or name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar"),
    }
