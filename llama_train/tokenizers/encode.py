"""Text to ids in bulk: gigatoken, ten to twenty times as fast as `tokenizers`, with the ids of `tokenizers`.

Where the two do not treat text alike, `tokenizers` takes it: gigatoken knows the letters of Unicode 17, `tokenizers` (0.22,
0.23) those of 16. And an engine proves itself when it is opened, on traps and a part of the vocabulary; one that fails is
not used.
"""

import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from llama_train.tokenizers.batches import batches
from llama_train.tokenizers.llama3 import SAFE_CUT, SPLIT_PATTERN
from llama_train.tokenizers.sentencepiece_model import NORMALIZER

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

FEW_CHARS = 500  # for so little, asking gigatoken takes longer than `tokenizers` needs
PIECE_CHARS = 4096  # of a text for `tokenizers`: what surrounds its odd characters, and not all of it
CACHE_BYTES = 2**27  # a core: gigatoken 0.10 remembers every word it meets, ten bytes for each byte of it, for ever
PROBE_TOKENS = 8192  # of the vocabulary, evenly spread: all of it would take `tokenizers` half a second
NO = ("", "0", "f", "false", "n", "no", "off")  # of TOKENIZERS_PARALLELISM, as `tokenizers` reads it

# A space between two words is where SentencePiece's next word starts; the prefix of the next piece stands for it.
LLAMA2_CUT = re.compile("(?<=[^ ▁]) (?=[^ ▁])")
# The letters and numbers that are new in Unicode 17: all that the engines were found to differ in, over every code point.
UNICODE_17 = (
    "88F C5C CDC A7CE-A7CF A7D2 A7D4 A7F1 10940-10959 10EC5-10EC7 11DB0-11DDB 11DE0-11DE9 16EA0-16EB8 16EBB-16ED3 "
    "16FF2-16FF6 187F8-187FF 18D09-18D1E 18D80-18DF2 1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5 1E6E7-1E6ED 1E6F0-1E6F4 "
    "1E6FE-1E6FF 2B73A-2B73F 2CEA2-2CEAD 323B0-33479"
)
SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2003\u2007\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
TRAPS = (
    "it's IT'S it'ſ we'Re I'LL l'été 'd''s 's's'tx a'veb 'm\u2019s\n",
    "1 12 123 1234 12345678 3.14 1,000 ½ ①② Ⅷ ٣٤٥ १२३ 𝟘𝟙 x1y22z333 ²³\n",
    "".join(f"a{space}b{space}{space}c {space} 1{space}!{space}\n" for space in SPACES),
    "Straße naïve cafe\u0301 ﬁ ŉ İı Ωμέγα Москва\u0301 שָׁלוֹם العَرَبِيَّة हिन्दी"
    "  বাংলা தமிழ் ไทยภาษา ខ្មែរ မြန်မာ ქართული ᏣᎳᎩ 한국어 日本語。漢字、かな カナ 𠀀𪜀\n",
    "😀👍🏽 👩\u200d👩\u200d👧 🏳️\u200d🌈 🇫🇷 ☃️ \u200b\u200d\ufeff\ufffd\ue000\U0010ffff\x00\x7f \u202eabc\u2060\n",
    "if (x!=y) {\r\n\treturn `a`->b[0]; // ...\r\n}\n\n\n"
    "#include <a.h>\n    == ---- ____ \\\\ '\"'\"' <|x|> http://a.b/?c=d&e \n \n\t\n",
    *(
        run * 300
        for run in ("a", "é", "字", " ", "\n", " \n", "=", "1", "ab ", "'s", "\u3000", "😀", "▁", "a▁", "\xa0")
    ),
)


class Encoder:
    """The ids of texts without special tokens around them; a special token's name in a text is letters, never the token.

    Threads may share one. All of it may run on every core: `TOKENIZERS_PARALLELISM=false` or `RAYON_NUM_THREADS` asks
    for fewer, and forked processes take one each. Where gigatoken cannot read the tokenizer, or gives other ids than
    `tokenizers` when it is tried, `tokenizers` does the work, after a warning.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        from tokenizers import Tokenizer, models

        self._tokenizer = Tokenizer(tokenizer.model)  # the same model, and nothing added: a special name is letters
        rules = Tokenizer(models.BPE())
        for one in (self._tokenizer, rules):
            if tokenizer.normalizer is not None:
                one.normalizer = tokenizer.normalizer
            if tokenizer.pre_tokenizer is not None:
                one.pre_tokenizer = tokenizer.pre_tokenizer
        self._cut = _safe_cut(json.loads(rules.to_str()), tokenizer)
        self._engine: Any = None
        added = tokenizer.get_added_tokens_decoder().values()
        if plain := [token.content for token in added if not token.special]:
            # They are looked for in every text, and not only by the model.
            self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
            self._tokenizer.encode_special_tokens = True
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._cut = None
            return _warn(f"the tokenizer has added tokens that are not special, such as {plain[0]!r}")
        self._open()
        if self._engine is not None:
            for text in _probe(tokenizer):
                if self._quick([text])[0].tolist() != self._slow([text])[0].tolist():
                    self._engine = None
                    return _warn(f"gigatoken gives other ids than tokenizers for {text[:40]!r}...")

    def encode(self, text: str) -> "np.ndarray":
        """The ids of one text, uint32.

        Raises ValueError for half a surrogate pair, which is no character, and for a text that no engine here manages.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> "list[np.ndarray]":
        """The ids of each text, uint32, views into one array for many of them. Raises ValueError as `encode` does."""
        ids: list[np.ndarray] = []
        for group in batches(texts, str):
            ids += self._encode_group(group)
        return ids

    def _encode_group(self, texts: list[str]) -> "list[np.ndarray]":
        import numpy as np

        odd = is_odd(joined := "".join(texts))
        if self._engine is None or (len(texts) == 1 and len(joined) <= FEW_CHARS):
            return self._slow(texts)
        if not odd:
            return self._quick(texts)
        cut = [list(self._pieces(text)) for text in texts]
        pieces = [(piece, is_odd(piece)) for parts in cut for piece in parts]
        quick = iter(self._quick([piece for piece, odd in pieces if not odd]))
        ids = iter([self._slow([piece])[0] if odd else next(quick) for piece, odd in pieces])
        return [np.concatenate([next(ids) for _ in parts]) for parts in cut]

    def _pieces(self, text: str) -> Iterator[str]:
        """A text with odd characters, cut where the ids of the pieces, joined, are those of the whole; others whole."""
        start, safe = 0, self._cut if is_odd(text) else None
        while safe and len(text) - start > PIECE_CHARS and (cut := safe.search(text, start + PIECE_CHARS)):
            yield text[start : cut.start()]
            start = cut.end()
        yield text[start:]

    def _slow(self, texts: list[str]) -> "list[np.ndarray]":
        import numpy as np

        try:
            if len(texts) == 1:  # without threads of its own, of which it would warn in every process forked later
                found = [self._tokenizer.encode(texts[0], add_special_tokens=False)]
            else:
                found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except BaseException as error:
            # Its pattern matching gives up on some texts, such as 12 MB of spaces, with an exception that cannot be named.
            if type(error).__name__ != "PanicException":
                raise
        else:
            return [np.array(encoding.ids, dtype=np.uint32) for encoding in found]
        if len(texts) > 1:
            return [ids for text in texts for ids in self._slow([text])]
        if self._engine is None:
            raise ValueError(
                f"tokenizers gives up on the text of {len(texts[0]):,} characters that starts with {texts[0][:40]!r}: "
                "cut it, or take it out"
            )
        return self._quick(texts)  # `tokenizers` has no ids that these could differ from

    def _quick(self, texts: list[str]) -> "list[np.ndarray]":
        import numpy as np
        import psutil

        process = psutil.Process()
        before = process.memory_info().rss
        parallel = False if os.environ.get("TOKENIZERS_PARALLELISM", "1").lower() in NO else None
        rows = self._engine.encode_batch(texts, parallel=parallel).layout
        ids, offsets = np.asarray(rows.content.data), np.asarray(rows.offsets).tolist()
        self._cached += process.memory_info().rss - before - ids.nbytes
        if self._cached > CACHE_BYTES * _cores():
            self._open()
        return [ids[start:stop] for start, stop in zip(offsets, offsets[1:], strict=False)]

    def _open(self) -> None:
        import gigatoken

        self._cached = 0
        try:
            # Other threads go on with the old one, never with none: a new one takes 60 MB, far less than is given back.
            self._engine = gigatoken.Tokenizer.from_json(self._tokenizer.to_str())
        except Exception as error:  # whatever it does not support: a pattern, a normalizer, ...
            _warn(f"gigatoken cannot read this tokenizer ({str(error).splitlines()[0]})")


def is_odd(text: str) -> bool:
    """Whether a text has a character that the engines may not treat alike: one of Unicode 17, or of no Unicode yet.

    Raises ValueError for half a surrogate pair.
    """
    import numpy as np

    if text.isascii():
        return False
    try:
        units = np.frombuffer(text.encode("utf-16-le"), dtype=np.uint16)
    except UnicodeEncodeError as error:
        near = ascii(text[max(0, error.start - 20) : error.start + 20])
        raise ValueError(
            f"the text holds U+{ord(text[error.start]):04X}, half of a surrogate pair and no character, at {near}: "
            "take it out before encoding"
        ) from None
    odd = _odd_characters()
    if not odd[units].any():
        return False
    # Above U+FFFF two units make a character: look at characters.
    return bool(odd[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)].any())


@cache
def _odd_characters() -> "np.ndarray":
    """For each code point whether it is odd; surrogates are, for a second look."""
    import unicodedata

    import numpy as np

    odd = np.fromiter((unicodedata.category(chr(code)) in ("Cn", "Cs") for code in range(0x110000)), dtype=bool)
    for new in UNICODE_17.split():
        first, _, last = new.partition("-")
        odd[int(first, 16) : int(last or first, 16) + 1] = True
    return odd


def _safe_cut(rules: dict[str, Any], tokenizer: "Tokenizer") -> re.Pattern[str] | None:
    """Where a text may be cut: what is found there is left out. None where no such place is known."""
    words = ((rules["pre_tokenizer"] or {}).get("pretokenizers") or [{}])[0]
    if rules["normalizer"] is None:
        split = {"pattern": {"Regex": SPLIT_PATTERN}, "behavior": "Isolated", "invert": False}
        return SAFE_CUT if split.items() <= words.items() else None
    if rules["pre_tokenizer"] is None and rules["normalizer"] == NORMALIZER:
        crossing = any("▁" in token.lstrip("▁") for token in tokenizer.get_vocab(with_added_tokens=False))
        return None if crossing else LLAMA2_CUT
    return None


def _probe(tokenizer: "Tokenizer") -> Iterator[str]:
    """Texts on which an engine must give the ids of `tokenizers`."""
    yield from TRAPS
    yield "".join(token.content for token in tokenizer.get_added_tokens_decoder().values())
    size = tokenizer.get_vocab_size()
    tokens = tokenizer.decode_batch([[i] for i in range(0, size, size // PROBE_TOKENS + 1)], skip_special_tokens=False)
    for separator in ("", " "):
        yield separator.join(token for token in tokens if not is_odd(token))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _warn(why: str) -> None:
    warnings.warn(f"{why}: text is encoded by tokenizers itself, ten to twenty times slower", stacklevel=3)
