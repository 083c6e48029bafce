"""What all tests share: no GPU means skipped GPU tests with the reason, one thread each, no network, small token shards."""

import os
from pathlib import Path

import pytest

# before torch is imported anywhere: parallel tests on two cores must not fight over them, and nothing may phone home
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "TOKENIZERS_PARALLELISM": "false",
}

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # real corpora, on the machines that have them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not any(item.get_closest_marker("gpu") for item in items):
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU; this machine has none"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def books() -> Path:
    """Forty real books beside the project, where they exist."""
    folder = SHARED / "corpora" / "books"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: real books exist only on some machines")
    return folder


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Token shards of 60 documents of 5 to 120 tokens over a vocabulary of 96 in which each token foretells the next."""
    import numpy as np

    from llama_train.data.shards import ShardWriter

    out = tmp_path_factory.mktemp("shards") / "train"
    generator = np.random.default_rng(0)
    tokenizer = {"sha256": "0" * 64, "bos_token_id": 94, "eos_token_id": 95}
    token_bytes = np.array([1] * 94 + [0, 0], dtype=np.uint16)
    with ShardWriter(out, 96, tokenizer, token_bytes) as writer:
        for _ in range(60):
            length = int(generator.integers(3, 119))
            text = (int(generator.integers(94)) + np.cumsum(generator.integers(1, 4, length))) % 94
            writer.add([94, *text.tolist(), 95], length)
    return out
