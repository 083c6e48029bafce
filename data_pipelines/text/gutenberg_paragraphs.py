"""A book's hard-wrapped lines as paragraphs; verse, tables and title pages stay as they are, credits and notes go."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from data_pipelines.text.gutenberg_markers import mentions_project

FRONT_BLOCKS = 15  # among the first so many blocks a credit is looked for
NOTE_BLOCKS = 60  # the longest transcriber's note that is believed to be one; at the front, a quarter of that
CREDIT = re.compile(
    r"\W{0,5}(?:(?:this|the)\s+)?(?:e-?text|e-?book|file|html\s+version|internet\s+wiretap)?\s?(?:edition\s+)?"
    r"(?:(?:was|is|has\s+been)\s+)?(?:originally\s+)?(?:produced|prepared|transcribed|scanned|proofed|proofread|created"
    r"|entered(?!\s+according)|digiti[sz]ed|typed|provided|keyed)\b.{0,60}?\b(?:by|from|through)\b",
    re.IGNORECASE | re.DOTALL,
)
THANKS = re.compile(
    r"special\s+thanks\b.{0,200}\b(?:proofread|e-?text)|\(?this\s+file\s+was\s+produced\s+from"
    r"|(?:we\s+thank|nous\s+remercions)\b.{0,200}\b(?:images|gallica)",
    re.IGNORECASE | re.DOTALL,
)
NOTE = re.compile(
    r"[\W_]{0,90}(?:(?:original\s+)?transcriber['’]?s?['’]?\s+(?:end)?-?notes?\b|transcription\s+notes?\b"
    r"|notes?\s+(?:du|de|sur|del|di)\s+(?:la\s+)?trans?cri(?:pteur|ption)|nota\s+del?\s+transcriptor"
    r"|note\s+del\s+trascrittore|anmerkungen?\s+(?:zur|des)\s+transkri|opmerkingen?\s+van\s+de\s+(?:be|trans))",
    re.IGNORECASE,
)
ADDRESS = re.compile(
    r"[\W_]{0,90}(?:au\s+lecteur|to\s+the\s+reader|notes?|avis|hinweise?|corrections?)\W*", re.IGNORECASE
)
ABOUT_THE_FILE = re.compile(  # said below a heading that authors use too
    r"livre\s+électronique|version\s+électronique|erreurs?\s+typographiques?|[_=](?:italiques?|italics?|gras|bold)[_=]"
    r"|e-?book\b|e-?text\b|typographical\s+errors|printer['’]?s['’]?\s+errors|druckfehler\s+wurden",
    re.IGNORECASE,
)
INLINE_NOTE = re.compile(r"\[(?:transcriber['’]?s?|tr\.)\s+note[^\]]{0,2000}\]", re.IGNORECASE)
PAGE = re.compile(r"( ?)(?:\[(?:pg|page|p)\.? ?\d{1,4}\]|\{(?:pg|page|p)\.? ?\d{1,4}\})( ?)", re.IGNORECASE)
BRACED = re.compile(r"\{(\d{1,4})\} {0,2}")
ILLUSTRATION = re.compile(r"\[Illustrations?(?:: ?([^\[\]]{0,3000}))?\]|\[Blank Page\]", re.IGNORECASE)
CAPTION = re.compile(r"\[Illustrations?: ?", re.IGNORECASE)
ITALIC = re.compile(r"(?<!\w)_([^_]++)_|_([^_]++)_(?!\w)")
BOLD = re.compile(r"(?<![\w=])=(?=[^\s=])([^=]++)(?<=\S)=(?![\w=])")
SUSPENDED = {"und", "oder", "bis", "sowie", "en", "of", "and", "or", "to", "et", "ou", "y", "e"}


class Block(NamedTuple):
    """Lines between blank ones, and how many blank ones stood before them."""

    gap: int
    lines: list[str]


def split_blocks(lines: Sequence[str]) -> list[Block]:
    """The blocks of a body, without page numbers: `[Pg 12]` anywhere, `{12}` where most such numbers occur only once
    (a footnote's number occurs twice, at its place and at the note)."""
    numbers = Counter(number for line in lines if "{" in line for number in BRACED.findall(line))
    paged = len(numbers) >= 3 and sum(1 for count in numbers.values() if count == 1) > len(numbers) / 2
    blocks: list[Block] = []
    block: list[str] = []
    gap, page = 0, False
    for line in lines:
        kept = PAGE.sub(lambda found: found[1] or found[2], line) if "[" in line or "{" in line else line
        if paged and "{" in kept:
            kept = BRACED.sub("", kept)
        if kept.strip():
            if page and not block and blocks and blocks[-1].lines[-1][-1] not in ".!?:" and kept.lstrip()[0].islower():
                gap, block = blocks.pop()  # the paragraph goes on after the page's number
            block.append(kept.rstrip())
            page = False
        elif line.strip():
            page = True
        else:
            if block:
                blocks.append(Block(gap, block))
                block, gap = [], 0
            gap += 1
    return [*blocks, Block(gap, block)] if block else blocks


def drop_foreign(blocks: Sequence[Block]) -> list[Block]:
    """The blocks without credits, transcribers' notes, and whatever names Project Gutenberg: nothing of it is the author's.

    A note lasts from its heading to the next gap of three lines, two at the front, or to its closing bracket."""
    kept = []
    i = 0
    while i < len(blocks):
        text = " ".join(blocks[i].lines)
        if NOTE.match(text[:200]) or (ADDRESS.fullmatch(text[:200]) and _about_the_file(blocks[i + 1 : i + 2])):
            i = _note_end(blocks, i)
        elif not (
            mentions_project(text)
            or (i < FRONT_BLOCKS and len(blocks[i].lines) < 13 and (CREDIT.match(text) or THANKS.match(text)))
        ):
            kept.append(blocks[i])
        i += 1
    for place in (0, -1):
        while kept and not any(map(str.isalnum, "".join(kept[place].lines))):  # the rule below the credits
            del kept[place]
    return kept


def _about_the_file(blocks: Sequence[Block]) -> bool:
    return any(ABOUT_THE_FILE.search(" ".join(block.lines)) for block in blocks)


def _note_end(blocks: Sequence[Block], first: int) -> int:
    """The last block of the note that begins with block `first`; that one alone, if no end is near."""
    bracketed = blocks[first].lines[0].lstrip().startswith("[")
    front = first < FRONT_BLOCKS
    gap = 2 if front else 3
    text = first + 1 if len(blocks[first].lines) == 1 else first  # a heading may stand away from its text
    depth = 0
    for i in range(first, min(first + (FRONT_BLOCKS if front else NOTE_BLOCKS), len(blocks))):
        if i > text and not bracketed and blocks[i].gap >= gap:
            return i - 1
        for line in blocks[i].lines:
            depth += line.count("[") - line.count("]")
        if bracketed and depth <= 0:
            return i
    to_the_end = not bracketed and not front and first + NOTE_BLOCKS >= len(blocks)
    return len(blocks) - 1 if to_the_end else first


def wrap_width(blocks: Iterable[Block]) -> int:
    """The column at which the book's prose was wrapped: nine tenths of the lines that go on end at or before it.

    A book that seems to be wrapped before column 55 is one of verse; what prose it has, has the usual width."""
    widths = sorted(len(line) for block in blocks if len(block.lines) > 2 for line in block.lines[:-1])
    width = widths[len(widths) * 9 // 10] if widths else 0
    return width if width >= 55 else 72


def is_prose(lines: Sequence[str], width: int) -> bool:
    """Whether lines were broken because they were full, and not because a verse, a row or a title ends there.

    A line was full if the next line's first word would have gone beyond the longest line. Wide lines that are not
    indented are prose if half of them were about full; indented or narrow ones if nearly all were, and if they neither
    begin with capitals nor end with a comma or stop as often as verse does. One blank too many is no indent."""
    indents = {0 if indent < 2 else indent for line in lines[1:] for indent in [len(line) - len(line.lstrip())]}
    if len(lines) < 2 or len(indents) > 1 or sum(1 for line in lines if "   " in line.strip()) * 3 > len(lines):
        return False
    longest = max(map(len, lines))
    pairs = list(zip(lines, lines[1:], strict=False))
    indented, narrow = indents != {0}, longest < 0.8 * width
    slack = 0 if indented or narrow else 0.15 * longest
    full = sum(1 for line, after in pairs if _reach(line, after) > longest - slack) / len(pairs)
    starts = sum(1 for _, after in pairs if re.match(r"\W*[A-ZÀ-ÞŒ0-9]", after)) / len(pairs)
    stops = sum(1 for line, _ in pairs if line[-1] in ",;.:!?") / len(pairs)
    if not indented and not narrow:
        return full >= 0.5 and (len(lines) == 2 or starts <= 0.8 or full >= 0.9)
    if narrow and (len(lines) < 4 or longest - min(indents) < 40):
        return False
    return full >= (0.95 if narrow else 0.75) and starts <= 0.8 and (stops <= 0.4 or len(lines) < 4)


def _reach(line: str, after: str) -> int:
    """How long a line would have been with the next line's first word."""
    return len(line) + 1 + len(after.split(None, 1)[0])


def join(lines: Sequence[str]) -> str:
    """One paragraph of wrapped lines; one that is far too short to be full ends where it ends.

    A hyphen at a line's end stays, for most belong to the word (`to-day`)."""
    longest = max(map(len, lines))
    text = lines[0].strip()
    for before, line in zip(lines, lines[1:], strict=False):
        more = line.strip()
        word = more.split(None, 1)[0]
        hyphen = text[-1:] == "-" and text[-2:-1].isalpha() and more[0].isalpha() and word.lower() not in SUSPENDED
        dash = text[-1:] == "—" or more[0] == "—" or (text[-2:] == "--" and text[-3:-2] != " ") or more[:2] == "--"
        if _reach(before, more) < 0.65 * longest:
            text += "\n" + more
        else:
            text += more if hyphen or dash else " " + more
    return re.sub(" {2,}", " ", text)


def paragraphs(blocks: Sequence[Block]) -> Iterator[str]:
    """The text of each block: prose on one line, all else line by line with the indents that tell the lines apart.

    Captions of illustrations stay, their brackets go; so do the signs for _italic_ and =bold= letters."""
    width = wrap_width(blocks)
    in_caption = False
    for block in blocks:
        if is_prose(block.lines, width) or (len(block.lines) == 1 and "   " not in block.lines[0].strip()):
            text = join(block.lines)
        else:
            indent = min(len(line) - len(line.lstrip()) for line in block.lines)
            text = "\n".join(line[indent:] for line in block.lines)
        if "[" in text:
            text = ILLUSTRATION.sub(lambda found: found[1] or "", INLINE_NOTE.sub("", text))
            if in_caption := CAPTION.match(text) is not None and "]" not in text:  # of several paragraphs
                text = CAPTION.sub("", text, count=1)
        elif in_caption and text.endswith("]"):
            text, in_caption = text[:-1], False
        if "_" in text:
            text = ITALIC.sub(lambda found: found[1] or found[2], text)
        if "=" in text:
            text = BOLD.sub(r"\1", text)
        text = "\n".join(line.rstrip() for line in text.split("\n") if line.strip())
        if text:
            yield text if "\n" in text else text.strip()
