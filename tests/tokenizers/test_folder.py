"""Tokenizers on disk: every form opens, what is saved opens in transformers, what is broken is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from llama_train.tokenizers import folder, llama3
from llama_train.tokenizers.ranks import read_ranks, write_ranks
from tests.conftest import SHARED

TEXTS = [
    "The tokenizer splits text: \n\n  we'll see 12345.",
    "Größe café Москва 東京 😀",
    " leading",
    "  ",
    "\x00 x\u00a0y",
]
LEARNED = [b"th", b"he", b"in", b" t", b" th", b"the", b" the", b"ing", "é".encode(), "東".encode()]
RANKS = {bytes([i]): i for i in range(256)} | {token: 256 + i for i, token in enumerate(LEARNED)}


@pytest.fixture(scope="module")
def byte_level():
    return llama3.from_ranks(RANKS)


@pytest.fixture(scope="module")
def saved(byte_level, tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer") / "saved"
    folder.save_tokenizer(byte_level, out, "{{ bos_token }}{{ messages[0].content }}")
    return out


@pytest.fixture(scope="module")
def with_byte_fallback():
    """Llama 2's kind in small, built by hand: specials, bytes, characters, one merge."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abc", "▁a", "é", "▁▁"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("▁", "▁")]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in ("<unk>", "<s>", "</s>")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def same(one, other):
    return json.loads(one.to_str()) == json.loads(other.to_str())


def test_the_folder_holds_every_form_and_opens_as_what_was_saved(byte_level, saved):
    names = ["chat_template.jinja", "tokenizer.json", "tokenizer.tiktoken", "tokenizer_config.json"]
    assert sorted(path.name for path in saved.iterdir()) == names
    for path in (saved, str(saved), saved / "tokenizer.json", saved / "tokenizer.tiktoken"):
        assert same(folder.open_tokenizer(path), byte_level)
    ranks, specials = read_ranks(saved / "tokenizer.tiktoken")
    assert ranks == RANKS and specials == {}  # they are Llama 3.1's, behind the ranks: opening puts them back


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer.model", "tokenizer.tiktoken", "original/tokenizer.model", "x.y"]
)
def test_a_form_is_told_by_what_is_in_the_file_not_by_its_name(byte_level, saved, tmp_path, name):
    (tmp_path / "original").mkdir()
    for form in ("tokenizer.json", "tokenizer.tiktoken"):
        (tmp_path / name).write_bytes((saved / form).read_bytes())
        assert same(folder.open_tokenizer(tmp_path / name), byte_level)
        if name != "x.y":
            assert same(folder.open_tokenizer(tmp_path), byte_level)


def test_tokenizer_json_is_preferred(saved, tmp_path):
    (tmp_path / "tokenizer.model").write_text("something else")
    (tmp_path / "tokenizer.json").write_bytes((saved / "tokenizer.json").read_bytes())
    assert folder.open_tokenizer(tmp_path).get_vocab_size() == 282


def test_a_rank_file_without_special_tokens_gets_llama_3_1s(tmp_path):
    write_ranks(tmp_path / "tokenizer.model", RANKS)
    opened = folder.open_tokenizer(tmp_path)
    assert [opened.id_to_token(i) for i in (266, 267, 270, 275)] == [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|finetune_right_pad_id|>",
        "<|eot_id|>",
    ]


def test_transformers_opens_it_with_the_same_ids_alone_and_beside_a_llama_config(byte_level, saved, tmp_path):
    from transformers import AutoTokenizer

    folder.save_tokenizer(byte_level, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    for path in (saved, tmp_path):
        opened = AutoTokenizer.from_pretrained(path)
        assert (opened.bos_token_id, opened.eos_token_id, opened.pad_token_id) == (266, 267, 270)
        assert len(opened) == 282 and opened.model_max_length == folder.MODEL_MAX_LENGTH
        for text in [*TEXTS, "<|eot_id|> inside"]:
            ids = opened(text)["input_ids"]
            assert ids == byte_level.encode(text).ids and ids[0] == 266
            assert opened.decode(ids[1:]) == text
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template is None
    opened = AutoTokenizer.from_pretrained(saved)
    assert opened.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<|begin_of_text|>x"
    opened.save_pretrained(tmp_path / "again")
    assert folder.fingerprint(tmp_path / "again") == folder.fingerprint(saved)


def test_pads_with_the_token_of_llama_3_1_or_with_what_stood_in_its_place_in_3_0(tmp_path):
    names = [
        name.replace("finetune_right_pad_id", "reserved_special_token_2") for name in llama3.special_tokens(282)[:5]
    ]
    for specials, pad in ((names, "<|reserved_special_token_2|>"), (names[:2], None)):
        tokenizer = llama3.from_ranks(RANKS, {name: 266 + i for i, name in enumerate(specials)})
        folder.save_tokenizer(tokenizer, tmp_path)
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        assert config.get("pad_token") == pad and config["eos_token"] == "<|end_of_text|>"


def test_a_grown_vocabulary_keeps_every_id_through_every_form(tmp_path):
    first = llama3.from_ranks(RANKS)
    _, specials = llama3.to_ranks(first)
    grown = RANKS | {b"ther": 282, b" there": 283, "東東".encode(): 284}
    folder.save_tokenizer(llama3.from_ranks(grown, specials), tmp_path)
    opened = folder.open_tokenizer(tmp_path)
    assert llama3.to_ranks(opened) == (grown, specials) == read_ranks(tmp_path / "tokenizer.tiktoken")
    assert same(opened, folder.open_tokenizer(tmp_path / "tokenizer.tiktoken"))
    assert opened.get_vocab_size() == 285 and folder.bos_eos(opened) == (266, 267)
    assert opened.encode(" there<|eot_id|>東東").ids == [266, 283, 275, 284]
    assert folder.token_bytes(opened)[[*range(266, 285)]].tolist() == [0] * 16 + [4, 6, 6]

    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(tmp_path)
    assert auto(" there<|eot_id|>東東")["input_ids"] == [266, 283, 275, 284] and len(auto) == 285
    assert auto.decode([283, 284], skip_special_tokens=True) == " there東東"


def test_llama_2s_kind_has_sentencepieces_ids_in_transformers_spaces_included(with_byte_fallback, tmp_path):
    sentencepiece = pytest.importorskip(
        "sentencepiece", reason="sentencepiece is not installed: its ids are the oracle"
    )
    from transformers import AutoTokenizer

    folder.save_tokenizer(with_byte_fallback, tmp_path)
    names = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert (opened.bos_token_id, opened.eos_token_id, opened.unk_token_id, opened.pad_token_id) == (1, 2, 0, 0)
    assert same(folder.open_tokenizer(tmp_path), folder.open_tokenizer(tmp_path / "tokenizer.model"))
    check_against_sentencepiece(sentencepiece, tmp_path / "tokenizer.model", opened)


def check_against_sentencepiece(sentencepiece, model, opened):
    engine = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for text in [*TEXTS, "", "a  b", "   three", "\n\n a", "<s>a</s> b", "\t ab ", "a▁b"]:
        ids = opened(text, split_special_tokens=True)["input_ids"]
        assert ids == [1, *engine.encode(text)]
        assert opened.decode(ids, skip_special_tokens=True) == engine.decode(ids[1:]) == text.replace("▁", " ")
    assert opened("<s>a</s> b")["input_ids"] == [1, 1, *engine.encode("a"), 2, *engine.encode(" b")]


def test_metas_llama_2_model_has_sentencepieces_ids_in_transformers(tmp_path):
    model = SHARED / "realdata" / "tokenizers" / "llama2-tokenizer.model"
    if not model.is_file():
        pytest.skip(f"{model} is not here: Meta's vocabularies exist only on some machines")
    sentencepiece = pytest.importorskip(
        "sentencepiece", reason="sentencepiece is not installed: its ids are the oracle"
    )
    from transformers import AutoTokenizer

    tokenizer = folder.open_tokenizer(model)
    assert folder.kind(tokenizer) == "llama2" and tokenizer.get_vocab_size() == 32000
    assert tokenizer.encode("Hello world").ids == [1, 15043, 3186]
    folder.save_tokenizer(tokenizer, tmp_path)
    check_against_sentencepiece(sentencepiece, tmp_path / "tokenizer.model", AutoTokenizer.from_pretrained(tmp_path))


def test_no_sentencepiece_model_where_it_would_not_give_the_tokenizer_back(with_byte_fallback, tmp_path):
    pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: it comes with the extra `tokenizers`")
    changed = Tokenizer.from_str(with_byte_fallback.to_str())
    changed.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    folder.save_tokenizer(changed, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert same(folder.open_tokenizer(tmp_path), changed)


def test_no_rank_file_where_it_would_not_give_the_tokenizer_back(byte_level, saved, tmp_path):
    fewer = json.loads(byte_level.to_str())
    fewer["model"]["merges"].pop()
    strict = json.loads(byte_level.to_str())
    strict["model"]["ignore_merges"] = False
    unnameable = llama3.from_ranks(RANKS, llama3.to_ranks(byte_level)[1] | {"[PAD]": 282})
    gpt2s = llama3.from_ranks(RANKS)  # numbers of any length are one word
    gpt2s.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    composing = llama3.from_ranks(RANKS)
    composing.normalizer = normalizers.NFC()
    spaced = llama3.from_ranks(RANKS)
    spaced.add_tokens([AddedToken("<|tool|>", lstrip=True)])
    spoken = llama3.from_ranks(RANKS)  # its names are found in decoded text, and stay there
    spoken.add_tokens([AddedToken("<|tool|>", special=False, normalized=False)])
    changed = (*(Tokenizer.from_str(json.dumps(state)) for state in (fewer, strict)), unnameable)
    for tokenizer in (*changed, gpt2s, composing, spaced, spoken):
        (tmp_path / "tokenizer.tiktoken").write_bytes((saved / "tokenizer.tiktoken").read_bytes())
        folder.save_tokenizer(tokenizer, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
        assert same(folder.open_tokenizer(tmp_path), tokenizer)


def test_the_order_of_one_tokens_merges_is_no_reason_to_leave_the_rank_file_out(byte_level, tmp_path):
    state = json.loads(byte_level.to_str())
    places = [i for i, pair in enumerate(state["model"]["merges"]) if "".join(pair) == "Ġthe"]
    assert places == [*range(places[0], places[0] + 3)]
    state["model"]["merges"][places[0] : places[-1] + 1] = [["Ġth", "e"], ["Ġ", "the"], ["Ġt", "he"]]
    folder.save_tokenizer(Tokenizer.from_str(json.dumps(state)), tmp_path)
    assert same(folder.open_tokenizer(tmp_path / "tokenizer.tiktoken"), byte_level)


def test_a_dropout_left_from_training_is_switched_off(byte_level, tmp_path):
    state = json.loads(byte_level.to_str())
    state["model"]["dropout"] = 0.9
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    opened = folder.open_tokenizer(tmp_path)
    assert opened.model.dropout is None and same(opened, byte_level)
    assert opened.encode("the thing" * 50).ids == byte_level.encode("the thing" * 50).ids


def test_saving_anew_leaves_nothing_of_what_was_there(byte_level, tmp_path):
    (tmp_path / "tokenizer.model").write_text("an older one")
    (tmp_path / "notes.txt").write_text("kept")
    folder.save_tokenizer(byte_level, tmp_path, "x")
    folder.save_tokenizer(byte_level, tmp_path)
    names = ["notes.txt", "tokenizer.json", "tokenizer.tiktoken", "tokenizer_config.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_save_that_stops_half_way_leaves_no_tokenizer_json(byte_level, tmp_path, monkeypatch):
    folder.save_tokenizer(byte_level, tmp_path)

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        folder.save_tokenizer(byte_level, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


def test_truncation_and_padding_of_a_published_file_are_switched_off(byte_level, tmp_path):
    cutting = Tokenizer.from_str(byte_level.to_str())
    cutting.enable_truncation(2)
    cutting.enable_padding(length=7)
    cutting.save(str(tmp_path / "tokenizer.json"))
    assert same(folder.open_tokenizer(tmp_path), byte_level)


def test_kind_and_ends_of_both_kinds(byte_level, with_byte_fallback):
    assert folder.kind(byte_level) == "llama3" and folder.bos_eos(byte_level) == (266, 267)
    assert folder.kind(with_byte_fallback) == "llama2" and folder.bos_eos(with_byte_fallback) == (1, 2)
    for model in (
        models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"),
        models.Unigram([("a", 0.0)]),
        models.BPE({"a": 0}, []),
    ):
        with pytest.raises(ValueError, match="not one of the Llama family's"):
            folder.kind(Tokenizer(model))
    with pytest.raises(ValueError, match=r"lacks <\|begin_of_text\|> or <\|end_of_text\|>"):
        folder.bos_eos(llama3.from_ranks(RANKS, {"<|endoftext|>": 266}))


def test_token_bytes_are_the_bytes_each_id_stands_for(byte_level, with_byte_fallback):
    lengths = folder.token_bytes(byte_level)
    assert lengths.dtype == np.uint16 and lengths.shape == (282,)
    assert lengths.tolist() == [1] * 256 + [2, 2, 2, 2, 3, 3, 4, 3, 2, 3] + [0] * 16
    for text in TEXTS:
        assert lengths[byte_level.encode(text).ids].sum() == len(text.encode())
    lengths = folder.token_bytes(with_byte_fallback)
    assert lengths.tolist() == [0] * 3 + [1] * 256 + [1, 1, 1, 1, 2, 2, 2]
    for text in TEXTS:
        assert lengths[with_byte_fallback.encode(text).ids].sum() == len(text.encode()) + 1  # the dummy prefix


def test_an_added_token_stands_for_its_own_bytes_and_a_special_one_for_none(byte_level, with_byte_fallback):
    for tokenizer in (byte_level, with_byte_fallback):
        grown = Tokenizer.from_str(tokenizer.to_str())
        size = grown.get_vocab_size()
        grown.add_tokens(["größe Ġ", AddedToken("<|tool|>", special=True)])
        assert grown.encode("größe Ġ<|tool|>").ids[-2:] == [size, size + 1]
        assert folder.token_bytes(grown)[size:].tolist() == [len("größe Ġ".encode()), 0] == [10, 0]


def test_a_token_longer_than_its_number_can_say_is_refused(byte_level):
    grown = Tokenizer.from_str(byte_level.to_str())
    grown.add_tokens(["a" * 65535])
    assert folder.token_bytes(grown)[282] == 65535
    grown.add_tokens(["b" * 65536])
    with pytest.raises(ValueError, match="the token with id 283 stands for 65,536 bytes, more than 65,535"):
        folder.token_bytes(grown)


def test_fingerprint_is_the_sha256_of_tokenizer_json(tmp_path):
    (tmp_path / "tokenizer.json").write_text("abc")
    assert folder.fingerprint(tmp_path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_importing_the_module_imports_nothing_heavy(root):
    heavy = "torch transformers tokenizers sentencepiece numpy"
    code = f"import sys, llama_train.tokenizers.folder as f; print(sorted(set({heavy!r}.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
