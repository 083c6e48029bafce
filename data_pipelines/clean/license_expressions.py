"""What SPDX expressions, package metadata and tags in files say a licence is."""

import re
from typing import NamedTuple

from data_pipelines.clean.licenses import OTHER, OTHERS, UNKNOWN

SPDX_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([^\r\n]{1,200})")
NAMES = {  # as people write them, after `_name`
    "MIT": ("mit", "expat", "mit expat", "expat mit", "mit x11", "x11 mit"),
    "Apache-2.0": ("apache 2 0", "apache 2", "apache", "asl 2 0", "apache2", "apache2 0"),
    "BSD-3-Clause": ("bsd 3 clause", "3 clause bsd", "new bsd", "modified bsd", "revised bsd", "bsd 3", "bsd3", "bsd new",
                     "new bsd 3 clause", "bsd 3 clause new", "bsd 3 clause new or revised"),
    "BSD-2-Clause": ("bsd 2 clause", "2 clause bsd", "simplified bsd", "freebsd", "bsd 2", "bsd2", "bsd 2 clause simplified"),
    "BSD": ("bsd", "bsd style"),  # without saying which; the text beside it, if any, does
}  # fmt: skip
KEPT = {name: spdx for spdx, names in NAMES.items() for name in names}


class Statement(NamedTuple):
    """What somebody says the licence is: the verdict, and whether it is our choice, others being on offer beside it."""

    verdict: str
    choice: bool


def evaluate(expression: str) -> Statement:
    """What an SPDX expression, or the words people put in its place, allows: "MIT OR GPL-2.0-only" is a choice of MIT."""
    whole = _name(expression)
    if len(expression) > 1000:
        return Statement(UNKNOWN, False)
    if whole in KEPT:
        return Statement(KEPT[whole], False)
    # "or later" is part of a licence's name, "/" was Cargo's OR, and other lists mean all of them
    text = re.sub(r"[ -]or[ -](?:later|newer|greater)|\+", "", expression, flags=re.I)
    text = re.sub(r"\s*/\s*", " OR ", re.sub(r"\s*[,;&]\s*(?!version)", " AND ", text, flags=re.I))
    tokens = [token.strip() for token in re.split(r"(\(|\)|\b(?:AND|OR|and|or)\b)", text) if token.strip()]
    if tokens.count("(") > 20:
        return Statement(UNKNOWN, False)
    refused = any(_one([token]) in (OTHER, UNKNOWN) for token in tokens if token.upper() not in ("(", ")", "AND", "OR"))
    verdict = _either(tokens)
    if tokens:  # parentheses that are no grouping: "MIT License (MIT)"
        verdict = OTHER if OTHERS.search(whole) else UNKNOWN
    return Statement(verdict, refused and verdict not in (OTHER, UNKNOWN))


def _either(tokens: list[str]) -> str:
    """`a AND b OR c ...` from the front of the tokens, which it eats."""
    verdicts = [_both(tokens)]
    while tokens and tokens[0].upper() == "OR":
        del tokens[0]
        verdicts.append(_both(tokens))
    kept = sorted({verdict for verdict in verdicts if verdict not in (OTHER, UNKNOWN)})
    if kept:
        return " OR ".join(kept)
    return UNKNOWN if UNKNOWN in verdicts else OTHER


def _both(tokens: list[str]) -> str:
    verdicts = [_one(tokens)]
    while tokens and tokens[0].upper() == "AND":
        del tokens[0]
        verdicts.append(_one(tokens))
    if OTHER in verdicts:
        return OTHER
    if UNKNOWN in verdicts:
        return UNKNOWN
    kept = sorted(set(verdicts))
    return " AND ".join(f"({verdict})" if " OR " in verdict and len(kept) > 1 else verdict for verdict in kept)


def _one(tokens: list[str]) -> str:
    if not tokens or tokens[0] == ")" or tokens[0].upper() in ("AND", "OR"):
        return UNKNOWN
    token = tokens.pop(0)
    if token == "(":
        verdict = _either(tokens)
        return verdict if tokens and tokens.pop(0) == ")" else UNKNOWN
    name = _name(token)
    if name.endswith(" with llvm exception"):
        name = name.removesuffix(" with llvm exception")
    if name in KEPT:
        return KEPT[name]
    return OTHER if OTHERS.search(name) else UNKNOWN


def _name(text: str) -> str:
    """A licence's name in lower case without "the", "license", "version", or the same word twice."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"\bv(?=\d)", "", text.lower()[:1000]))
    fillers = ("the", "license", "licence", "licensed", "software", "version", "osi", "approved", "under", "spdx")
    return " ".join(dict.fromkeys(word for word in words if word not in fillers))


def tagged(text: str) -> str | None:
    """The verdict on the SPDX-License-Identifier tags in a text, of which all must hold; None where there are none."""
    tags = [re.sub(r"\s*(?:\*/|-->|[#*%\"'}>]+)?\s*$", "", tag) for tag in SPDX_TAG.findall(text)]
    if not tags:
        return None
    return evaluate(" AND ".join(f"({tag})" for tag in dict.fromkeys(tags[:5]))).verdict
