"""The Llama 3 tokenizer: ids as tiktoken's, text that comes back whole, a folder that transformers opens."""

import json
import random

import numpy as np
import pytest
from tokenizers import Tokenizer

from llama_train.tokenizers import llama3

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


def tiktoken_encoding(folder):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: its ids are the oracle here")
    letters = byte_alphabet()
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    ranks = {bytes(letters[letter] for letter in token): rank for token, rank in vocab.items()}
    return tiktoken.Encoding("ours", pat_str=PUBLISHED_PATTERN, mergeable_ranks=ranks, special_tokens={})


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
    encoding = tiktoken_encoding(folder)
    assert differing(tokenizer, encoding, TEXTS + noise(0, 3000)) == 0


def test_another_split_pattern_would_be_noticed(folder, tokenizer):
    encoding = tiktoken_encoding(folder)
    encoding = type(encoding)(
        "other",
        pat_str=PUBLISHED_PATTERN.replace("{1,3}", "+"),
        mergeable_ranks=encoding._mergeable_ranks,
        special_tokens={},
    )
    assert differing(tokenizer, encoding, TEXTS + noise(0, 3000)) > 0


def test_text_comes_back_whole(tokenizer):
    for text in TEXTS + noise(1, 1000):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_the_same_text_gives_the_same_bytes(folder, tmp_path):
    llama3.train_llama3(iter(TEXTS * 3), VOCAB, tmp_path, progress=False)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert llama3.fingerprint(tmp_path) == llama3.fingerprint(folder)
    llama3.train_llama3([*TEXTS * 3, "other words"], VOCAB, tmp_path, progress=False)
    assert llama3.fingerprint(tmp_path) != llama3.fingerprint(folder)


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
    specials = llama3.special_tokens(128256)
    ids = {name: 128000 + i for i, name in enumerate(specials)}
    assert len(specials) == len(ids) == 256
    published = {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eot_id|>": 128009,
        "<|reserved_special_token_247|>": 128255,
    }
    assert {name: ids[name] for name in published} == published


def test_token_bytes_are_the_bytes_each_id_decodes_to(tokenizer):
    lengths = llama3.token_bytes(tokenizer)
    assert lengths.dtype == np.uint16 and lengths.shape == (VOCAB,)
    assert lengths[:256].tolist() == [1] * 256 and lengths[-16:].tolist() == [0] * 16
    for text in TEXTS + noise(2, 200):
        assert lengths[tokenizer.encode(text).ids].sum() == len(text.encode())


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


def test_transformers_opens_the_folder_alone_and_beside_a_llama_config(folder, tmp_path):
    from transformers import AutoTokenizer

    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    for path in (folder, tmp_path):
        opened = AutoTokenizer.from_pretrained(path)
        assert (opened.bos_token_id, opened.eos_token_id, opened.pad_token_id) == (VOCAB - 16, VOCAB - 15, VOCAB - 12)
        assert len(opened) == VOCAB and opened.model_max_length == llama3.MODEL_MAX_LENGTH
        for text in TEXTS:
            ids = opened(text)["input_ids"]
            assert ids[0] == VOCAB - 16 and opened.decode(ids, skip_special_tokens=True) == text
    opened.save_pretrained(tmp_path / "saved")
    assert llama3.fingerprint(tmp_path / "saved") == llama3.fingerprint(folder)


def test_chat_template_is_llama_3s_format_and_marks_the_answers(folder):
    from transformers import AutoTokenizer

    opened = AutoTokenizer.from_pretrained(folder)
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Hi \n"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]
    assert opened.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    encoded = opened.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark]
    assert opened.decode(marked) == "Hello!<|eot_id|>" and encoded["input_ids"].count(VOCAB - 16) == 1


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
