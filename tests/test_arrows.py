"""Who may import whom. Every import statement is read; a broken arrow is named with its file."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# For each room, by the longest prefix of a module's name: what it may import besides the standard library and
# llama_train.errors. A module without a room may import nothing else.
ANYTHING = ("",)
PARSERS = (
    *("fastwarc", "fasttext", "lxml", "py7zr", "resiliparse", "trafilatura", "warcio", "zstandard"),
)  # of the extra `sources`
ARROWS: dict[str, tuple[str, ...]] = {
    "llama_train.families": ("transformers",),  # inside llama_config() only: see the torch-free test
    "llama_train.settings": ("llama_train.families", "llama_train.settings", "yaml", "huggingface_hub"),
    "llama_train.planner": (
        *("llama_train.planner", "llama_train.families", "llama_train.settings", "llama_train.train.schedule"),
    ),
    "llama_train.model": ("llama_train.model", "torch", "transformers"),
    "llama_train.tokenizers": (
        *("llama_train.tokenizers", "tokenizers", "gigatoken", "sentencepiece", "google.protobuf", "regex", "numpy"),
        *("psutil", "tqdm", "matplotlib"),
    ),
    "llama_train.data": ("llama_train.data", "numpy", "datasets"),
    "llama_train.data.remote": ("llama_train.data", "fsspec", "filelock", "tqdm"),
    "llama_train.data.batches": ("llama_train.data", "numpy", "torch"),
    "llama_train.train": (
        *("llama_train.train", "llama_train.model", "llama_train.data", "llama_train.families", "llama_train.planner"),
        *("llama_train.settings", "llama_train.pretrained", "torch", "transformers", "accelerate", "deepspeed"),
        *("numpy", "matplotlib", "tqdm", "safetensors", "wandb", "yaml", "psutil"),
    ),
    "llama_train.train.schedule": (),
    "llama_train.pretrained": ("llama_train.model", "torch", "transformers", "huggingface_hub"),
    "llama_train.generate": ("llama_train.pretrained", "torch", "transformers"),
    "llama_train.cli": ANYTHING,
    "llama_train.check": (
        *("llama_train.check", "llama_train.settings", "llama_train.data", "llama_train.model", "llama_train.train"),
        *("torch", "transformers", "safetensors", "numpy"),
    ),
    "llama_train.cluster": ANYTHING,
    "data_pipelines": (
        *("data_pipelines", "llama_train.tokenizers", "llama_train.data.shards"),
        *("datatrove", "tokenizers", "numpy", "pyarrow", "tqdm"),
    ),
    "data_pipelines.sources": ("data_pipelines", "datatrove", "pyarrow"),
    "data_pipelines.dumps": (
        *("data_pipelines.dumps", "data_pipelines.clean", "data_pipelines.account", "data_pipelines.pool"),
        *("datatrove", "pyarrow", *PARSERS),
    ),
    "data_pipelines.text": ("data_pipelines.text", "data_pipelines.dumps", "data_pipelines.pool", *PARSERS),
    "data_pipelines.clean": ("data_pipelines.clean", "numpy"),
    "data_pipelines.pool": ("psutil",),
    "data_pipelines.inspect": ("pyarrow", "matplotlib"),
    "data_pipelines.fetch": ("data_pipelines.fetch", "tqdm"),
    "recipes": ANYTHING,
    "benchmarks": ANYTHING,
}
PACKAGES = ("llama_train", "data_pipelines", "recipes", "benchmarks")

TORCH_FREE = """
llama_train.planner_memory llama_train.data.remote
llama_train.families llama_train.settings llama_train.planner llama_train.cli llama_train.errors
llama_train.check llama_train.check_shrunk
llama_train.train.schedule llama_train.train.manifest llama_train.train.ledger llama_train.train.wandb_sync
llama_train.data.shards llama_train.data.packing
""".split()


def imports(file: Path) -> Iterator[str]:
    """The modules a file imports anywhere in it, type hints aside."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    hints = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: import by the full name, not relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, prefix: str) -> bool:
    """`settings_loader` counts as `settings`: one room may have several files."""
    return name == prefix or name.startswith((prefix + ".", prefix + "_"))


def broken_arrows(root: Path) -> list[str]:
    """`file -> module` for every import that the table does not allow."""
    broken = []
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            name = ".".join(file.relative_to(root).with_suffix("").parts)
            rooms = [room for room in ARROWS if within(name, room)]
            allowed = ("llama_train.errors", *(ARROWS[max(rooms, key=len)] if rooms else ()))
            for module in imports(file):
                standard = module.split(".")[0] in sys.stdlib_module_names
                if not standard and allowed[-1:] != ANYTHING and not any(within(module, room) for room in allowed):
                    broken.append(f"{file.relative_to(root)} -> {module}")
    return broken


def test_every_import_follows_the_arrows(root: Path) -> None:
    assert broken_arrows(root) == []


@pytest.mark.parametrize(
    ("file", "line", "arrow"),
    [
        ("llama_train/model/rope.py", "from llama_train.train import loop", "llama_train.train.loop"),
        ("llama_train/model/rope.py", "import accelerate", "accelerate"),
        ("llama_train/data/packing.py", "def f():\n    import torch", "torch"),
        ("llama_train/data/shards.py", "from llama_train.model.llama import X", "llama_train.model.llama.X"),
        ("llama_train/settings_loader.py", "import torch.nn", "torch.nn"),
        ("llama_train/train/loop.py", "from llama_train.generate import generate", "llama_train.generate.generate"),
        ("llama_train/train/schedule.py", "import numpy as np", "numpy"),
        ("llama_train/planner.py", "from llama_train.train.loop import train", "llama_train.train.loop.train"),
        ("llama_train/families.py", "import data_pipelines.build", "data_pipelines.build"),
        ("data_pipelines/build.py", "from llama_train.data.batches import X", "llama_train.data.batches.X"),
        ("llama_train/model/attention.py", "import scipy", "scipy"),
        ("llama_train/generate.py", "from llama_train.train import evaluate", "llama_train.train.evaluate"),
        ("llama_train/pretrained.py", "from llama_train.train import step", "llama_train.train.step"),
        ("llama_train/new_room.py", "import torch", "torch"),
    ],
)
def test_a_wrong_arrow_is_named(tmp_path: Path, file: str, line: str, arrow: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(f"import json\nfrom llama_train.errors import one_line_errors\n{line}\n")
    assert broken_arrows(tmp_path) == [f"{file} -> {arrow}"]


def test_hints_are_not_imports(tmp_path: Path) -> None:
    (tmp_path / "llama_train").mkdir()
    text = "if TYPE_CHECKING:\n    import torch\nelse:\n    import torch.nn\n"
    (tmp_path / "llama_train/settings.py").write_text(text)
    assert broken_arrows(tmp_path) == ["llama_train/settings.py -> torch.nn"]


def test_package_files_are_empty(root: Path) -> None:
    packages = [file for package in ("llama_train", "data_pipelines") for file in (root / package).rglob("__init__.py")]
    assert packages and [file for file in packages if file.read_text().strip()] == []


def test_torch_free_modules_leave_torch_alone(root: Path) -> None:
    """One process imports them all and is asked what that brought along."""
    modules = TORCH_FREE + [
        ".".join(file.relative_to(root).with_suffix("").parts)
        for folder in ("llama_train/tokenizers", "data_pipelines")
        for file in sorted((root / folder).rglob("*.py"))
        if file.name != "__init__.py"
    ]
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_torch_would_be_noticed(root: Path) -> None:
    code = "import sys, llama_train.data.batches; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
