"""What is no tokenizer, or a broken one: refused with the file, the reason and what to do, and nothing worse."""

import base64

import pytest

from llama_train.tokenizers import folder, llama3
from tests.data_pipelines.fuzz import mutants, survive
from tests.tokenizers.test_folder import RANKS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file"),
        (b"<!DOCTYPE html><html>", "is an HTML or XML page"),
        (b"{", "is not a tokenizer.json: JSONDecodeError"),
        (b"{}", "is not a tokenizer.json: KeyError: 'model'"),
        (b'{"model": []}', "is not a tokenizer.json"),
        (b'{"model": {"type": "WordPiece"}}', "is WordPiece, not BPE"),
        (b'{"model": {"type": "Unigram"}}', "is Unigram, not BPE"),
        (b'{"model": {"vocab": {}}}', "is unknown, not BPE"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0, "b": 2}, "merges": []}}', "ids of its 2 tokens are not 0 to 1"),
        (b'{"model": {"type": "BPE"}}', "is not a tokenizer.json that tokenizers can open"),
        (b'{"model":' * 100_000, "is not a tokenizer.json"),
        (b"some words", "line 1 is 'some words': a rank file has"),
        (base64.b64encode(b"x") + b" 0\n", "255 of the 256 single bytes"),
    ],
)
def test_what_is_no_tokenizer_is_refused_with_the_file_and_the_reason(tmp_path, data, message):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        folder.open_tokenizer(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no tokenizer: looked for tokenizer.json, tokenizer.model"):
        folder.open_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        folder.open_tokenizer(tmp_path / "nowhere")


def test_a_tokenizer_json_of_absurd_size_is_not_read(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as sparse:
        sparse.write(b"{")
        sparse.truncate(10 * 2**30)
    with pytest.raises(ValueError, match="more than 268,435,456"):
        folder.open_tokenizer(tmp_path)


def test_mutants_of_a_tokenizer_json_are_opened_or_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    refused = 0

    def parse(data):
        nonlocal refused
        path.write_bytes(data)
        try:
            opened = folder.open_tokenizer(path)
            folder.token_bytes(opened)
            folder.bos_eos(opened)
            llama3.to_ranks(opened)
        except ValueError:
            refused += 1

    words = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"-1", b'"type"', b'"BPE"', b'"\\u0120t"', b"\\u"]
    survive(parse, mutants([llama3.from_ranks(RANKS).to_str().encode()], words=words))
    assert refused > 500
