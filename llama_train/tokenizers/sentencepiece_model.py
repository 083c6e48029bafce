"""SentencePiece .model files of Llama 1/2's kind (BPE, byte fallback, text left as it is) to and from `tokenizers`.

How the two engines meet: SentencePiece merges any two neighbours whose concatenation is a piece, the piece of the
highest score first and the leftmost of equals; `tokenizers` merges listed pairs, the first of the list first and the
leftmost of equals. So the list holds every split of every piece into two, sorted by the piece's score. What a list
cannot say is that two splits of one piece are equal, as in a|aa|a with the piece aaa. No text was found where that
shows: none of 3,300,000 under 1,460 small trained vocabularies, none of 960,000 under 230 with scores at random, none of
80,000 under Llama 2's.
"""

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNK, BOS, EOS = "<unk>", "<s>", "</s>"  # ids 0, 1, 2
SPACE = "\u2581"  # how a space is written inside pieces
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
LAST = -1e9  # the one score of all runs of spaces in Llama 2's published file
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types of a piece in sentencepiece_model.proto
MAX_FILE_BYTES = 16 * 2**20  # Llama 2's has 0.5 MB; 262,144 pieces need 4 MB
MAX_PIECE_LENGTH = 128  # characters; 16 as trained: every split of every piece is looked at
NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ],
}

# As in the trainer_spec of Llama's published file.
TRAINER_SPEC: dict[str, Any] = {
    "character_coverage": 0.99995,
    "max_sentence_length": 4192,  # bytes
    "max_sentencepiece_length": 16,  # characters
    "split_by_unicode_script": True,
    "split_by_whitespace": True,
    "split_by_number": True,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
    "byte_fallback": True,
    "unk_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "pad_id": -1,
    "unk_piece": UNK,
    "bos_piece": BOS,
    "eos_piece": EOS,
    "unk_surface": " \u2047 ",
}


def from_sentencepiece(path: str | Path) -> "Tokenizer":
    """The `tokenizers` form of the model file `path`: the ids of its own engine; `encode` puts "<s>" before them.

    Pieces of type CONTROL become special tokens, USER_DEFINED ones added tokens, both with their ids. Text that follows
    such a token in a text gets a dummy space, where SentencePiece gives none: around them ids differ, elsewhere never.
    Raises FileNotFoundError, ModuleNotFoundError without the extra `tokenizers`, and ValueError for what is no model
    file or one of another kind: Unigram, another normalizer, no byte pieces.
    """
    if (size := Path(path).stat().st_size) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: {size:,} bytes are too many for a SentencePiece model (at most {MAX_FILE_BYTES:,})")
    return from_bytes(Path(path).read_bytes(), str(path))


def from_bytes(data: bytes, name: str) -> "Tokenizer":
    """As `from_sentencepiece`, from what is in the file; `name` is what errors call it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    pieces = _read(data, name)
    vocab = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    scores = {piece: score for piece, score, kind in pieces if kind == NORMAL}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=_merges(scores, vocab), unk_token=UNK, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    added = [(piece, kind) for piece, _, kind in pieces if kind in (UNKNOWN, CONTROL, USER_DEFINED)]
    tokenizer.add_tokens([AddedToken(name, special=kind != USER_DEFINED, normalized=False) for name, kind in added])
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, vocab[BOS])]
    )
    return tokenizer


def to_sentencepiece(tokenizer: "Tokenizer") -> bytes:
    """The .model file of a tokenizer of this kind: same ids and pieces, scores that fall in the order of the merges.

    Raises ValueError for a tokenizer whose ids the SentencePiece engine would not give: another model, normalizer or
    pre-tokenizer, merges that are not every split of every piece, ids with gaps.
    """
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    if model["type"] != "BPE" or not model.get("byte_fallback") or model.get("ignore_merges"):
        raise ValueError("a SentencePiece model of Llama's kind is BPE with byte fallback: this tokenizer is not")
    if state["normalizer"] != NORMALIZER or state["pre_tokenizer"] is not None:
        parts = [(state[part] or {}).get("type", "none") for part in ("normalizer", "pre_tokenizer")]
        raise ValueError(
            f'a .model puts one "{SPACE}" before a text and "{SPACE}" for spaces, nothing else; this tokenizer has normalizer '
            f"{parts[0]}, pre-tokenizer {parts[1]}: open the .model it came from instead"
        )
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    names = sorted(vocab, key=vocab.__getitem__)
    if [vocab[name] for name in names] != list(range(len(names))):
        raise ValueError(f"the ids of {len(names)} tokens run to {vocab[names[-1]]}: a .model has no room for gaps")
    for token in state["added_tokens"]:
        if not token["special"] and (token["normalized"] or token["lstrip"] or token["rstrip"] or token["single_word"]):
            raise ValueError(
                f"added token {token['content']!r} takes in spaces or is normalised: no .model can say that"
            )
    added = {token["content"]: CONTROL if token["special"] else USER_DEFINED for token in state["added_tokens"]}
    kinds = added | dict.fromkeys(BYTES, BYTE) | {UNK: UNKNOWN}

    # A piece's place is that of its first merge. In Llama 2's file all runs of spaces share the last one.
    merges = [(left, right) for left, right in model["merges"]]
    place = {name: len(merges) for name in names if name not in kinds}
    for i, (left, right) in enumerate(merges):
        place[left + right] = min(i, place.get(left + right, len(merges)))
    scores = {name: -float(i) for i, name in enumerate(sorted(place, key=place.__getitem__))}
    runs = {name: LAST for name in scores if len(name) > 1 and not name.strip(SPACE)}
    for candidate in (scores, scores | runs):
        needed = _merges(candidate, vocab)
        if [a + b for a, b in needed] == [a + b for a, b in merges] and set(needed) == set(merges):
            break
    else:
        missing = sorted(set(needed) - set(merges))
        why = f"{missing[0][0]!r} + {missing[0][1]!r} is not among the merges" if missing else "the merges' order"
        raise ValueError(f"the SentencePiece engine would give other ids than this tokenizer: {why}")
    pieces = [(name, candidate.get(name, 0.0), kinds.get(name, NORMAL)) for name in names]
    if reason := _bad_pieces(pieces):
        raise ValueError(f"the tokenizer cannot be written as a SentencePiece model: {reason}")
    return _write(pieces)


def _merges(scores: dict[str, float], vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Every split of every piece into two pieces, highest score of the whole first."""
    found = []
    for piece, score in scores.items():
        for k in range(1, len(piece)):
            left, right = piece[:k], piece[k:]
            if left in scores and right in scores:
                found.append((-score, vocab[left], vocab[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def model_proto() -> Any:
    """An empty model; ModuleNotFoundError without the extra `tokenizers`."""
    try:
        from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]
    except ImportError as error:
        raise ModuleNotFoundError(
            f"SentencePiece models need sentencepiece and protobuf ({error}): pip install 'llama_train[tokenizers]'"
        ) from None
    return ModelProto()


def _read(data: bytes, name: str) -> list[tuple[str, float, int]]:
    """(piece, score, type) in id order, checked to be of Llama's kind."""
    proto = model_proto()
    from google.protobuf.message import DecodeError

    try:
        proto.ParseFromString(data)
        pieces = [(p.piece, p.score, p.type) for p in proto.pieces]
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is no SentencePiece model, or a cut one: {error}") from None
    if reason := _other_kind(proto) or _bad_pieces(pieces):
        raise ValueError(f"{name}: {reason}")
    return pieces


def _other_kind(proto: Any) -> str:
    """Why the model's settings are not those of Llama 1/2, or ""."""
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if not proto.pieces:
        return "no SentencePiece model: it has no pieces"
    if not proto.HasField("trainer_spec"):
        return "it says nothing of how it was trained, so it is cut, or no SentencePiece model: get the file again"
    if trainer.model_type != trainer.BPE:
        kind = trainer.DESCRIPTOR.enum_types_by_name["ModelType"].values_by_number[trainer.model_type].name
        return f"a {kind} model; Llama's are BPE, and only those can be read"
    if not trainer.byte_fallback:
        return "the model has no byte fallback (byte_fallback false): unknown characters would be lost"
    if normalizer.precompiled_charsmap or normalizer.normalization_rule_tsv:
        return f"the model rewrites text (normalizer {normalizer.name!r}); Llama's is 'identity'"
    if proto.denormalizer_spec.precompiled_charsmap or proto.denormalizer_spec.normalization_rule_tsv:
        return "the model rewrites decoded text (denormalizer_spec); Llama's does not"
    wanted = {"add_dummy_prefix": True, "remove_extra_whitespaces": False, "escape_whitespaces": True}
    for name, value in wanted.items():
        if getattr(normalizer, name) != value:
            return f"{name} is {not value}; it is {value} in Llama's"
    if trainer.treat_whitespace_as_suffix:
        return "treat_whitespace_as_suffix is True; it is False in Llama's"
    return ""


def _bad_pieces(pieces: list[tuple[str, float, int]]) -> str:
    """What is wrong with the pieces, or ""."""
    ids: dict[str, int] = {}
    for i, (piece, score, kind) in enumerate(pieces):
        if isinstance(piece, bytes):  # what protobuf makes of a string that is no UTF-8
            return f"piece {i} is not UTF-8: {piece[:40]!r}"
        if not 1 <= len(piece) <= MAX_PIECE_LENGTH:
            return f"piece {i} has {len(piece)} characters; 1 to {MAX_PIECE_LENGTH} are possible"
        if ids.setdefault(piece, i) != i:
            return f"{piece!r} stands twice, as piece {ids[piece]} and {i}"
        if kind == UNUSED:
            return f"piece {i} ({piece!r}) is of type UNUSED: a vocabulary restricted afterwards cannot be read"
        if (kind == BYTE) != bool(BYTE_PIECE.fullmatch(piece)):
            return f"piece {i} ({piece!r}) is of type {kind}; {BYTE} (BYTE) is for <0x00> to <0xFF> and only those"
        if (
            kind == CONTROL and len(piece) == 1
        ):  # SentencePiece gives its bytes; `tokenizers`' model would give the piece
            return f"piece {i} ({piece!r}) is of type CONTROL and one character: no text may have it, and {piece!r} is text"
        if not math.isfinite(score):
            return f"piece {i} ({piece!r}) has the score {score}"
    if missing := [name for name in BYTES if name not in ids]:
        return f"{len(missing)} of the 256 byte pieces are missing, {missing[0]} among them"
    for i, (name, kind) in enumerate([(UNK, UNKNOWN), (BOS, CONTROL), (EOS, CONTROL)]):
        if (pieces[i][0], pieces[i][2]) != (name, kind):
            return f"piece {i} must be {name} of type {kind}; it is {pieces[i][0]!r} of type {pieces[i][2]}"
    if (count := sum(kind == UNKNOWN for *_, kind in pieces)) > 1:
        return f"{count} pieces are of type UNKNOWN; one is possible"
    letters = {piece for piece, _, kind in pieces if kind == NORMAL and len(piece) == 1}
    equals: dict[float, list[str]] = {}
    for piece, score, kind in pieces:
        if kind == NORMAL and len(piece) > 1:
            equals.setdefault(score, []).append(piece)
            if alone := sorted(set(piece) - letters):
                return f"piece {ids[piece]} ({piece!r}) has the character {alone[0]!r}, which is no piece by itself"
    for score, tied in equals.items():
        # Runs of spaces of every length up to some N always grow from the left, one by one, in both engines.
        runs = sorted(len(piece) for piece in tied if not piece.strip(SPACE))
        if len(tied) > 1 and not (
            runs == list(range(2, len(tied) + 2)) and max(map(ids.__getitem__, tied)) < ids[SPACE]
        ):
            return f"{tied[0]!r} and {tied[1]!r} have the same score {score}: which is merged first is left open"
    return ""


def _write(pieces: list[tuple[str, float, int]]) -> bytes:
    """The model file of these pieces, its settings those of Llama's published one, without names of files or machines."""
    proto = model_proto()
    for piece, score, kind in pieces:
        proto.pieces.add(piece=piece, score=score, type=kind)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type = trainer.BPE
    trainer.vocab_size = len(pieces)
    for name, value in TRAINER_SPEC.items():
        setattr(trainer, name, value)
    normalizer.name, normalizer.precompiled_charsmap = "identity", b""
    normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces, normalizer.escape_whitespaces = True, False, True
    return proto.SerializeToString(deterministic=True)
