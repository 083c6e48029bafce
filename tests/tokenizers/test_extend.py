"""Growing a vocabulary: old ids stay, every new token is reached by merges, engines agree, new text takes fewer tokens."""

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from llama_train.tokenizers import extend as module
from llama_train.tokenizers.extend import count_words, extend
from llama_train.tokenizers.folder import open_tokenizer, save_tokenizer
from llama_train.tokenizers.init_rows import init_rows, parts_of_new
from llama_train.tokenizers.learn_merges import learn_merges
from llama_train.tokenizers.llama3 import SPLIT_PATTERN, from_ranks, special_tokens, to_ranks
from llama_train.tokenizers.ranks import parts, read_ranks
from tests.conftest import SHARED

ENGLISH = [
    "The old lighthouse keeper climbed the stairs every evening and lit the lamp before the ships came in.\n",
    "In the morning she walked along the shore, counting the boats that had stayed out all night in the wind.\n",
    "There is nothing that the sea gives which it does not, in the end, take back again; so the keeper said.\n",
]
GERMAN = [
    "Der alte Leuchtturmwärter stieg jeden Abend die Treppe hinauf und zündete das Licht an, bevor die Schiffe kamen.\n",
    "Am Morgen ging sie am Ufer entlang und zählte die Boote, die in der Nacht draußen geblieben waren.\n",
    "Größe und Geschwindigkeit der Schiffe ließen sich nicht schätzen; niemand wußte, wohin die Reise gehen sollte.\n",
]
JAPANESE = [
    "灯台の老人は毎晩階段を上り、船が来る前に明かりをつけました。\n",
    "朝になると、老人は海岸を歩いて、夜の間に海に出ていた船を数えました。\n",
    "海は与えたものをいつか取り返す、と灯台の老人は言いました。\n",
]
NEW = GERMAN * 3 + JAPANESE * 3
CODE = "def zähle(boote: list[str]) -> int:\n    return len(boote)  # 12345 'Größe' they'LL\r\n\n\n<|eot_id|>\t  x\n"
ADD = 150


def train(texts, vocab_size, **byte_level):
    """A byte-level BPE without special tokens by the tokenizers library's own trainer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, **byte_level)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def ranks():
    return to_ranks(train(ENGLISH * 3, 360))[0]


@pytest.fixture(scope="module")
def base(ranks):
    return from_ranks(ranks)


@pytest.fixture(scope="module")
def grown(base):
    return extend(base, NEW, ADD, progress=False)


def engine(ranks, specials=None, pattern=SPLIT_PATTERN):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: its ids are the oracle here")
    return tiktoken.Encoding("grown", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials or {})


def unreachable(ranks, tokens):
    """The tokens that the merges of lower rank do not leave in exactly two parts."""
    return [token for token in tokens if len(parts(token, ranks, ranks[token])) != 2]


def noise(seed, count):
    scripts = [*"abzAßäöü灯台の老人船абв12345'_-=#.! \n\t\u00a0😀", "  ", "\r\n", "sch", "keit", "the", "ました", "'LL"]
    generator = random.Random(seed)
    return ["".join(generator.choices(scripts, k=generator.randint(1, 40))) for _ in range(count)]


def encode(tokenizer, texts):
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


def test_old_ids_stay_and_exactly_the_asked_number_is_added_behind_them(base, grown):
    before, after = base.get_vocab(), grown.get_vocab()
    assert len(before) == 376 and len(after) == 376 + ADD
    assert {token: after[token] for token in before} == before
    assert sorted(after[token] for token in after.keys() - before.keys()) == list(range(376, 376 + ADD))
    assert [grown.token_to_id(name) for name in special_tokens(376)] == list(range(360, 376))


def test_every_new_token_is_reached_by_merges_of_lower_rank(ranks, grown):
    new = {token: i for token, i in to_ranks(grown)[0].items() if token not in ranks}
    assert len(new) == ADD and not unreachable(to_ranks(grown)[0], new)
    assert any(token.startswith("灯".encode()) for token in new)
    assert b" Schiffe" in new


def test_a_token_that_no_merge_reaches_is_found_by_that_check(grown):
    after = to_ranks(grown)[0]
    for planted in (b"qqxqz", " größ".encode() + b"q"):
        assert unreachable(after | {planted: 10_000}, [planted]) == [planted]


def test_tokenizers_and_tiktoken_agree_on_the_grown_vocabulary(grown):
    after, specials = to_ranks(grown)
    texts = ENGLISH + GERMAN + JAPANESE + [CODE.replace("eot_id", "eot")] + noise(0, 2000)
    ours, tiktoken = encode(grown, texts), engine(after, specials)
    assert ours == [tiktoken.encode_ordinary(text) for text in texts]
    assert [grown.decode(ids, skip_special_tokens=False) for ids in ours] == texts
    assert encode(grown, [CODE]) == [tiktoken.encode(CODE, allowed_special="all")]
    assert specials["<|eot_id|>"] in encode(grown, [CODE])[0]
    first, second = [token for token, i in after.items() if i >= 376][:2]
    swapped = engine(after | {first: after[second], second: after[first]})
    assert ours != [swapped.encode_ordinary(text) for text in texts]


def test_new_text_takes_fewer_tokens_and_no_text_takes_more(base, grown):
    texts = ENGLISH + GERMAN + JAPANESE + [CODE] + noise(1, 1000)
    counts = [(len(a), len(b)) for a, b in zip(encode(base, texts), encode(grown, texts), strict=True)]
    assert all(b <= a for a, b in counts)
    assert all(b < 0.7 * a for a, b in counts[3:9])


def test_merges_are_those_of_counting_anew_with_tiktoken_after_each(ranks):
    """The learner keeps counts up to date word by word; here every step starts from nothing, in another engine."""
    words = Counter(word for text in NEW for word in count_words([text], SPLIT_PATTERN, ranks, progress=False))
    slow = dict(ranks)
    for _ in range(80):
        tiktoken = engine(slow)
        counts = Counter()
        for word, count in words.items():
            if word not in slow:
                cut = tiktoken.decode_tokens_bytes(tiktoken._encode_bytes(word))
                for left, right in pairwise(cut):
                    counts[left + right] += count
        slow[min(counts, key=lambda token: (-counts[token], token))] = len(slow)
    assert learn_merges(words, ranks, 80, progress=False) == list(slow)[360:]


def test_what_two_pairs_spell_is_one_token_and_what_a_merge_uncovers_is_merged(ranks):
    """b"abc" is cut a+bc in one word and ab+c in another: together they outnumber everything else."""
    single = {bytes([i]): i for i in range(256)} | {b"bc": 256, b"xa": 257, b"ab": 258}
    assert parts(b"abc", single, 300) == [b"a", b"bc"] and parts(b"xabc", single, 300) == [b"xa", b"bc"]
    learned = learn_merges({b"abc": 3, b"xabc": 3, b"qq": 4}, single, 3, progress=False)
    assert learned == [b"qq", b"abc", b"xabc"]
    grown = single | {token: 259 + i for i, token in enumerate(learned)}
    assert not unreachable(grown, learned)


def test_a_new_merge_that_uncovers_an_old_token_makes_it_too():
    """Llama 3 has tokens that its own merges never reach; b"abcd" is one: b"bc" comes first, nothing joins it to b"d"."""
    ranks = {bytes([i]): i for i in range(256)} | {b"bc": 256, b"abcd": 257}
    assert unreachable(ranks, [b"abcd"]) == [b"abcd"]
    assert learn_merges({b"abc": 9, b"xabcd": 5}, ranks, 2, progress=False) == [b"abc", b"xabcd"]


def test_a_new_merge_that_completes_an_old_token_on_its_left_makes_it_too():
    """b"xabc" is unreachable until b"abc" is there: then it is what b"x" and b"abc" spell, and b"d" comes after it."""
    ranks = {bytes([i]): i for i in range(256)} | {b"bc": 256, b"xabc": 257}
    assert unreachable(ranks, [b"xabc"]) == [b"xabc"]
    assert learn_merges({b"abc": 9, b"xabcd": 5}, ranks, 2, progress=False) == [b"abc", b"xabcd"]


def test_order_of_texts_hash_seed_and_process_change_nothing(base, grown, tmp_path):
    assert extend(base, NEW[::-1], ADD, progress=False).to_str() == grown.to_str()
    base.save(str(tmp_path / "base.json"))
    script = (
        "import sys, hashlib; from tokenizers import Tokenizer; from llama_train.tokenizers.extend import extend\n"
        "from tests.tokenizers.test_extend import NEW, ADD\n"
        "grown = extend(Tokenizer.from_file(sys.argv[1]), NEW, ADD)\n"
        "print(hashlib.sha256(grown.to_str().encode()).hexdigest())"
    )
    for seed in ("0", "7"):
        command = [sys.executable, "-c", script, str(tmp_path / "base.json")]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == hashlib.sha256(grown.to_str().encode()).hexdigest()
        assert done.stderr == ""  # no progress where nobody looks


@pytest.mark.parametrize("add", [5, ADD])  # fewer than there are special tokens, and more
def test_a_saved_one_is_opened_by_transformers_and_by_us_with_the_same_ids(base, tmp_path, add):
    from transformers import AutoTokenizer

    grown = extend(base, NEW, add, progress=False)
    save_tokenizer(grown, tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    texts = ENGLISH + GERMAN + JAPANESE + [CODE]
    assert len(opened) == 376 + add and opened.bos_token_id == 360
    assert [opened(text, add_special_tokens=False)["input_ids"] for text in texts] == encode(grown, texts)
    assert opened(GERMAN[0])["input_ids"][0] == 360
    assert to_ranks(open_tokenizer(tmp_path)) == to_ranks(grown)
    again = extend(open_tokenizer(tmp_path), NEW, 3, progress=False)  # what was grown grows on
    assert sorted(again.get_vocab().values()) == list(range(376 + add + 3))


def test_a_base_without_special_tokens_gets_them_last_as_llama_3(ranks):
    bare = from_ranks(ranks, {})
    grown = extend(bare, NEW, 50, progress=False)
    after, specials = to_ranks(grown)
    assert list(after.values()) == list(range(410)) and {t: after[t] for t in ranks} == ranks
    assert list(specials) == special_tokens(426) and list(specials.values()) == list(range(410, 426))


def test_the_bases_own_pattern_stays_unless_another_is_named():
    """GPT-2's joins digits to any length, Llama 3's to three: the words learned from differ."""
    base = train(ENGLISH * 3, 360, use_regex=True)
    texts = ["Im Jahr 123456 und 123456 und 123456, er sagt's. " * 3]
    own = extend(base, texts, 19, progress=False)
    assert own.token_to_id("Ġ123456") is not None
    assert encode(own, ENGLISH + texts)[0] == base.encode(ENGLISH[0]).ids
    published = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # OpenAI's encoder.py
    tiktoken = engine(to_ranks(own)[0], {}, published)
    plain = ENGLISH + GERMAN + texts + noise(2, 500)
    assert encode(own, plain) == [tiktoken.encode_ordinary(text) for text in plain]
    llama3 = extend(base, texts, 8, "llama3", progress=False)
    assert all("1234" not in token for token in llama3.get_vocab()) and llama3.token_to_id("123") is not None


def test_special_names_in_the_text_never_become_tokens(ranks):
    specials = {"<|x|>": 360, "ßßß": 361}
    grown = extend(from_ranks(ranks, specials), ["ßßß ßßß ßßßßß <|x|> <|x|>" * 9], 8, progress=False)
    after, kept = to_ranks(grown)
    assert kept == specials and "ßßß".encode() not in after and b"<|x|>" not in after


def test_long_words_and_many_words_stay_bounded(ranks, monkeypatch):
    letters = "".join(random.Random(0).choices("abcdefgh", k=300_000))
    words = count_words([letters], SPLIT_PATTERN, ranks, progress=False)
    assert max(map(len, words)) == module.MAX_WORD_CHARS and sum(words.values()) >= 300_000 // 64
    monkeypatch.setattr(module, "MAX_WORDS", 100)
    generator = random.Random(1)
    rare = ["".join(generator.choices("jkqxyz", k=7)) for _ in range(3000)]
    text = " ".join(word for i, word in enumerate(rare) for word in (word, " wieder" * (i % 10 == 0)))
    words = count_words([text[i : i + 500] for i in range(0, len(text), 500)], SPLIT_PATTERN, ranks, progress=False)
    assert len(words) == 100 and sum(map(len, words)) > 600
    monkeypatch.setattr(module, "MAX_CHARS", 300)
    assert 290 < sum(map(len, count_words([text], SPLIT_PATTERN, ranks, progress=False))) <= 300
    assert max(words, key=words.__getitem__) == b" wieder" and words[b" wieder"] >= 290


def test_of_equally_rare_words_each_script_loses_as_many(ranks, monkeypatch):
    """Sorted by their letters, those that are dropped would be all of one script."""
    monkeypatch.setattr(module, "MAX_WORDS", 1000)
    generator = random.Random(2)
    alphabets = {"latin": "abcdefgh", "cyrillic": "абвгдежз", "greek": "αβγδεζηθ", "hangul": "가나다라마바사아"}
    words = {
        script: {"".join(generator.choices(letters, k=9)) for _ in range(500)} for script, letters in alphabets.items()
    }
    texts = [word for of_script in words.values() for word in sorted(of_script)]
    kept = count_words(texts, SPLIT_PATTERN, ranks, progress=False)
    assert len(kept) == 1000
    for of_script in words.values():
        assert 200 < len(kept.keys() & {word.encode() for word in of_script}) < 300
    assert kept == count_words(texts[::-1], SPLIT_PATTERN, ranks, progress=False)


def test_mistakes_are_named(base, ranks):
    def refused(match, base, texts=NEW, add=10, pattern=None):
        with pytest.raises(ValueError, match=match) as caught:
            extend(base, texts, add, pattern, progress=False)
        assert "\n" not in str(caught.value)

    refused("add is 0: .* 1 or more", base, add=0)
    refused("pattern 'llama4' is unknown: name one of llama3", base, pattern="llama4")
    refused("holds '.+', half of a surrogate pair", base, texts=["ab\ud800"])
    refused("has only 0 merges", base, texts=[])
    with pytest.raises(ValueError, match=r"has only (\d+) merges .* 100000 were asked") as caught:
        extend(base, NEW, 100_000, progress=False)
    found = int(str(caught.value).split()[4])
    assert extend(base, NEW, found, progress=False).get_vocab_size() == 376 + found
    sentencepiece = Tokenizer(models.BPE({"<unk>": 0, "▁": 1, "a": 2, "▁a": 3}, [("▁", "a")], unk_token="<unk>"))
    refused("not byte-level", sentencepiece)
    refused("254 of the 256 single bytes", Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])))
    folded = Tokenizer.from_str(base.to_str())
    folded.normalizer = normalizers.NFC()
    refused("normalizes text .NFC.", folded)
    spaces = Tokenizer.from_str(base.to_str())
    spaces.add_tokens([AddedToken("    ", normalized=False)])
    refused("added token '    ' is no plain special token", spaces)
    digits = Tokenizer.from_str(base.to_str())
    digits.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    refused("does not split text by one pattern", digits)
    for pattern, reason in ((r"(\w+)|\s+", "it has capturing groups"), (r"[a", "unterminated character set")):
        with pytest.raises(ValueError, match=f"cannot be used: {reason}.*; name another, such as llama3"):
            count_words(NEW, pattern, ranks, progress=False)
    assert extend(digits, NEW, 10, "llama3", progress=False).get_vocab_size() == 386


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_new_rows_are_the_means_of_their_parts_and_old_rows_stay(base, grown, dtype):
    rows = np.random.default_rng(0).normal(size=(376, 24)).astype(dtype)
    out = init_rows(rows, base, grown)
    assert out.dtype == dtype and out.shape == (376 + ADD, 24)
    assert out[:376].tobytes() == rows.tobytes()
    for i in range(376, 376 + ADD):
        token = bytes(grown.decode([i]), "utf-8")
        if "\ufffd" in token.decode():
            continue  # a part of a character has no text to encode
        ids = base.encode(token.decode(), add_special_tokens=False).ids
        mean = sum(rows[j].astype(np.float64) for j in ids) / len(ids)
        assert len(ids) > 1 and np.array_equal(out[i], mean.astype(dtype))


def test_parts_of_new_tokens_spell_them(base, ranks, grown):
    spelt = {i: token for token, i in ranks.items()}
    after = to_ranks(grown)[0]
    found = parts_of_new(base, grown)
    assert sorted(found) == list(range(376, 376 + ADD))
    assert all(after[b"".join(spelt[j] for j in ids)] == i for i, ids in found.items())


def test_torch_rows_keep_dtype_and_new_special_rows_are_the_mean_of_all(ranks):
    import torch

    bare = from_ranks(ranks, {})
    grown = extend(bare, NEW, 20, progress=False)
    rows = torch.randn(360, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16).requires_grad_()
    out = init_rows(rows, bare, grown)
    assert out.dtype == torch.bfloat16 and out.shape == (396, 8) and not out.requires_grad
    assert torch.equal(out[:360], rows)
    assert torch.equal(out[380:], rows.double().mean(0).to(torch.bfloat16).expand(16, 8))


def test_a_llama_grows_with_its_tokenizer_and_says_the_same_of_old_tokens(base, grown, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=376, tie_word_embeddings=False, **sizes)).eval()
    ids = torch.tensor([base.encode(ENGLISH[0]).ids])
    before = model(ids).logits
    tables = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    rows = [init_rows(table, base, grown) for table in tables]
    model.resize_token_embeddings(376 + ADD, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(rows[0])
        model.get_output_embeddings().weight.copy_(rows[1])
    model.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert opened.config.vocab_size == 376 + ADD
    torch.testing.assert_close(opened(ids).logits[..., :376], before, rtol=1e-6, atol=1e-6)
    assert torch.isfinite(opened(torch.tensor([grown.encode(GERMAN[0]).ids])).logits).all()


def test_parts_may_be_tokens_that_were_grown_themselves(grown):
    """Their ids lie above the special tokens, and so above the number of ranks."""
    twice = extend(grown, NEW, 5, progress=False)
    specials = len(to_ranks(grown)[1])
    parts = parts_of_new(grown, twice)
    assert len(parts) == 5 and specials > 5
    for i, old in parts.items():
        assert old == grown.encode(twice.decode([i]), add_special_tokens=False).ids


def test_rows_of_another_vocabulary_are_refused(base, ranks, grown):
    with pytest.raises(ValueError, match="377 rows for a base of 376 ids"):
        init_rows(np.zeros((377, 4)), base, grown)
    tokens = list(ranks)
    tokens[300], tokens[301] = tokens[301], tokens[300]
    other = from_ranks({token: i for i, token in enumerate(tokens)})
    with pytest.raises(ValueError, match="has id 300 in the base and 301 in the grown"):
        init_rows(np.zeros((376, 4)), other, grown)
    with pytest.raises(ValueError, match="has id 360 in the base and 426 in the grown"):
        parts_of_new(base, from_ranks(to_ranks(extend(from_ranks(ranks, {}), NEW, 66, progress=False))[0]))


@pytest.mark.slow
def test_llama_3s_first_100_000_ranks_grow_on_wikipedia():
    path = SHARED / "realdata/tokenizers/meta-llama-3-8B.tiktoken"
    if not path.is_file():
        pytest.skip(f"{path} is not here: Meta's ranks exist only on some machines")
    from data_pipelines.sources import wikipedia

    first = {token: i for token, i in read_ranks(path)[0].items() if i < 100_000}
    dumps = sorted((SHARED / "realdata/wikipedia").glob("dbpedia__*.xml.bz2"))
    texts = [document.text for document in wikipedia.read(dumps)]
    grown = extend(from_ranks(first, {}), texts, 2000, progress=False)
    after, specials = to_ranks(grown)
    assert {token: after[token] for token in first} == first and len(after) == 102_000
    assert specials["<|begin_of_text|>"] == 102_000 and specials["<|eot_id|>"] == 102_009 and len(specials) == 256
    assert not unreachable(after, list(after)[100_000:])
    old, new = engine(first), engine(after)
    ours = encode(grown, texts)
    assert ours == [new.encode_ordinary(text) for text in texts]
    assert sum(map(len, ours)) < 0.95 * sum(len(old.encode_ordinary(text)) for text in texts)
