"""The rules a source file must pass, after RedPajama's GitHub set.

Limits: https://github.com/togethercomputer/RedPajama-Data/tree/rp_v1/data_prep/github (lines, letters, extensions)."""

import re

MAX_LINE = 1000  # characters, RedPajama
MAX_MEAN_LINE = 100  # characters, RedPajama
MIN_ALPHANUMERIC = 0.25  # of all characters, RedPajama
MIN_LETTERS_PER_TOKEN = 1.5  # RedPajama, whose tokens are GPT-NeoX-20B's; see `tokens` for ours
HEAD = 3000  # characters at a file's start in which a generator says so

LANGUAGES = {  # RedPajama's extensions; case counts for C and H, which are C++
    ".asm": "Assembly", ".bat": "Batchfile", ".cmd": "Batchfile", ".c": "C", ".h": "C", ".cs": "C#", ".cpp": "C++",
    ".hpp": "C++", ".c++": "C++", ".h++": "C++", ".cc": "C++", ".hh": "C++", ".C": "C++", ".H": "C++", ".cmake": "CMake",
    ".css": "CSS", ".dockerfile": "Dockerfile", ".f90": "Fortran", ".f": "Fortran", ".f03": "Fortran", ".f08": "Fortran",
    ".f77": "Fortran", ".f95": "Fortran", ".for": "Fortran", ".fpp": "Fortran", ".go": "Go", ".hs": "Haskell",
    ".html": "HTML", ".java": "Java", ".js": "JavaScript", ".jl": "Julia", ".lua": "Lua", ".md": "Markdown",
    ".markdown": "Markdown", ".php": "PHP", ".php3": "PHP", ".php4": "PHP", ".php5": "PHP", ".phps": "PHP", ".phpt": "PHP",
    ".pl": "Perl", ".pm": "Perl", ".pod": "Perl", ".perl": "Perl", ".ps1": "PowerShell", ".psd1": "PowerShell",
    ".psm1": "PowerShell", ".py": "Python", ".rb": "Ruby", ".rs": "Rust", ".sql": "SQL", ".scala": "Scala", ".sh": "Shell",
    ".bash": "Shell", ".command": "Shell", ".zsh": "Shell", ".ts": "TypeScript", ".tsx": "TypeScript", ".tex": "TeX",
    ".vb": "Visual Basic", ".xml": "XML", ".rst": "reStructuredText", ".m": "Objective-C or MATLAB", ".smali": "Smali",
}  # fmt: skip
FILES = {"Dockerfile": "Dockerfile", "Makefile": "Makefile"}

GENERATED = re.compile(
    r"^[ \t]*(?://|#|/?\*+|--|;|%|!|<!--|\"\"\"|\.\.|rem\b|'|\{-)[^\n]{0,300}?"
    r"(?:\bdo not (?:edit|modify|change)\b|@generated\b|\bauto-?(?:matically )?generated\b|\bgenerated (?:by|from|using|with)\b"
    r"|\bmachine[- ]generated\b|<auto-?generated)",
    re.I | re.M,
)
GENERATED_NAME = re.compile(
    r"(?:_pb2(?:_grpc)?\.py|\.pb(?:\.gw)?\.(?:go|cc|h)|_pb\.js|\.designer\.cs|\.g\.cs|\.generated\.\w+|zz_generated\..*\.go)$",
    re.I,
)
MINIFIED_NAME = re.compile(r"[.-]min\.(?:js|css|html)$", re.I)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
ALPHANUMERIC = re.compile(r"[^\W_]+")
LETTERS = re.compile(r"[^\W\d_]+")
OTHER_TOKENS = re.compile(r"\d{1,3}|[^\w\s]{1,3}|_+|\n\s*|[ \t]{2,}")
LETTERS_PER_WORD_TOKEN = 3.9  # in source code, where the estimate then is 6% off at the median
WORD_TOKENS = [
    max(1.0, length / LETTERS_PER_WORD_TOKEN) for length in range(MAX_LINE + 1)
]  # a line holds no longer word


def language(path: str) -> str | None:
    """The programming language of a path, None where its extension is not on the list."""
    name = path.rpartition("/")[2]
    if name in FILES or name.endswith(tuple("." + file for file in FILES)):
        return FILES[name.rpartition(".")[2]]
    stem, dot, extension = name.rpartition(".")
    if not stem:  # ".md" is a hidden file without an extension
        return None
    return LANGUAGES.get(dot + extension) or LANGUAGES.get(dot + extension.lower())


def decode(raw: bytes) -> str:
    """The text of a file with "\\n" lines and none of their trailing blanks; ValueError with the reason where it is none.

    Blank lines stay as they are: in code they say something."""
    if raw.startswith(LFS_POINTER):
        raise ValueError("Git LFS pointer")
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in raw and not wide:
        raise ValueError("binary")
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("binary" if wide else "not UTF-8") from None
    if "\0" in text:
        raise ValueError("binary")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def tokens(words: list[str], text: str) -> float:
    """An estimate of GPT-NeoX-20B's tokens in a text with these words, without a tokenizer: words by their length, figures
    in threes, punctuation in runs of up to three, indentation by the line."""
    return sum(map(WORD_TOKENS.__getitem__, map(len, words))) + len(OTHER_TOKENS.findall(text))


def judge_name(path: str) -> str | None:
    """Why a path alone is reason enough to leave the file out, None where it is not."""
    if language(path) is None:
        return "another extension"
    if MINIFIED_NAME.search(path):
        return "minified"
    return "generated" if GENERATED_NAME.search(path) else None


def is_generated(text: str) -> bool:
    """Whether a comment at the file's start says that a program wrote the file. Ask before the header is taken off."""
    return bool(GENERATED.search(text[:HEAD]))


def judge_text(text: str) -> str | None:
    """Why a file's text (lines parted by "\\n") is not kept, None where it is."""
    if not text.strip():
        return "empty"
    longest = max(map(len, text.split("\n")))
    if longest > MAX_LINE:
        return f"a line longer than {MAX_LINE} characters"
    if len(text) / (text.count("\n") + 1) > MAX_MEAN_LINE:
        return f"lines longer than {MAX_MEAN_LINE} characters on average"
    if sum(map(len, ALPHANUMERIC.findall(text))) < MIN_ALPHANUMERIC * len(text):
        return f"less than {MIN_ALPHANUMERIC:.0%} letters and figures"
    words = LETTERS.findall(text)
    if sum(map(len, words)) < MIN_LETTERS_PER_TOKEN * tokens(words, text):
        return f"fewer than {MIN_LETTERS_PER_TOKEN} letters a token"
    return None
