"""Llama 3's tokenizer: byte-level BPE under Llama 3's split pattern, special tokens at the end of the vocabulary.

A vocabulary of V ids is laid out as in Llama 3 (there: 256 bytes + 127,744 merges + 256 special tokens = 128,256):

    0 .. 255              the single bytes, in the order of the byte-level alphabet
    256 .. V - S - 1      merges, most frequent first: a token's id is its rank, as in tiktoken
    V - S .. V - 1        S special tokens: 256 as published, 16 below `FULL_SPECIALS_FROM` ids

Sixteen keep every named token and spare a small model some 240 embedding rows that no text would ever train.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_train.tokenizers.chat import chat_template
from llama_train.tokenizers.ranks import MAX_TOKEN_BYTES, Ranks, check_tokens, merges

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Published with Llama 3's weights; the groups are contractions, words, numbers of up to three digits, marks, spaces.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"
# Order of Llama 3.1 (128000 .. 128010); 3.0 had reserved tokens in the places of pad, eom and python_tag.
NAMED_SPECIALS = (
    BOS, EOS, "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", PAD, "<|reserved_special_token_2|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
)  # fmt: skip
FULL_SPECIALS_FROM = 32768
MOST = 1_000_000  # ids to learn; eight times the largest published
# For the learner only. Its time grows with the square of a word's length, in characters: 100,000 spaces take 6 s.
MAX_WORD = 1000
# A stretch this long without a safe cut; in a word of 20,000,000 characters the pattern meets Onig's retry limit.
MAX_STRETCH = 2_000_000
# The pattern never joins a line break with what stands after it, nor a letter with a following space.
SAFE_CUT = re.compile(r"(?<=\n)(?=\S)|(?<=[^\W\d_])(?= [^\W\d_])")
# GPT-2's spelling of bytes as letters, which tokenizer.json uses: printable Latin-1 as it is, the others from U+0100 on.
PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
TO_LETTERS = {byte: 0x100 + i for i, byte in enumerate(sorted({*range(256)}.difference(PRINTABLE)))}
# A byte that is spelt as another letter must not be read as itself: it goes where latin-1 ends, and is refused there.
TO_BYTES = {letter: byte for byte, letter in TO_LETTERS.items()} | dict.fromkeys(TO_LETTERS, 0x100)


def special_tokens(vocab_size: int) -> list[str]:
    """The special tokens of a vocabulary of `vocab_size` ids, in id order: 256, or 16 below 32,768 ids."""
    count = 256 if vocab_size >= FULL_SPECIALS_FROM else 16
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(3, 3 + count - len(NAMED_SPECIALS))]
    return [*NAMED_SPECIALS, *reserved]


def default_specials(ranks: int) -> dict[str, int]:
    """Llama 3.1's special tokens, by name, behind that many ranks: 256, or 16 below 32,512 ranks."""
    return {name: ranks + i for i, name in enumerate(special_tokens(ranks + 256))}


def check_vocab_size(vocab_size: int) -> None:
    """Raises ValueError where `vocab_size` cannot hold the 256 bytes and the special tokens, or is beyond `MOST`."""
    if vocab_size > MOST:
        raise ValueError(f"vocab_size {vocab_size} is too large: at most {MOST} ids can be learned")
    least = 256 + (specials := len(special_tokens(vocab_size)))
    if vocab_size < least:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {specials} special tokens need at least {least}"
        )


def train_llama3(texts: Iterable[str], vocab_size: int, out: Path, progress: bool = True) -> None:
    """Learn `vocab_size` ids from `texts` and save the folder `out`, which `AutoTokenizer.from_pretrained` opens.

    The same texts give the same bytes. Words are learned from in parts of at most `MAX_WORD` characters, tokens have at
    most `MAX_TOKEN_BYTES` bytes. Raises ValueError as `check_vocab_size` does, and where the texts do not have that many
    merges in them.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    from llama_train.tokenizers.folder import save_tokenizer  # which imports this module

    check_vocab_size(vocab_size)
    specials = len(special_tokens(vocab_size))
    learner = Tokenizer(models.BPE())
    short = pre_tokenizers.Split(Regex(rf"[\s\S]{{1,{MAX_WORD}}}"), behavior="isolated")
    learner.pre_tokenizer = _pre_tokenizer(SPLIT_PATTERN, short)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=MAX_TOKEN_BYTES,
        show_progress=progress,
    )
    pieces = (piece for text in texts for piece in split_safely(text))
    stretches = (piece[i : i + MAX_STRETCH] for piece in pieces for i in range(0, len(piece), MAX_STRETCH))
    learner.train_from_iterator(stretches, trainer)
    learned = learner.get_vocab_size() + specials
    if learned < vocab_size:
        raise ValueError(
            f"the text is too small for vocab_size {vocab_size}: it yields {learned} ids; "
            f"set vocab_size to {learned} or less, or add text"
        )
    ranks, _ = to_ranks(learner)
    tokenizer = from_ranks(ranks, {name: len(ranks) + i for i, name in enumerate(special_tokens(vocab_size))})
    save_tokenizer(tokenizer, out, chat_template("llama3"))


def from_ranks(ranks: Ranks, specials: Mapping[str, int] | None = None, pattern: str = SPLIT_PATTERN) -> "Tokenizer":
    """The tokenizer of these ranks and special tokens (name to id), BOS before every text; its ids are tiktoken's.

    Without `specials`, Llama 3.1's come after the ranks: 256, or 16 below 32,512 ranks. Raises ValueError where an id is
    given twice or left out, as `check_tokens` does, and for a special token's name that would be found inside text.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    if specials is None:
        specials = default_specials(len(ranks))
    size = len(ranks) + len(specials)
    if sorted([*ranks.values(), *specials.values()]) != list(range(size)):
        raise ValueError(
            f"the ids of {len(ranks)} ranks and {len(specials)} special tokens are not 0 to {size - 1}, each once"
        )
    check_tokens(ranks, "the vocabulary")
    vocab = {_letters(token): rank for token, rank in ranks.items()}
    if taken := sorted(vocab.keys() & specials.keys()):
        raise ValueError(f"the special token {taken[0]} is spelt like a token of the vocabulary: rename it")
    # Special tokens before the last rank, as in a vocabulary grown later, keep their ids only as members of the model.
    members = {name: i for name, i in specials.items() if i < max(ranks.values())}
    splitter = _pre_tokenizer(pattern)
    if whole := [name for name in members if _is_word(name, splitter)]:
        raise ValueError(
            f"the special token {whole[0]} (id {members[whole[0]]}) has ranks after it and is one word to the split pattern, "
            "so it would be found inside text: rename it, for example to <|name|>"
        )
    vocab |= members
    pairs = [(_letters(left), _letters(right)) for left, right in merges(ranks)]
    # ignore_merges: a word that is itself a token is that token, as in tiktoken, whatever the merges would do.
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs, ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    names = sorted(specials, key=specials.__getitem__)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    if BOS in specials:
        tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, specials[BOS])]
        )
    return tokenizer


def to_ranks(tokenizer: "Tokenizer") -> tuple[Ranks, dict[str, int]]:
    """The ranks of a byte-level BPE and its special and other added tokens, both with their ids, in id order.

    Raises ValueError for a tokenizer that is not byte-level, and for one whose merges do not come in the order of their
    ids: as ranks, those would cut text in another way.
    """
    model = json.loads(tokenizer.to_str())["model"]
    specials = {token.content: i for i, token in sorted(tokenizer.get_added_tokens_decoder().items())}
    ranks: Ranks = {}
    for token, i in sorted(model["vocab"].items(), key=lambda item: item[1]):
        if token not in specials:
            try:
                ranks[token.translate(TO_BYTES).encode("latin-1")] = i
            except UnicodeEncodeError:
                raise ValueError(
                    f"the token {token!r} is not written in byte letters: the tokenizer is not byte-level"
                ) from None
    check_tokens(ranks, "the tokenizer")
    last, latest = -1, ""
    for left, right in model["merges"]:
        i = model["vocab"].get(left + right, -1)
        if i < last:
            raise ValueError(
                f"the merge that makes {left + right!r} (id {i}) comes after that of {latest!r} (id {last}): "
                "as ranks the two would change places, and text be cut in another way"
            )
        last, latest = i, left + right
    return ranks, specials


def _pre_tokenizer(pattern: str, *further: Any) -> Any:
    from tokenizers import Regex, pre_tokenizers

    words = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([words, *further, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _is_word(letters: str, splitter: Any) -> bool:
    """Whether the bytes that these letters spell are text that `splitter` leaves in one piece."""
    try:
        text = letters.translate(TO_BYTES).encode("latin-1").decode()
    except UnicodeError:  # no text is ever spelt so
        return False
    return len(splitter.pre_tokenize_str(text)) == 1


def _letters(token: bytes) -> str:
    return token.decode("latin-1").translate(TO_LETTERS)


def split_safely(text: str, max_chars: int = 1_000_000) -> Iterator[str]:
    """Cut a very long text into pieces of about `max_chars` whose ids, joined, are the ids of the whole.

    Cuts fall where the split pattern always cuts (`SAFE_CUT`); a stretch without such a place stays whole.
    """
    start = 0
    while len(text) - start > max_chars:
        cut = SAFE_CUT.search(text, start + max_chars)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]
