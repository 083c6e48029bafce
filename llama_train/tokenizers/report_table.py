"""The figures of report.py as text: a line for each language and source, the tokenizers side by side."""

from collections.abc import Callable, Iterable, Sequence

from llama_train.tokenizers.report import Row, label, totals_last

MAX_WIDTH = 120  # columns of a table that names its tokenizers; in a wider one they are A, B, ...


def table(rows: Sequence[Row]) -> str:
    """The rows for people, in the order of `sections`; the gain is in characters per token, over the first tokenizer."""
    names = [label(name) for name in dict.fromkeys(row.tokenizer for row in rows)]
    lines = _lines(rows, names, "  ")
    if max(map(len, lines)) > MAX_WIDTH:
        letters = [chr(ord("A") + i) for i in range(len(names))]
        lines = [
            *(f"{letter}: {name}" for letter, name in zip(letters, names, strict=True)),
            *_lines(rows, letters, " "),
        ]
    if any(row.tokens_per_word is None for row in rows):
        lines.append("- no words: scripts without spaces between them")
    return "\n".join(lines)


def sections(rows: Iterable[Row]) -> list[tuple[str, list[list[Row]]]]:
    """What a table or picture shows: groups by language, by source, by both, as far as there are several, and all text.

    A group is its rows, one for each tokenizer. Where the second tokenizer gains most over the first comes first; with
    one tokenizer, where it has the most characters per token.
    """
    groups: dict[tuple[str | None, str | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.language, row.source), []).append(row)
    ordered = sorted(groups.values(), key=lambda group: (-_gain(group), totals_last(group[0])))
    kinds: dict[str, list[list[Row]]] = {"language": [], "source": [], "language, source": [], "all": []}
    for group in ordered:
        known = [name for name in ("language", "source") if getattr(group[0], name) is not None]
        kinds[", ".join(known) or "all"].append(group)
    if len(kinds["language, source"]) == max(len(kinds["language"]), len(kinds["source"])):
        del kinds["language, source"]  # each language has one source, or each source one language: nothing new
    return [(title, found) for title, found in kinds.items() if len(found) > 1 or title == "all"]


def group_label(row: Row) -> str:
    """The language and source of a row, "all" for a total of everything."""
    return ", ".join(label(name or "unknown") for name in (row.language, row.source) if name is not None) or "all"


def _lines(rows: Iterable[Row], names: Sequence[str], gap: str) -> list[str]:
    lines: list[tuple[str, list[Row]]] = []  # what stands on the left; the rows to its right, none of a section's title
    for title, groups in sections(rows):
        lines += [(title, []), *((f"  {group_label(group[0])}", group) for group in groups)]

    def block(title: str, columns: Sequence[str], cells: Callable[[list[Row]], list[str]]) -> list[str]:
        return _aligned(title, [columns, *(cells(group) if group else [""] * len(columns) for _, group in lines)], gap)

    blocks = [
        block("", ["documents", "text"], lambda group: [f"{group[0].documents:,}", _size(group[0].bytes)]),
        block("chars/token", names, lambda group: [_number(row.characters_per_token) for row in group]),
        block("bytes/token", names, lambda group: [_number(row.bytes_per_token) for row in group]),
        block("tokens/word", names, lambda group: [_number(row.tokens_per_word) for row in group]),
    ]
    if len(names) > 1:
        title = f"gain over {names[0]}"
        blocks.append(block(title, names[1:], lambda group: [_percent(_gain(group, i)) for i in range(1, len(group))]))
    width = max(len(name) for name, _ in lines)
    left = [" " * width] * 2 + [f"{name:<{width}}" for name, _ in lines]
    return ["  ".join(parts).rstrip() for parts in zip(left, *blocks, strict=True)]


def _aligned(title: str, cells: Sequence[Sequence[str]], gap: str) -> list[str]:
    """Lines of cells, each column aligned to the right, below a title."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [title, *(gap.join(map(str.rjust, line, widths)) for line in cells)]
    return [line.rjust(max(map(len, lines))) for line in lines]


def _percent(ratio: float) -> str:
    return f"{100 * ratio - 100:+.1f}%"


def _size(count: int) -> str:
    """Bytes in a unit that leaves one to three digits before the point."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = min((len(str(count)) - 1) // 3, len(units) - 1)
    return f"{count / 1000**power:.1f} {units[power]}" if power else f"{count} B"


def _number(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _gain(group: Sequence[Row], of: int = 1) -> float:
    """Characters per token of the tokenizer at place `of`, in those of the first; of one alone, just its own."""
    if len(group) == 1:
        return group[0].characters_per_token
    return group[of].characters_per_token / group[0].characters_per_token
