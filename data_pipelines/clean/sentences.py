"""Where an English sentence ends: a rule, for counting and for spans of sentences.

NLTK's Punkt learned its abbreviations from text and must be downloaded; ours are listed. A sentence ends at . ! or ? with
the quotes and brackets that close there, before white space and anything but a small letter; a full stop not after an
abbreviation, nor after a single capital (an initial)."""

import re

ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof rev hon sen rep gov gen col capt lt sgt cmdr st mt ft jr sr messrs "
    "jan feb mar apr jun jul aug sep sept oct nov dec vs etc viz cf al ca approx est dept univ inc ltd co corp bros "
    "vol vols pp ed eds fig figs eq eqs sec ch e.g i.e u.s u.k u.n ph.d".split()
)
END = re.compile(r"(?<![.!?])[.!?]++[\"'”’»)\]]*+\s++(?![a-z])")  # no step back, so that time stays linear
LONGEST = 12  # characters of an abbreviation with what may open before it


def split_sentences(line: str) -> list[str]:
    """The sentences of a line or paragraph, each stripped; none where it is blank."""
    sentences, start = [], 0
    for end in END.finditer(line):
        if line[end.start()] == "." and _is_abbreviation(line, start, end.start()):
            continue
        sentences.append(line[start : end.end()].strip())
        start = end.end()
    if rest := line[start:].strip():
        sentences.append(rest)
    return sentences


def _is_abbreviation(line: str, start: int, stop: int) -> bool:
    before = line[max(start, stop - LONGEST) : stop].split()
    word = before[-1].lstrip("\"'“‘«([") if before else ""
    return word.lower() in ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I")
