"""The Llama 2 tokenizer, trained: Llama's layout and rules, the pieces SentencePiece finds by itself, the same bytes."""

import hashlib
import io
import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from tokenizers import Tokenizer

from llama_train.tokenizers import llama2

sentencepiece = pytest.importorskip(
    "sentencepiece", reason="sentencepiece is not installed: it trains, and is the oracle"
)
pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2", reason="protobuf is not installed")

TEXTS = [
    "The tokenizer splits text into words, and words into tokens; 10 tokens, 20 tokens, 2024 tokens.\nThe end, the end.\n",
    "def split(text):\n    for word in text:\n        if word:\n            yield word\n\n\tindented by a tab\n\ttabs\n",
    "Le café coûte 3,50 €. Être ou ne pas être ? Le café, le thé, le café.\r\nMots, mots, mots.\r\n",
    "東京は日本の首都です。日本の東京。 Москва слезам не верит, Москва.\n",
]
VOCAB = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer") / "llama2"
    llama2.train_llama2(TEXTS * 3, VOCAB, out, progress=False)
    return out


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def pieces_of(folder):
    return [piece.piece for piece in pb.ModelProto.FromString((folder / "tokenizer.model").read_bytes()).pieces]


def test_the_vocabulary_is_laid_out_as_llama_2s(folder, tokenizer):
    pieces = pieces_of(folder)
    assert pieces[:5] == ["<unk>", "<s>", "</s>", "<0x00>", "<0x01>"] and pieces[258] == "<0xFF>"
    assert len(pieces) == tokenizer.get_vocab_size() == VOCAB
    first_letter = min(i for i, piece in enumerate(pieces) if len(piece) == 1)
    assert {len(piece) for piece in pieces[first_letter:]} == {1} and pieces[first_letter] == "▁"
    assert min(len(piece) for piece in pieces[259:first_letter]) == 2
    assert [tokenizer.id_to_token(i) for i in range(VOCAB)] == pieces


def test_digits_stand_alone_spaces_run_together_and_scripts_are_not_joined(folder, tokenizer):
    pieces = pieces_of(folder)[259:]
    assert not [piece for piece in pieces if len(piece) > 1 and any(c.isdigit() for c in piece)]
    assert "▁▁▁▁" in pieces
    assert not [piece for piece in pieces if "▁" in piece.lstrip("▁")]
    assert not [piece for piece in pieces if len(piece) > 16 or "\t" in piece]
    tokens = tokenizer.encode("2024 words\n", add_special_tokens=False).tokens
    assert tokens[:5] == ["▁", "2", "0", "2", "4"] and tokens[-1] == "<0x0A>"
    assert tokenizer.encode("the", add_special_tokens=False).tokens[0].startswith("▁")
    assert tokenizer.encode("ж", add_special_tokens=False).tokens == ["▁", "<0xD0>", "<0xB6>"]


def trained_line_by_line(texts, vocab_size):
    """The pieces SentencePiece learns of the lines themselves, one by one, with Llama's published settings."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line.rstrip("\r") for text in texts for line in text.split("\n")),
        model_writer=out,
        model_type="bpe",
        vocab_size=vocab_size,
        character_coverage=0.99995,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        byte_fallback=True,
        minloglevel=2,
    )
    return [piece.piece for piece in pb.ModelProto.FromString(out.getvalue()).pieces]


def test_counted_words_give_the_pieces_that_the_lines_give(folder, tmp_path):
    plain = [
        text.replace("\t", "    ") for text in TEXTS
    ]  # newer SentencePiece takes tabs into pieces, as Llama's did not
    llama2.train_llama2(plain, VOCAB, tmp_path / "plain", progress=False)
    assert pieces_of(tmp_path / "plain") == trained_line_by_line(plain, VOCAB)
    assert pieces_of(folder) != trained_line_by_line(plain, VOCAB)


def test_counted_words_of_books_give_the_pieces_that_their_lines_give(books, tmp_path):
    texts = [path.read_text(encoding="utf-8", errors="replace")[:50_000] for path in sorted(books.glob("*.txt"))]
    llama2.train_llama2(texts, 4000, tmp_path / "t", progress=False)
    pieces = pieces_of(tmp_path / "t")
    assert pieces == trained_line_by_line(texts, 4000)
    assert pieces != trained_line_by_line(texts[1:], 4000)


def test_ids_are_those_of_the_engine_with_the_saved_model(folder, tokenizer):
    engine = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for text in [*TEXTS, "", " ", "  a", "\u00a0\u3000\0\t▅▁", "😀 \U000e0fff"]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == engine.encode(text)
        assert tokenizer.decode(ids) == text.replace("▁", " ")


def test_transformers_opens_the_folder_with_the_same_ids(folder, tokenizer):
    from transformers import AutoTokenizer

    opened = AutoTokenizer.from_pretrained(folder)
    assert (opened.bos_token_id, opened.eos_token_id, opened.unk_token_id, len(opened)) == (1, 2, 0, VOCAB)
    for text in [*TEXTS, "  two spaces first", "▁"]:
        assert opened(text)["input_ids"] == tokenizer.encode(text).ids
        assert opened(text)["input_ids"][0] == 1
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert "[INST] Hi [/INST] Hello" in opened.apply_chat_template(chat, tokenize=False)


def test_the_same_texts_give_the_same_bytes_in_any_order_process_and_number_of_threads(folder, tmp_path):
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["chat_template.jinja", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"]
    llama2.train_llama2(iter(TEXTS[::-1] * 3), VOCAB, tmp_path / "again", progress=False)
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    code = (
        "import json, sys; from pathlib import Path; from llama_train.tokenizers.llama2 import train_llama2\n"
        "train_llama2(json.load(sys.stdin), int(sys.argv[1]), Path(sys.argv[2]), progress=False)"
    )
    for seed in ("1", "77"):
        subprocess.run(
            [sys.executable, "-c", code, str(VOCAB), str(tmp_path / seed)],
            input=json.dumps(TEXTS * 3),
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": seed},
        )
        digest = hashlib.sha256((tmp_path / seed / "tokenizer.model").read_bytes()).hexdigest()
        assert digest == hashlib.sha256((folder / "tokenizer.model").read_bytes()).hexdigest()


def test_nothing_is_dropped_long_lines_reserved_characters_and_halves_of_pairs_included(tmp_path):
    # SentencePiece itself would skip each of these three lines: too long, with its own mark, not UTF-8
    texts = ["quick " * 2000 + "\n", "brownbrown \u2585 brown\n" * 9, "fox\ud800 foxfox fox\n" * 9, "x" * 50_000]
    llama2.train_llama2(texts, 300, tmp_path / "t", progress=False)
    pieces = pieces_of(tmp_path / "t")
    assert "▁quick" in pieces and "▁brown" in pieces and "▁fox" in pieces and "x" * 16 in pieces
    assert not [piece for piece in pieces[259:] if "\u2585" in piece]
    counted = Counter({"x" * 2500: 3, " a\tb\0c": 2})
    lines = sorted(llama2._sentences(Counter({" " + word: n for word, n in counted.items()})))
    assert lines == sorted([f"{'x' * 1000}\t3", f"<s>{'x' * 1000}\t3", f"<s>{'x' * 500}\t3", " a<s>b<s>c\t2"])
    assert all(len(line.encode()) < 4192 for line in llama2._sentences(Counter({" " + "😀" * 9999: 1})))


def test_a_vocabulary_that_cannot_be_is_refused_with_the_numbers(tmp_path):
    def train(texts, vocab_size):
        llama2.train_llama2(texts, vocab_size, tmp_path / "t", progress=False)

    with pytest.raises(ValueError, match="vocab_size 259 is too small: <unk>, <s>, </s>, 256 bytes .* at least 260"):
        train(TEXTS, 259)
    with pytest.raises(ValueError, match="vocab_size 2147483648 is too large: at most 1000000"):
        train(TEXTS, 2**31)
    with pytest.raises(ValueError, match="vocab_size 263 .* bytes and the characters of the text need at least 264"):
        train(["abc abcd"], 263)
    with pytest.raises(ValueError, match="too small for vocab_size 8192: it yields 273 ids; set vocab_size to 273 or"):
        train(["abc abcd"], 8192)
    for nothing in ([], ["", "\n"]):
        with pytest.raises(ValueError, match="no text to learn from"):
            train(nothing, 300)
    assert not (tmp_path / "t").exists()
    for possible in (264, 273):
        train(["abc abcd"], possible)
        assert len(pieces_of(tmp_path / "t")) == possible


def test_without_the_extra_the_error_comes_before_any_text_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece.sentencepiece_model_pb2", None)
    texts = iter(TEXTS)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'llama_train\[tokenizers\]'"):
        llama2.train_llama2(texts, VOCAB, tmp_path / "t")
    assert next(texts) == TEXTS[0]


def test_nothing_is_printed_where_there_is_no_terminal(tmp_path, capfd):
    llama2.train_llama2(TEXTS, 340, tmp_path / "t")
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_is_no_fault_of_the_text(tmp_path, monkeypatch):
    """SentencePiece turns what its sentences raise into a RuntimeError of its own."""

    class Interrupted:
        def sub(self, *_):
            raise KeyboardInterrupt

    monkeypatch.setattr(llama2, "BORDERS", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        llama2.train_llama2(["a few words"], 300, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
