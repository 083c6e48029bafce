"""`llama-data`: quick help without torch, a table at the end, one line for every mistake."""

import subprocess
import sys

import pytest

from data_pipelines.cli import main


def test_help_imports_nothing_heavy(root):
    code = (
        "import sys, data_pipelines.cli\n"
        "try: data_pipelines.cli.main(['build', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'numpy', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "--vocab_size" in done.stdout and "2.5 % of it" in done.stdout


def test_the_whole_pipeline_is_torch_free(root, tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"line {i}\n" for i in range(900)))
    arguments = f"build --source files {tmp_path}/a.txt --out {tmp_path}/o --vocab_size 280".split()
    code = (
        f"import sys\nfrom data_pipelines.cli import main\nmain({arguments!r})\n"
        "heavy = {'torch', 'transformers', 'llama_train.model'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "o" / "train") in done.stdout and "tokenizer" in done.stdout


def lines_of(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["build", *map(str, arguments)])
    return end.value.code, capsys.readouterr().err.strip().splitlines()


def test_mistakes_end_in_one_line_and_exit_code_1(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("some words\n" * 900)
    for arguments, message in [
        ((tmp_path / "empty", "--vocab_size", 500), f"error: no text in {tmp_path / 'empty'}"),
        ((tmp_path / "nowhere", "--vocab_size", 500), "nowhere does not exist"),
        ((tmp_path / "a.txt", "--vocab_size", 100), "error: vocab_size 100 is too small"),
        ((tmp_path / "a.txt", "--vocab_size", 5000), "error: the text is too small for vocab_size 5000"),
        (("--vocab_size", 500), "error: --source files needs at least one PATH"),
    ]:
        code, lines = lines_of(capsys, "--source", "files", "--out", tmp_path / "o", *arguments)
        assert code == 1 and message in lines[-1]
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
        assert not (tmp_path / "o").exists()


def test_installed_takes_no_path(tmp_path, capsys):
    code, lines = lines_of(capsys, "--source", "installed", tmp_path, "--out", tmp_path / "o", "--vocab_size", 280)
    assert code == 1
    assert lines == [f"error: --source installed takes no PATH, got {tmp_path}: to read it, use --source files"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_no_write_permission_is_one_line(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("some words\n" * 900)
    (tmp_path / "file").write_text("a file where a folder should be")
    code, lines = lines_of(
        capsys, "--source", "files", tmp_path / "a.txt", "--out", tmp_path / "file" / "o", "--vocab_size", 280
    )
    assert code == 1 and str(tmp_path / "file") in lines[-1] and lines[-1].startswith("error: ")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file size limit")
@pytest.mark.parametrize(("limit", "stages"), [(100, 1), (25_000, 4)])
def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(root, tmp_path, limit, stages):
    """A file size limit stands in for the full disk: at the documents, and at the tokens."""
    (tmp_path / "a.txt").write_text("".join(f"line {i * i}\n" for i in range(2000)))
    arguments = f"build --source files {tmp_path}/a.txt --out {tmp_path}/o --vocab_size 280".split()
    code = (
        f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"from data_pipelines.cli import main\nmain({arguments!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == stages + 1, done.stderr
    assert lines[-1].startswith(f"error: {tmp_path}/o: ") and lines[-1].endswith("File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("word", ["0", "-5", "many", "1.5"])
def test_numbers_must_be_whole_and_above_0(tmp_path, capsys, word):
    code, lines = lines_of(capsys, "--source", "files", "x", "--out", tmp_path, "--vocab_size", word)
    assert code == 2 and f"'{word}' is not a whole number above 0" in lines[-1]
