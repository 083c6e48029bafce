"""The whole way on this machine: raw text -> tokenizer -> token shards -> training -> evaluation -> a sample of text.

    make quickstart [DATA=DIR]        or: .venv/bin/python recipes/quickstart.py [--data DIR] [--key value ...]

Each stage is a command printed as it is run, so it can be typed again by itself. What an earlier run left is reused;
further `--key value` go to the training recipe."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from llama_train.errors import one_line_errors

ROOT = Path(__file__).resolve().parent.parent
RUN = Path("runs/quickstart")
BIN = Path(sys.executable).parent
VOCABULARY = 8192  # as quickstart.yaml has it
CORPUS_BYTES = 15_500_000  # about twice what the 400 steps read


def main(argv: list[str]) -> None:
    """Run every stage. Raises SystemExit with a stage's exit code where one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data", metavar="DIR", help="train on your own .txt, .jsonl or .parquet files instead")
    parser.add_argument("--output_dir", metavar="DIR", help=f"where everything is written (default {RUN})")
    options, training = parser.parse_known_args(argv)
    started = time.monotonic()
    run = Path(options.output_dir).resolve() if options.output_dir else RUN
    corpus, final = run / "data", run / "final"

    source = ["files", Path(options.data).resolve()] if options.data else ["installed", "--max_bytes", CORPUS_BYTES]
    vocabulary = vocabulary_for(Path(options.data)) if options.data else VOCABULARY
    stage("llama-data", "build", "--source", *source, "--out", corpus, "--vocab_size", vocabulary)

    import torch

    from llama_train.data.shards import Shards
    from llama_train.train.checkpoint import peek

    saved = peek("auto", ROOT / run)
    if saved and saved["ledger"][-1]["shards"] != Shards(ROOT / corpus / "train").fingerprint:
        training += ["--resume_from_checkpoint", "none"]  # other text: an earlier model cannot go on with it
    on_gpu = torch.cuda.is_available()
    engine = "accelerate_config.yaml" if on_gpu else "recipes/accelerate/cpu.yaml"
    recipe = ["recipes/pretrain.py", "recipes/pretrain/quickstart.yaml"]
    own = [] if vocabulary == VOCABULARY else ["--vocab_size", vocabulary]
    if run != RUN:
        own += ["--output_dir", run, "--dataset_path", corpus / "train", "--eval_dataset_path", corpus / "eval"]
        own += ["--tokenizer_name_or_path", corpus / "tokenizer"]
    stage("accelerate", "launch", "--quiet", "--config_file", engine, *recipe, *own, *training)
    stage("llama-train", "evaluate", final, "--text", "README.md")
    stage("llama-train", "chat", final, "--prompt", "The")
    print(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. Everything is in {run}.")


def vocabulary_for(data: Path) -> int:
    """VOCABULARY for 2 MB of text and more, less for less: BPE needs enough text to find that many pieces worth having."""
    files = data.rglob("*") if data.is_dir() else [data]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return min(VOCABULARY, max(512, size // 256 // 64 * 64))


def stage(command: str, *words: object) -> None:
    """Print and run one command of our own virtual environment, from the project's root."""
    line = [command, *map(str, words)]
    print(f"\n$ {' '.join(line)}", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count())}  # else accelerate launch tells what it chose
    code = subprocess.run([BIN / command, *line[1:]], cwd=ROOT, env=environment).returncode
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
