"""Meta's own ranks for Llama 3: the published ids, from every engine, on real text and on traps."""

import json
from itertools import islice

import pytest
from tokenizers import Tokenizer

from data_pipelines.sources import installed, wikipedia
from llama_train.tokenizers import folder as folders
from llama_train.tokenizers import llama3
from llama_train.tokenizers.ranks import parts, read_ranks
from tests.conftest import SHARED
from tests.tokenizers.test_llama3 import TEXTS, differing, noise, tiktoken_encoding


@pytest.fixture(scope="module")
def meta():
    """Meta's ranks and special tokens for Llama 3, and the tokenizer they open as."""
    path = SHARED / "realdata" / "tokenizers" / "meta-llama-3-8B.tiktoken"
    if not path.is_file():
        pytest.skip(f"{path} is not here: Meta's vocabularies exist only on some machines")
    return *read_ranks(path), folders.open_tokenizer(path)


def test_metas_special_tokens_and_chat_headers_have_the_published_ids(meta):
    ranks, specials, tokenizer = meta
    published = {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eot_id|>": 128009,
        "<|reserved_special_token_250|>": 128255,
    }
    assert {name: tokenizer.token_to_id(name) for name in published} == published
    assert published.items() <= specials.items()
    assert tokenizer.get_vocab_size() == 128256 and llama3.to_ranks(tokenizer) == (ranks, specials)
    chat = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    ids = [
        *(128000, 128006, 9125, 128007, 271, 2675, 527, 264, 11190, 18328, 13, 128009),
        *(128006, 882, 128007, 271, 9906, 128009, 128006, 78191, 128007, 271),
    ]
    assert tokenizer.encode(chat, add_special_tokens=False).ids == ids
    encoding = tiktoken_encoding(ranks, specials)
    assert encoding.encode(chat, allowed_special="all") == ids
    for name, i in specials.items():
        text = f"a {name}\n{name}b"
        given = tokenizer.encode(text, add_special_tokens=False).ids
        assert given == encoding.encode(text, allowed_special="all") and given.count(i) == 2


def test_metas_ids_on_traps_and_the_planted_mistakes(meta):
    ranks, _, tokenizer = meta
    encoding = tiktoken_encoding(ranks)
    texts = [
        *TEXTS,
        *noise(4, 3000),
        "việc",
        " việc .:.: x",
        "a" * 5000,
        " " * 3000,
        "中" * 2000,
        "=-" * 2000,
        "\n" * 999,
    ]
    assert differing(tokenizer, encoding, texts) == 0
    own = [part.decode().replace(" ", "Ġ") for part in parts(b" the", ranks, ranks[b" the"])]
    for change in (lambda m: m.update(ignore_merges=False), lambda m: m["merges"].remove(own)):
        model = json.loads(tokenizer.to_str())
        change(model["model"])
        different = differing(Tokenizer.from_str(json.dumps(model)), encoding, [*texts, " theXY"])
        assert different > 0


@pytest.mark.slow
def test_metas_ids_on_10_mb_of_books_wikipedia_and_code(meta, books, tmp_path):
    """The same ids from tiktoken, from tokenizers and from transformers on the saved folder, in twenty languages and code."""
    from transformers import AutoTokenizer

    ranks, _, tokenizer = meta
    texts = [path.read_text(encoding="utf-8", errors="replace")[:190_000] for path in sorted(books.iterdir())]
    texts += [
        document.text for document in wikipedia.read(sorted((SHARED / "realdata" / "wikipedia").glob("dbpedia*")))
    ]
    texts += [document.text[:50_000] for document in islice(installed.read([], installed.DEFAULTS), 250)]
    size = sum(len(text.encode()) for text in texts)
    assert size > 10e6
    encoding = tiktoken_encoding(ranks)
    wanted = [encoding.encode_ordinary(text) for text in texts]
    folders.save_tokenizer(tokenizer, tmp_path)
    ours = folders.open_tokenizer(tmp_path)
    ours.encode_special_tokens = True  # a special token's name stands in the source of some package
    given = [encoded.ids for encoded in ours.encode_batch_fast(texts, add_special_tokens=False)]
    assert sum(a != b for a, b in zip(given, wanted, strict=True)) == 0
    opened = AutoTokenizer.from_pretrained(tmp_path, split_special_tokens=True)
    given = opened(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    assert sum(a != b for a, b in zip(given, wanted, strict=True)) == 0
