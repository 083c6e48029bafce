"""What is no tokenizer, or a broken one: refused with the file, the reason and what to do, and nothing worse."""

import base64
import json
import os
import tempfile
from pathlib import Path

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


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


@pytest.mark.parametrize(
    ("normalizer", "name"),
    [
        (REPLACE, "Replace"),
        ({"type": "Sequence", "normalizers": [REPLACE] * 9}, "Sequence"),
        ({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "a" * 1000}, SPACES]}, "Sequence"),
        ({"type": "Lowercase"}, "Lowercase"),
        (PRECOMPILED, "Precompiled"),  # its charsmap makes the library panic
        ("NFC", "NFC"),
        (False, "False"),
    ],
)
def test_a_normalizer_that_rewrites_text_is_refused(tmp_path, normalizer, name):
    state = json.loads(llama3.from_ranks(RANKS).to_str()) | {"normalizer": normalizer}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=rf"tokenizer.json rewrites text \(normalizer '{name}'\): .* name another"):
        folder.open_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["NFC", "NFKC", None])
def test_a_normalizer_that_changes_a_characters_form_is_kept_whatever_stood_there_before(tmp_path, kind):
    text = json.dumps(json.loads(llama3.from_ranks(RANKS).to_str()) | {"normalizer": kind and {"type": kind}})
    first = f'{{"normalizer": {json.dumps(PRECOMPILED)}, ' + text.lstrip("{")  # of two equal keys the last counts
    for given in (text, first):
        (tmp_path / "tokenizer.json").write_text(given)
        opened = folder.open_tokenizer(tmp_path)
        assert json.loads(opened.to_str()) == json.loads(text)


@pytest.mark.parametrize("affix", ["continuing_subword_prefix", "end_of_word_suffix"])
def test_a_model_with_word_pieces_marks_is_refused(tmp_path, affix):
    """A merge that the prefix cuts in the middle of a character does not raise in the library: it ends the process."""
    state = json.loads(llama3.from_ranks(RANKS).to_str())
    state["model"] |= {affix: "x", "vocab": state["model"]["vocab"] | {"té": 282}, "merges": [["t", "é"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=rf"has a {affix} \('x'\): Llama's have none"):
        folder.open_tokenizer(tmp_path)


def test_a_panic_of_the_library_is_an_error_and_ctrl_c_is_not(tmp_path):
    state = json.loads(llama3.from_ranks(RANKS).to_str())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "NORMALIZERS", (PRECOMPILED,))
        (tmp_path / "tokenizer.json").write_text(json.dumps(state | {"normalizer": PRECOMPILED}))
        with pytest.raises(ValueError, match="is not a tokenizer.json that tokenizers can open: Precompiled"):
            folder.open_tokenizer(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder.json, "dumps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            folder.open_tokenizer(tmp_path)


@pytest.fixture
def in_memory():
    """A file in memory, where the system has a folder there: to write one a thousand times over is slow on a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as parent:
        yield Path(parent, "tokenizer.json")


def test_mutants_of_a_tokenizer_json_are_opened_or_refused(in_memory):
    path = in_memory
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
