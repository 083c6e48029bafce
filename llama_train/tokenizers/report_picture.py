"""The figures of report.py as one picture: a dot for each tokenizer and each language or source, a panel for each measure."""

from collections.abc import Sequence
from pathlib import Path

from llama_train.tokenizers.report import RATIOS, Row, label
from llama_train.tokenizers.report_table import group_label, sections

# Okabe and Ito's colours without black and yellow: colour-blind readers tell them apart (https://jfly.uni-koeln.de/color/)
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
MARKERS = "osD^vPX"
ROW_INCHES, GAP = 0.25, 0.8  # of a group; between languages, sources and all text, in groups
OFFSET = 0.14  # between tokenizers, in groups
MAX_GROUPS = 200  # of one kind; a taller picture shows nothing


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the PNG `path`: the languages, the sources and all text, each on a line, in the order of the table.

    Of more than `MAX_GROUPS` languages or sources the first are drawn. Raises OSError where `path` cannot be written.
    """
    from matplotlib.figure import Figure

    drawn = [groups[:MAX_GROUPS] for title, groups in sections(rows) if title != "language, source"]
    lines: list[tuple[float, list[Row]]] = []  # height, a row for each tokenizer
    for i, groups in enumerate(drawn):
        lines += [(len(lines) + j + GAP * i, group) for j, group in enumerate(groups)]
    figure = Figure(figsize=(12, 1.8 + ROW_INCHES * (lines[-1][0] + 1)), layout="constrained")
    panels = figure.subplots(1, len(RATIOS), sharey=True)
    for axes, ratio in zip(panels, RATIOS, strict=True):
        values = [(place, [getattr(row, ratio) for row in group]) for place, group in lines]
        values = [(place, numbers) for place, numbers in values if None not in numbers]  # no words without spaces
        for place, numbers in values:
            axes.plot([min(numbers), max(numbers)], [place, place], color="0.8", lw=1.5, zorder=1)
        for i, row in enumerate(lines[0][1]):
            offset = OFFSET * (i - (len(lines[0][1]) - 1) / 2)  # dots of equal figures stay visible
            axes.scatter(
                [numbers[i] for _, numbers in values],
                [place + offset for place, _ in values],
                s=24, color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], zorder=2,
                label=_drawable(label(row.tokenizer)),
            )  # fmt: skip
        axes.set(title=ratio.replace("_", " "))
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    names = [_drawable(group_label(group[0])) for _, group in lines]
    panels[0].set_yticks([place for place, _ in lines], names)
    panels[0].set_ylim(lines[-1][0] + 0.7, -0.7)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, format="png")


def _drawable(name: str) -> str:
    """The name with what matplotlib's font has no picture of spelled out, and without what it reads as mathematics."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    signs = (sign if ord(sign) in known else sign.encode("unicode_escape").decode() for sign in name)
    return "".join(signs).replace("$", r"\$")
