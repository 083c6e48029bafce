"""The `llama-train` command: plan a run, check one, evaluate a checkpoint, let one write. `accelerate launch` trains."""

import argparse
import json
import os
import sys
from pathlib import Path

from llama_train.errors import one_line_errors


def main(argv: list[str] | None = None) -> None:
    """Entry point of `llama-train`. Errors end in one line on stderr and exit code 1."""
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as in recipes/pretrain.py
    with one_line_errors():
        options, rest = _parser().parse_known_args(argv)
        if rest and options.verb not in (_plan, _check):
            _parser().error(f"unrecognized arguments: {' '.join(rest)}")
        options.rest = rest
        options.verb(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llama-train",
        description="Pretrain Llama models from scratch. Train with: accelerate launch "
        "--config_file accelerate_config.yaml recipes/pretrain.py recipes/pretrain/llama2.yaml --key value ...",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    plan = verbs.add_parser(
        "plan",
        help="parameters, FLOPs, memory, batch, steps and schedule of a run (needs no data, no GPU, no network)",
        usage="llama-train plan [RECIPE.yaml] [--key value ...] [--num_processes N]",
        description="Print what a run would do. The keys are the recipe's: recipes/pretrain.py --help lists them.",
        allow_abbrev=False,
    )
    plan.add_argument("--num_processes", type=int, default=1, help="as given to accelerate launch (default 1)")
    plan.set_defaults(verb=_plan)

    check = verbs.add_parser(
        "check",
        help="a run's settings in small, by every way that must come to the same; or a checkpoint, byte by byte",
        usage="llama-train check [RECIPE.yaml] [--key value ...] | llama-train check FOLDER",
        description="With settings: shrink the run, train it in several ways on this CPU and print a table of the largest "
        "differences. With a folder: verify a checkpoint, or all of a run's. Exit code 1 where something is wrong.",
        allow_abbrev=False,
    )
    check.add_argument(
        "--cluster", action="store_true", help="under accelerate launch: look at all machines before the first step"
    )
    check.set_defaults(verb=_check)

    evaluate = verbs.add_parser("evaluate", help="loss and bits per byte of a checkpoint on text files")
    evaluate.add_argument("checkpoint", help="folder with config.json, weights and tokenizer, such as RUN/final")
    evaluate.add_argument("--text", nargs="+", required=True, metavar="FILE", help="text files, UTF-8")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    evaluate.set_defaults(verb=_evaluate)

    chat = verbs.add_parser("chat", help="let a checkpoint go on from a prompt")
    chat.add_argument("checkpoint", help="folder with config.json, weights and tokenizer, such as RUN/final")
    chat.add_argument("--prompt", required=True, help="the text to go on from")
    chat.add_argument("--max_new_tokens", type=int, default=100, help="(default %(default)s)")
    chat.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest (default %(default)s)")
    chat.add_argument("--top_p", type=float, default=1.0, help="draw from this share of probability (default 1)")
    chat.add_argument("--seed", type=int, default=0, help="the same seed gives the same text (default %(default)s)")
    chat.set_defaults(verb=_chat)
    return parser


def _plan(options: argparse.Namespace) -> None:
    from llama_train.planner import plan, render
    from llama_train.settings import load_settings

    if options.num_processes < 1:
        raise ValueError(f"--num_processes: {options.num_processes} is not valid, expected at least 1")
    print(render(plan(load_settings([*options.rest, "--dry_run"]), options.num_processes)))


def _check(options: argparse.Namespace) -> None:
    if options.cluster:
        from llama_train.cluster import check_cluster
        from llama_train.settings import load_settings

        check_cluster(load_settings(options.rest))
        return
    if options.rest and Path(options.rest[0]).is_dir():
        from llama_train.check_folder import check_folder

        if len(options.rest) > 1:
            raise ValueError(f"a folder is checked as it is, without settings: {' '.join(options.rest[1:])}")
        check_folder(Path(options.rest[0]))
        return
    from llama_train.check import check_settings

    check_settings(options.rest)


def _evaluate(options: argparse.Namespace) -> None:
    from llama_train.train.evaluate import evaluate_text

    _no_bars()
    figures = evaluate_text(options.checkpoint, options.text)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        print(f"{name.replace('_', ' '):<16}  {text}")


def _chat(options: argparse.Namespace) -> None:
    from llama_train.generate import generate

    _no_bars()
    generate(
        options.checkpoint,
        options.prompt,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
    )


def _no_bars() -> None:
    """Silence transformers' own progress bar over the weights of a file."""
    from transformers.utils import logging

    logging.disable_progress_bar()


if __name__ == "__main__":
    main(sys.argv[1:])
