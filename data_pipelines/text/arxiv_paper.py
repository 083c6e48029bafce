"""One paper's files made one text: the main file found, the others read into it, its macros written out, its body kept."""

import json
import posixpath
import re
from typing import Any, NamedTuple

from data_pipelines.text.latex import expand
from data_pipelines.text.latex_input import TooMuch
from data_pipelines.text.latex_text import BEGIN_DOCUMENT, normal_characters, paper_body, strip_comments

MAX_TEXT = 8_000_000  # characters; a thesis of 500 pages has some 1.5 million
# What a paper's own file is called as a rule, the commonest first.
MAIN_NAMES = ("ms", "main", "paper", "article", "manuscript")
# What \usepackage[..]{inputenc} calls an encoding, where a file is not UTF-8; latin1 is read as its superset.
ENCODINGS = {
    "latin2": "iso8859-2", "latin3": "iso8859-3", "latin4": "iso8859-4", "latin5": "iso8859-9", "latin9": "iso8859-15",
    "latin10": "iso8859-16", "cp1250": "cp1250", "cp1251": "cp1251", "cp1257": "cp1257", "cp437": "cp437",
    "cp850": "cp850", "cp852": "cp852", "cp866": "cp866", "koi8-r": "koi8-r", "koi8-u": "koi8-u", "applemac": "mac_roman",
}  # fmt: skip
_INPUTENC = re.compile(rb"\\usepackage\s?\[([a-z0-9-]{1,20})\]\s?\{inputenc\}")
_CLASS = re.compile(r"\\document(?:class|style)(?![a-zA-Z])\s?(?:\[[^\]]*\]\s?)?(?:\{\s?(standalone|subfiles)?)?")
_INPUT = re.compile(r"\\(?:input|include|subfile)\s?\{\s?([^{}\n]{1,200}?)\s?\}")
_ENDS_TEX = re.compile(r"\\(?:bye|end|enddocument)(?![a-zA-Z])\s?\Z")


class Package(NamedTuple):
    """A paper as it came: what is known of it besides its files, these by their paths, and whether title and abstract are
    to be kept."""

    metadata: dict[str, Any]
    files: dict[str, bytes]
    abstract: bool


class Paper(NamedTuple):
    """Its text and what it was made of; or why there is none, as a rule (dropped) or for a fault (error)."""

    text: str = ""
    main: str = ""
    missing: tuple[str, ...] = ()
    dropped: str = ""
    error: str = ""


def extract(package: Package) -> Paper:
    """The text of one paper: LaTeX still, from its first section on, without bibliography, comments and macros."""
    files = _Files(package.files)
    if not files.raw:
        return Paper(dropped="withdrawn" if package.files else "no TeX")
    main = files.main()
    if main is None:
        return Paper(dropped="no main file")
    files.folder = posixpath.dirname(main)
    try:
        text = expand(files.text(main), files.load, sum(map(len, files.raw.values())))
    except TooMuch:
        return Paper(error="macros expand to too much")
    body = paper_body(text, package.abstract)
    if body is None:
        return Paper(dropped="no section, title or abstract to start at")
    if not body:
        return Paper(dropped="empty")
    if len(body) > MAX_TEXT:
        return Paper(error=f"more than {MAX_TEXT // 10**6} MB of text")
    return Paper(body, main, tuple(sorted(files.missing)[:20]))


class _Files:
    def __init__(self, raw: dict[str, bytes]):
        # a file that opens so is none of the paper's to arXiv either; alone, it is the notice of a withdrawal
        self.raw = {name: data for name, data in raw.items() if not data.lstrip()[:40].startswith(b"%auto-ignore")}
        self.texts: dict[str, str] = {}
        self.missing: set[str] = set()
        self.folder = ""
        declared = next((found[1].decode() for data in self.raw.values() if (found := _INPUTENC.search(data))), "")
        self.encoding = ENCODINGS.get(declared, "cp1252")
        self.lower = {name.lower(): name for name in sorted(self.raw, reverse=True)}
        self.base = {posixpath.basename(name).lower(): name for name in sorted(self.raw, reverse=True)}

    def text(self, name: str) -> str:
        """A file without comments; UTF-8 where it is that, else in the encoding the paper declares, else Windows-1252."""
        if name not in self.texts:
            data = self.raw[name]
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError:
                try:
                    text = data.decode(self.encoding)
                except UnicodeDecodeError:
                    text = data.decode("latin-1")
            self.texts[name] = strip_comments(normal_characters(text))
        return self.texts[name]

    def load(self, name: str, suffix: str) -> tuple[str, str] | None:
        r"""(path, text) of what \input{name} and the like read: below the main file's folder, else of that name anywhere."""
        path = self.find(name, suffix)
        if path is None:
            if suffix == ".tex":
                self.missing.add(name)
            return None
        text = self.text(path)
        if suffix == ".tex" and (
            begin := BEGIN_DOCUMENT.search(text)
        ):  # a subfile that is a document by itself as well
            end = text.rfind(r"\end{document}", begin.end())
            text = text[begin.end() : end if end >= 0 else len(text)]
        return path, text if text.endswith("\n") else text + "\n"

    def find(self, name: str, suffix: str) -> str | None:
        name = name.strip("\"' ")
        wanted = posixpath.normpath(posixpath.join(self.folder, name)).lstrip("/").lower()
        for names, key in ((self.lower, wanted), (self.base, posixpath.basename(wanted))):
            for candidate in (key + suffix, key):
                if candidate in names and (suffix == ".tex" or candidate.endswith(suffix)):
                    return names[candidate]
        return None

    def main(self) -> str | None:
        """The paper's own file: what its 00README says, else of those that are documents the one with a usual name, the
        highest folder, the most text; else the one plain TeX file."""
        told = self._told()
        if told:
            return told
        names = [name for name in self.raw if not name.lower().endswith((".sty", ".cls", ".clo", ".def", ".bst"))]
        documents = [name for name in names if self._is_document(name)]
        if documents:
            return min(documents, key=self._rank)
        if len(self.raw) == 1:
            return names[0] if names else None
        plain = [name for name in names if _ENDS_TEX.search(self.text(name).rstrip())]
        return max(plain, key=lambda name: (len(self.raw[name]), name)) if plain else None

    def _told(self) -> str | None:
        for name in sorted(self.raw):
            if posixpath.basename(name).upper() in ("00README.JSON", "00README.XXX", "00README"):
                self.folder = posixpath.dirname(name)
                found = self.find(_toplevel(self.raw[name]), ".tex")
                if found:
                    return found
        return None

    def _is_document(self, name: str) -> bool:
        if name.lower().endswith(".txt"):
            return False
        text = self.text(name)
        found = _CLASS.search(text)
        return found is not None and not found[1] and BEGIN_DOCUMENT.search(text) is not None

    def _rank(self, name: str) -> tuple[int, int, int, str]:
        stem = posixpath.splitext(posixpath.basename(name))[0].lower()
        self.folder = posixpath.dirname(name)
        parts = {self.find(part, ".tex") for part in _INPUT.findall(self.text(name))}
        size = sum(len(self.raw[part]) for part in parts | {name} if part)
        return MAIN_NAMES.index(stem) if stem in MAIN_NAMES else len(MAIN_NAMES), name.count("/"), -size, name


def _toplevel(readme: bytes) -> str:
    """The main file a 00README names: as JSON, or as lines of "name keyword"."""
    try:
        sources = json.loads(readme)["sources"]
        return next(str(source["filename"]) for source in sources if source.get("usage") == "toplevel")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration):
        pass
    for line in readme.decode("latin-1").splitlines()[:1000]:
        words = line.split()
        if len(words) == 2 and words[1] == "toplevelfile":
            return words[0]
    return "?"
