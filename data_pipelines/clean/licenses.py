"""Which licence a text is, names or states: MIT, BSD and Apache by their own words, all others so that they are refused.

A verdict is the SPDX expression of what may be kept ("MIT", "Apache-2.0 OR BSD-2-Clause"), OTHER for a licence that may
not, or UNKNOWN. Nothing is kept by resemblance alone: words that a text adds to its licence must be harmless."""

import re
from collections import Counter
from functools import cache
from typing import NamedTuple

from data_pipelines.clean import license_texts as texts

OTHER, UNKNOWN = "another licence", "licence not recognised"
MAX_CHARACTERS = 200_000  # five times the GPL; a longer "licence" is no licence
MAX_PASSAGES = 20  # licences in one text, each of which costs a comparison
ADDED_WORDS = (
    12  # a licence's own words in another's text: "this package", "(including the next paragraph)", typing errors
)
LOST_WORDS = 12
FREE_WORDS = 80  # around a licence: the project's name, a sentence of thanks, addresses
SHORT_WORDS = 80  # a text without any licence in it, that only says which one it is

COPYRIGHT_LINE = re.compile(  # not the licences' own lines: "copyright notice", "(c) You must retain"
    r"^\W*(?:\w+ ){0,2}(?:copyrights?\b(?!.{0,3}\b(?:holder|notice|owner|statement|licen|law|and this|interest))"
    r"|\(c\)\W*(?:\d|copyright)|©|all rights reserved|spdx-)",
    re.I,
)
TOKEN = re.compile(r"[^\W_]{2,}")
# what a licence may not gain without becoming another one
RESTRICTING = frozenset(
    """academic additional additionally advertising ai another commercial condition conditions consent educational ethical
    evil except exception exclude excluded excluding forbidden government may military must non noncommercial nor not
    nuclear only patent patents permission personal prohibited provided purchase research restricted restriction
    restrictions royalty sell shall train training unless without""".split()
)
# figures of speech of other licences; a text with one of them is not ours to keep
OTHERS = re.compile(
    "|".join(
        (
            r"gnu (?:\w+ )?(?:general|library|lesser|affero|free)|\b[al]?gpl|mozilla public|\bmpl\b|eclipse public|\bepl\b",
            r"creative commons|\bcc (?:by|0)\b|\bcc0|common development and distribution|\bcddl|\bartistic\b|\bosl\b",
            r"boost software|\bbsl\b|academic free|european union public|\beupl|python software foundation license",
            r"\bpsfl?\b|\bcnri\b|what the fuck|\bwtfpl|server side public|\bsspl|business source|\bbusl|commons clause",
            r"microsoft (?:public|reciprocal)|public domain|\bunlicense|\bisc\b|internet (?:systems|software) consortium",
            r"any purpose with or without fee|any purpose and without fee|\b0bsd|altered source versions|\bzlib\b",
            r"good not evil|advertising materials mentioning|bsd (?:4|original|3 clause clear)|4 clause bsd|hippocratic",
            r"polyform|elastic license|openssl license|\bofl\b|open font license|apache (?:software )?(?:license )?1\b",
            r"mit (?:0|no attribution|cmu)\b|proprietary|\bhpnd\b|\bjson license|non ?commercial",
        )
    )
)
MENTIONS = {  # in running text, lower case, punctuation gone
    "MIT": re.compile(r"\b(?:mit|expat) (?:open source )?(?:style )?license|license mit\b|\bmit licensed"),
    "Apache-2.0": re.compile(r"\bapache (?:software )?(?:license|v?2)|license apache\b"),
    "BSD-3-Clause": re.compile(r"\b(?:new|modified|revised|3 clause|three clause) bsd\b|\bbsd 3"),
    "BSD-2-Clause": re.compile(r"\b(?:simplified|2 clause|two clause) bsd\b|\bbsd 2"),
    "BSD": re.compile(r"\bbsd (?:style )?license|license bsd\b"),
}


class Template(NamedTuple):
    spdx: str  # "" for words that go with a licence and are none
    start: str
    end: str
    words: list[str]
    phrases: frozenset[tuple[str, ...]]


def identify(text: str) -> str:
    """The verdict on a whole licence file: every licence in it must be known, and what is left over be harmless."""
    if len(text) > MAX_CHARACTERS:
        return UNKNOWN
    words = _plain(text)
    found = []
    for _ in range(MAX_PASSAGES):
        passage = _first_passage(words)
        if passage is None:
            break
        start, end, spdx = passage
        if spdx == UNKNOWN:
            return OTHER if OTHERS.search(words) else UNKNOWN
        words = f"{words[:start]} {words[end:]}"
        found += [spdx] if spdx else []
    if OTHERS.search(words):
        return OTHER
    rest = words.split()
    if not found:
        return mentioned(text) if len(rest) <= SHORT_WORDS else UNKNOWN
    if len(rest) > FREE_WORDS or not RESTRICTING.isdisjoint(rest) or _first_passage(words):
        return UNKNOWN
    return " AND ".join(sorted(set(found)))


def mentioned(text: str) -> str:
    """The verdict on running text, such as a README's section: the one or more licences it names, if all may be kept."""
    words = _plain(text[:MAX_CHARACTERS])
    if OTHERS.search(words):
        return OTHER
    found = [spdx for spdx, pattern in MENTIONS.items() if pattern.search(words)]
    if "BSD" in found and len(found) > 1 and any(spdx.startswith("BSD-") for spdx in found):
        found.remove("BSD")
    return " AND ".join(sorted(found)) or UNKNOWN


def _plain(text: str) -> str:
    """Lower-case words, each parted by one space: no copyright lines, punctuation, numbering, names of holders."""
    text = "\n".join(line for line in text.splitlines() if not COPYRIGHT_LINE.match(line))
    text = text.lower().replace("licence", "license").replace("https", "http").replace("sub-licens", "sublicens")
    text = re.sub(r"\bnon-\s*infring", "noninfring", text)
    words = " ".join(word for word in TOKEN.findall(text) if not word.isdecimal() and word not in ("ii", "iii", "iv"))
    words = words.replace("end of terms and conditions", "")  # Apache's, which not everybody copies
    words = re.sub(
        r"neither the names? of .{1,160}? nor (?:the names?|those) of (?:\w+ ){0,3}?contributors", "neither name", words
    )
    words = re.sub(r"\bprovided by .{1,160}? as is\b", "provided by as is", words)
    return re.sub(r"\bin no event shall .{1,160}? be liable\b", "in no event shall be liable", words)


@cache
def _templates() -> dict[str, list[Template]]:
    """The licences by their first words."""
    found: dict[str, list[Template]] = {}
    bsd = [texts.BSD_CONDITIONS, "", texts.BSD_DISCLAIMER]
    for spdx, text in (
        ("Apache-2.0", texts.APACHE),
        ("", texts.APACHE_APPENDIX),
        ("Apache-2.0", texts.APACHE_NOTICE),
        ("MIT", texts.MIT),
        ("BSD-3-Clause", "\n".join([bsd[0], texts.BSD_NAMES, bsd[2]])),
        ("BSD-3-Clause", "\n".join([bsd[0], texts.BSD_AUTHOR, bsd[2]])),
        ("BSD-2-Clause", "\n".join(bsd)),
    ):
        words = _plain(text).split()
        start, end = " ".join(words[:5]), " ".join(words[-6:])
        found.setdefault(start, []).append(Template(spdx, start, end, words, frozenset(_phrases(words))))
    return found


def _phrases(words: list[str]) -> zip:  # type: ignore[type-arg]
    return zip(*(words[i:] for i in range(5)), strict=False)


def _first_passage(words: str) -> tuple[int, int, str] | None:
    """Where the first licence of a text starts and ends, and which; UNKNOWN for one that starts like one and is not."""
    starts = [(place, start) for start in _templates() if (place := words.find(start)) >= 0]
    if not starts:
        return None
    place, start = min(starts)
    for template in _templates()[start]:
        length = len(" ".join(template.words))
        end = words.find(template.end, place + length * 8 // 10, place + length * 12 // 10 + 200)
        if end >= 0 and _same(words[place : end + len(template.end)].split(), template):
            return place, end + len(template.end), template.spdx
    return place, place, UNKNOWN


def _same(words: list[str], template: Template) -> bool:
    added, lost = Counter(words), Counter(template.words)
    added.subtract(template.words)
    lost.subtract(words)
    more = [word for word, count in added.items() if count > 0]
    if not RESTRICTING.isdisjoint(more) or sum(added[word] for word in more) > ADDED_WORDS:
        return False
    if (+lost).total() > LOST_WORDS or "not" in +lost:
        return False
    return len(template.phrases.intersection(_phrases(words))) >= 0.8 * len(template.phrases)
