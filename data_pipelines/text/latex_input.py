"""TeX's stack of inputs over text: expansions and files within each other, and the arguments that macros take from them."""

import re
from collections import Counter

from data_pipelines.text.latex_macros import Macro, read_until
from data_pipelines.text.latex_text import closing

COST = 20  # characters that an expansion counts for besides its own
MAX_DEPTH = 100  # expansions and files within each other; three real papers need 7 at most

TOKEN = re.compile(r"\\([a-zA-Z@]+|.)", re.S)
# What TeX skips after a word; not an empty line, which ends a paragraph, nor, since nothing shows it, the end of a line
# before a display or an item.
_BLANK = re.compile(r"[ \t]*(?:\n(?![ \t]*(?:\n|\\(?:begin|end|item|\[)))[ \t]*)?")


class TooMuch(Exception):
    """A paper whose macros come to no end, or to too much."""


class Endless(Exception):
    """Names the macro that expands to itself."""


class Frame:
    """One text being read from `place` on: a file by its path, or an expansion by its macro's name."""

    __slots__ = ("name", "text", "place", "is_file")

    def __init__(self, name: str, text: str, is_file: bool):
        self.name, self.text, self.place, self.is_file = name, text, 0, is_file


class Input:
    """The frames, the innermost last, and how many characters may still be read before Endless or TooMuch is raised."""

    def __init__(self, budget: int):
        self.budget = budget
        self.frames: list[Frame] = []

    def push(self, name: str, text: str, is_file: bool = False) -> None:
        self.spend(len(text) + COST)
        if len(self.frames) >= MAX_DEPTH:
            self._stop()
        self.frames.append(Frame(name, text, is_file))

    def spend(self, characters: int) -> None:
        self.budget -= characters
        if self.budget < 0:
            self._stop()

    def _stop(self) -> None:
        names = Counter(frame.name for frame in self.frames if frame.name and not frame.is_file)
        name, count = names.most_common(1)[0] if names else ("", 0)
        raise Endless(name) if count > 1 else TooMuch  # growth without a loop has no macro to blame

    def skip_blank(self) -> None:
        frame = self.frames[-1]
        blank = _BLANK.match(frame.text, frame.place)
        frame.place = blank.end() if blank else frame.place

    def peek(self, length: int) -> str:
        """The next characters of the frame that has any left."""
        for frame in reversed(self.frames):
            if frame.place < len(frame.text):
                return frame.text[frame.place : frame.place + length]
        return ""

    def arguments(self, macro: Macro) -> list[str] | None:
        """What the macro takes, read and done with; None, and nothing lost, where it is not there."""
        frame = self.frames[-1]
        before, taken = frame.place, list[str]()
        if macro.prefix:
            self.skip_blank()
            if not frame.text.startswith(macro.prefix, frame.place):
                frame.place = before
                return None
            frame.place += len(macro.prefix)
        for i, delimiter in enumerate(macro.delimiters):
            if i == 0 and not macro.prefix:
                self.skip_blank()
            if i == 0 and macro.default is not None:
                argument = self._optional(macro.default)
            else:
                argument = self._delimited(delimiter) if delimiter else self._argument()
            if argument is None:
                if self.frames[-1] is frame:
                    frame.place = before
                elif taken:
                    self.push("", "".join(f"{{{text}}}" for text in taken))
                return None
            taken.append(argument)
        return taken

    def _next(self) -> str:
        """The next character that is not blank, in whatever frame; "" at the end of the paper or of a paragraph."""
        while True:
            self.skip_blank()
            frame = self.frames[-1]
            if frame.place < len(frame.text):
                return frame.text[frame.place].strip()
            if len(self.frames) == 1:
                return ""
            self.frames.pop()

    def _argument(self) -> str | None:
        mark = self._next()
        if mark in ("", "}"):
            return None
        frame = self.frames[-1]
        if mark == "{":
            while (end := closing(frame.text, frame.place)) < 0:
                self.spend(len(frame.text) - frame.place)
                if len(self.frames) == 1:
                    return None
                rest = self.frames.pop()  # a group that an expansion opens and what follows it closes
                frame = self.frames[-1]
                frame.text = rest.text[rest.place :] + frame.text[frame.place :]
                frame.place = 0
                self.spend(len(frame.text))
            argument, frame.place = frame.text[frame.place + 1 : end], end + 1
            return argument
        token = TOKEN.match(frame.text, frame.place)
        argument = token.group() if token else mark
        frame.place += len(argument)
        return argument

    def _optional(self, default: str) -> str | None:
        if self._next() != "[":
            return default
        frame = self.frames[-1]
        end = closing(frame.text, frame.place, optional=True)
        if end < 0:
            self.spend(len(frame.text) - frame.place)
            return None
        argument, frame.place = frame.text[frame.place + 1 : end], end + 1
        return argument

    def _delimited(self, delimiter: str) -> str | None:
        frame = self.frames[-1]
        found = read_until(delimiter, frame.text, frame.place)
        if found is None:
            end = frame.text.find("\n\n", frame.place)
            self.spend((end if end >= 0 else len(frame.text)) - frame.place)
            return None
        argument, frame.place = found
        return argument
