"""`llama-data tokenizer`: every verb end to end, nothing half written, one line for a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llama_train.tokenizers.chat import chat_template
from llama_train.tokenizers.folder import open_tokenizer
from llama_train.tokenizers.llama3 import to_ranks
from llama_train.tokenizers.ranks import write_ranks
from tests.data_pipelines.tokenizer_words import DOCUMENTS, count, files_of, lines_of, main, text_of, write_documents


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_documents(tmp_path_factory.mktemp("text") / "t.jsonl", DOCUMENTS)


@pytest.fixture(scope="module")
def llama3(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("llama3") / "t"
    main(["train", "--kind", "llama3", "--text", text, "--vocab_size", 600, "--out", out])
    return out


@pytest.fixture(scope="module")
def llama2(text, tmp_path_factory):
    pytest.importorskip("sentencepiece")
    out = tmp_path_factory.mktemp("llama2") / "t"
    main(["train", "--kind", "llama2", "--text", text, "--vocab_size", 600, "--out", out])
    return out


def test_train_llama3_writes_a_folder_that_transformers_opens(llama3, tmp_path, text, capsys):
    from transformers import AutoTokenizer

    assert {"tokenizer.json", "tokenizer.tiktoken", "chat_template.jinja"} < files_of(llama3).keys()
    opened = AutoTokenizer.from_pretrained(llama3)
    assert len(opened) == 600 and opened.decode(opened.encode("a tin нос"), skip_special_tokens=True) == "a tin нос"
    words = ["train", "--kind", "llama3", "--text", text, "--vocab_size", 600, "--out", tmp_path / "again"]
    main([*words, "--chat_template", "llama3.1"])
    again = files_of(tmp_path / "again")
    assert again.pop("chat_template.jinja").decode() == chat_template("llama3.1")
    assert again == {name: data for name, data in files_of(llama3).items() if name != "chat_template.jinja"}
    printed = capsys.readouterr()
    assert f"600 ids   {tmp_path / 'again'}" in printed.out and "1,500 documents" in printed.err
    texts = [json.loads(line)["text"] for line in text.read_text(encoding="utf-8").splitlines()]
    expected = sum(map(len, texts)) / count(llama3, texts)
    assert f"{expected:.3f} characters per token" in printed.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again"]


def test_train_llama2_writes_a_model_that_sentencepiece_opens(llama2):
    from sentencepiece import SentencePieceProcessor

    engine = SentencePieceProcessor(model_file=str(llama2 / "tokenizer.model"))
    assert len(engine) == 600 and engine.id_to_piece(list(range(4))) == ["<unk>", "<s>", "</s>", "<0x00>"]
    tokenizer = open_tokenizer(llama2)
    for sample in text_of("de", 20, seed=1) + text_of("code", 20, seed=1):
        assert tokenizer.encode(sample, add_special_tokens=False).ids == engine.encode(sample)


def test_extend_keeps_every_id_and_the_chat_template(llama3, tmp_path, capsys):
    path = write_documents(tmp_path / "new.jsonl", {"de": 300, "ru": 300})
    words = ["extend", llama3, "--add", 50, "--text", path, "--out", tmp_path / "t", "--weight_by", "language"]
    main([*words, "--pattern", "llama3"])
    base, grown = open_tokenizer(llama3), open_tokenizer(tmp_path / "t")
    assert grown.get_vocab_size() == 650 and base.get_vocab().items() < grown.get_vocab().items()
    texts = text_of("de", 300) + text_of("ru", 300)
    assert count(tmp_path / "t", texts) < count(llama3, texts)
    assert (tmp_path / "t" / "chat_template.jinja").read_text() == chat_template("llama3")
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"600 ids of {llama3} + 50 new = 650 ids   {tmp_path / 't'}"
    for row in printed[1:3]:
        assert float(row.split()[-1].rstrip("%")) == pytest.approx(50, rel=0.02)


def test_convert_opens_every_form_and_writes_the_others(llama3, llama2, tmp_path, capsys):
    for folder, name in [(llama3, "tokenizer.tiktoken"), (llama3, "tokenizer.json"), (llama2, "tokenizer.model")]:
        main(["convert", folder / name, "--out", tmp_path / "t"])
        converted = files_of(tmp_path / "t")
        assert {"tokenizer.json", "tokenizer_config.json"} < converted.keys() and name in converted
        for text in text_of("en", 5) + text_of("ru", 5):
            assert open_tokenizer(tmp_path / "t").encode(text).ids == open_tokenizer(folder).encode(text).ids
    printed = capsys.readouterr().out
    assert "tokenizer.tiktoken: byte-level BPE, as Llama 3's, 600 ids, 16 special tokens" in printed
    assert "tokenizer.model: SentencePiece BPE with byte fallback, as Llama 2's, 600 ids, 3 special tokens" in printed
    assert "chat_template.jinja" not in converted
    main(["convert", llama3, "--out", tmp_path / "t"])
    assert files_of(tmp_path / "t") == files_of(llama3)  # its chat template too
    main(["convert", llama3, "--out", tmp_path / "t", "--chat_template", "llama3.1"])
    assert (tmp_path / "t" / "chat_template.jinja").read_text() == chat_template("llama3.1")


def test_report_compares_by_language(llama3, llama2, text, tmp_path, capsys):
    (tmp_path / "latin1.txt").write_bytes("Größe".encode("latin-1"))
    main(
        ["report", f"three={llama3}", llama2, "--text", text, tmp_path / "latin1.txt"]
        + ["--json", tmp_path / "r.json", "--picture", tmp_path / "r.png"]
    )
    printed, said = capsys.readouterr()
    assert said == "left out: 1 not UTF-8\n"
    assert "three" in printed and llama2.name in printed and "ru" in printed
    rows = json.loads((tmp_path / "r.json").read_text())
    found = {(row["tokenizer"], row["language"]): row["tokens"] for row in rows if row["source"] is None}
    assert found["three", "de"] == count(llama3, text_of("de", 500))
    assert found["t", "de"] == count(llama2, text_of("de", 500))
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_draws_unasked(llama3, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["report", llama3, "--text", text])
    assert capsys.readouterr().out.endswith("drawn in tokenizers.png\n")
    assert Path("tokenizers.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("kind", "ids"), [("llama2", "32000"), ("llama3", "128256")])
def test_as_many_ids_as_published_unless_told_otherwise(kind, ids, text, tmp_path, capsys):
    code, lines = lines_of(capsys, ["train", "--kind", kind, "--text", text, "--out", tmp_path / "t"])
    assert code == 1 and f"too small for vocab_size {ids}: it yields" in lines[-1]


def test_chatml_brings_its_special_tokens(llama3, text, tmp_path):
    words = [
        "--kind",
        "llama3",
        "--text",
        text,
        "--vocab_size",
        "600",
        "--out",
        tmp_path / "t",
        "--chat_template",
        "chatml",
    ]
    main(["train", *words])
    tokenizer = open_tokenizer(tmp_path / "t")
    assert tokenizer.get_vocab_size() == 600
    assert [tokenizer.token_to_id(name) for name in ("<|im_start|>", "<|im_end|>")] == [598, 599]
    main(["extend", llama3, "--add", "7", "--text", text, "--out", tmp_path / "g", "--chat_template", "chatml"])
    old, grown = open_tokenizer(llama3), open_tokenizer(tmp_path / "g")
    assert grown.get_vocab_size() == old.get_vocab_size() + 9
    assert grown.token_to_id("<|im_end|>") == old.get_vocab_size() + 8


def test_a_plain_rank_file_grows_as_llama_3_did(llama3, text, tmp_path):
    """Its special tokens come last."""
    ranks, specials = to_ranks(open_tokenizer(llama3))
    write_ranks(tmp_path / "base.tiktoken", ranks)
    main(["extend", tmp_path / "base.tiktoken", "--add", "7", "--text", text, "--out", tmp_path / "g"])
    tokenizer = open_tokenizer(tmp_path / "g")
    assert tokenizer.get_vocab_size() == len(ranks) + 7 + len(specials)
    assert tokenizer.token_to_id("<|begin_of_text|>") == len(ranks) + 7


def test_mistakes_end_in_one_line_and_leave_nothing(llama3, text, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "small.txt").write_text("abc abcd")
    (tmp_path / "broken.model").write_bytes(b"\n\x07 broken")
    out = tmp_path / "o"
    train = ["train", "--kind", "llama3", "--vocab_size", 500, "--out", out]
    for words, message in [
        ([*train, "--text", tmp_path / "nowhere"], "nowhere does not exist"),
        ([*train, "--text", tmp_path / "empty.txt"], "error: no text in"),
        ([*train, "--text", tmp_path / "small.txt"], "the text is too small for vocab_size 500: it yields 276 ids"),
        ([*train, "--text", text, "--vocab_size", 100], "vocab_size 100 is too small: 256 bytes and 16 special tokens"),
        (
            [*train, "--text", text, "--weights", "en=1"],
            "--weights en=1 needs --weight_by language or --weight_by source",
        ),
        ([*train, "--text", text, "--weight_by", "source", "--weights", "x=1"], "no text of x; found t"),
        ([*train, "--text", text, "--weight_by", "language", "--weights", "en=1"], "no weight for code, de, ru; found"),
        ([*train, "--text", text, "--text_column", "body"], "no text in"),
        (["extend", tmp_path, "--add", 5, "--text", text, "--out", out], "holds no tokenizer"),
        (["extend", llama3, "--add", 10**6, "--text", tmp_path / "small.txt", "--out", out], "1000000"),
        (["convert", tmp_path / "nowhere", "--out", out], "nowhere does not exist"),
        (["report", llama3, llama3, "--text", text], "two tokenizers are called t: name them, as first="),
    ]:
        code, lines = lines_of(capsys, words)
        assert code == 1 and lines[-1].startswith("error: ") and message in lines[-1], lines
        assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.model", "empty.txt", "small.txt"]
    for words in ([*train, "--text"], [*train[:-2], "--text", text], ["train", "--kind", "gpt2"], ["shrink"]):
        assert lines_of(capsys, words)[0] == 2


def test_only_a_sentencepiece_vocabulary_is_refused_to_grow(llama2, text, tmp_path, capsys):
    code, lines = lines_of(capsys, ["extend", llama2, "--add", 5, "--text", text, "--out", tmp_path / "o"])
    assert code == 1 and lines == [
        f"error: {llama2} is not byte-level: a SentencePiece vocabulary cannot be grown, train one"
    ]


def test_convert_keeps_a_chat_template_that_stands_in_the_config(llama3, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "tokenizer.json").write_bytes((llama3 / "tokenizer.json").read_bytes())
    for config, expected in [('{"chat_template": "{{ 1 }}"}', "{{ 1 }}"), ('{"chat_template": []}', None), ("{", None)]:
        (tmp_path / "old" / "tokenizer_config.json").write_text(config)
        main(["convert", tmp_path / "old", "--out", tmp_path / "new"])
        assert files_of(tmp_path / "new").get("chat_template.jinja") == (expected and expected.encode())


def test_an_early_end_of_convert_leaves_what_was_there(llama3, tmp_path, capsys, monkeypatch):
    main(["convert", llama3, "--out", tmp_path / "o"])
    before = files_of(tmp_path / "o")
    for error, expected in [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)]:

        def fail(tokenizer, folder, template, error=error):
            (folder / "tokenizer.json").write_text("half")
            raise error

        monkeypatch.setattr("llama_train.tokenizers.folder.save_tokenizer", fail)
        assert lines_of(capsys, ["convert", llama3, "--out", tmp_path / "o"])[0] == expected
        assert files_of(tmp_path / "o") == before and [path.name for path in tmp_path.iterdir()] == ["o"]


def test_help_imports_nothing_heavy(root):
    code = (
        "import sys, argparse, data_pipelines.tokenizer_cli as cli\nparser = argparse.ArgumentParser()\ncli.add_verbs(parser)\n"
        "try: parser.parse_args(['train', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'numpy', 'pyarrow', 'datatrove', 'gigatoken'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "--weight_by" in done.stdout
