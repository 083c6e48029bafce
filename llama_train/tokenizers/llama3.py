"""Llama 3's tokenizer: byte-level BPE under Llama 3's split pattern, special tokens at the end of the vocabulary.

A vocabulary of V ids is laid out as in Llama 3 (there: 256 bytes + 127,744 merges + 256 special tokens = 128,256):

    0 .. 255              the single bytes, in the order of the byte-level alphabet
    256 .. V - S - 1      merges, most frequent first: a token's id is its rank, as in tiktoken
    V - S .. V - 1        S special tokens: 256 as published, 16 below `FULL_SPECIALS_FROM` ids

Sixteen keep every named token and spare a small model some 240 embedding rows that no text would ever train.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
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
# The pattern never joins a line break with what stands after it, nor a letter with a following space.
SAFE_CUT = re.compile(r"(?<=\n)(?=\S)|(?<=[^\W\d_])(?= [^\W\d_])")
MODEL_MAX_LENGTH = 131072  # of the text, not of a model: Llama 3.1's context

# Our own wording of the published chat format; the generation marks let chat tuning train on the answers only.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'] | trim + '<|eot_id|>' }}{%- endgeneration %}"
    "{%- else %}{{- message['content'] | trim + '<|eot_id|>' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)


def special_tokens(vocab_size: int) -> list[str]:
    """The special tokens of a vocabulary of `vocab_size` ids, in id order: 256, or 16 below 32,768 ids."""
    count = 256 if vocab_size >= FULL_SPECIALS_FROM else 16
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(3, 3 + count - len(NAMED_SPECIALS))]
    return [*NAMED_SPECIALS, *reserved]


def check_vocab_size(vocab_size: int) -> None:
    """Raises ValueError where `vocab_size` cannot hold the 256 bytes and the special tokens."""
    least = 256 + (specials := len(special_tokens(vocab_size)))
    if vocab_size < least:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {specials} special tokens need at least {least}"
        )


def train_llama3(texts: Iterable[str], vocab_size: int, out: Path, progress: bool = True) -> None:
    """Learn `vocab_size` ids from `texts` and save the folder `out`, which `AutoTokenizer.from_pretrained` opens.

    The same texts give the same bytes. Raises ValueError as `check_vocab_size` does, and where the texts do not have
    that many merges in them.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    check_vocab_size(vocab_size)
    specials = special_tokens(vocab_size)
    # ignore_merges: a word that is itself a token is that token, as in tiktoken, whatever the merges would do.
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    words = pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=progress,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in split_safely(text)), trainer)
    learned = tokenizer.get_vocab_size() + len(specials)
    if learned < vocab_size:
        raise ValueError(
            f"the text is too small for vocab_size {vocab_size}: it yields {learned} ids; "
            f"set vocab_size to {learned} or less, or add text"
        )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": MODEL_MAX_LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


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


def token_bytes(tokenizer: "Tokenizer") -> "np.ndarray":
    """How many UTF-8 bytes each id stands for, (vocab_size,) uint16; special tokens stand for none."""
    import numpy as np

    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.uint16)
    specials = tokenizer.get_added_tokens_decoder()
    for token, i in tokenizer.get_vocab().items():
        if i not in specials:
            lengths[i] = len(token)  # in the byte-level alphabet one character is one byte
    return lengths


def fingerprint(folder: Path) -> str:
    """The sha256 of the folder's tokenizer.json: shards and model must have been made with the same one."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
