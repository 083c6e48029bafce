"""`llama-data tokenizer`: train, extend, convert, report."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipelines.tokenizer_folder import whole_folder
from llama_train.tokenizers.chat import CHAT_TEMPLATES, chat_template, special_names

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from data_pipelines.tokenizer_learn import Learn

EXAMPLES = """examples:
  llama-data tokenizer train --kind llama3 --text data/enwiki/documents code.jsonl.gz --vocab_size 32768 --out my_tokenizer
  llama-data tokenizer train --kind llama2 --text books --vocab_size 32000 --out t --weight_by language --weights en=2,de=1
  llama-data tokenizer extend Llama-3-8B --add 8000 --text german.parquet --out grown
  llama-data tokenizer report llama2=Llama-2-7b llama3=Llama-3-8B --text books --picture fertility.png
"""
VOCAB_SIZE = {"llama2": 32_000, "llama3": 128_256}  # as published
MAX_BYTES = {"llama2": 300_000_000, "llama3": 1_000_000_000}  # learning holds the different words of the text in memory


def add_verbs(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `llama-data tokenizer` its verbs; `run` of what it parses does the work."""
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    train = _verb(verbs, "train", _train, "learn a tokenizer from text")
    train.add_argument(
        "--kind", choices=("llama2", "llama3"), required=True, help="whose: SentencePiece BPE or byte-level BPE"
    )
    train.add_argument(
        "--vocab_size",
        type=count,
        metavar="N",
        help="ids, special tokens included (default: as published, 32000 for llama2, 128256 for llama3)",
    )
    extend = _verb(verbs, "extend", _extend, "grow a byte-level tokenizer: its ids stay, new ones follow")
    extend.add_argument("base", metavar="BASE", help="folder, tokenizer.json or tiktoken ranks")
    extend.add_argument("--add", type=count, required=True, metavar="N", help="tokens to learn")
    extend.add_argument(
        "--pattern", choices=("llama3",), help="how text is split (default: as BASE does, else as Llama 3)"
    )
    for verb in (train, extend):
        _add_text(verb)
        verb.add_argument("--weight_by", choices=("language", "source"), help="give each its share of the tokens")
        verb.add_argument(
            "--weights", metavar="NAME=W,...", help="shares of the tokens, as en=2,de=1 (default: equal ones)"
        )
        verb.add_argument(
            "--max_bytes",
            type=count,
            metavar="N",
            help="text to learn from, repetitions counted; of more, an even sample (default: 300 MB for llama2, otherwise "
            "1 GB, which take some 3 GB of memory, or more for scripts without spaces)",
        )
    train.add_argument("--chat_template", choices=CHAT_TEMPLATES, help="default: the one of --kind")
    extend.add_argument("--chat_template", choices=CHAT_TEMPLATES, help="default: the one of BASE, if any")
    convert = _verb(verbs, "convert", _convert, "read a tokenizer in any published form, write all its forms")
    convert.add_argument("source", metavar="SRC", help="folder, tokenizer.json, tiktoken ranks or SentencePiece .model")
    convert.add_argument("--chat_template", choices=CHAT_TEMPLATES, help="default: the one of SRC, if any")
    for verb in (train, extend, convert):
        verb.add_argument("--out", required=True, metavar="DIR", help="Hugging Face folder to write")
    report = _verb(verbs, "report", _report, "characters and bytes per token, tokens per word, by language and source")
    report.add_argument("tokenizers", nargs="+", metavar="[NAME=]PATH", help="tokenizers to compare")
    _add_text(report)
    report.add_argument("--picture", metavar="FILE", help="where to draw it (default: tokenizers.png in this folder)")
    report.add_argument("--json", metavar="FILE", help="where to write the numbers")


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verb.set_defaults(run=run)
    return verb


def _add_text(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--text", nargs="+", required=True, metavar="FILE", help="files or folders: .txt .md .jsonl .jsonl.gz .parquet"
    )
    verb.add_argument(
        "--text_column",
        default="text",
        metavar="NAME",
        help="of .jsonl and .parquet (default: text); language, source and metadata are looked for beside it",
    )


def count(word: str) -> int:
    """A whole number above 0, for argparse."""
    if not word.isdecimal() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number above 0")
    return int(word)


def _train(arguments: argparse.Namespace) -> None:
    from llama_train.tokenizers.folder import open_tokenizer, save_tokenizer

    vocab_size = arguments.vocab_size or VOCAB_SIZE[arguments.kind]
    if arguments.kind == "llama3":
        from llama_train.tokenizers.llama3 import check_vocab_size, special_tokens
        from llama_train.tokenizers.llama3 import train_llama3 as train

        specials = special_tokens(vocab_size)
    else:
        from llama_train.tokenizers.llama2 import check_vocab_size
        from llama_train.tokenizers.llama2 import train_llama2 as train

        specials = ["<unk>", "<s>", "</s>"]
    check_vocab_size(vocab_size)
    template = arguments.chat_template or arguments.kind
    further = [name for name in special_names(template) if name not in specials]

    def learn(texts: Iterable[str], size: int, folder: Path, progress: bool) -> "Tokenizer":
        train(texts, size, folder, progress)
        return open_tokenizer(folder)

    with whole_folder(arguments.out) as new:
        size = vocab_size - len(further)
        table = _learn(arguments, learn, size, new, specials + further, MAX_BYTES[arguments.kind])
        if template != arguments.kind:
            tokenizer = open_tokenizer(new)
            _add_special(tokenizer, template)
            save_tokenizer(tokenizer, new, chat_template(template))
    print(f"{table}\n{vocab_size:,} ids   {arguments.out}")


def _extend(arguments: argparse.Namespace) -> None:
    from llama_train.tokenizers.extend import extend
    from llama_train.tokenizers.folder import bos_eos, kind, open_tokenizer, read_chat_template, save_tokenizer

    base = open_tokenizer(arguments.base, bare=Path(arguments.base).is_file())
    if kind(base) != "llama3":
        raise ValueError(f"{arguments.base} is not byte-level: a SentencePiece vocabulary cannot be grown, train one")
    specials = [token.content for token in base.get_added_tokens_decoder().values() if token.special]
    if specials:
        bos_eos(base)
    else:
        print(
            f"{arguments.base} is ranks alone: Llama 3's special tokens come after the new ones, as they do after its own; "
            "to keep the ids of a model that has them already, name its folder",
            file=sys.stderr,
        )
    named = arguments.chat_template
    template = chat_template(named) if named else read_chat_template(arguments.base)

    def learn(texts: Iterable[str], size: int, folder: Path, progress: bool) -> "Tokenizer":
        grown = extend(base, texts, size, arguments.pattern, progress)
        _add_special(grown, named)
        save_tokenizer(grown, folder, template)
        return grown

    with whole_folder(arguments.out, arguments.base) as new:
        table = _learn(arguments, learn, arguments.add, new, specials, MAX_BYTES["llama3"])
    old, all_ids = base.get_vocab_size(), open_tokenizer(arguments.out).get_vocab_size()
    special = f" + {more} special" if (more := all_ids - old - arguments.add) else ""
    print(
        f"{table}\n{old:,} ids of {arguments.base} + {arguments.add:,} new{special} = {all_ids:,} ids   {arguments.out}"
    )


def _learn(
    arguments: argparse.Namespace, learn: "Learn", size: int, folder: Path, specials: list[str], max_bytes: int
) -> str:
    from data_pipelines.tokenizer_learn import learn_from_files

    return learn_from_files(
        arguments.text,
        learn,
        size,
        folder,
        specials=specials,
        max_bytes=arguments.max_bytes or max_bytes,
        text_column=arguments.text_column,
        weight_by=arguments.weight_by,
        weights=arguments.weights,
    )


def _convert(arguments: argparse.Namespace) -> None:
    from llama_train.tokenizers.folder import kind, open_tokenizer, read_chat_template, save_tokenizer

    tokenizer, named = open_tokenizer(arguments.source), arguments.chat_template
    template = chat_template(named) if named else read_chat_template(arguments.source)
    _add_special(tokenizer, named)
    specials = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    with whole_folder(arguments.out, arguments.source) as new:
        save_tokenizer(tokenizer, new, template)
        files = sorted(path.name for path in new.iterdir())
    words = {"llama2": "SentencePiece BPE with byte fallback, as Llama 2's", "llama3": "byte-level BPE, as Llama 3's"}
    print(
        f"{arguments.source}: {words[kind(tokenizer)]}, {tokenizer.get_vocab_size():,} ids, {len(specials)} special tokens"
    )
    print(f"{', '.join(files)}   {arguments.out}")


def _report(arguments: argparse.Namespace) -> None:
    from data_pipelines.account import Account
    from data_pipelines.tokenizer_text import file_bytes, left_out, read_texts
    from llama_train.tokenizers.encode import Encoder
    from llama_train.tokenizers.folder import open_tokenizer
    from llama_train.tokenizers.report import measure, to_json
    from llama_train.tokenizers.report_picture import draw
    from llama_train.tokenizers.report_table import table

    encoders = {}
    for word in arguments.tokenizers:
        name, path = _named(word)
        if name in encoders:
            raise ValueError(f"two tokenizers are called {name}: name them, as first={path}")
        encoders[name] = Encoder(open_tokenizer(path))
    account = Account()
    texts = read_texts(arguments.text, arguments.text_column, tell_language=True, account=account)
    rows = measure(encoders, texts, file_bytes(arguments.text))
    if lost := left_out(account):
        print(lost, file=sys.stderr)
    print(table(rows))
    if arguments.json:
        Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments.json).write_text(to_json(rows) + "\n", encoding="utf-8")
    picture = Path(arguments.picture or "tokenizers.png")
    draw(rows, picture)
    print(f"drawn in {picture}")


def _named(word: str) -> tuple[str, str]:
    """NAME=PATH, or a path whose own last name is taken."""
    name, equals, path = word.partition("=")
    return (name, path) if equals and not Path(word).exists() else (Path(word).resolve().name, word)


def _add_special(tokenizer: "Tokenizer", template: str | None) -> None:
    """Give the tokenizer the special tokens that the template writes, after its last id, where it has them not."""
    from tokenizers import AddedToken

    missing = [name for name in special_names(template) if tokenizer.token_to_id(name) is None] if template else []
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
