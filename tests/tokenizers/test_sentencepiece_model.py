"""SentencePiece .model files: ids as the sentencepiece engine's, both ways, and nothing else than Llama's kind taken."""

import io
import json
import random

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from llama_train.tokenizers import sentencepiece_model
from llama_train.tokenizers.sentencepiece_model import from_bytes, from_sentencepiece, to_sentencepiece

sentencepiece = pytest.importorskip(
    "sentencepiece", reason="sentencepiece is not installed: its ids are the oracle here"
)
pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2", reason="protobuf is not installed")

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and then it jumps over the other dogs.\n",
    "def split(text: str):\n    return text.split('\\n')  # 1234567 bytes\n\n\nclass Tokens(list):\n\tpass\n",
    "Le café coûte 3,50 €. Être ou ne pas être ? Él señaló el árbol; füße, größe, straße.\n",
    "Москва слезам не верит. Η γλώσσα. שלום עולם. مرحبا بالعالم\n",
    "東京は日本の首都です。汉字和拼音。안녕하세요 세계. हिन्दी में पाठ। ภาษาไทย\n",
    "emoji 😀👩‍👩‍👧 flags 🇫🇷, e\u0301 combining, ² ½ Ⅷ\n",
    "\u00a0no-break\u2003em\u3000ideographic space, \x00\x1c control\r\n\r\n",
    "================\n   trailing   \n \t mixed \t\n\n----  ....!!!???\n<html><body>&nbsp;</body></html>\n",
    "<s> </s> <unk> <0x0A> are letters here",
    "unassigned \u0378 \U000e0fff \ue000 noncharacter \uffff \U0010ffff, replacement \ufffd",
    "",
    " ",
    "  two before",
    "two after  ",
]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@pytest.fixture(scope="module")
def model():
    """A model as sentencepiece's own trainer writes it, with Llama's rules."""
    lines = [line for text in TEXTS for line in text.split("\n") if line and "\0" not in line]
    lines += ["    return 12", "        if 7:", "  a  b", "aaaaaaa", "abababab"]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 2),
        model_writer=out,
        model_type="bpe",
        vocab_size=560,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        byte_fallback=True,
        minloglevel=2,
    )
    return out.getvalue()


@pytest.fixture(scope="module")
def engine(model):
    return sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.fixture(scope="module")
def tokenizer(model):
    return from_bytes(model, "the model")


def noise(engine, seed, count):
    """Random texts: few letters over and over, pieces side by side, every kind of code point."""
    generator = random.Random(seed)
    pieces = [engine.id_to_piece(i).replace("▁", " ") for i in range(259, engine.get_piece_size())]
    letters = " ab▁e1é中\n\t\u00a0\u3000\0=-*/#._tn😀"
    ranges = [(32, 126), (32, 126), (0xA0, 0x24F), (0x370, 0x5FF), (0, 0xD7FF), (0xE000, 0x10FFFF)]
    for _ in range(count):
        few = generator.choice([letters, pieces])
        if generator.random() < 0.2:
            yield "".join(chr(generator.randint(*generator.choice(ranges))) for _ in range(generator.randint(1, 40)))
        else:
            some = [generator.choice(few) for _ in range(generator.randint(1, 6))]
            yield "".join(generator.choices(some, k=generator.randint(1, 30)))


def differing(tokenizer, engine, texts):
    ours = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return sum(a.ids != b for a, b in zip(ours, engine.encode(texts), strict=True))


def plain(tokenizer):
    """The names of special tokens in a text are letters, as they always are for sentencepiece."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def edited(model, edit):
    proto = pb.ModelProto.FromString(model)
    edit(proto)
    return proto.SerializeToString()


def test_ids_are_those_of_the_sentencepiece_engine(tokenizer, engine):
    texts = TEXTS + list(noise(engine, 0, 5000)) + [" " * n + "a" for n in range(70)]
    assert differing(plain(tokenizer), engine, texts) == 0


def test_text_comes_back_whole_and_an_underline_for_a_space_comes_back_as_a_space(tokenizer, engine):
    texts = TEXTS + list(noise(engine, 1, 2000))
    for text in texts:
        ids = plain(tokenizer).encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == engine.decode(ids) == text.replace("▁", " ")


def test_bytes_that_are_no_text_decode_to_replacement_characters(tokenizer, engine):
    ids = [3 + byte for byte in b"\xe4\xb8"]  # two of the three bytes of a character
    assert tokenizer.decode(ids) == engine.decode(ids) == "\ufffd\ufffd"
    ids = [3 + byte for byte in b"\xe4\xb8\xad\n"]
    assert tokenizer.decode(ids) == engine.decode(ids) == "中\n"


def test_encode_puts_the_start_token_before_and_specials_have_their_ids(tokenizer):
    opened = Tokenizer.from_str(tokenizer.to_str())
    opened.encode_special_tokens = False
    assert opened.encode("a").ids == [1, *opened.encode("a", add_special_tokens=False).ids]
    assert opened.encode("</s>", add_special_tokens=False).ids == [2]
    assert {i: t.content for i, t in opened.get_added_tokens_decoder().items()} == {0: "<unk>", 1: "<s>", 2: "</s>"}
    assert opened.encode("", add_special_tokens=False).ids == [] and opened.encode("").ids == [1]


def test_without_the_dummy_space_or_with_merges_reversed_the_comparison_fails(model, engine, monkeypatch):
    texts = TEXTS + list(noise(engine, 2, 300))
    planted = from_bytes(model, "the model")
    planted.normalizer = normalizers.Replace(" ", "▁")
    assert differing(plain(planted), engine, texts) > 0
    merges = sentencepiece_model._merges
    monkeypatch.setattr(sentencepiece_model, "_merges", lambda *given: merges(*given)[::-1])
    assert differing(plain(from_bytes(model, "the model")), engine, texts) > 0


def test_written_and_read_again_it_is_the_same_tokenizer_to_both_engines(model, tokenizer, engine):
    written = to_sentencepiece(tokenizer)
    opened = sentencepiece.SentencePieceProcessor(model_proto=written)
    before, after = pb.ModelProto.FromString(model), pb.ModelProto.FromString(written)
    assert [(p.piece, p.type) for p in after.pieces] == [(p.piece, p.type) for p in before.pieces]
    normal = [i for i, p in enumerate(before.pieces) if p.type == NORMAL and len(p.piece) > 1]
    assert sorted(normal, key=lambda i: -after.pieces[i].score) == sorted(normal, key=lambda i: -before.pieces[i].score)
    texts = TEXTS + list(noise(engine, 3, 2000))
    assert opened.encode(texts) == engine.encode(texts)
    assert (opened.unk_id(), opened.bos_id(), opened.eos_id(), opened.pad_id()) == (0, 1, 2, -1)
    assert from_bytes(written, "written").to_str() == Tokenizer.from_str(tokenizer.to_str()).to_str()
    assert to_sentencepiece(from_bytes(written, "written")) == written


def test_control_and_user_defined_pieces_keep_their_ids_both_ways(model):
    def edit(proto):
        proto.pieces.add(piece="<|call|>", score=0, type=CONTROL)
        proto.pieces.add(piece="<mask>", score=0, type=USER_DEFINED)

    opened = from_bytes(edited(model, edit), "the model")
    added = opened.get_added_tokens_decoder()
    assert (added[560].content, added[560].special) == ("<|call|>", True)
    assert (added[561].content, added[561].special) == ("<mask>", False)
    assert opened.encode("a<mask>", add_special_tokens=False).ids[-1] == 561
    again = pb.ModelProto.FromString(to_sentencepiece(opened))
    assert [(p.piece, p.type) for p in again.pieces[560:]] == [("<|call|>", CONTROL), ("<mask>", USER_DEFINED)]


RUNS = ["▁▁▁", "▁▁", "▁▁▁▁"]  # as Llama 2's file has them: one score, and ids in no order


def by_hand(pieces):
    """A model of <unk>, <s>, </s>, the 256 bytes and these (piece, score)."""
    proto = pb.ModelProto()
    for i, name in enumerate(["<unk>", "<s>", "</s>"]):
        proto.pieces.add(piece=name, score=0, type=CONTROL if i else UNKNOWN)
    for byte in range(256):
        proto.pieces.add(piece=f"<0x{byte:02X}>", score=0, type=BYTE)
    for piece, score in pieces:
        proto.pieces.add(piece=piece, score=score, type=NORMAL)
    proto.trainer_spec.model_type, proto.trainer_spec.byte_fallback = proto.trainer_spec.BPE, True
    proto.normalizer_spec.name, proto.normalizer_spec.remove_extra_whitespaces = "identity", False
    return proto.SerializeToString()


def test_runs_of_spaces_may_share_one_score_where_their_ids_are_lower_than_the_spaces():
    runs, letters = [(run, -1e9) for run in RUNS], [("▁", -10.0), ("a", -11.0)]
    model = by_hand([("▁a", -1.0), *runs, *letters])
    opened, engine = plain(from_bytes(model, "the model")), sentencepiece.SentencePieceProcessor(model_proto=model)
    texts = [" " * before + "a" + " " * after for before in range(12) for after in range(12)]
    assert differing(opened, engine, texts) == 0
    assert opened.encode("     ", add_special_tokens=False).tokens == ["▁▁▁▁", "▁▁"]  # from the left, one by one
    for pieces in ([*letters, *runs], [runs[0], letters[0], *runs[1:], letters[1]]):
        with pytest.raises(ValueError, match="'▁▁▁' and '▁▁' have the same score -1000000000.0: which is merged first"):
            from_bytes(by_hand(pieces), "the model")
    with pytest.raises(ValueError, match="have the same score"):  # one length is missing
        from_bytes(by_hand([runs[0], runs[2], *letters]), "the model")


def test_runs_of_spaces_of_one_score_are_written_with_one_score():
    """No scores of their own would do: of ▁▁▁▁ and ▁▁ neither can come first, as the merges alternate between them."""
    model = by_hand([("▁a", -1.0), *((run, -1e9) for run in RUNS), ("▁", -10.0), ("a", -11.0)])
    opened = from_bytes(model, "the model")
    written = pb.ModelProto.FromString(to_sentencepiece(opened))
    scores = {piece.piece: piece.score for piece in written.pieces}
    assert {scores[run] for run in RUNS} == {-1e9} and scores["▁a"] > scores["▁▁"]
    again = sentencepiece.SentencePieceProcessor(model_proto=written.SerializeToString())
    texts = [" " * before + "a" + " " * after for before in range(12) for after in range(12)]
    assert differing(plain(opened), again, texts) == 0


def test_a_single_character_may_be_a_user_defined_piece_and_no_control_piece(model):
    """SentencePiece never gives a control piece for text; for tokenizers' BPE it would be a letter like others."""
    defined = edited(model, lambda proto: proto.pieces.add(piece="\u0101", score=0, type=USER_DEFINED))
    engine = sentencepiece.SentencePieceProcessor(model_proto=defined)
    texts = ["x\u0101", "x\u0101y \u0101", "no such"]
    opened = from_bytes(defined, "the model")
    assert [opened.encode(text, add_special_tokens=False).ids[-1] == 560 for text in texts] == [True, True, False]
    assert [engine.encode(text)[-1] == 560 for text in texts] == [True, True, False]


def set_field(where, name, value):
    return lambda proto: setattr(getattr(proto, where), name, value)


def set_piece(i, **fields):
    return lambda proto: [setattr(proto.pieces[i], name, value) for name, value in fields.items()]


REFUSED = {
    "unigram": (set_field("trainer_spec", "model_type", 1), "a UNIGRAM model; Llama's are BPE"),
    "no byte fallback": (set_field("trainer_spec", "byte_fallback", False), "no byte fallback"),
    "another normalizer": (set_field("normalizer_spec", "precompiled_charsmap", b"x"), "rewrites text"),
    "no dummy prefix": (set_field("normalizer_spec", "add_dummy_prefix", False), "add_dummy_prefix is False"),
    "spaces removed": (
        set_field("normalizer_spec", "remove_extra_whitespaces", True),
        "remove_extra_whitespaces is True",
    ),
    "suffix": (set_field("trainer_spec", "treat_whitespace_as_suffix", True), "treat_whitespace_as_suffix is True"),
    "duplicate": (set_piece(300, piece="<s>"), "'<s>' stands twice, as piece 1 and 300"),
    "a byte missing": (
        set_piece(3, piece="zz", type=NORMAL),
        "1 of the 256 byte pieces are missing, <0x00> among them",
    ),
    "a byte as text": (set_piece(3, type=NORMAL), "piece 3 .'<0x00>'. is of type 1"),
    "text as a byte": (set_piece(300, type=BYTE), "piece 300 .* is of type 6"),
    "control letter": (set_piece(300, piece="\u0101", type=CONTROL), "piece 300 .'\u0101'. is of type CONTROL and one"),
    "unused": (set_piece(300, type=UNUSED), "piece 300 .* is of type UNUSED"),
    "not a number": (set_piece(300, score=float("nan")), "piece 300 .* has the score nan"),
    "equal scores": (lambda proto: [set_piece(i, score=-7.0)(proto) for i in (290, 291)], "have the same score -7.0"),
    "letter no piece": (
        set_piece(300, piece="\u0b95\u0b95"),
        "has the character '\u0b95', which is no piece by itself",
    ),
    "empty piece": (set_piece(300, piece=""), "piece 300 has 0 characters"),
    "long piece": (set_piece(300, piece="a" * 10**6), "piece 300 has 1000000 characters; 1 to 128"),
    "start token elsewhere": (set_piece(1, piece="[BOS]"), "piece 1 must be <s> of type 3; it is '.BOS.' of type 3"),
    "two unknowns": (set_piece(300, type=UNKNOWN), "2 pieces are of type UNKNOWN"),
    "no pieces": (lambda proto: proto.ClearField("pieces"), "it has no pieces"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_kind_of_model_is_refused_with_the_reason(model, case):
    edit, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason) as error:
        from_bytes(edited(model, edit), "x.model")
    assert "\n" not in str(error.value) and str(error.value).startswith("x.model")


def test_what_is_no_model_file_is_refused(model, tmp_path, monkeypatch):
    for data in (b"\xff" * 100, b"hello, this is text", b"", model[:-3], model[: len(model) // 2]):
        (path := tmp_path / "tokenizer.model").write_bytes(data)
        with pytest.raises(ValueError, match="tokenizer.model"):
            from_sentencepiece(path)
    monkeypatch.setattr(sentencepiece_model, "MAX_FILE_BYTES", 10)
    path.write_bytes(model)
    with pytest.raises(ValueError, match="bytes are too many for a SentencePiece model .at most 10"):
        from_sentencepiece(path)
    with pytest.raises(FileNotFoundError, match=r"none\.model"):
        from_sentencepiece(tmp_path / "none.model")


def test_mutants_of_a_model_are_read_or_refused_and_nothing_else(model):
    generator = random.Random(0)
    refused = 0
    for _ in range(2000):
        data = bytearray(model)
        for _ in range(generator.randint(1, 8)):
            place = generator.randrange(len(data))
            if generator.random() < 0.7:
                data[place] = generator.randrange(256)
            elif generator.random() < 0.5:
                del data[place : place + generator.randint(1, 50)]
            else:
                data[place:place] = generator.randbytes(generator.randint(1, 20))
        try:
            from_bytes(bytes(data), "mutant")
        except ValueError as error:
            refused += 1
            assert str(error).startswith("mutant") and "\n" not in str(error)
    assert 500 < refused < 2000


def test_a_tokenizer_that_sentencepiece_would_treat_otherwise_is_not_written(tokenizer):
    def changed(change):
        other = Tokenizer.from_str(tokenizer.to_str())
        change(other)
        return other

    def with_merges(change):
        def apply(other):
            model = json.loads(other.to_str())["model"]
            merges = change([tuple(pair) for pair in model["merges"]])
            other.model = models.BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)

        return apply

    for change, reason in (
        (with_merges(lambda merges: merges[1:]), "is not among the merges"),
        (with_merges(lambda merges: merges[::2] + merges[1::2]), "the merges' order"),
        (lambda other: setattr(other, "normalizer", normalizers.NFKC()), "has normalizer NFKC, pre-tokenizer none"),
        (lambda other: setattr(other, "pre_tokenizer", pre_tokenizers.Metaspace()), "pre-tokenizer Metaspace"),
        (lambda other: other.add_tokens(["word"]), "'word' takes in spaces or is normalised"),
    ):
        with pytest.raises(ValueError, match=reason):
            to_sentencepiece(changed(change))
    with pytest.raises(ValueError, match="this tokenizer is not"):
        to_sentencepiece(Tokenizer(models.BPE()))
