"""arXiv's papers out of bulk tars and single packages: each accounted for, read as its author meant it, real ones too."""

import gzip
import io
import json
import random
import re
import tarfile
from pathlib import Path

import pytest

from data_pipelines.account import Account
from data_pipelines.dumps import arxiv_package
from data_pipelines.dumps.arxiv_package import Broken, Dropped, unpack
from data_pipelines.pool import Failure
from data_pipelines.sources import arxiv
from data_pipelines.sources.arxiv import inputs, read
from data_pipelines.text.arxiv_paper import Package, extract
from tests.conftest import ROOT, SHARED
from tests.data_pipelines.fuzz import mutants, survive

SAMPLE = ROOT / "data_pipelines" / "samples" / "arxiv"
BULK = SAMPLE / "arXiv_src_9901_001.tar"


def read_all(*paths: Path, **settings):
    account = Account()
    documents = list(read(paths, settings, account))
    account.check()
    assert account.kept == len(documents)
    return {document.id: document for document in documents}, account


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def paper(files: dict[str, str | bytes], abstract: bool = False):
    raw = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    return extract(Package({}, raw, abstract))


@pytest.fixture
def in_process(monkeypatch):
    """Papers parsed here: starting a process for each of thousands of readings would take minutes."""
    monkeypatch.setattr(arxiv, "run_guarded", lambda function, items, **_: ((item, function(item)) for item in items))


@pytest.fixture(scope="module")
def sample():
    return read_all(SAMPLE)


@pytest.fixture(scope="module")
def real():
    folder = SHARED / "realdata" / "arxiv"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: real papers exist only on some machines")
    return read_all(folder)


def test_every_member_of_the_sample_is_accounted_for(sample):
    documents, account = sample
    assert list(documents) == ["arxiv/1202.0001", "arxiv/1202.0004", "arxiv/hep-th/9901001", "arxiv/cond-mat/9901004"]
    assert account.seen == 9 and not account.errors
    assert account.dropped == {"PDF, no TeX": 2, "PostScript, no TeX": 1, "no TeX": 1, "withdrawn": 1}


def test_a_paper_of_many_files_is_one_text(sample):
    assert sample[0]["arxiv/1202.0001"].text == "\n".join(
        [
            r"\section{Introduction}\label{sec:intro}",
            r"We write $x \in \mathbb{R}^n$ and \left\lVert x \right\rVert_{2}, or \left\lVert \vec{x^{*}}\right\rVert_{1},"
            r" and use \texttt{walker-fast} and \texttt{walker-slow} for",
            r"walks\footnote{See \url{http://example.org/a%20walk}.}.  Then",
            r"\[ \operatorname*{arg\,max}_{x\in\mathbb{R}} f(x) \]",
            r"\section{Method}",
            r"\begin{quote}\textbf{Claim (first).}",
            r"Every walk ends.",
            r"\end{quote}",
            r"\begin{center}A \texttt{box} of \texttt{\texttt{walker-fast}}\end{center}",
            r"\begin{verbatim}",
            r"\best 100% \tool   % is shown as it is",
            r"\end{verbatim}",
            r"and \verb|\best%| too.",
            r"Now $\hat{y^{*}}$ is another.",
            r"",
            r"This is final.",
            r"",
            r"\section{Results}",
            r"The naïve walk ends at $y^{*}$.",
        ]
    )


def test_an_old_paper_in_latin_1_keeps_its_letters_and_loses_its_comments(sample):
    assert sample[0]["arxiv/hep-th/9901001"].text == "\n".join(
        [
            r"\section{Introduction}",
            r"The Schr\"odinger equation of two levels was solved in Zürich by",
            r"many,and 50\% of them",
            r"agree. A line break\\is no percent sign.",
            r"\begin{equation}",
            r"E = \frac12\hbar\omega + \varepsilon\langle a|b\rangle",
            r"\end{equation}",
            r"so that $\langle a|H|b\rangle$ is small.",
            r"",
            r"\section{Conclusions}",
            r"None.",
            r"",
            r"\appendix",
            r"\section{A wall}",
            r"It is of stone.",
        ]
    )


def test_a_letter_and_a_paper_in_another_alphabet_are_read(sample):
    letter, russian = (sample[0][f"arxiv/{name}"] for name in ("cond-mat/9901004", "1202.0004"))
    assert letter.text.startswith("Samples of high-$T_c$ material were left in the sun for a week.")
    assert letter.text.endswith("\\section*{Acknowledgments}\nWe thank the sun.")
    assert russian.text == "\\section{Введение}\nКаждый граф конечен."
    assert russian.metadata["main_file"] == "text.tex"  # as its 00README says; reply.tex is longer


def test_metadata_says_where_a_paper_is_from(sample):
    metadata = sample[0]["arxiv/hep-th/9901001"].metadata
    assert metadata == {
        "source": "arxiv",
        "language": "en",
        "url": "https://arxiv.org/abs/hep-th/9901001",
        "license": None,
        "date": "1999-01",
        "arxiv_id": "hep-th/9901001",
        "bytes": 566,
        "main_file": "",
        "missing_files": [],
    }
    many = sample[0]["arxiv/1202.0001"].metadata
    assert many["main_file"] == "ms.tex" and many["missing_files"] == ["missing-table"] and many["date"] == "2012-02"
    assert json.dumps([document.metadata for document in sample[0].values()])


def test_title_and_abstract_are_kept_where_asked_for():
    documents, _ = read_all(SAMPLE, abstract=True)
    assert documents["arxiv/1202.0001"].text.startswith(
        "\\title{Walks on graphs, \\emph{briefly}}\n\n"
        "\\begin{abstract}\nWe walk with \\texttt{walker-fast}.\n\\end{abstract}\n\n"
        "\\section{Introduction}"
    )


def test_neither_workers_nor_order_nor_folder_change_a_document(sample, tmp_path):
    for file in SAMPLE.iterdir():
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        (tmp_path / "elsewhere" / file.name).write_bytes(file.read_bytes())
    documents, account = read_all(*sorted((tmp_path / "elsewhere").iterdir(), reverse=True), workers=2)
    assert documents == sample[0] and account == sample[1]


@pytest.mark.parametrize(
    "name, identifier, date",
    [
        ("1202.3665.gz", "1202.3665", "2012-02"),
        ("1801.02634v2.tar.gz", "1801.02634v2", "2018-01"),
        ("arXiv-2305.12345v1.tar.gz", "2305.12345v1", "2023-05"),
        ("1008.4686-recipes.tar.gz", "1008.4686", "2010-08"),
        ("hep-th9901001.gz", "hep-th/9901001", "1999-01"),
        ("math.AG-0601001v3.tar.gz", "math/0601001v3", "2006-01"),
        ("9108028.gz", "9108028", None),  # below a folder hep-th, perhaps; by itself it could be any archive's
        ("thesis.tex.gz", "thesis.tex", None),
        ("2313.00001.tar.gz", "2313.00001", None),  # a year has twelve months
    ],
)
def test_file_names_tell_the_identifier(name, identifier, date, tmp_path, in_process):
    path = tmp_path / name.replace("9108028.gz", "9108028.tar.gz")
    path.write_bytes(gzip.compress(rb"\begin{document}\section{A}b\end{document}"))
    (document,) = read([path])
    assert (document.id, document.metadata["date"]) == (f"arxiv/{identifier}", date)


def test_emcee(real):
    """arXiv:1202.3665, one file, macros of macros."""
    text = real[0]["arxiv/1202.3665"].text
    assert text.startswith(
        "\\section{Introduction}\n\nProbabilistic data analysis---including Bayesian inference---has\n"
        "transformed scientific research in the past decade."
    )
    assert text.endswith("This page includes\nthe API documentation and many examples of possible work flows.")
    assert "The methods and\n  discussion in this document have general applicability" in text
    assert r"{\sffamily emcee}" in text and r"\ensuremath{p(" in text and r"Section~\ref{sect:" in text
    assert text.count(r"\section{") == 7 and "thebibliography" not in text and r"\bibitem" not in text
    assert "% pip install emcee" in text  # a shell's prompt in a listing
    outside = re.sub(r"(?s)\\begin\{lstlisting\}.*?\\end\{lstlisting\}", "", text)
    assert not re.search(r"(?<!\\)%", outside)
    gone = "project Python numpy github pip acor this paper foreign etal Fig fig Tab Eq eq Sect sect app Algo algo like bvec"
    assert not re.search(rf"\\(?:{'|'.join(gone.split())}|pr|af|model|data|link|dd|normal|vector)(?![a-zA-Z])", text)


def test_astropy(real):
    r"""arXiv:1801.02634: \xspace, \input, two arguments, \texttt within \href."""
    text = real[0]["arxiv/1801.02634"].text
    assert text.startswith(
        "\\section{Introduction} \\label{sec:intro}\nAll modern astronomical research makes use of software"
    )
    assert (
        "The Astropy project has grown to become this community for \\texttt{Python} astronomy\nsoftware, and the"
        in text
    )
    assert r"\texttt{Python}\footnote{\url{https://www.python.org/}} is an increasingly popular" in text
    assert "in Section~\\ref{sec:org}. We then describe the main software efforts" in text
    assert r"\href{https://github.com/StingraySoftware/stingray}{stingray} & No &" in text  # out of registry.tex
    assert r"\author" not in text and r"\affiliation" not in text and r"\bibliography" not in text
    assert text.count(r"\section{") == 7
    assert not re.search(r"(?<![\\\d])%", text)
    assert not re.search(
        r"\\(?:astropy[a-zA-Z]*|python|package|github|sectionname|xspace|escapecmd|af[a-z]{3,})\b", text
    )


def test_fitting_a_line(real):
    r"""arXiv:1008.4686: its macros are in ../hogg_style.tex, and another paper lies beside it."""
    document = real[0]["arxiv/1008.4686"]
    text = document.text
    assert document.metadata["main_file"] == "straightline/straightline.tex"
    assert text.startswith("\\section*{Data analysis recipes:\\ \\\\\n  Fitting a model to data\\footnotemark}")
    assert "\\section{Standard practice}\\label{sec:standard}" in text and text.count(r"\section{") == 8
    assert "It is conventional to begin any scientific document with an\nintroduction" in text
    assert "We go through the many considerations" not in text  # the abstract
    assert "  we will see in later Sections) has either of these properties" in text
    assert (
        r"\{{q_i}\}_{{i=1}}^{{N}}" in text
        and r"\boldsymbol{A}" in text
        and r"{\boldsymbol{A}}^{\scriptscriptstyle \top}" in text
    )
    assert r"\bibitem" not in text and not re.search(r"(?<!\\)%", text)
    assert not re.search(
        r"\\(?:note|sectionname|documentname|mA|mAT|mCinv|allxy|setofall|Pbad|problemname|affil)\b", text
    )
    assert r"\begin{problem}" not in text and r"\paragraph{Exercise~\theproblem:}" in text


def test_the_real_papers_are_accounted_for(real):
    assert list(real[0]) == ["arxiv/1008.4686", "arxiv/1202.3665", "arxiv/1801.02634"]
    assert real[1] == Account(seen=3, kept=3)


def test_the_main_file_is_the_one_arxiv_would_take():
    document = "\\documentclass{article}\\begin{document}\\section{A}%s\\end{document}"
    assert paper({"z.tex": document % "z" * 9, "ms.tex": document % "m"}).main == "ms.tex"
    assert paper({"a.tex": document % "a", "b.tex": document % "bbb", "c.tex": "ccccc" * 99}).main == "b.tex"
    assert paper({"f/a.tex": document % "aaaa", "b.tex": document % "b"}).main == "b.tex"
    assert paper({"a.tex": document % r"\input{c}", "b.tex": document % "bbb", "c.tex": "c" * 99}).main == "a.tex"
    figure = document.replace("article", "standalone")
    assert paper({"fig.tex": figure % ("f" * 99), "z.tex": document % "z"}).main == "z.tex"
    told = json.dumps(
        {"sources": [{"filename": "a.tex", "usage": "ignore"}, {"filename": "b.tex", "usage": "toplevel"}]}
    )
    assert paper({"00README.json": told, "ms.tex": document % "m", "b.tex": document % "b"}).main == "b.tex"
    assert paper({"00README.XXX": "gone.tex toplevelfile", "ms.tex": document % "m"}).main == "ms.tex"
    assert paper({"a.tex": "no document", "b.tex": "none either"}).dropped == "no main file"
    plain = paper({"macros.tex": r"\def\x{y}", "letter.tex": "\\input macros \n\\newsec{A}\\x\\bye\n"})
    assert (plain.main, plain.text) == ("letter.tex", r"\newsec{A}y\bye")


def test_files_in_tar_order_would_be_another_text():
    files = {
        "a.tex": r"\section{Two}",
        "ms.tex": r"\documentclass{x}\begin{document}\section{One}\input{a}\end{document}",
    }
    assert paper(files).text == "\\section{One}\\section{Two}"
    assert "".join(files.values()).index("Two") < "".join(files.values()).index("One")


def test_a_subfile_that_is_a_document_gives_its_body():
    main = r"\documentclass{a}\begin{document}\section{A}\subfile{b}c\end{document}"
    part = "\\documentclass[ms]{subfiles}\\begin{document}\\section{B}b\\end{document}\n"
    assert paper({"ms.tex": main, "b.tex": part}).text == "\\section{A}\\section{B}b\nc"


@pytest.mark.parametrize(
    "declared, encoded, text",
    [
        ("latin1", "na\xefve".encode("latin-1"), "naïve"),
        ("latin1", "naïve".encode(), "naïve"),  # many say one and write the other
        ("utf8", b"\x93na\xefve\x94", "“naïve”"),  # a file that is not what the others are
        ("latin2", "Łódź".encode("iso8859-2"), "Łódź"),
        ("koi8-r", "граф".encode("koi8-r"), "граф"),
        ("latin1", b"\x81\xff", "\x81ÿ"),  # Windows-1252 has no 0x81
    ],
)
def test_no_encoding_costs_a_paper(declared, encoded, text):
    source = rf"\documentclass{{a}}\usepackage[{declared}]{{inputenc}}\begin{{document}}\section{{A}}".encode()
    assert paper({"ms.tex": source + encoded}).text == r"\section{A}" + text


def test_what_cannot_be_a_paper_is_said():
    assert paper({"": b"%auto-ignore\nwithdrawn"}).dropped == "withdrawn"
    assert paper({}).dropped == "no TeX"
    assert (
        paper({"": r"\begin{document}neither title nor section"}).dropped == "no section, title or abstract to start at"
    )
    assert paper({"": r"\begin{document}\maketitle\begin{abstract}a\end{abstract}"}).dropped == "empty"
    tenfold = "".join(rf"\def\{b}{{{a * 10}}}" for a, b in zip([rf"\{x}" for x in "abcdefgh"], "bcdefghi", strict=True))
    assert paper({"": r"\def\a{h}" + tenfold + r"\begin{document}\section{\b}"}).text == r"\section{hhhhhhhhhh}"
    assert paper({"": r"\def\a{h}" + tenfold + r"\begin{document}\section{\i}"}).error == "macros expand to too much"


def test_a_paper_that_takes_the_parser_down_costs_itself_only(monkeypatch):
    def one_fails(function, items, **limits):
        assert limits["workers"] == 3 and limits["seconds"] <= 20 and limits["megabytes"] <= 512
        for i, item in enumerate(items):
            yield item, Failure("took more than 20 s") if i == 0 else function(item)

    monkeypatch.setattr(arxiv, "run_guarded", one_fails)
    documents, account = read_all(SAMPLE, workers=3)
    assert len(documents) == 3 and account.errors == {"took more than 20 s": 1} and account.seen == 9


def test_packages_unpack_within_limits(monkeypatch):
    def unpacked(data: bytes):
        return unpack(io.BytesIO(data))

    assert unpacked(gzip.compress(tar({"../../etc/x.tex": b"a", "./b.tex": b"b", "c.eps": b"c", "d.tex": b"\0"}))) == {
        "../../etc/x.tex": b"a",
        "b.tex": b"b",
    }
    two = gzip.compress(rb"\one") + gzip.compress(b" two")
    assert unpacked(two) == unpacked(two + b"\0" * 99) == {"": rb"\one two"}
    for damaged, reason in [
        (gzip.compress(rb"\section" * 99)[:-9], "clipped gzip"),
        (gzip.compress(rb"\section" * 99)[:-8] + b"12345678", "broken gzip"),
        (b"no gzip at all", "not gzip"),
        (gzip.compress(tar({"a.eps": b"0" * 10**8})), "unpacks to too much"),
        (gzip.compress(tar({"a.tex": b"a" * 2000})[:1500]), "tar: truncated"),
    ]:
        with pytest.raises(Broken, match=f"^{reason}$"):
            unpacked(damaged)
    for other in (b"%PDF-1.4", b"%!PS", b"\x04%!PS", b"PK\3\4\0", b"<html>", b"a \\" + b"\0"):
        with pytest.raises(Dropped):
            unpacked(gzip.compress(other))
    data = random.Random(0).randbytes(1_900_000).hex().encode()
    with pytest.raises(Dropped, match=arxiv_package.TOO_MUCH_TEX):
        unpacked(gzip.compress(tar({"a.tex": data, "b.tex": data}), 1))
    monkeypatch.setattr(arxiv_package, "MAX_MEMBERS", 10)
    with pytest.raises(Broken, match="^more than 10 files$"):
        unpacked(gzip.compress(tar({str(i): b"" for i in range(12)})))


def test_a_clipped_dump_gives_what_came_before(in_process, tmp_path):
    data, (whole, _) = BULK.read_bytes(), read_all(BULK)
    path = tmp_path / BULK.name
    for end in [*range(0, 6144, 97), 512 * 9, 512 * 9 + 1]:
        path.write_bytes(data[:end])
        documents, account = read_all(path)
        assert list(documents.items()) == list(whole.items())[: len(documents)]
        assert account.errors.total() >= 1, f"cut at {end}: {account}"
    single = tmp_path / "1202.0001.tar.gz"
    packed = gzip.compress(tar({"ms.tex": rb"\documentclass{a}\begin{document}\section{A}b"}))
    for end in range(len(packed)):
        single.write_bytes(packed[:end])
        documents, account = read_all(single)
        assert not documents and account.errors.total() == 1


def test_wrong_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        next(read([tmp_path / "nowhere"]))
    with pytest.raises(ValueError, match="nothing to read in .*: looked for arXiv packages"):
        next(read([tmp_path]))
    (tmp_path / "a.jsonl.gz").touch()
    with pytest.raises(ValueError, match="a.jsonl.gz is none of the kinds read here by its name: arXiv packages"):
        next(read([tmp_path / "a.jsonl.gz"]))


def test_inputs_are_the_files_read(tmp_path):
    for name in ("b/1202.0001.gz", "a.tar", "notes.txt", "b/data.jsonl.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"123")
    (tmp_path / "link.tar").symlink_to(tmp_path / "a.tar")
    assert [entry[:2] for entry in inputs([tmp_path], {})] == [("a.tar", 3), ("b/1202.0001.gz", 3)]


def test_no_spoilt_dump_takes_the_reader_down(in_process, tmp_path):
    path = tmp_path / "arXiv_src_9901_001.tar"

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        read_all(path)

    words = [
        b"\0" * 512,
        b"ustar",
        b"99999999999",
        b"\x1f\x8b\x08",
        b"9901/a.gz",
        b"77777777777\0",
        b"%PDF",
        b"\x80\xff\xff",
    ]
    survive(
        parse, mutants([BULK.read_bytes()[:5120], (SAMPLE / "arXiv_src_1202_001.tar").read_bytes()[:6144]], words=words)
    )


def test_no_spoilt_package_takes_the_parser_down():
    def parse(data: bytes) -> None:
        try:
            files = unpack(io.BytesIO(gzip.compress(data, 1)))
        except (Dropped, Broken):
            return
        extract(Package({}, files, True)).text.encode()

    source = rb"\documentclass{article}\usepackage{a}\begin{document}\section{A}\input{b}\x{c}\end{document}"
    files = {
        "ms.tex": source,
        "a.sty": rb"\newcommand{\x}[1]{<#1>}",
        "b.tex": "é\n".encode("latin-1"),
        "00README.XXX": b"b",
    }
    words = [
        b"\0" * 512,
        b"\\input{ms}",
        b"\\input{b}",
        b"toplevelfile",
        b"\\documentclass",
        b"\\begin{document}",
        b"\xff",
    ]
    survive(parse, mutants([tar(files)[:5120], source], words=words))
