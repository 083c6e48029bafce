"""The Llama 3 tokenizer: ids as tiktoken's, text that comes back whole, a folder that transformers opens."""

import json
import os
import random
import subprocess
import sys

import pytest
from tokenizers import Tokenizer, normalizers

from llama_train.tokenizers import folder as folders
from llama_train.tokenizers import llama3
from llama_train.tokenizers.ranks import parts, read_ranks

# Every kind of thing the split pattern treats apart, in several scripts, and code.
TEXTS = [
    "The tokenizer splits text into words, and words into tokens. We'll see that it's THEY'LL and they've, I'd say.\n",
    "def split(text: str):\n    return text.split('\\n')  # 1234567 bytes\n\n\nclass Tokens(list):\n\tpass\n",
    "Le café coûte 3,50 €. Être ou ne pas être ? Él señaló el árbol; füße, größe, straße.\n",
    "Москва слезам не верит. Всё хорошо. Η γλώσσα. שלום עולם. مرحبا بالعالم\n",
    "東京は日本の首都です。汉字和拼音。안녕하세요 세계. हिन्दी में पाठ। ภาษาไทย\n",
    "emoji 😀👩‍👩‍👧 flags 🇫🇷, e\u0301 combining, ² ½ Ⅷ\n",
    "\u00a0no-break\u2003em\u3000ideographic space, \x00\x1c control\r\n\r\n",
    "================\n   trailing   \n \t mixed \t\n\n----  ....!!!???\n<html><body>&nbsp;</body></html>\n",
]
VOCAB = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer") / "llama3"
    llama3.train_llama3(TEXTS * 3, VOCAB, out, progress=False)
    return out


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def byte_alphabet():
    """GPT-2's letters for the 256 bytes: printable Latin-1 as itself, the others from code point 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def tiktoken_encoding(ranks, specials=None):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: its ids are the oracle here")
    return tiktoken.Encoding("x", pat_str=PUBLISHED_PATTERN, mergeable_ranks=ranks, special_tokens=specials or {})


def small_ranks(folder):
    """The trained folder's ranks, read from its tokenizer.json without the library's help."""
    letters = byte_alphabet()
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return {bytes(letters[letter] for letter in token): rank for token, rank in vocab.items()}


# As published; written out again so that a slip in the library's constant is seen.
PUBLISHED_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


def noise(seed, count):
    """Random strings in which scripts, spaces, digits and line ends meet in every order."""
    parts = [*"abzAZéß漢字中あ안я½²12345'_-=#.! \n\t\u00a0😀\x00", "  ", "\r\n", "'s", "'LL", "the", "ing"]
    generator = random.Random(seed)
    return ["".join(generator.choices(parts, k=generator.randint(1, 40))) for _ in range(count)]


def differing(tokenizer, encoding, texts):
    ours = tokenizer.encode_batch(texts, add_special_tokens=False)
    return sum(a.ids != encoding.encode_ordinary(text) for a, text in zip(ours, texts, strict=True))


def test_ids_equal_tiktoken_with_the_same_ranks_and_the_published_pattern(folder, tokenizer):
    encoding = tiktoken_encoding(small_ranks(folder))
    assert differing(tokenizer, encoding, TEXTS + noise(0, 3000)) == 0


def test_another_split_pattern_would_be_noticed(folder, tokenizer):
    encoding = tiktoken_encoding(small_ranks(folder))
    encoding = type(encoding)(
        "other",
        pat_str=PUBLISHED_PATTERN.replace("{1,3}", "+"),
        mergeable_ranks=encoding._mergeable_ranks,
        special_tokens={},
    )
    assert differing(tokenizer, encoding, TEXTS + noise(0, 3000)) > 0


def test_a_swapped_rank_a_missing_split_and_merges_before_words_would_be_noticed(tokenizer):
    letters = [b"bc", b"ab", b"cd", b"abcd", b"de", b"def"]  # no merging reaches abcd: bc comes first and is stuck
    ranks = {bytes([i]): i for i in range(256)} | {token: 256 + i for i, token in enumerate(letters)}
    assert parts(b"abcd", ranks, 999) == [b"a", b"bc", b"d"]
    encoding, ours = tiktoken_encoding(ranks), llama3.from_ranks(ranks)
    texts = ["abcd", "abcde", "xdefx", " ab cd", "abcdef"]
    assert [encoding.encode_ordinary(text) for text in texts[:3]] == [[259], [97, 256, 260], [120, 261, 120]]
    assert differing(ours, encoding, texts) == 0

    swapped = llama3.from_ranks(ranks | {b"bc": 257, b"ab": 256})
    model = json.loads(ours.to_str())
    model["model"]["merges"].remove(["de", "f"])
    missing = Tokenizer.from_str(json.dumps(model))
    model = json.loads(ours.to_str())
    model["model"]["ignore_merges"] = False
    merging = Tokenizer.from_str(json.dumps(model))
    assert [differing(other, encoding, texts) for other in (swapped, missing, merging)] == [3, 2, 1]


def test_ids_equal_tiktoken_for_ranks_that_no_training_would_give():
    """Overlapping, periodic, unreachable tokens over two letters: which neighbours merge first is all that counts."""
    for seed in range(60):
        chance = random.Random(seed)
        learned = sorted({bytes(chance.choices(b"ab", k=chance.randint(2, 6))) for _ in range(chance.randint(2, 14))})
        chance.shuffle(learned)
        ranks = {bytes([i]): i for i in range(256)} | {token: 256 + i for i, token in enumerate(learned)}
        texts = ["".join(chance.choices("ab", k=chance.randint(1, 30))) for _ in range(50)]
        assert differing(llama3.from_ranks(ranks), tiktoken_encoding(ranks), texts) == 0


def test_text_comes_back_whole(tokenizer):
    for text in TEXTS + noise(1, 1000):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_the_same_text_gives_the_same_bytes(folder, tmp_path):
    llama3.train_llama3(iter(TEXTS * 3), VOCAB, tmp_path, progress=False)
    for name in ("tokenizer.json", "tokenizer.tiktoken", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert folders.fingerprint(tmp_path) == folders.fingerprint(folder)
    llama3.train_llama3([*TEXTS * 3, "other words"], VOCAB, tmp_path, progress=False)
    assert folders.fingerprint(tmp_path) != folders.fingerprint(folder)


def test_endless_words_are_learned_from_in_parts_and_change_nothing_else(folder, tmp_path, monkeypatch):
    """Whole, 1 MB of spaces takes minutes and 12 MB meet the regex engine's limit."""
    chance = random.Random(0)
    endless = [" " * 1_000_000, "".join(chance.choices("ACGT", k=300_000)), "=" * 1_000_000, " " * 12_000_000]
    llama3.train_llama3([*TEXTS, *endless], VOCAB, tmp_path / "endless", progress=False)
    ranks, _ = read_ranks(tmp_path / "endless" / "tokenizer.tiktoken")
    assert len(ranks) == VOCAB - 16 and 100 < max(map(len, ranks)) <= 256
    monkeypatch.setattr(llama3, "MAX_WORD", 100_000)
    llama3.train_llama3(TEXTS * 3, VOCAB, tmp_path / "whole", progress=False)
    assert folders.fingerprint(tmp_path / "whole") == folders.fingerprint(folder)
    monkeypatch.setattr(llama3, "MAX_WORD", 3)
    llama3.train_llama3(TEXTS * 3, 400, tmp_path / "cut", progress=False)
    assert max(len(token) for token in small_ranks(tmp_path / "cut") if token.isalpha()) <= 3


def test_neither_the_hash_seed_nor_the_number_of_threads_changes_a_byte(folder, root, tmp_path):
    code = (
        "import sys; from pathlib import Path; from llama_train.tokenizers import llama3;"
        "from tests.tokenizers.test_llama3 import TEXTS, VOCAB;"
        "llama3.train_llama3(TEXTS * 3, VOCAB, Path(sys.argv[1]), progress=False)"
    )
    for seed, parallel in (("1", "true"), ("2", "false")):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "TOKENIZERS_PARALLELISM": parallel,
            "RAYON_NUM_THREADS": "4",
        }
        subprocess.run([sys.executable, "-c", code, tmp_path / seed], cwd=root, env=environment, check=True)
        for name in ("tokenizer.json", "tokenizer.tiktoken"):
            assert (tmp_path / seed / name).read_bytes() == (folder / name).read_bytes()


def test_every_learned_token_is_reached_by_merges(folder):
    ranks, _ = read_ranks(folder / "tokenizer.tiktoken")
    learned = [token for token in ranks if len(token) > 1]
    assert len(learned) == VOCAB - 16 - 256
    assert all(len(parts(token, ranks, ranks[token])) == 2 for token in learned)


def test_vocabulary_is_bytes_then_merges_then_specials(tokenizer):
    letters = byte_alphabet()
    assert [letters[tokenizer.id_to_token(i)] for i in (0, 1, 93, 94, 188)] == [33, 34, 126, 161, 0]
    assert tokenizer.get_vocab_size() == VOCAB
    assert [tokenizer.id_to_token(VOCAB - 16 + i) for i in range(16)] == [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>",
        "<|finetune_right_pad_id|>",
        "<|reserved_special_token_2|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
        "<|reserved_special_token_3|>",
        "<|reserved_special_token_4|>",
        "<|reserved_special_token_5|>",
        "<|reserved_special_token_6|>",
        "<|reserved_special_token_7|>",
    ]


def test_a_vocabulary_of_llama_3s_size_has_its_special_ids():
    ids = llama3.default_specials(128000)
    assert sorted(ids.values()) == list(range(128000, 128256)) and list(ids) == llama3.special_tokens(128256)
    published = {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eot_id|>": 128009,
        "<|reserved_special_token_247|>": 128255,
    }
    assert {name: ids[name] for name in published} == published


def test_a_long_text_cut_safely_has_the_ids_of_the_whole(tokenizer):
    text = "".join(TEXTS * 20 + noise(3, 500))
    whole = tokenizer.encode(text, add_special_tokens=False).ids

    def joined(pieces):
        return [i for piece in pieces for i in tokenizer.encode(piece, add_special_tokens=False).ids]

    for size in (1, 7, 100, 5000):
        pieces = list(llama3.split_safely(text, size))
        assert "".join(pieces) == text and len(pieces) > len(text) / (size + 400)
        assert joined(pieces) == whole
    assert joined([text[i : i + 100] for i in range(0, len(text), 100)]) != whole  # cutting anywhere is noticed
    assert list(llama3.split_safely("字" * 50, 10)) == ["字" * 50] and list(llama3.split_safely("", 10)) == [""]


def test_a_trained_folder_opens_in_transformers_with_tiktokens_ids_chat_included(folder):
    from transformers import AutoTokenizer

    opened = AutoTokenizer.from_pretrained(folder)
    ranks, specials = read_ranks(folder / "tokenizer.tiktoken")
    assert ranks == small_ranks(folder) and specials == {}, "tiktoken's own files have ranks alone"
    specials = llama3.default_specials(len(ranks))
    assert specials == {n: VOCAB - 16 + i for i, n in enumerate(llama3.special_tokens(VOCAB))}
    encoding = tiktoken_encoding(ranks, specials)
    for text in TEXTS:
        assert opened(text)["input_ids"] == [VOCAB - 16, *encoding.encode_ordinary(text)]
    chat = [{"role": "user", "content": " Hi \n"}, {"role": "assistant", "content": "Hello!"}]
    text = opened.apply_chat_template(chat, tokenize=False)
    assert text == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    )
    ids = opened.apply_chat_template(chat, return_dict=True)["input_ids"]
    assert ids == encoding.encode(text, allowed_special="all") and ids[:2] == [VOCAB - 16, VOCAB - 10]


def test_special_tokens_keep_the_names_and_ids_they_are_given():
    ranks = {bytes([i]): i for i in range(256)}
    tokenizer = llama3.from_ranks(ranks, {"<|b|>": 257, "<|begin_of_text|>": 256, "<|a|>": 258})
    assert tokenizer.encode("<|a|><|b|>x").ids == [256, 258, 257, 120]
    assert llama3.to_ranks(tokenizer) == (ranks, {"<|begin_of_text|>": 256, "<|b|>": 257, "<|a|>": 258})
    assert llama3.from_ranks(ranks, {}).encode("x<|a|>").ids == [*b"x<|a|>"]
    tokenizer.encode_special_tokens = True
    assert tokenizer.encode("<|a|>", add_special_tokens=False).ids == [*b"<|a|>"]


def test_of_two_texts_each_begins_with_the_special_token():
    encoded = llama3.from_ranks({bytes([i]): i for i in range(256)}).encode("a", "b")
    assert (encoded.ids, encoded.type_ids) == ([256, 97, 256, 98], [0, 0, 1, 1])


def test_what_a_normalizer_turns_into_a_special_tokens_name_is_still_text():
    """Else a full-width bracket in a document would end it."""
    tokenizer = llama3.from_ranks({bytes([i]): i for i in range(256)})
    tokenizer.normalizer = normalizers.NFKC()
    assert tokenizer.encode("<|eot_id|>", add_special_tokens=False).ids == [265]
    assert tokenizer.encode("<|eot_id|\uff1e", add_special_tokens=False).ids == [*b"<|eot_id|>"]


def test_a_special_token_before_the_last_rank_may_be_no_word():
    ranks = {bytes([i]): i for i in range(256)} | {b"th": 257}
    for name in ("PAD", "Ġx", "Ã©", "..."):
        with pytest.raises(ValueError, match=rf"the special token {name} \(id 256\) has ranks after it .* rename it"):
            llama3.from_ranks(ranks, {name: 256})
        llama3.from_ranks({bytes([i]): i for i in range(256)}, {name: 256})
    for name in ("<|x|>", "[PAD]", "éé", "a b"):  # the last two are how no bytes are written
        tokenizer = llama3.from_ranks(ranks, {name: 256})
        tokenizer.encode_special_tokens = True
        text = f"{name} x{name}, éé ... PAD"
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == tiktoken_encoding(ranks).encode_ordinary(text) and 256 not in ids
    with pytest.raises(ValueError, match=r"\[PAD\] \(id 256\)"):
        llama3.from_ranks(ranks, {"[PAD]": 256}, pattern=r"\S+|\s+")


@pytest.mark.parametrize(
    ("specials", "message"),
    [
        ({"<|a|>": 255}, "the ids of 256 ranks and 1 special tokens are not 0 to 256, each once"),
        ({"<|a|>": 257}, "not 0 to 256, each once"),
        ({"<|a|>": 256, "<|b|>": 256}, "not 0 to 257, each once"),
        ({"x": 256}, "the special token x is spelt like a token of the vocabulary: rename it"),
    ],
)
def test_special_tokens_that_do_not_fit_the_ranks_are_refused(specials, message):
    with pytest.raises(ValueError, match=message):
        llama3.from_ranks({bytes([i]): i for i in range(256)}, specials)


def test_ranks_without_every_byte_are_refused():
    with pytest.raises(ValueError, match=r"2 of the 256 single bytes have no rank, the first is b'\\xfe'"):
        llama3.from_ranks({bytes([i]): i for i in range(254)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m["merges"].reverse(),
            "the merge that makes .* comes after that of .*: as ranks the two would change",
        ),
        (lambda m: m["vocab"].update({"Ġ漢": 258}), "the token 'Ġ漢' is not written in byte letters"),
        (lambda m: m["vocab"].update({"a b": 258}), "the token 'a b' is not written in byte letters"),
    ],
)
def test_a_tokenizer_that_is_no_ranks_is_refused(change, message):
    model = json.loads(llama3.from_ranks({bytes([i]): i for i in range(256)} | {b"th": 256, b"he": 257}, {}).to_str())
    change(model["model"])
    with pytest.raises(ValueError, match=message):
        llama3.to_ranks(Tokenizer.from_str(json.dumps(model)))


def test_a_vocabulary_below_bytes_and_specials_is_refused_with_the_numbers(tmp_path):
    with pytest.raises(ValueError, match="vocab_size 271 is too small: 256 bytes and 16 special .* at least 272"):
        llama3.train_llama3(TEXTS, 271, tmp_path / "t", progress=False)
    assert not (tmp_path / "t").exists()


def test_too_little_text_says_which_vocabulary_it_can_give(tmp_path):
    with pytest.raises(ValueError, match="too small for vocab_size 8192: it yields 276 ids; set vocab_size to 276 or"):
        llama3.train_llama3(["abc abcd"], 8192, tmp_path / "t", progress=False)
    llama3.train_llama3(["abc abcd"], 276, tmp_path / "t", progress=False)
    with pytest.raises(ValueError, match="it yields 272 ids"):
        llama3.train_llama3([], 8192, tmp_path / "u", progress=False)
