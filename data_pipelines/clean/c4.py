"""C4's rules for a page of web text (Raffel et al. 2020, section 2.2), with the details its authors' code adds.

Where paper and code differ the code counts, since it made the set that was released (TensorFlow Datasets, c4_utils.py):
a line needs 5 words and a page 3 sentences (the paper's first version said 3 and 5), lines of cookie notices go, and so
do words above 1,000 characters; lorem ipsum and { condemn a page only in lines that the other rules would keep.

Deviations of ours: blanks that a removed [1] leaves at the end are stripped, where theirs make the line end in no
punctuation; sentences are counted by a rule and not by NLTK's Punkt, which needs a download. The marks that end a line
are those of languages like English: of Japanese, say, the rules leave nothing."""

import re
from collections.abc import Callable, Iterable

from data_pipelines.clean.seen import Seen
from data_pipelines.clean.sentences import split_sentences

END_MARKS = (".", "?", "!", '"')
CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
LONGEST_WORD = 1000  # characters; the rule is for data and code without blanks
LONGEST_PAGE = 190_000  # characters, before any rule
WORD = re.compile(r"\w+")


def clean_page(text: str, min_words: int = 5, min_sentences: int = 3) -> tuple[str, str]:
    """(the lines worth keeping, ""), or ("", why the page goes).

    min_words: of a line; min_sentences: of what is left of the page."""
    if len(text) > LONGEST_PAGE:
        return "", f"longer than {LONGEST_PAGE:,} characters"
    lines = [line for line in text.splitlines() if len(line) <= LONGEST_WORD or not _has_long_word(line)]
    text = "\n".join(lines)
    if "[" in text:
        text = CITATION.sub("", text)
    lowered = text.lower()
    # Few pages hold any of these: then no line needs to be looked at for them.
    javascript, lorem, brace = "javascript" in lowered, "lorem ipsum" in lowered, "{" in text
    policies = [policy for policy in POLICIES if policy in lowered]
    kept = []
    for line in map(str.strip, text.split("\n")):
        if not line.endswith(END_MARKS) or line.endswith("...") or len(line.split(None, min_words - 1)) < min_words:
            continue
        if lorem and "lorem ipsum" in line.lower():
            return "", "lorem ipsum"
        if javascript and "javascript" in line.lower():
            continue
        if brace and "{" in line:
            return "", "curly bracket"
        if policies and any(policy in line.lower() for policy in policies):
            continue
        kept.append(line)
    return ("\n".join(kept), "") if has_sentences(kept, min_sentences) else ("", "too few sentences")


def has_sentences(lines: Iterable[str], least: int) -> bool:
    """Whether lines hold so many sentences. Each line holds one at least, so few need to be looked into."""
    lines = list(lines)
    return len(lines) >= least or sum(len(split_sentences(line)) for line in lines) >= least


def _has_long_word(line: str) -> bool:
    return max(map(len, line.split()), default=0) > LONGEST_WORD


def bad_word_rule(words: Iterable[str]) -> Callable[[str], bool]:
    """A judge of texts: True where one holds any of the words or phrases, in small or capital letters, standing alone."""
    listed = {word.strip().lower() for word in words} - {""}  # a blank line in a list would match every page
    patterns: dict[str, list[re.Pattern[str]]] = {}  # by a phrase's first word: only texts that hold it are searched
    for phrase in sorted(listed):
        first = WORD.search(phrase)
        patterns.setdefault(first[0] if first else "", []).append(re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)"))

    def has_bad_word(text: str) -> bool:
        if not patterns:
            return False
        text = text.lower()
        possible = patterns.keys() & {"", *WORD.findall(text)}
        return any(pattern.search(text) for word in possible for pattern in patterns[word])

    return has_bad_word


def drop_seen_lines(text: str, seen: Seen) -> str:
    """The text without lines that came before, here or in an earlier page, in small or capital letters: the code's rule."""
    return "\n".join(line for line in text.split("\n") if seen.add(line.strip().lower()))


def drop_seen_spans(text: str, seen: Seen, sentences: int = 3) -> str:
    """The text without spans of so many sentences that came before, here or in an earlier page: the paper's rule.

    Every sentence of a repeated span goes; what is left of a line stays."""
    lines = [split_sentences(line) for line in text.split("\n")]
    flat = [sentence.lower() for line in lines for sentence in line]
    repeated = [False] * len(flat)
    for i in range(len(flat) - sentences + 1):
        if not seen.add("\n".join(flat[i : i + sentences])):
            repeated[i : i + sentences] = [True] * sentences
    if not any(repeated):
        return text
    goes = iter(repeated)
    left = (" ".join([sentence for sentence in line if not next(goes)]) for line in lines)
    return "\n".join(line for line in left if line)
