"""No secret leaves, nothing foreign is executed: every byte a run writes is searched, and every line of ours is read."""

import ast
import gzip
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import read_table, write_table

from llama_train.settings import load_settings
from tests.recipes.test_pretrain import arguments

SECRETS = {  # each split in two: a file format may break a text into blocks, but not twice in 48 characters
    "WANDB_API_KEY": "c4na" + "9f3b" * 9,
    "HF_TOKEN": "hf_Canary" + "Qx7Lm2Vt" * 4 + "end",
    "AWS_SECRET_ACCESS_KEY": "Canary/" + "kJ8+sD3p" * 4 + "=",
    "GITHUB_TOKEN": "ghp_Canary" + "Rt5Nb8Wz" * 4,
    "HTTPS_PROXY": "http://someone:canary-" + "pr0xyPw4" * 3 + "@127.0.0.1:9",
    "HF_ENDPOINT": "https://someone:canary-" + "hUbPw6Ye" * 3 + "@127.0.0.1:9",
}
HALVES = {
    half.encode(): name
    for name, value in SECRETS.items()
    for secret in [value.partition("someone:")[2].partition("@")[0] or value]
    for half in (secret[: len(secret) // 2], secret[len(secret) // 2 :])
}


def leaks(name: str, content: bytes, depth: int = 0) -> set[str]:
    """`SECRET in file` for each secret in `content`, compressed or not, as UTF-8 or UTF-16."""
    found = {f"{secret} in {name}" for half, secret in HALVES.items() if half in content or _wide(half) in content}
    if content.startswith(b"\x1f\x8b") and depth < 3:
        found |= leaks(name, gzip.decompress(content), depth + 1)
    return found


def _wide(half: bytes) -> bytes:
    return half.decode().encode("utf-16-le")


def leaks_below(folder: Path) -> set[str]:
    """The leaks of all files below a folder, in their names too."""
    found = set()
    for file in folder.rglob("*"):
        place = str(file.relative_to(folder))
        found |= leaks("the name of " + place, place.encode())
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                found |= {leak for name in archive.namelist() for leak in leaks(f"{place}/{name}", archive.read(name))}
        if file.suffix == ".parquet":
            found |= leaks(place, str(read_table(file).to_pylist()).encode())
        if file.is_file():
            found |= leaks(place, file.read_bytes())
    return found


@pytest.fixture
def secretive(tmp_path, root) -> dict[str, str]:
    """An environment with secrets in it, in which everything is written below tmp_path/home."""
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    places = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONPATH": str(root), "LLAMA_TRAIN_DEBUG": "1"}
    hidden = ("XDG_", "WANDB_", "HF_HOME", "HF_HUB_CACHE")
    rest = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    return rest | places | SECRETS | {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}


def run(words: list[str], secretive: dict[str, str], home: Path, expected: int = 0) -> None:
    """Run a command of ours and keep what it said beside what it wrote."""
    said = subprocess.run([sys.executable, *words], env=secretive, cwd=home, capture_output=True, timeout=300)
    assert said.returncode == expected, said.stderr.decode()[-3000:]
    with open(home / "said.txt", "ab") as file:
        file.write(said.stdout + said.stderr)


def trackers() -> str:
    import importlib.util

    return ",".join(name for name in ("wandb", "tensorboard") if importlib.util.find_spec(name)) or "none"


def test_no_secret_is_in_anything_that_is_written(secretive, tiny_shards, tmp_path, root):
    home = tmp_path / "home"
    recipe = str(root / "recipes" / "pretrain.py")
    words = arguments(tiny_shards, home / "out", *"--max_steps 3 --save_steps 2 --report_to".split(), trackers())
    run([recipe, *words], secretive, home)
    run([recipe, *words, "--max_steps", "4"], secretive, home)  # resumed
    run([recipe, *words, "--seed", "7"], secretive, home, expected=1)  # a traceback, with LLAMA_TRAIN_DEBUG
    data = ["build", "--source", "files", str(root / "docs"), "--out", str(home / "data"), "--vocab_size", "300"]
    run(["-m", "data_pipelines.cli", *data], secretive, home)
    run(["-m", "llama_train.cli", "plan", *words], secretive, home)
    run(["-m", "llama_train.cli", "check", str(home / "out")], secretive, home)
    run(["-m", "llama_train.cli", "check", "--cluster", *words], secretive, home)
    written = {file.suffix for file in home.rglob("*") if file.is_file()}
    assert written >= {".safetensors", ".json", ".jsonl", ".yaml", ".png", ".txt", ".npy"}
    assert leaks_below(home) == set()


def test_a_secret_that_is_written_would_be_found(secretive, tiny_shards, tmp_path, root):
    home = tmp_path / "home"
    words = arguments(tiny_shards, home / "out", "--max_steps", "1", "--run_name", SECRETS["HF_TOKEN"])
    run([str(root / "recipes" / "pretrain.py"), *words, "--report_to", trackers()], secretive, home)
    (home / "log.gz").write_bytes(gzip.compress(SECRETS["WANDB_API_KEY"].encode()))
    with zipfile.ZipFile(home / "bundle.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", f"proxy {SECRETS['HTTPS_PROXY']}")
    write_table(pa.table({"text": [SECRETS["GITHUB_TOKEN"]] * 9}), home / "text.parquet", compression="zstd")
    found = leaks_below(home)
    assert "HF_TOKEN in out/config.yaml" in found and "HF_TOKEN in said.txt" in found
    assert {"WANDB_API_KEY in log.gz", "HTTPS_PROXY in bundle.zip/inner.txt", "GITHUB_TOKEN in text.parquet"} <= found
    for tracker, kind in (("wandb", r"\.wandb"), ("tensorboard", r"tfevents")):
        if tracker in trackers():
            assert any(re.search(f"HF_TOKEN in .*{kind}", leak) for leak in found), found


def test_checkpoints_hold_no_pickles(tiny_shards, tmp_path, root):
    from recipes.pretrain import main

    main(arguments(tiny_shards, tmp_path / "out", "--max_steps", "2"))
    assert list((tmp_path / "out").rglob("optimizer*")) and foreign(tmp_path / "out") == []
    import torch

    torch.save({"step": 1}, tmp_path / "out" / "checkpoint-2" / "rng.safetensors")
    (tmp_path / "out" / "final" / "config.json").write_bytes(b"\x80\x04}.")
    assert foreign(tmp_path / "out") == ["checkpoint-2/rng.safetensors", "final/config.json"]


def foreign(folder: Path) -> list[str]:
    """The files that are not what their names say: JSON, YAML, text, safetensors (a length, then JSON) or PNG."""
    starts = {".safetensors": rb".{8}\{\"", ".png": rb"\x89PNG", ".json": rb"[{\[]", ".jsonl": rb"\{"}
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return [
        str(file.relative_to(folder))
        for file in files
        if not re.match(starts.get(file.suffix, rb"[a-z]"), file.read_bytes()[:16], re.DOTALL)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\nb: [*a, *a]\n",
        "<<: [{seed: 1}]\n",
        "seed: 1\n---\nseed: 2\n",
        "? [a]\n: b\n",
        "!!set {a, b}\n",
        "run_name: !!python/object/apply:os.system [id]\n",
        "run_name: !!python/name:os.system\n",
        "run_name: !!binary aGk=\n",
        "run_name: !!bool x\n",
        "seed: 2024-99-99\n",
        "seed: " + "9" * 5000,
        "{" * 50_000,
        "- " * 50_000,
        "%YAML 9.9\n---\nseed: 1\n",
    ],
)
def test_a_hostile_settings_file_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError) as refused:
        load_settings([str(tmp_path / "run.yaml")])
    assert "\n" not in str(refused.value)


# --- what our own lines may not say ---

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "tempfile.mktemp"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle"),
}
METHODS = {
    "extractall",
    "unpack_archive",
    "load_state",
    "register_for_checkpointing",
}  # the last two: Accelerate's pickles
KEYWORDS = {"trust_remote_code": None, "shell": False, "allow_pickle": False, "weights_only": True, "verify": True}


def dangers(source: str) -> Iterator[str]:
    """What in a Python source executes, unpickles or unpacks what it is given, or trusts whom it does not know."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"import {name}" for name in names if name.split(".")[0] in MODULES)
            if isinstance(node, ast.ImportFrom):  # `from torch import load`
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (f"import {name}" for name in full if name in CALLS)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS or (isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
                yield f"{name}()"
            for keyword in node.keywords:
                safe = KEYWORDS.get(keyword.arg or "", keyword.value)
                if safe is not keyword.value and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is safe
                ):
                    yield f"{keyword.arg}={ast.unparse(keyword.value)}"


def test_our_lines_execute_and_unpickle_nothing(root):
    files = [file for folder in ("llama_train", "data_pipelines", "recipes", "benchmarks", ".ci")
             for file in sorted((root / folder).rglob("*.py"))]  # fmt: skip
    assert len(files) > 50
    found = [f"{file.relative_to(root)}: {d}" for file in files for d in dangers(file.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("line", "danger"),
    [
        ("import pickle", "import pickle"),
        ("from dill import loads", "import dill"),
        ("import torch\ntorch.load(file)", "torch.load()"),
        ("from torch import load", "import torch.load"),
        ("torch.load(file, weights_only=False)", "weights_only=False"),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", "trust_remote_code=True"),
        ("AutoModel.from_pretrained(name, trust_remote_code=flag)", "trust_remote_code=flag"),
        ("tarfile.open(file).extractall(folder, filter='data')", "tarfile.open(file).extractall()"),
        ("yaml.load(text, Loader=yaml.SafeLoader)", "yaml.load()"),
        ("eval(text)", "eval()"),
        ("subprocess.run(command, shell=True)", "shell=True"),
        ("np.load(file, allow_pickle=True)", "allow_pickle=True"),
        ("requests.get(url, verify=False)", "verify=False"),
        ("accelerator.load_state(folder)", "accelerator.load_state()"),
    ],
)
def test_a_dangerous_line_would_be_found(line, danger):
    assert danger in list(dangers(line))


def test_a_harmless_line_is_left_alone():
    harmless = "model.eval()\nlayer.compile()\nnp.load(f, allow_pickle=False)\nre.compile('x')\nyaml.safe_load(t)\nf(shell=False)"
    assert list(dangers(harmless)) == []
