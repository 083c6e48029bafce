"""A tokenizer from files: what is in them, how much of each group is taken, learned, and counted with what was learned."""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from data_pipelines.account import Account
from data_pipelines.tokenizer_text import Text, file_bytes, left_out, read_texts
from data_pipelines.tokenizer_weights import (
    MAX_REPEATS,
    PILOT_BYTES,
    Group,
    bytes_to_take,
    check_weights,
    count_tokens,
    group_by,
    parse_weights,
    pilot,
    survey,
    take,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Learn(Protocol):
    """Learns `size` ids from texts and writes the tokenizer's folder; ValueError where the texts have fewer in them."""

    def __call__(self, texts: Iterable[str], size: int, folder: Path, progress: bool) -> "Tokenizer": ...


def learn_from_files(
    paths: Sequence[str],
    learn: Learn,
    size: int,
    folder: Path,
    *,
    specials: Sequence[str],
    max_bytes: int,
    text_column: str = "text",
    weight_by: str | None = None,
    weights: str | None = None,
) -> str:
    """Learn from the text of `paths`, at most `max_bytes` of it, and return a table of what was taken and what it came to.

    specials: names that are counted where they stand in the text; weight_by, weights: as on the command line. What was left
    out, repeated or found odd is said on stderr. Raises ValueError for weights and text that cannot work.
    """
    if weights is not None and not weight_by:
        raise ValueError(f"--weights {weights} needs --weight_by language or --weight_by source")
    given = parse_weights(weights) if weights is not None else {}
    group_of, account, holding = group_by(weight_by), Account(), Counter[str]()

    def read(what: str, account: Account | None = None, line: int = 0) -> Iterator[Text]:
        from tqdm import tqdm

        size, tell = file_bytes(paths), weight_by == "language"
        with tqdm(desc=what, total=size, unit="B", unit_scale=True, leave=False, disable=None, position=line) as bar:
            yield from read_texts(paths, text_column, tell_language=tell, account=account, progress=bar.update)

    found = _watch(read("looking through the text", account), specials, holding)
    groups = survey(found, group_of, PILOT_BYTES if weight_by else 0)
    available = {name: group.bytes for name, group in groups.items()}
    _say_what_was_found(groups, account, holding, weight_by)
    weighting = dict.fromkeys(groups, 1.0)
    if given:
        check_weights(given, groups)
        weighting = given
    rates = dict.fromkeys(groups, 1.0)
    if len(groups) > 1:
        rates = pilot(groups, weighting, lambda texts: _learn_what_it_can(learn, texts, size))
    for group in groups.values():
        group.sample.clear()
    wanted = bytes_to_take(available, rates, weighting, max_bytes)
    _say_what_is_taken(available, wanted, max_bytes)

    def taken(what: str, line: int = 0) -> Iterator[tuple[str, str]]:
        return take(((group_of(text), text) for text in read(what, line=line)), available, wanted)

    # the learner has a bar of its own on the first line
    tokenizer = learn((text for _, text in taken("learning", line=1)), size, folder, sys.stderr.isatty())
    tokens, characters = count_tokens(tokenizer, taken("counting"))
    if not tokens:
        raise ValueError(f"--max_bytes {max_bytes:,} is too little: no document, nor a piece of one, is so short")
    total = sum(tokens.values())
    result = f"{characters / total:.3f} characters per token on the {total:,} tokens learned from"
    return "\n".join([*_table(weight_by, weighting, available, wanted, tokens), result]) if weight_by else result


def _table(
    label: str,
    weights: Mapping[str, float],
    available: Mapping[str, int],
    wanted: Mapping[str, int],
    tokens: Mapping[str, int],
) -> Iterator[str]:
    """Its lines: what was taken of each group, and its share of the tokens beside the one that was wanted."""
    width = max(map(len, [*available, label]))
    yield f"{label:{width}}{'bytes':>16}{'tokens':>16}{'wanted':>9}{'reached':>9}"
    short = []
    for name, size in available.items():
        share, reached = weights[name] / sum(weights.values()), tokens.get(name, 0) / sum(tokens.values())
        yield f"{name:{width}}{wanted[name]:16,}{tokens.get(name, 0):16,}{share:9.1%}{reached:9.1%}"
        if wanted[name] == MAX_REPEATS * size and reached < 0.98 * share:
            short.append(name)
    if short:
        yield f"short of their shares with all their text {MAX_REPEATS} times: {', '.join(short)}"


def _watch(texts: Iterable[Text], specials: Sequence[str], holding: Counter[str]) -> Iterator[Text]:
    """Count the documents in which the name of a special token stands, and the names."""
    beginning = os.path.commonprefix(list(specials))
    for text in texts:
        if beginning in text.text and (names := [name for name in specials if name in text.text]):
            holding["documents"] += 1
            holding[names[0]] += 1
        yield text


def _learn_what_it_can(learn: Learn, texts: Sequence[str], size: int) -> "Tokenizer":
    """The pilot: of the size wanted, or half of it, or half of that, whatever so little text has in it."""
    first = None
    with tempfile.TemporaryDirectory() as folder:
        while size:
            try:
                return learn(texts, size, Path(folder), False)
            except ValueError as error:
                first = first or error
                size //= 2
    raise first or ValueError("no text to learn from")


def _say_what_was_found(
    groups: Mapping[str, Group], account: Account, holding: Counter[str], label: str | None
) -> None:
    documents, size = sum(group.documents for group in groups.values()), sum(group.bytes for group in groups.values())
    kinds = f" in {len(groups)} groups by {label}" if label else ""
    _say(f"{documents:,} documents, {size:,} bytes{kinds}" + (f"; {lost}" if (lost := left_out(account)) else ""))
    if label == "language" and "unknown" in groups:
        install = "" if find_spec("fasttext") else ": fastText, of the extra `sources`, could tell it"
        _say(f"{groups['unknown'].documents:,} documents do not say their language{install}")
    if count := holding.pop("documents", 0):
        name = holding.most_common(1)[0][0]
        _say(
            f"{count:,} documents hold the name of a special token, such as {name}: there it is letters, as any other text"
        )


def _say_what_is_taken(available: Mapping[str, int], wanted: Mapping[str, int], max_bytes: int) -> None:
    repeated = {name: wanted[name] / size for name, size in available.items() if wanted[name] > size}
    if repeated:
        times = ", ".join(f"{name} {available[name]:,} bytes, {n:.2g} times" for name, n in repeated.items())
        _say(f"too little text for its share, repeated (at most {MAX_REPEATS} times): {times}")
    part = {name: wanted[name] for name, size in available.items() if wanted[name] < size}
    if part:
        sizes = ", ".join(f"{name} {size:,} of {available[name]:,} bytes" for name, size in part.items())
        why = f" (--max_bytes is {max_bytes:,})" if sum(wanted.values()) > 0.99 * max_bytes else ""
        _say(f"taken evenly from more text{why}: {sizes}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
