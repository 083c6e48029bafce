"""The command line: fast help, plans, one-line errors, a sample of text."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llama_train.cli import main
from llama_train.errors import one_line_errors


def command(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """`llama-train` in a process of its own."""
    import os

    line = [sys.executable, "-m", "llama_train.cli", *words]
    return subprocess.run(line, cwd=root, env=os.environ | environment, capture_output=True, text=True)


def failure(capsys: pytest.CaptureFixture, *words: str) -> str:
    """The one line on stderr with which the command ends."""
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and len(lines) == 1
    return lines[0]


def test_help_imports_nothing_heavy(root: Path) -> None:
    code = (
        "import sys\nfrom llama_train.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'yaml', 'accelerate', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(verb in done.stdout for verb in ("plan", "evaluate", "chat"))


def test_plan_prints_a_recipe_under_another_model(root: Path, capsys: pytest.CaptureFixture) -> None:
    main(["plan", str(root / "recipes/pretrain/llama2.yaml"), "--model", "llama2-70b", "--num_processes", "16"])
    text = capsys.readouterr().out
    assert "68,976,648,192" in text and "0.00015 at step 2,000" in text and "x 16 processes" in text


def test_errors_are_one_line(capsys: pytest.CaptureFixture) -> None:
    assert "error: unknown setting 'modell'; the nearest is 'model'" in failure(capsys, "plan", "--modell", "llama2-7b")
    assert failure(capsys, "plan", "nowhere.yaml") == "error: nowhere.yaml: No such file or directory"
    assert "--num_processes: 0" in failure(capsys, "plan", "--model", "llama2-7b", "--num_processes", "0")


def test_words_no_verb_knows_are_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["chat", "somewhere", "--prompt", "x", "--bogus"])
    assert stopped.value.code == 2 and "--bogus" in capsys.readouterr().err


def test_errors_keep_their_traceback_for_debugging(root: Path) -> None:
    plain = command(root, "plan", "nowhere.yaml")
    assert (plain.returncode, "Traceback" in plain.stderr) == (1, False)
    assert "Traceback" in command(root, "plan", "nowhere.yaml", LLAMA_TRAIN_DEBUG="1").stderr


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("two\n  lines"), 1, "error: two lines"),
        (FloatingPointError("loss is nan"), 1, "error: loss is nan"),
        (ModuleNotFoundError("No module named 'x'"), 1, "error: No module named 'x'"),
        (OSError(28, "No space left on device", "a/b"), 1, "error: a/b: No space left on device"),
        (OSError("just words"), 1, "error: just words"),
        (ValueError(), 1, "error: ValueError"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
)
def test_errors_for_people(capsys: pytest.CaptureFixture, error: BaseException, code: int, line: str) -> None:
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise error
    assert (stopped.value.code, capsys.readouterr().err) == (code, line + "\n")


@pytest.mark.parametrize(("rank", "label"), [("0", "error"), ("", "error"), ("3", "error (process 3)")])
def test_one_process_of_several_speaks_for_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, rank: str, label: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    for error, code, words in ((ValueError("bad"), 1, "bad"), (KeyboardInterrupt(), 130, "interrupted")):
        with pytest.raises(SystemExit) as stopped, one_line_errors():
            raise error
        assert (stopped.value.code, capsys.readouterr().err) == (code, f"{label}: {words}\n")


def test_a_library_written_in_rust_that_gives_up_is_an_error_for_people(capsys: pytest.CaptureFixture) -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")  # type: ignore[assignment]
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        tokenizer.encode("a" * 40 + "b")
    line = "error: Onig: Regex search error: retry-limit-in-match over\n"
    assert (stopped.value.code, capsys.readouterr().err) == (1, line)


def test_faults_of_our_own_keep_their_traceback() -> None:
    with pytest.raises(AssertionError), one_line_errors():
        raise AssertionError


def test_a_reader_that_leaves_early_is_no_error(root: Path) -> None:
    line = f"{sys.executable} -m llama_train.cli plan --model llama2-7b | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=root, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random model and a byte-level tokenizer."""
    import torch

    from llama_train.model.llama import LlamaForCausalLM
    from llama_train.settings import load_settings
    from llama_train.tokenizers.llama3 import train_llama3

    folder = tmp_path_factory.mktemp("run") / "final"
    train_llama3(["To be, or not to be, that is the question. " * 20], 290, folder, progress=False)
    sizes = "--hidden_size 32 --intermediate_size 64 --num_hidden_layers 2 --num_attention_heads 4 --vocab_size 290"
    torch.manual_seed(0)
    LlamaForCausalLM(load_settings([*sizes.split(), "--max_length", "256"]).config()).save_pretrained(folder)
    return folder


def chat(capsys: pytest.CaptureFixture, checkpoint: Path, *words: str) -> tuple[str, str]:
    main(["chat", str(checkpoint), "--prompt", "To be", "--max_new_tokens", "12", *words])
    said = capsys.readouterr()
    return said.out, said.err


def test_chat_goes_on_from_the_prompt_and_repeats_itself(checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    out, err = chat(capsys, checkpoint)
    assert out.startswith("To be") and len(out) > len("To be\n") and "tokens/s" in err
    assert chat(capsys, checkpoint)[0] == out
    assert chat(capsys, checkpoint, "--seed", "1")[0] != out
    greedy = [chat(capsys, checkpoint, "--temperature", "0", "--seed", str(seed))[0] for seed in (0, 1)]
    assert greedy[0] == greedy[1]


def test_greedy_chat_says_what_transformers_says(checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    ids = model.generate(**tokenizer("To be", return_tensors="pt"), max_new_tokens=12, do_sample=False)
    text = str(tokenizer.decode(ids[0], skip_special_tokens=True))
    assert chat(capsys, checkpoint, "--temperature", "0")[0].strip("\n") == text.strip("\n")


def test_chat_refuses_figures_out_of_range(checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        chat(capsys, checkpoint, "--top_p", "0")
    assert "top_p 0.0 above 0" in capsys.readouterr().err


def test_chat_refuses_a_seed_that_torch_cannot_take(checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    for seed in ("-1", str(2**63)):
        words = ("chat", str(checkpoint), "--prompt", "x", "--seed", seed)
        assert failure(capsys, *words) == f"error: seed: {seed} is out of range, it must be at least 0 and below 2^63"


@pytest.mark.parametrize("name", ["nowhere", "runs/nowhere", "./nowhere", "/nowhere/at/all", "a/b/c", "docs/nowhere"])
def test_a_checkpoint_that_is_nowhere_is_named(root: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    line = (
        f"error: {name} is no folder with config.json: give a run's final/ or a checkpoint-N/ "
        "(or a model on the Hub as owner/name)"
    )
    assert failure(capsys, "chat", name, "--prompt", "x") == line
    assert failure(capsys, "evaluate", name, "--text", str(root / "README.md")) == line


def test_a_hub_name_that_cannot_be_had_says_so_too(capsys: pytest.CaptureFixture) -> None:
    line = failure(capsys, "chat", "no-such-owner/no-such-model", "--prompt", "x")
    assert line.startswith("error: no-such-owner/no-such-model is no folder with config.json") and "; the Hub: " in line


def test_a_checkpoint_without_a_tokenizer_says_so(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    line = f"error: {tmp_path} has no tokenizer: copy tokenizer.json"
    assert failure(capsys, "chat", str(tmp_path), "--prompt", "x").startswith(line)
    assert failure(capsys, "evaluate", str(tmp_path), "--text", str(root / "README.md")).startswith(line)


def test_evaluate_prints_a_table_or_json(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "text.txt").write_text("To be, or not to be.\n" * 30, encoding="utf-8")
    main(["evaluate", str(checkpoint), "--text", str(tmp_path / "text.txt"), "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert 0 < figures["loss"] < 10 and figures["bytes"] == 630
    main(["evaluate", str(checkpoint), "--text", str(tmp_path / "text.txt")])
    assert "bits per byte" in capsys.readouterr().out
