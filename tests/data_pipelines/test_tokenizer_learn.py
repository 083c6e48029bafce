"""Learning from files: shares of tokens as wanted, even parts of too much text, the same bytes each time."""

import json
import subprocess
import sys

import pytest

from llama_train.tokenizers.folder import open_tokenizer
from tests.data_pipelines.tokenizer_words import DOCUMENTS, count, files_of, lines_of, main, text_of, write_documents


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_documents(tmp_path_factory.mktemp("text") / "t.jsonl", DOCUMENTS)


@pytest.mark.parametrize("kind", ["llama2", "llama3"])
def test_weights_are_shares_of_tokens_and_not_of_bytes(kind, text, tmp_path, capsys):
    if kind == "llama2":
        pytest.importorskip("sentencepiece")
    wanted = {"code": 1 / 6, "de": 1 / 6, "en": 3 / 6, "ru": 1 / 6}
    main(
        ["train", "--kind", kind, "--text", text, "--vocab_size", 600, "--out", tmp_path / "t"]
        + ["--weight_by", "language", "--weights", "en=3,de=1,ru=1,code=1"]
    )
    printed = capsys.readouterr()
    rows = {row.split()[0]: row.split() for row in printed.out.splitlines()[1:5]}
    assert list(rows) == sorted(wanted)
    taken = {name: (int(row[1].replace(",", "")), int(row[2].replace(",", ""))) for name, row in rows.items()}
    total = sum(tokens for _, tokens in taken.values())
    for name, share in wanted.items():
        texts = text_of(name, DOCUMENTS[name])
        tokens_per_byte = count(tmp_path / "t", texts) / sum(len(t.encode()) for t in texts)
        assert tokens_per_byte * taken[name][0] == pytest.approx(taken[name][1], rel=0.01)  # the table says what is so
        assert taken[name][1] / total == pytest.approx(share, rel=0.02)
        assert rows[name][3] == f"{share:.1%}"
    by_bytes = {name: share * taken[name][1] / taken[name][0] for name, share in wanted.items()}
    shares = {name: tokens / sum(by_bytes.values()) for name, tokens in by_bytes.items()}
    assert max(abs(shares[name] / share - 1) for name, share in wanted.items()) > 0.3  # had bytes been weighted
    assert "repeated (at most 20 times): code" in printed.err and "taken evenly" not in printed.err


def test_max_bytes_takes_an_even_part_and_says_so(text, tmp_path, capsys):
    words = ["train", "--kind", "llama3", "--text", text, "--vocab_size", 400, "--max_bytes", 100_000]
    main([*words, "--out", tmp_path / "t"])
    size = sum(len(t.encode()) for name in ("en", "de", "ru", "code") for t in text_of(name, DOCUMENTS[name]))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"taken evenly from more text (--max_bytes is 100,000): all 100,000 of {size:,} bytes"
    learned = set(open_tokenizer(tmp_path / "t").get_vocab())
    assert any("Ð" in token for token in learned if len(token) > 3)  # Russian comes near the end of the file


def test_extreme_weights_and_pilots_too_small_for_the_vocabulary_still_learn(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("data_pipelines.tokenizer_learn.PILOT_BYTES", 1000)
    words = ["train", "--kind", "llama3", "--text", text, "--vocab_size", 600, "--weight_by", "language"]
    main([*words, "--out", tmp_path / "a", "--weights", "en=1e9,de=1,ru=1,code=1"])
    rows = {row.split()[0]: row.split() for row in capsys.readouterr().out.splitlines()[1:5]}
    assert rows["en"][3:] == ["100.0%", "100.0%"]
    assert lines_of(capsys, [*words, "--out", tmp_path / "b", "--max_bytes", 1])[0] == 1


def test_a_language_of_one_page_falls_short_and_is_named(tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    languages = ["aa", *(f"b{i}" for i in range(10))]
    rows = [{"text": t, "language": name} for name in languages for t in text_of("en", 1 if name == "aa" else 100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["train", "--kind", "llama3", "--text", path, "--vocab_size", 400, "--weight_by", "language"]
    main([*words, "--out", tmp_path / "o"])
    printed = capsys.readouterr()
    assert "short of their shares with all their text 20 times: aa\n" in printed.out
    assert "aa 481 bytes, 20 times" in printed.err
    reached = {row.split()[0]: float(row.split()[-1].rstrip("%")) for row in printed.out.splitlines()[1:12]}
    assert reached.pop("aa") < 3 and min(reached.values()) > 9.5


def test_weight_by_source_is_the_stem_of_a_plain_file(tmp_path, capsys):
    (tmp_path / "news.txt").write_text("".join(text_of("en", 100)))
    (tmp_path / "letters.md").write_text("".join(text_of("de", 100)))
    words = ["train", "--kind", "llama3", "--text", tmp_path, "--vocab_size", 400, "--weight_by", "source"]
    main([*words, "--out", tmp_path / "t"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:3]] == ["source", "letters", "news"]


def test_names_of_special_tokens_in_text_are_letters_and_counted(tmp_path, capsys):
    texts = [*text_of("en", 50), *["he said <|eot_id|> twice <|eot_id|>"] * 3, "nothing < special |> here"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    words = ["train", "--kind", "llama3", "--text", tmp_path / "a.jsonl", "--vocab_size", 300, "--out", tmp_path / "t"]
    main(words)
    assert (
        "3 documents hold the name of a special token, such as <|eot_id|>: there it is letters"
        in capsys.readouterr().err
    )
    tokenizer = open_tokenizer(tmp_path / "t")
    assert tokenizer.get_vocab_size() == 300 and tokenizer.token_to_id("<|eot_id|>") == 284 + 9


def test_the_bytes_do_not_depend_on_the_hash_seed(root, text, tmp_path):
    code = "import sys\nfrom tests.data_pipelines.tokenizer_words import main\nmain(sys.argv[1:])"
    words = f"train --kind llama3 --text {text} --vocab_size 500 --weight_by language --max_bytes 200000".split()
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PATH": "", "RAYON_NUM_THREADS": seed}
        subprocess.run(
            [sys.executable, "-c", code, *words, "--out", tmp_path / seed], cwd=root, env=environment, check=True
        )
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
