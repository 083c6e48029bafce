"""Token shards: what is written is read back, across shard borders, and broken folders are refused by name."""

import json
import pickle

import numpy as np
import pytest

from llama_train.data.shards import Shards, ShardWriter
from tests.data.conftest import BOS, EOS, TOKEN_BYTES, TOKENIZER, VOCAB


def stream(lengths):
    return np.concatenate([[BOS, *[k % 100] * length, EOS] for k, length in enumerate(lengths)])


def test_every_range_of_the_stream_is_read_back_across_shards(make_shards, lengths):
    shards, expected = make_shards(lengths), stream(lengths)
    assert len(shards.manifest["shards"]) > 10
    assert len(shards) == len(expected) == sum(lengths) + 2 * len(lengths)
    random = np.random.default_rng(1)
    for start, stop in np.sort(random.choice(len(expected) + 1, (300, 2)), axis=1):
        if start < stop:
            got = shards.tokens(int(start), int(stop))
            assert got.dtype == np.int64 and np.array_equal(got, expected[start:stop])
            starts = shards.document_starts(int(start), int(stop))
            assert np.array_equal(starts, start + np.flatnonzero(expected[start:stop] == BOS))


def test_the_number_of_shards_does_not_change_the_stream(make_shards, lengths):
    one, many = make_shards(lengths, 10**6, "one"), make_shards(lengths, 1, "many")
    assert (len(one.manifest["shards"]), len(many.manifest["shards"])) == (1, len(lengths))
    assert np.array_equal(one.tokens(0, len(one)), many.tokens(0, len(many)))
    assert np.array_equal(one.document_starts(0, len(one)), many.document_starts(0, len(many)))


def test_manifest_counts_and_files_on_disk(make_shards):
    shards = make_shards([3, 0])
    assert shards.manifest["tokens"] == 7 and shards.manifest["documents"] == 2 and shards.manifest["bytes"] == 3
    assert shards.manifest["dtype"] == "uint16" and shards.vocab_size == VOCAB and shards.tokenizer == TOKENIZER
    assert (shards.path / "tokens-00000.bin").read_bytes() == bytes([100, 0, 0, 0, 0, 0, 0, 0, 101, 0, 100, 0, 101, 0])
    assert (shards.path / "documents-00000.bin").read_bytes() == (0).to_bytes(8, "little") + (5).to_bytes(8, "little")
    assert shards.token_bytes.dtype == np.uint16 and np.array_equal(shards.token_bytes, TOKEN_BYTES)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, "uint16"), (65537, "uint32")])
def test_ids_take_two_bytes_up_to_65536(tmp_path, vocab_size, dtype):
    with ShardWriter(tmp_path / "s", vocab_size, TOKENIZER, np.zeros(vocab_size)) as writer:
        writer.add([BOS, vocab_size - 1, EOS], 1)
    shards = Shards(tmp_path / "s")
    assert shards.manifest["dtype"] == dtype and shards.tokens(0, 3).tolist() == [BOS, vocab_size - 1, EOS]


@pytest.mark.parametrize("ids", [[BOS, VOCAB, EOS], [BOS, -1, EOS], [5, 5, EOS], [BOS, 5, 5], [BOS], []])
def test_ids_that_are_no_document_of_this_vocabulary_are_refused(tmp_path, ids):
    error = pytest.raises(ValueError, match=r"do not fit a vocabulary of 102|must run from <bos> \(100\)")
    with error, ShardWriter(tmp_path / "s", VOCAB, TOKENIZER, TOKEN_BYTES) as writer:
        writer.add(ids, 1)
    assert list(tmp_path.iterdir()) == []


def test_no_documents_at_all_is_an_error(tmp_path):
    error = pytest.raises(ValueError, match="no documents to write")
    with error, ShardWriter(tmp_path / "s", VOCAB, TOKENIZER, TOKEN_BYTES):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_being_written_cannot_be_read(tmp_path):
    with ShardWriter(tmp_path / "s", VOCAB, TOKENIZER, TOKEN_BYTES) as writer:
        writer.add([BOS, EOS], 0)
        assert not (tmp_path / "s").exists()
        with pytest.raises(FileNotFoundError, match="no manifest"):
            Shards(tmp_path / "s.partial")
    assert len(Shards(tmp_path / "s")) == 2


def test_what_a_killed_writer_left_is_overwritten_and_a_whole_folder_is_not(tmp_path, make_shards):
    (tmp_path / "shards.partial").mkdir()
    (tmp_path / "shards.partial" / "tokens-00009.bin").write_bytes(b"old")
    shards = make_shards([3])
    assert not (shards.path / "tokens-00009.bin").exists()
    with pytest.raises(FileExistsError, match="exists already"):
        make_shards([4])
    assert len(Shards(shards.path)) == 5


def test_missing_folder_names_the_command_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere holds no token shards.*llama-data build"):
        Shards(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["tokens-00000.bin", "documents-00000.bin", "token_bytes.npy"])
def test_a_missing_file_is_named(make_shards, name):
    shards = make_shards([3])
    (shards.path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        Shards(shards.path)


@pytest.mark.parametrize("name", ["tokens-00000.bin", "documents-00000.bin"])
def test_a_short_file_is_named(make_shards, name):
    shards = make_shards([3])
    (shards.path / name).write_bytes((shards.path / name).read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{name} has .* bytes where the manifest says"):
        Shards(shards.path)


def test_one_flipped_bit_is_found_by_verify_and_the_shard_named(make_shards):
    shards = make_shards([30, 30, 30])
    shards.verify()
    content = bytearray((shards.path / "tokens-00001.bin").read_bytes())
    content[10] ^= 1
    (shards.path / "tokens-00001.bin").write_bytes(content)
    with pytest.raises(ValueError, match="tokens-00001.bin is corrupted"):
        Shards(shards.path).verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 2}, "shard format 2; this version reads 1"), ({"tokens": 0}, "holds no tokens")],
)
def test_manifests_of_another_kind_are_refused(make_shards, change, message):
    shards = make_shards([3])
    (shards.path / "manifest.json").write_text(json.dumps(shards.manifest | change))
    with pytest.raises(ValueError, match=message):
        Shards(shards.path)


def test_a_broken_manifest_is_refused(make_shards):
    shards = make_shards([3])
    (shards.path / "manifest.json").write_text('{"format": 1, ')
    with pytest.raises(ValueError, match=r"manifest.json is broken"):
        Shards(shards.path)


def test_ranges_outside_the_stream_are_refused(make_shards):
    with pytest.raises(IndexError, match="tokens 3 to 6 are outside the stream of 5"):
        make_shards([3]).tokens(3, 6)


def test_a_pickle_holds_the_path_and_not_the_tokens(make_shards):
    shards = make_shards([90] * 200)
    assert len(pickle.dumps(shards)) < 500
    assert len(pickle.loads(pickle.dumps(shards))) == len(shards)
