"""LaTeX as text: comments taken out as TeX ignores them, and a paper cut to what lies between front matter and bibliography."""

import re

# What is inside is no LaTeX: a % there is no comment and a backslash starts no macro.
VERBATIM = frozenset(
    "verbatim verbatim* Verbatim Verbatim* BVerbatim LVerbatim SaveVerbatim alltt lstlisting minted filecontents "
    "filecontents* rawhtml".split()
)
_NEW_VERBATIM = re.compile(r"\\(?:lstnewenvironment|DefineVerbatimEnvironment|newtcblisting)\s?\{([a-zA-Z]{1,80})\}")
CONTROL_WORD_END = re.compile(r"(?<!\\)(?:\\\\)*\\[a-zA-Z@]+\Z")
BRACE = re.compile(r"\\.|[{}]", re.S)
_BRACKET = re.compile(r"\\.|[{}\]]", re.S)
_NO_TEXT = str.maketrans({**dict.fromkeys(range(32)), 127: None, 9: "\t", 10: "\n", 12: "\n\n"})  # TeX: ^^L is \par
_VERB = re.compile(r"\*?(?:\[[^\]\n]*\])?([^a-zA-Z\s*\[{])")
_COMMENT_OR_NOT = re.compile(
    r"\\(?:\\|%|begin\s?\{([A-Za-z]+\*?)\}|(verb|lstinline)(?![a-zA-Z])|(?:url|path|nolinkurl|href)\s?\{[^{}\n]*\})|%"
)
_COMMENT_LINES = re.compile(r"(?:[ \t]*%[^\n]*(?:\n|\Z))+")
_COMMENT_AT_END = re.compile(r"%[^\n]*(?:\n[ \t]*%[^\n]*)*(?:\n[ \t]*)?")

_HEADING = re.compile(r"\\(?:(?:part|chapter|section)\*?\s?[\[{]|newsec\s?\{|beginsection(?![a-zA-Z]))")
# Plain TeX's formats: harvmac's \newsec, AMS-TeX's \head ... \endhead; their papers define \section themselves at times
_PLAIN_HEADING = re.compile(r"(?<!\\def)\\(?:newsec|beginsection|head|heading|section|chapter)(?![a-zA-Z])")
BEGIN_DOCUMENT = re.compile(r"\\begin\s?\{\s?document\s?\}")
_FRONT_ENDS = re.compile(
    r"\\(?:(?:maketitle|endtopmatter|endabstract)(?![a-zA-Z])|end\{(?:abstract|frontmatter|titlepage)\})"
)
_AFTER_FRONT = re.compile(r"\s*\\(?:maketitle(?![a-zA-Z])|(?:pacs|keywords|submitted|draft|preprint)\s?\{[^{}]*\})")
_ABSTRACT = re.compile(r"\\begin\{abstract\}|\\abstract\s?(?=\{)")
_TITLE = re.compile(r"\\title\*?\s?(?=[\[{])")
_BIBLIOGRAPHY = re.compile(
    r"(?:\\(?:section|chapter)\*?\{\s*(?:References|Bibliography|REFERENCES|BIBLIOGRAPHY)\s*\}\s*)?"
    r"\\(?:begin\{((?:mcite)?thebibliography\*?|references|bibdiv)\}"
    r"|(Refs)(?![a-zA-Z])|(?:bibliography|bibliographystyle)\s?\{[^{}]{0,2000}\}|printbibliography(?![a-zA-Z])(?:\[[^\]]{0,2000}\])?)"
)


def closing(text: str, start: int, optional: bool = False) -> int:
    """Where the { (with `optional`: the [) at `start` is closed; -1 where it never is."""
    depth = 0
    for token in (_BRACKET if optional else BRACE).finditer(text, start + optional):
        mark = token.group()
        if mark == "{":
            depth += 1
        elif mark == "}":
            depth -= 1
            if depth <= 0 and not optional:
                return token.start()
            if depth < 0:
                return -1
        elif mark == "]" and depth == 0:
            return token.start()
    return -1


def verb_end(text: str, start: int) -> int:
    r"""Where \verb|..| ends, given where its delimiter, star or [options] start; `start` where that is no \verb."""
    delimiter = _VERB.match(text, start)
    if delimiter is None:
        return start
    line_end = text.find("\n", delimiter.end())
    end = text.find(delimiter[1], delimiter.end(), line_end if line_end >= 0 else len(text))
    return end + 1 if end >= 0 else start


def normal_characters(text: str) -> str:
    """Newlines as LF, form feeds as the paragraph they are to TeX, no other control characters."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_NO_TEXT)


def verbatim_names(text: str) -> frozenset[str]:
    """The environments whose content is no LaTeX: the usual ones and those the text itself makes."""
    return VERBATIM.union(_NEW_VERBATIM.findall(text))


def strip_comments(text: str) -> str:
    r"""Without comments, as TeX reads on: a line that is one vanishes, and where one ends a line, the next line follows
    without its indentation. \% and the % of verbatim text and addresses stay."""
    if "%" not in text:
        return text
    kept: list[str] = []
    done = place = 0
    verbatim = verbatim_names(text)
    unclosed: set[str] = set()  # looked for once: many of them must not cost a search to the end each
    while found := _COMMENT_OR_NOT.search(text, place):
        place = found.end()
        if found.group() != "%":
            environment = found[1]
            if environment in verbatim and environment not in unclosed:
                end = text.find(f"\\end{{{environment}}}", place)
                if end < 0:
                    unclosed.add(environment)
                place = max(end, place)
            elif found[2]:
                place = verb_end(text, place)
            continue
        start = found.start()
        line = text.rfind("\n", done, start) + 1 or done
        if (line == 0 or text[line - 1] == "\n") and not text[line:start].strip(" \t"):
            kept.append(text[done:line])
            place = _span(_COMMENT_LINES, text, line)
        else:
            kept.append(text[done:start])
            place = _span(_COMMENT_AT_END, text, start)
            if text[place : place + 1] == "\n":
                kept.append("\n")  # an empty line after it still ends the paragraph
            elif text[place : place + 1].isalpha() and CONTROL_WORD_END.search(text, max(done, start - 64), start):
                kept.append(" ")  # \alpha%, then b on the next line: not \alphab
        done = place
    kept.append(text[done:])
    return "".join(kept)


def _span(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def paper_body(text: str, abstract: bool = False) -> str | None:
    """The paper from its first section on, without its bibliography, as LLaMA's authors and Lewkowycz et al. (2022) cut it.

    Letters have no sections, or only a last one: where the first comes after more than half of what follows title and
    abstract, the text starts there. None where neither tells where it starts. abstract: keep title and abstract too."""
    found = BEGIN_DOCUMENT.search(text)
    front, document = (text[: found.start()], text[found.end() :]) if found else ("", text)
    heading = (_HEADING if found else _PLAIN_HEADING).search(document)
    front_end = max((match.end() for match in _FRONT_ENDS.finditer(document)), default=-1)
    start = heading.start() if heading else -1
    if front_end >= 0 and (start < 0 or start - front_end > (len(document) - front_end) / 2):
        start = front_end
        while found := _AFTER_FRONT.match(document, start):
            start = found.end()
    if start < 0:
        return None
    kept = [_title(front + document)] if abstract else []
    if abstract_start := _ABSTRACT.search(document):
        end = _abstract_end(document, abstract_start)
        if abstract:
            kept.append(document[abstract_start.start() : end])
        if abstract_start.start() >= start:
            document = document[: abstract_start.start()] + document[end:]
        else:
            start = max(start, end)
    kept.append(_without_bibliography(document[start:]))
    return tidy("\n\n".join(kept))


def _title(text: str) -> str:
    found = _TITLE.search(text)
    if not found:
        return ""
    start = found.end()
    if text[start] == "[":  # the short one for the page heads
        start = closing(text, start, optional=True) + 1
    end = closing(text, start) if text[start : start + 1] == "{" else -1
    return f"\\title{text[start : end + 1]}" if end >= 0 else ""


def _abstract_end(text: str, found: re.Match[str]) -> int:
    if not found.group().startswith(r"\begin"):
        return max(closing(text, found.end()) + 1, found.end())
    end = text.find(r"\end{abstract}", found.end())
    return end + len(r"\end{abstract}") if end >= 0 else found.end()


def _without_bibliography(text: str) -> str:
    kept, done = [], 0
    while found := _BIBLIOGRAPHY.search(text, done):
        kept.append(text[done : found.start()])
        done = found.end()
        if found[1] or found[2]:
            mark = f"\\end{{{found[1]}}}" if found[1] else r"\endRefs"
            end = text.find(mark, done)
            done = end + len(mark) if end >= 0 else len(text)
    kept.append(text[done:])
    return "".join(kept)


def tidy(text: str) -> str:
    """No blanks at line ends, one empty line between paragraphs, none around the text."""
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()
