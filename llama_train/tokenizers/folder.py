"""A tokenizer on disk: any published form is opened, and the Hugging Face folder is written.

    tokenizer.json            the tokenizers library's form: the one that counts
    tokenizer_config.json     what AutoTokenizer wants to know besides
    chat_template.jinja       where the tokenizer has one
    tokenizer.model           the same vocabulary for SentencePiece (Llama 1 and 2), or
    tokenizer.tiktoken        for tiktoken (Llama 3)

Forms are told apart by what is in a file: Meta gave both a rank file and a SentencePiece model the name tokenizer.model.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_train.tokenizers.llama3 import BOS, EOS, PAD, default_specials, from_ranks, to_ranks
from llama_train.tokenizers.ranks import read_ranks, write_ranks
from llama_train.tokenizers.sentencepiece_model import (
    BYTE_PIECE,
    NORMALIZER,
    SPACE,
    from_sentencepiece,
    to_sentencepiece,
)

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

# In order of preference. Meta's own downloads have only tokenizer.model, Hugging Face's copies keep it in original/.
FILES = ("tokenizer.json", "tokenizer.model", "tokenizer.tiktoken", "original/tokenizer.model")
MAX_JSON_BYTES = 256 * 2**20  # Llama 3's, every merge listed, has 17 MB
# Those of the Llama family and the two that change no more than a character's form. Others may make any text of a text:
# a few Replace rules turn a letter into gigabytes.
NORMALIZERS = (None, {"type": "NFC"}, {"type": "NFKC"}, NORMALIZER)
MADE_BY = "llama_train"  # in tokenizer_config.json: what may be written over
MODEL_MAX_LENGTH = 131072  # of the text, not of a model: Llama 3.1's context
ENDS = {"llama2": ("<s>", "</s>"), "llama3": (BOS, EOS)}
# The second is the first's place (id 128004) in Llama 3.0, which had no padding token yet.
LLAMA3_PADS = (PAD, "<|reserved_special_token_2|>")


def open_tokenizer(path: str | Path, bare: bool = False) -> "Tokenizer":
    """The tokenizer of a folder, or of a tokenizer.json, a tiktoken rank file or a SentencePiece model, whatever its name.

    A rank file that lists no special tokens gets Llama 3.1's after its ranks, or none where it is to stay `bare`. Raises
    FileNotFoundError where there is no tokenizer, ValueError for a file that is something else, broken, another algorithm
    than BPE, or one that rewrites text, and ModuleNotFoundError where a SentencePiece model needs the extra `tokenizers`.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(f"{path} holds no tokenizer: looked for {', '.join(FILES)}")
        path = found[0]
    elif not path.exists():
        raise FileNotFoundError(f"{path} does not exist: name a tokenizer's folder or file")
    with path.open("rb") as file:
        head = file.read(4096)
    if head.lstrip().startswith(b"{"):
        return _open_json(path)
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, not the file it points to: run `git lfs pull` in its folder")
    if head.lstrip().startswith(b"<"):
        raise ValueError(f"{path} is an HTML or XML page, not a tokenizer: the download has failed; get the file again")
    if head.startswith(b"\n"):  # a protobuf's first field, the list of pieces
        return from_sentencepiece(path)
    ranks, specials = read_ranks(path)
    return from_ranks(ranks, specials or ({} if bare else None))


def save_tokenizer(tokenizer: "Tokenizer", out: str | Path, chat_template: str | None = None) -> None:
    """Write the folder `out`, which `AutoTokenizer.from_pretrained` opens; tokenizer.json comes last, when all else is there.

    chat_template: the text of a Jinja template; None for a tokenizer without. The file beside tokenizer.json is left out
    where it would not give the same ids: a rank file for a tokenizer with fewer merges, another split pattern than Llama
    3's, a normalizer, or added tokens other than special ones spelt `<|name|>`; a SentencePiece model for one that treats
    spaces in another way. Raises ValueError as `kind` and `bos_eos` do, ModuleNotFoundError where tokenizer.model needs
    the extra `tokenizers`.
    """
    out = Path(out)
    config = _config(tokenizer)
    byte_level = kind(tokenizer) == "llama3"
    model = None if byte_level else _model(tokenizer)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "chat_template.jinja", "tokenizer.model", "tokenizer.tiktoken"):
        (out / name).unlink(missing_ok=True)  # nothing of what was there before may be taken for ours
    if byte_level:
        _write_ranks(tokenizer, out / "tokenizer.tiktoken")
    elif model is not None:
        (out / "tokenizer.model").write_bytes(model)
    if chat_template is not None:
        (out / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    whole = out / "tokenizer.json.tmp"
    whole.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    os.replace(whole, out / "tokenizer.json")


def read_chat_template(path: str | Path) -> str | None:
    """The chat template of a tokenizer's folder, a file of its own or a key of tokenizer_config.json; None without one."""
    own, config = Path(path, "chat_template.jinja"), Path(path, "tokenizer_config.json")
    if own.is_file():
        return own.read_text(encoding="utf-8")
    try:
        template = json.loads(config.read_text(encoding="utf-8"))["chat_template"] if config.is_file() else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return template if isinstance(template, str) else None  # some have a list of named ones


def kind(tokenizer: "Tokenizer") -> str:
    """Which of two it is: "llama2", BPE over characters with byte fallback, or "llama3", byte-level BPE.

    Raises ValueError for any other.
    """
    from tokenizers import models, pre_tokenizers

    model = tokenizer.model
    if isinstance(model, models.BPE):
        if model.byte_fallback and tokenizer.token_to_id("<0x00>") is not None:
            return "llama2"
        if all(tokenizer.token_to_id(letter) is not None for letter in pre_tokenizers.ByteLevel.alphabet()):
            return "llama3"
        raise ValueError("the tokenizer is neither byte-level nor has it byte fallback: not one of the Llama family's")
    raise ValueError(f"the tokenizer is {type(model).__name__}, not BPE: not one of the Llama family's")


def bos_eos(tokenizer: "Tokenizer") -> tuple[int, int]:
    """The ids that open and close a document; ValueError for a tokenizer without them."""
    bos, eos = (tokenizer.token_to_id(name) for name in ENDS[kind(tokenizer)])
    if bos is None or eos is None:
        raise ValueError(f"the tokenizer lacks {' or '.join(ENDS[kind(tokenizer)])}: not one of the Llama family's")
    return bos, eos


def token_bytes(tokenizer: "Tokenizer") -> "np.ndarray":
    """How many UTF-8 bytes each id stands for, (vocab_size,) uint16; special tokens stand for none.

    Raises ValueError as `kind` does, and for a token of more than 65,535 bytes.
    """
    import numpy as np

    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    added = tokenizer.get_added_tokens_decoder()
    byte_level = kind(tokenizer) == "llama3"
    for token, i in tokenizer.get_vocab().items():
        if i in added:
            lengths[i] = 0 if added[i].special else len(token.encode())
        elif byte_level:
            lengths[i] = len(token)  # in the byte-level alphabet one character is one byte
        else:
            lengths[i] = 1 if BYTE_PIECE.fullmatch(token) else len(token.replace(SPACE, " ").encode())
    longest = int(lengths.argmax())
    if lengths[longest] > 65535:
        raise ValueError(
            f"the token with id {longest} stands for {lengths[longest]:,} bytes, more than 65,535: it is no word; take it out"
        )
    return lengths.astype(np.uint16)


def fingerprint(folder: str | Path) -> str:
    """The sha256 of the folder's tokenizer.json: shards and model must have been made with the same one."""
    return hashlib.sha256((Path(folder) / "tokenizer.json").read_bytes()).hexdigest()


def _open_json(path: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, more than {MAX_JSON_BYTES:,}: no tokenizer.json is that large")
    try:
        state = json.loads(path.read_bytes())
        model, normalizer = state["model"], state.get("normalizer")
        algorithm = model.get("type", "BPE" if "merges" in model else "unknown")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a tokenizer.json: {type(error).__name__}: {error}; get the file again"
        ) from None
    if algorithm != "BPE":
        raise ValueError(f"{path} is {algorithm}, not BPE: Llama's tokenizers are BPE; name another")
    if normalizer not in NORMALIZERS:
        name = str(normalizer.get("type") if isinstance(normalizer, dict) else normalizer)[:40]
        raise ValueError(f"{path} rewrites text (normalizer {name!r}): Llama's do not; name another, or take it out")
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(affix):  # merges that do not fit the prefix abort the process
            raise ValueError(f"{path} has a {affix} ({str(model[affix])[:40]!r}): Llama's have none; name another")
    model["dropout"] = None  # a leftover of training: ids would be random
    try:
        tokenizer = Tokenizer.from_str(json.dumps(state))  # not the file, where a key may stand twice
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and Rust's PanicException is none
        raise ValueError(f"{path} is not a tokenizer.json that tokenizers can open: {error}") from None
    ids = sorted(tokenizer.get_vocab().values())
    if ids != list(range(len(ids))):
        raise ValueError(
            f"{path}: the ids of its {len(ids)} tokens are not 0 to {len(ids) - 1}, each once: they must be"
        )
    tokenizer.no_truncation()  # some published ones cut every text at 512 ids
    tokenizer.no_padding()
    return tokenizer


def _model(tokenizer: "Tokenizer") -> bytes | None:
    """The SentencePiece model, if one gives the same ids."""
    try:
        return to_sentencepiece(tokenizer)
    except ValueError:
        return None


def _write_ranks(tokenizer: "Tokenizer", path: Path) -> None:
    """The rank file at `path`, if opening it gives the same ids."""
    try:
        ranks, specials = to_ranks(tokenizer)
        again, state = (json.loads(t.to_str()) for t in (from_ranks(ranks, specials), tokenizer))
        for each in (again, state):  # one token's merges in any order: `to_ranks` has seen to that of the tokens
            each["model"]["merges"].sort()
        if all(again[key] == state[key] for key in ("normalizer", "pre_tokenizer", "added_tokens", "model")):
            plain = specials == default_specials(len(ranks))  # as tiktoken has it, and Meta's loader
            write_ranks(path, ranks, None if plain else specials)
    except ValueError:
        return


def _config(tokenizer: "Tokenizer") -> dict[str, Any]:
    bos, eos = ENDS[kind(tokenizer)]
    bos_eos(tokenizer)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos}
    config["made_by"] = MADE_BY
    if kind(tokenizer) == "llama2":
        config |= {"unk_token": "<unk>", "pad_token": "<unk>"}  # none was published; byte fallback never gives <unk>
    elif pads := [name for name in LLAMA3_PADS if tokenizer.token_to_id(name) is not None]:
        config["pad_token"] = pads[0]
    return config | {
        "model_max_length": MODEL_MAX_LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
