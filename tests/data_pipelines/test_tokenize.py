"""Tokenise: shards hold <bos> text <eos> of each document, in order, and nothing in a text becomes a special token."""

import numpy as np
import pytest
from datatrove.data import Document
from tokenizers import Tokenizer

from data_pipelines import tokenize
from llama_train.data.shards import Shards
from llama_train.tokenizers import batches, llama3
from llama_train.tokenizers.folder import fingerprint, save_tokenizer
from tests.tokenizers.test_encode import llama2

TEXTS = ["First words.\n", "<|end_of_text|> is written <|begin_of_text|>\n", "naïve 漢字 words\n", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer")
    llama3.train_llama3(TEXTS, 300, out, progress=False)
    return out


def shards(folder, out):
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(TEXTS)]
    manifest = tokenize.write_shards(documents, folder, out, 1, progress=False)
    written = Shards(out)
    assert manifest == written.manifest | {"documents_with_special_names": 1}
    return written


def test_each_document_is_bos_its_text_eos(folder, tmp_path):
    written, tokenizer = shards(folder, tmp_path / "s"), Tokenizer.from_file(str(folder / "tokenizer.json"))
    bos, eos = tokenizer.token_to_id("<|begin_of_text|>"), tokenizer.token_to_id("<|end_of_text|>")
    borders = [*written.document_starts(0, len(written)).tolist(), len(written)]
    found = [written.tokens(start, stop).tolist() for start, stop in zip(borders, borders[1:], strict=False)]
    assert all(ids[0] == bos and ids[-1] == eos and max(ids[1:-1]) < 300 - 16 for ids in found)
    assert [tokenizer.decode(ids[1:-1], skip_special_tokens=False) for ids in found] == TEXTS
    assert tokenizer.encode(TEXTS[1], add_special_tokens=False).ids[0] == eos  # what a plain encode would have done


def test_the_manifest_names_the_tokenizer_and_counts_bytes(folder, tmp_path):
    written = shards(folder, tmp_path / "s")
    assert written.tokenizer == {"sha256": fingerprint(folder), "bos_token_id": 284, "eos_token_id": 285}
    assert written.vocab_size == 300 and written.manifest["documents"] == 4
    text_bytes = sum(len(text.encode()) for text in TEXTS)
    assert written.manifest["bytes"] == written.token_bytes[written.tokens(0, len(written))].sum() == text_bytes


def test_batches_do_not_change_the_tokens(folder, tmp_path, monkeypatch):
    whole = shards(folder, tmp_path / "whole")
    monkeypatch.setattr(batches, "BATCH_CHARS", 1)
    one_by_one = shards(folder, tmp_path / "one_by_one")
    assert whole.fingerprint == one_by_one.fingerprint


def test_the_bytes_are_those_that_tokenizers_alone_would_have_written(folder, tmp_path, root):
    texts = [path.read_text(encoding="utf-8") for path in sorted(root.glob("data_pipelines/**/*.py"))]
    texts += ["\u0378 and \U00016ea0's letters\n" * 300, "".join(TEXTS) * 5000]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    ids = [[284, *encoding.ids, 285] for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    tokenize.write_shards(documents, folder, tmp_path / "s", 1, progress=False)
    tokens, starts = (tmp_path / "s" / f"{name}-00000.bin" for name in ("tokens", "documents"))
    assert tokens.read_bytes() == b"".join(np.array(one, dtype="<u2").tobytes() for one in ids)
    assert starts.read_bytes() == np.cumsum([0, *map(len, ids[:-1])]).astype("<i8").tobytes()


def test_documents_with_the_name_of_a_special_token_are_counted(folder, tmp_path):
    texts = ["a<|eot_id|>", "<|eot_id|><|end_of_text|>", "<|eot_id", "<s> </s>", "plain <|", "<|no_such_token|>"]
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    manifest = tokenize.write_shards(documents, folder, tmp_path / "s", 1, progress=False)
    assert manifest["documents_with_special_names"] == 2 and manifest["documents"] == 6


def test_llama_2s_tokenizer_makes_shards_too(tmp_path):
    tokenizer = llama2()
    save_tokenizer(tokenizer, tmp_path / "llama2")
    documents = [Document(text=text, id=str(i)) for i, text in enumerate([*TEXTS, "</s> and <s>"])]
    manifest = tokenize.write_shards(documents, tmp_path / "llama2", tmp_path / "s", 1, progress=False)
    assert manifest["tokenizer"]["bos_token_id"] == 1 and manifest["tokenizer"]["eos_token_id"] == 2
    assert manifest["documents_with_special_names"] == 1
    written = Shards(tmp_path / "s")
    tokens = written.tokens(0, len(written)).tolist()
    assert tokens.count(1) == tokens.count(2) == len(documents)
    for start, document in zip(written.document_starts(0, len(written)).tolist(), documents, strict=True):
        ids = tokens[start + 1 : tokens.index(2, start)]
        assert tokenizer.decode(ids, skip_special_tokens=False) == document.text
    # each text's prefix is a space that the text has not
    assert written.token_bytes[tokens].sum() == manifest["bytes"] + len(documents)
