"""Llama 1 and 2's tokenizer: SentencePiece BPE over characters, every digit alone, unknown characters as bytes.

A vocabulary of V ids is laid out as in the published one (there: V = 32,000):

    0, 1, 2      <unk>, <s>, </s>
    3 .. 258     the bytes <0x00> .. <0xFF>, for characters that are no piece
    259 ..       learned pieces, in the order of learning: a lower id is merged first
    .. V - 1     the characters of the text, most frequent first, as many as cover 99.995 % of it
"""

import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from llama_train.tokenizers.chat import chat_template
from llama_train.tokenizers.folder import save_tokenizer
from llama_train.tokenizers.sentencepiece_model import (
    BOS,
    BYTES,
    SPACE,
    TRAINER_SPEC,
    from_bytes,
    model_proto,
)

LEAST = 3 + len(BYTES) + 1  # and one character
MOST = 1_000_000  # ids to learn; SentencePiece takes 24 s to refuse two billion
WORD = re.compile(" +[^ ]*")
# SentencePiece drops a sentence with U+2585, its mark for rare characters; a NUL or half a surrogate pair is no text to
# it; tabs separate its columns, and Llama's pieces hold none. The name of a special token is a border no piece crosses.
BORDERS, BORDER = re.compile("[\t\0\u2585\ud800-\udfff]"), BOS
MAX_WORD = 1000  # characters, at most 4,000 bytes: SentencePiece drops what is longer than 4,192


def check_vocab_size(vocab_size: int) -> None:
    """Raises ValueError where `vocab_size` cannot hold the bytes and a character, or is beyond what can be learned."""
    if vocab_size < LEAST:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: <unk>, <s>, </s>, 256 bytes and one character need at least {LEAST}"
        )
    if vocab_size > MOST:
        raise ValueError(f"vocab_size {vocab_size} is too large: at most {MOST} ids can be learned")


def train_llama2(texts: Iterable[str], vocab_size: int, out: Path, progress: bool = True) -> None:
    """Learn `vocab_size` ids from `texts` and save the folder `out`, which `AutoTokenizer.from_pretrained` opens.

    The same texts, in any order, give the same bytes. Held in memory are the different words, some 50 bytes for each of
    their characters, not the texts: 160 MB for 26 MB of books, 1.9 GB for 150 MB of Python. Text without spaces, as in
    Chinese, is one word a line. Raises ValueError where `vocab_size` cannot hold the bytes and the characters of the
    text, or the text does not have as many pieces in it; ModuleNotFoundError without the extra `tokenizers`.
    """
    check_vocab_size(vocab_size)
    model_proto()  # is it installed? Before hours of reading
    model = _learn(_count_words(texts, progress), vocab_size, progress)
    save_tokenizer(from_bytes(model, "the trained model"), out, chat_template("llama2"))


def _count_words(texts: Iterable[str], progress: bool) -> Counter[str]:
    """How often each word is there, the spaces before it included: no piece holds a space behind another character."""
    from tqdm import tqdm

    words: Counter[str] = Counter()
    with tqdm(desc="reading", unit=" characters", unit_scale=True, disable=None if progress else True) as bar:
        for text in texts:
            for line in text.replace(SPACE, " ").split("\n"):
                if line := line.removesuffix("\r"):
                    words.update(WORD.findall(" " + line))
            bar.update(len(text))
    return words


def _sentences(words: Counter[str]) -> Iterator[str]:
    """Lines "word, tab, count" for SentencePiece, which puts the first space back itself. Empties `words`."""
    while words:
        word, count = words.popitem()  # SentencePiece sorts them, and need not have them in memory beside ours
        for start in range(1, len(word), MAX_WORD):
            border = BORDER if start > 1 else ""
            yield f"{border}{BORDERS.sub(BORDER, word[start : start + MAX_WORD])}\t{count}"


def _learn(words: Counter[str], vocab_size: int, progress: bool) -> bytes:
    """The model file that SentencePiece's own trainer makes of the words; a few threads read, one learns."""
    from sentencepiece import SentencePieceTrainer

    if not words:
        raise ValueError("there is no text to learn from: every text is empty")
    if progress and sys.stderr.isatty():
        print(f"learning {vocab_size:,} ids from {len(words):,} different words", file=sys.stderr)
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=_sentences(words),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            input_format="tsv",
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,  # too few pieces are counted below
            minloglevel=2,
            **TRAINER_SPEC,
        )
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error):  # Ctrl-C while a sentence was being made
            raise KeyboardInterrupt from None
        if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
            raise ValueError(
                f"vocab_size {vocab_size} is too small: the bytes and the characters of the text need at least {found[1]}; "
                f"more than that for pieces of several characters"
            ) from None
        raise ValueError(f"SentencePiece cannot learn {vocab_size} ids from this text: {error}") from None
    proto = model_proto()
    proto.ParseFromString(model.getvalue())
    if (learned := len(proto.pieces)) < vocab_size:
        raise ValueError(
            f"the text is too small for vocab_size {vocab_size}: it yields {learned} ids; "
            f"set vocab_size to {learned} or less, or add text"
        )
    return model.getvalue()
