"""How well tokenizers compress: characters and bytes per token, tokens per word, by language and source.

    characters   Unicode code points
    bytes        of the text in UTF-8
    words        runs of anything but whitespace, so a mark counts with the word it touches. Scripts that do not part words
                 by spaces have none: a document with more than a tenth of such characters (`UNSPACED`) is left out of
                 tokens per word, and of nothing else
    tokens       of the text alone, without the ids that mark its beginning and end

Tokens per word is the fertility of Rust et al. 2021, "How Good is Your Tokenizer?" (https://arxiv.org/abs/2012.15613). Their
words come from treebanks, where a mark stands alone: more words to the same text, so their figures are lower than ours.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from llama_train.tokenizers.batches import batches

# Thai, Lao, Tibetan, Burmese, Khmer; kana; Chinese characters with their extensions
UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff]+"
)
UNSPACED_SHARE = 0.1  # of a document's characters
MAX_LABEL = 24  # characters of a language, source or tokenizer in a table or a picture


class Encoder(Protocol):
    """Anything that encodes many texts at once, such as encode.py's Encoder."""

    def encode_batch(self, texts: list[str], /) -> Sequence[Any]: ...


class Document(Protocol):
    """A text, its language ("" where nobody knows) and where it is from."""

    @property
    def text(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def source(self) -> str: ...


@dataclass
class Row:
    """What one tokenizer made of one group of documents; a language or source of None stands for all of them."""

    tokenizer: str
    language: str | None
    source: str | None
    documents: int = 0
    characters: int = 0
    bytes: int = 0
    words: int = 0
    tokens: int = 0
    tokens_of_words: int = 0  # tokens of the documents whose words were counted

    @property
    def characters_per_token(self) -> float:
        return self.characters / self.tokens

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens

    @property
    def tokens_per_word(self) -> float | None:
        """None for scripts without spaces between words."""
        return self.tokens_of_words / self.words if self.words else None

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)


COUNTS = ("documents", "characters", "bytes", "words", "tokens", "tokens_of_words")
RATIOS = ("characters_per_token", "bytes_per_token", "tokens_per_word")


def measure(
    encoders: Mapping[str, Encoder],
    documents: Iterable[Document],
    total_bytes: int | None = None,
    progress: bool = True,
) -> list[Row]:
    """A row for each tokenizer and each language and source found, and for their totals: of a language, of a source, of all.

    `encoders` by the names to print; `documents` are read once, a batch at a time. Totals are of the text as it
    is: a language with more text weighs more. `total_bytes` of UTF-8, if known, lets the progress bar tell the time left.
    Rows are sorted: tokenizers as given, languages, sources, totals last. Raises ValueError without tokenizers, for two of
    one name, without documents, and for a language and source without any text or tokens.
    """
    from tqdm import tqdm

    _check_names(encoders)
    rows: dict[tuple[str, str, str], Row] = {}
    with tqdm(
        total=total_bytes, desc="report", unit="B", unit_scale=True, leave=False, disable=None if progress else True
    ) as bar:
        for batch in batches(documents, lambda document: document.text):
            texts = [document.text for document in batch]
            sizes = [len(text.encode()) for text in texts]
            words = [count_words(text) for text in texts]
            for name, encoder in encoders.items():
                for document, size, count, ids in zip(batch, sizes, words, encoder.encode_batch(texts), strict=True):
                    group = (name, document.language, document.source)
                    rows.setdefault(group, Row(*group)).add(
                        documents=1,
                        characters=len(document.text),
                        bytes=size,
                        words=count,
                        tokens=len(ids),
                        tokens_of_words=len(ids) if count else 0,
                    )
            bar.update(sum(sizes))
    if not rows:
        raise ValueError("no documents to report on: the text given holds none")
    for row in rows.values():
        _check(row)
    place = {name: i for i, name in enumerate(encoders)}
    return sorted(_with_totals(rows.values()), key=lambda row: (place[row.tokenizer], totals_last(row)))


def count_words(text: str) -> int:
    """Runs of anything but whitespace; 0 for a text in scripts that do not part words by spaces."""
    unspaced = sum(map(len, UNSPACED.findall(text)))
    return len(text.split()) if unspaced <= UNSPACED_SHARE * len(text) else 0


def label(name: str) -> str:
    """A name as a terminal or a picture may show it: one line, nothing hidden, not too long."""
    printable = "".join(sign if sign.isprintable() else "?" for sign in name)
    half = MAX_LABEL // 2
    return printable if len(printable) <= MAX_LABEL else f"{printable[: half - 1]}…{printable[-half:]}"


def totals_last(row: Row) -> tuple[bool, str, bool, str]:
    """The key that sorts rows by language, then source, totals last."""
    return row.language is None, row.language or "", row.source is None, row.source or ""


def to_json(rows: Iterable[Row]) -> str:
    """The rows as a JSON list of objects: the fields of `Row`, characters_per_token, bytes_per_token and tokens_per_word.

    null: a `language` or `source` for all of them, `tokens_per_word` for scripts without spaces between words.
    """
    return json.dumps([asdict(row) | {ratio: getattr(row, ratio) for ratio in RATIOS} for row in rows], indent=1)


def _with_totals(rows: Iterable[Row]) -> Iterator[Row]:
    totals: dict[tuple[str, str | None, str | None], Row] = {}
    for row in rows:
        yield row
        for language, source in ((row.language, None), (None, row.source), (None, None)):
            group = (row.tokenizer, language, source)
            totals.setdefault(group, Row(*group)).add(**{name: getattr(row, name) for name in COUNTS})
    yield from totals.values()


def _check_names(encoders: Iterable[str]) -> None:
    labels = Counter(map(label, encoders))
    if not labels:
        raise ValueError("no tokenizer to report on: give at least one")
    if twice := [name for name, count in labels.items() if count > 1]:
        raise ValueError(f"{labels[twice[0]]} tokenizers would be called {twice[0]!r}: give them names that differ")


def _check(row: Row) -> None:
    where = f"language {row.language or 'unknown'!r}, source {row.source or 'unknown'!r}"
    if not row.characters:
        raise ValueError(f"no text in {where}: all its documents ({row.documents:,}) are empty; leave them out")
    if not row.tokens:
        raise ValueError(f"tokenizer {row.tokenizer!r} made no token of {row.characters:,} characters in {where}")
