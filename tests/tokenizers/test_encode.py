"""Bulk encoding: the ids of `tokenizers` for every kind of text, from another engine where the two agree."""

import json
import multiprocessing
import random
import re
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from llama_train.tokenizers import batches, encode
from llama_train.tokenizers.encode import Encoder, is_odd
from llama_train.tokenizers.llama3 import SAFE_CUT, from_ranks, train_llama3

TEXTS = [
    "The tokenizer splits text into words, and words into tokens. We'll see that it's THEY'LL and they've, I'd say.\n",
    "def split(text: str):\n    return text.split('\\n')  # 1234567 bytes\n\n\nclass Tokens(list):\n\tpass\n",
    "Le café coûte 3,50 €. Être ou ne pas être ? Él señaló el árbol; füße, größe, straße.\n",
    "Москва слезам не верит. Η γλώσσα. שלום עולם. مرحبا بالعالم\n東京は日本の首都です。안녕하세요 세계. हिन्दी में पाठ। ภาษาไทย\n",
    "emoji 😀👩‍👩‍👧 flags 🇫🇷, e\u0301 combining, ² ½ Ⅷ\n"
    "\u00a0no-break\u2003em\u3000ideographic, \x00\x1c\r\n\r\n   trailing   \n \t \t\n\n----",
]
NAMES = {
    "llama2": ["<unk>", "<s>", "</s>"],
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|reserved_special_token_3|>"],
}


def llama2():
    """A vocabulary of SentencePiece's kind, learned from TEXTS: pieces that start with ▁ or have none, byte fallback."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(Regex("▁*[^▁]*"), "isolated")
    learner.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(vocab_size=500, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    pieces = [*NAMES["llama2"], *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(spaces)
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in NAMES["llama2"]])
    return tokenizer


# OpenAI's o200k_base, as tiktoken has it
O200K = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ]
)


@pytest.fixture(scope="module", params=["llama2", "llama3"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(kind, tmp_path_factory):
    if kind == "llama2":
        return llama2()
    out = tmp_path_factory.mktemp("tokenizer")
    train_llama3(TEXTS * 3, 600, out, progress=False)
    return Tokenizer.from_file(str(out / "tokenizer.json"))


@pytest.fixture(scope="module")
def encoder(tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a fallback would make every comparison one of `tokenizers` with itself
        return Encoder(tokenizer)


def wanted(tokenizer, texts):
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    return [encoding.ids for encoding in copy.encode_batch_fast(texts, add_special_tokens=False)]


def differing(encoder, tokenizer, texts):
    ours = encoder.encode_batch(texts)
    assert all(ids.dtype == np.uint32 for ids in ours)
    return [text for text, a, b in zip(texts, ours, wanted(tokenizer, texts), strict=True) if a.tolist() != b]


def noise(seed, count):
    """Random texts: what the split pattern treats apart in every order, any character of Unicode, runs, special names."""
    parts = [
        *"abzAZéß漢字中あ안я½²12345'_-=#.! \n\t\r\u00a0\u3000\u200d😀\x00\x1c\x85▁ſ",
        "  ",
        "\r\n",
        "'s",
        "'LL",
        "the",
        " ing",
    ]
    parts += [" 's", "e\u0301", "\u0c5c", "\u0378", "\U00016ea0", *(name for names in NAMES.values() for name in names)]
    generator = random.Random(seed)

    def part():
        if generator.random() < 0.8:
            return generator.choice(parts) * generator.choice([1, 1, 1, 2, 9])
        code = generator.randrange(generator.choice([0x80, 0x3000, 0x20000, 0x110000]))
        return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)

    return ["".join(part() for _ in range(generator.choice([1, 3, 10, 40]))) for _ in range(count)]


def test_ids_are_those_of_tokenizers(encoder, tokenizer):
    assert differing(encoder, tokenizer, TEXTS + noise(0, 5000)) == []


@pytest.fixture(scope="module")
def telling(kind):
    """A tokenizer whose ids show where words end: merges of a letter and what a character starts with, of 1 and 2, of 's."""
    if kind == "llama2":
        return llama2()
    pairs = [b"'s", b"12", *(b"x" + bytes([first]) for first in (*range(128), *range(0xC2, 0xF5)))]
    return from_ranks({token: i for i, token in enumerate([*(bytes([i]) for i in range(256)), *pairs])}, {})


# Before a letter, "x" goes on; before a mark, "'" stands apart from "s"; a number takes "1" away from "2".
NEIGHBOURS = {"llama2": "x{0} {0}", "llama3": "x{0}'s1{0}12\n"}


def test_every_character_has_the_ids_of_tokenizers(telling, kind):
    assigned = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    common = [character for character in assigned if not is_odd(character)]
    assert 280_000 < len(common) < 300_000  # private use too
    parts = [common[i : i + 2000] for i in range(0, len(common), 2000)]
    encoder = Encoder(telling)
    assert encoder._engine is not None
    assert differing(encoder, telling, ["".join(map(NEIGHBOURS[kind].format, part)) for part in parts]) == []


def test_each_of_unicode_17s_letters_and_numbers_would_have_other_ids_without_the_look_for_it(
    telling, kind, monkeypatch
):
    spans = [[int(end, 16) for end in span.split("-")] for span in encode.UNICODE_17.split()]
    new = [chr(code) for span in spans for code in range(span[0], span[-1] + 1)]
    texts = [NEIGHBOURS[kind].format(character) for character in new]
    encoder = Encoder(telling)
    assert len(new) == 4657 and all(map(is_odd, new)) and differing(encoder, telling, texts) == []
    monkeypatch.setattr(encode, "is_odd", lambda text: False)
    assert len(differing(encoder, telling, texts)) == (4657 if kind == "llama3" else 0)


def test_odd_is_what_is_new_in_unicode_17_and_what_is_unassigned():
    assert [character for character in "aé\xad中😀\ue000\ufffd\U0010fffd" if is_odd(character)] == []
    assert all(map(is_odd, ["\u0c5c", "a\u0378", "x" * 999 + "\U00016ea0", "😀\U00033479", "\ufdd0", "\U0010ffff"]))
    known = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    assert sum(map(is_odd, known)) <= 4657  # none where Python's own tables are those of Unicode 16 or before


def test_special_names_are_letters(encoder, tokenizer, kind):
    for name in NAMES[kind]:
        texts = [name, f"a{name}b", f" {name} {name}\n"]
        assert differing(encoder, tokenizer, texts) == []
        special = tokenizer.token_to_id(name)
        assert special in tokenizer.encode(f"a{name}b").ids  # what a plain encode makes of it
        assert not any(special in ids for ids in encoder.encode_batch(texts))


def test_empty_texts_and_many_tiny_ones(encoder, tokenizer):
    assert encoder.encode_batch([]) == []
    assert encoder.encode("").shape == (0,) and [len(ids) for ids in encoder.encode_batch(["", "", ""])] == [0, 0, 0]
    tiny = ["", "a", " ", "é", "\u0c5c", "the"] * 2000
    assert differing(encoder, tokenizer, tiny) == []
    assert differing(encoder, tokenizer, ["\u0378", "\u0c5c"]) == []  # nothing is left for the other engine


def test_a_batch_has_the_ids_of_its_texts_one_by_one(encoder, monkeypatch):
    texts = TEXTS + noise(1, 300) + ["".join(TEXTS) * 30]
    batch = encoder.encode_batch(texts)
    for text, ids in zip(texts, batch, strict=True):
        assert encoder.encode(text).tolist() == ids.tolist()
    monkeypatch.setattr(batches, "BATCH_CHARS", 50)
    assert all(map(np.array_equal, batch, encoder.encode_batch(texts)))


def test_half_a_surrogate_pair_is_refused(encoder):
    for texts in (["abc \ud800 def"], ["fine", "é" * 1000 + "\udfff"]):
        with pytest.raises(ValueError, match=r"U\+D(800|FFF), half of a surrogate pair and no character, at "):
            encoder.encode_batch(texts)


def test_of_a_long_document_tokenizers_gets_only_what_is_odd(encoder, tokenizer, monkeypatch):
    page = "".join(TEXTS[:4])
    text = "\u0c5c" + page * 400 + "x\U00016ea0's " + page * 400 + "\u0378"
    whole = wanted(tokenizer, [text])[0]
    taken, slow = [], encoder._slow
    monkeypatch.setattr(encoder, "_slow", lambda pieces: (taken.extend(map(len, pieces)), slow(pieces))[1])
    assert encoder.encode(text).tolist() == whole
    assert len(taken) == 3 and sum(taken) < 4 * encode.PIECE_CHARS < len(text) / 10


def test_cuts_do_not_change_ids_and_other_cuts_would(encoder, tokenizer, monkeypatch):
    texts = [text + "\u0378" for text in [*noise(2, 1500), *TEXTS]]
    monkeypatch.setattr(encode, "PIECE_CHARS", 3)
    monkeypatch.setattr(encode, "FEW_CHARS", 0)
    assert differing(encoder, tokenizer, texts) == []
    assert sum(len(list(encoder._pieces(text))) - 1 for text in texts) > 1000
    for mistake in ("", "(?<=[a-z])(?=[a-z])", " ", "(?<= )"):
        monkeypatch.setattr(encoder, "_cut", re.compile(mistake))
        assert differing(encoder, tokenizer, texts)


@pytest.mark.parametrize("piece", ["s▁i", "s▁"])
def test_texts_are_not_cut_where_a_piece_could_run_across(piece):
    tokenizer = llama2()
    assert Encoder(tokenizer)._cut is encode.LLAMA2_CUT
    model = json.loads(tokenizer.to_str())
    vocab, merges = model["model"]["vocab"], model["model"]["merges"]
    first = [["▁", "i"], ["s", "▁i"]] if piece == "s▁i" else [["s", "▁"]]
    for left, right in first:
        vocab.setdefault(left + right, len(vocab))
    merges[:] = [*first, *(merge for merge in merges if merge not in first)]
    crossing = Tokenizer.from_str(json.dumps(model))
    encoder = Encoder(crossing)
    texts = ["is " * 3000 + "\u0378", "its is it"]
    assert encoder._cut is None and differing(encoder, crossing, texts) == []
    encoder._cut = encode.LLAMA2_CUT
    assert differing(encoder, crossing, texts) == texts[:1]


def test_texts_are_not_cut_for_another_split_pattern():
    """GPT-4o's has marks run on over a line's end to slashes; a cut made for Llama 3's falls between the two."""
    tokenizer = from_ranks({token: i for i, token in enumerate([*(bytes([i]) for i in range(256)), b"\n/"])}, {}, O200K)
    encoder = Encoder(tokenizer)
    texts = ["!\n/\u0378" * 3000]
    assert encoder._engine is not None and encoder._cut is None and differing(encoder, tokenizer, texts) == []
    encoder._cut = SAFE_CUT
    assert differing(encoder, tokenizer, texts) == texts


def test_one_thread_or_all_of_them(encoder, monkeypatch):
    texts = ["".join(TEXTS) * 20] * 300  # several megabytes: gigatoken gives less than one to one thread
    one = encoder.encode_batch(texts)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    for a, b in pairwise([one, encoder.encode_batch(texts), encoder.encode_batch(texts)]):
        assert all(map(np.array_equal, a, b))


class Recorder:
    """Instead of gigatoken's engine: what it is asked, passed on."""

    def __init__(self, engine):
        self.engine, self.parallel = engine, []

    def encode_batch(self, texts, parallel):
        self.parallel.append(parallel)
        return self.engine.encode_batch(texts, parallel=parallel)


@pytest.mark.parametrize(
    "value, parallel", [("false", False), ("OFF", False), ("0", False), ("", False), ("true", None)]
)
def test_one_thread_where_the_environment_asks_for_it(encoder, monkeypatch, value, parallel):
    monkeypatch.setattr(encoder, "_engine", Recorder(encoder._engine))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", value)
    encoder.encode_batch(TEXTS)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    encoder.encode_batch(TEXTS)
    assert encoder._engine.parallel == [parallel, None]


def test_threads_share_one_while_it_forgets_what_it_remembers(tokenizer, monkeypatch):
    encoder, texts = Encoder(tokenizer), noise(6, 50)
    right = wanted(tokenizer, texts)
    opened, real = [], encoder._open
    monkeypatch.setattr(encoder, "_open", lambda: (opened.append(1), real()))
    monkeypatch.setattr(encode, "CACHE_BYTES", -(2**40))
    with ThreadPoolExecutor(4) as pool:
        for ids in pool.map(encoder.encode_batch, [texts] * 200):
            assert [one.tolist() for one in ids] == right
    assert len(opened) >= 200


class PanicException(BaseException):  # what pyo3 makes of a panic in Rust; it has no class that could be imported
    pass


class Panics:
    """Instead of a `tokenizers` that gives up on a text with "!!"; 12 MB of spaces do that to the real one."""

    def __init__(self, tokenizer, error):
        self.tokenizer, self.error = tokenizer, error

    def encode(self, text, **options):
        return self.encode_batch_fast([text], **options)[0]

    def encode_batch_fast(self, texts, **options):
        if any("!!" in text for text in texts):
            raise self.error
        return self.tokenizer.encode_batch_fast(texts, **options)


def test_where_tokenizers_gives_up_the_ids_are_the_other_engines(tokenizer, monkeypatch):
    encoder = Encoder(tokenizer)
    texts = ["fine", "x!! \u0378 " * 3, "fine too"]
    right = wanted(tokenizer, texts)
    monkeypatch.setattr(encoder, "_tokenizer", Panics(encoder._tokenizer, PanicException("retry-limit-in-match over")))
    assert [ids.tolist() for ids in encoder.encode_batch(texts)] == right
    assert encoder.encode(texts[1]).tolist() == right[1]
    monkeypatch.setattr(encoder, "_engine", None)
    with pytest.raises(
        ValueError, match="gives up on the text of 18 characters that starts with 'x!! .*': cut it, or"
    ) as e:
        encoder.encode_batch(texts)
    assert "\n" not in str(e.value) and [ids.tolist() for ids in encoder.encode_batch(["fine"])] == right[:1]
    monkeypatch.setattr(encoder._tokenizer, "error", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        encoder.encode_batch(texts)


def _in_child(encoder, texts, queue):
    queue.put([ids.tolist() for ids in encoder.encode_batch(texts)])


def test_a_forked_process_encodes_too(encoder, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    texts = ["".join(TEXTS) * 20] * 200
    here = [ids.tolist() for ids in encoder.encode_batch(texts)]  # its threads do not exist in the child
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(encoder, texts, queue))
    child.start()
    assert queue.get(timeout=60) == here
    child.join(60)


def test_an_engine_with_another_merge_is_found_out(tokenizer, monkeypatch):
    import gigatoken

    real = gigatoken.Tokenizer.from_json

    def changed(text):
        model = json.loads(text)
        merges = model["model"]["merges"]
        merges[5], merges[-5] = merges[-5], merges[5]
        return real(json.dumps(model))

    monkeypatch.setattr(gigatoken.Tokenizer, "from_json", changed)
    with pytest.warns(UserWarning, match="gigatoken gives other ids than tokenizers for .* ten to twenty times slower"):
        encoder = Encoder(tokenizer)
    assert differing(encoder, tokenizer, TEXTS + noise(3, 200)) == []


def test_an_engine_that_takes_special_names_for_tokens_is_found_out(tokenizer, monkeypatch):
    import gigatoken

    real = gigatoken.Tokenizer.from_json
    monkeypatch.setattr(
        encode, "PROBE_TOKENS", 1
    )  # of a large vocabulary few special names are in the part that is tried
    monkeypatch.setattr(gigatoken.Tokenizer, "from_json", lambda text: real(tokenizer.to_str()))
    with pytest.warns(UserWarning, match="gigatoken gives other ids than tokenizers for '<"):
        assert Encoder(tokenizer)._engine is None


def test_what_gigatoken_cannot_read_goes_to_tokenizers_after_a_warning(tokenizer):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{Lu}\p{Ll}+|\d\d"), "isolated"), pre_tokenizers.ByteLevel(False, False, False)]
    )
    other.normalizer = normalizers.Lowercase()
    with pytest.warns(UserWarning, match=r"gigatoken cannot read this tokenizer \(.*\): text is encoded by tokenizers"):
        encoder = Encoder(other)
    assert differing(encoder, other, [*TEXTS, "", "a\u0378"]) == []


def test_added_tokens_that_are_not_special_stay_tokens(tokenizer):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_tokens([AddedToken("<tool>", normalized=False)])
    with pytest.warns(UserWarning, match="added tokens that are not special, such as '<tool>'"):
        encoder = Encoder(other)
    texts = ["a<tool>b", *NAMES["llama2"], *NAMES["llama3"]]
    assert differing(encoder, other, texts) == [] and other.token_to_id("<tool>") in encoder.encode(texts[0])


@pytest.mark.parametrize("added", [[], ["<tool>"]])
@pytest.mark.filterwarnings("ignore:the tokenizer has added tokens")
def test_a_tokenizer_that_truncates_or_pads_has_the_ids_of_the_whole_text(tokenizer, added):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_tokens([AddedToken(name, normalized=False) for name in added])
    plain = wanted(other, TEXTS)
    other.enable_truncation(5)
    other.enable_padding(length=400)
    assert [ids.tolist() for ids in Encoder(other).encode_batch(TEXTS)] == plain


def test_the_tokenizer_that_is_given_stays_as_it_is(tokenizer):
    before = tokenizer.to_str()
    Encoder(tokenizer)
    assert tokenizer.to_str() == before and not tokenizer.encode_special_tokens


def test_what_the_engine_remembers_is_bounded(encoder, tokenizer, monkeypatch):
    opened, real = [], encoder._open
    monkeypatch.setattr(encoder, "_open", lambda: (opened.append(1), real()))
    texts = noise(4, 2000)
    before = encoder.encode_batch(texts)
    assert not opened  # a small text is no reason
    monkeypatch.setattr(encode, "CACHE_BYTES", -(2**40))
    after = [encoder.encode_batch(texts) for _ in range(2)]
    assert len(opened) == 2 and all(map(np.array_equal, before, after[0])) and all(map(np.array_equal, *after))
