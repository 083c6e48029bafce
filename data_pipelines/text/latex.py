r"""LaTeX with what its author defined written out: macros with their arguments, \input files, conditions known to be false.

TeX's own way, over text instead of tokens: an expansion is read before what follows it, so that a macro can take its
arguments from behind the one that named it. Definitions hold from where they stand to the end of the paper: groups do
not end them, and in few papers they would."""

import posixpath
import re
from collections.abc import Callable

from data_pipelines.text.latex_conditions import shown_branch
from data_pipelines.text.latex_input import TOKEN, Endless, Frame, Input, TooMuch
from data_pipelines.text.latex_macros import PROTECTED, PROTECTED_ENVIRONMENTS, Definition, Macro, read_definition
from data_pipelines.text.latex_text import CONTROL_WORD_END, closing, verb_end, verbatim_names

MAX_RESTARTS = 10  # macros without end, each found by an expansion that is then begun again without it
GROWTH = 4  # characters read at most, as a multiple of the paper's, and
FREE_GROWTH = 2_000_000  # so many more: a real paper's macros read it twice at most, those without end stop in a second

_DEFINE = (
    "newcommand renewcommand providecommand DeclareRobustCommand newrobustcmd DeclareMathOperator def gdef edef xdef let "
    "newenvironment renewenvironment"
).split()
_NAME = re.compile(r"\s?\{([^{}\n]{0,200})\}")
_FILE = re.compile(r"\s?\{\s?([^{}\n]{1,200}?)\s?\}|[ \t]+([^\s\\{}%$]{1,200})")
_FOLDER_AND_FILE = re.compile(r"\*?\s?\{([^{}\n]{0,200})\}\s?\{([^{}\n]{1,200})\}")
_PACKAGES = re.compile(r"\s?(?:\[[^\]]{0,2000}\]\s?)?\{([^{}]{1,2000})\}")
_NEW_IF = re.compile(r"\s?\\if([a-zA-Z]{1,80})[ \t]*")
_BEFORE_DEFINITION = re.compile(r"\s?\\(?:long|global|outer|protected|[gex]?def|let)(?![a-zA-Z@])")
_ENVIRONMENT_MARK = re.compile(r"\\(?:begin|end)\{[^{}]{0,80}\}\Z")
_LINE_END = re.compile(r"[ \t]*\n")
# These take the next token, which is no longer one where a macro is written out.
_TAKES_ONE = re.compile(
    r"\\(?:[dt]?frac|sqrt|(?:wide)?hat|bar|overline|underline|vec|(?:wide)?tilde|d?dot|math(?:bf|rm|cal|bb|sf|it|frak|scr|tt)|"
    r"boldsymbol|bm|text(?:bf|it|rm|sf|tt|sc)?|emph|ensuremath)\s?\Z"
)
_ONE = re.compile(r"\\[a-zA-Z@]+|.?", re.S)
_NO_SPACE_BEFORE = (*".,;:!?'/)-~{}", "\\/", "\\ ", "\\@", "\\footnote")  # the xspace package's own list

Load = Callable[[str, str], tuple[str, str] | None]


def expand(text: str, load: Load = lambda name, suffix: None, size: int = 0) -> str:
    r"""The text with every macro defined in it written out and the definitions gone, up to \end{document}.

    text: without comments. load(name, suffix): (path, text) of an \input file, a class or package of the author's; None
    for any other. size: characters of all these. Macros that end in themselves, that program TeX or are internal (@)
    stay as they are. Raises TooMuch where expansion exceeds its limits."""
    endless: set[str] = set()
    budget = GROWTH * (len(text) + size) + FREE_GROWTH
    for _ in range(MAX_RESTARTS):
        try:
            return _Expansion(load, budget, endless).run(text)
        except Endless as error:
            endless.add(str(error))
            budget //= 2  # so that all together cost twice the first at most
    raise TooMuch


class _Expansion:
    def __init__(self, load: Load, budget: int, endless: set[str]):
        self.load, self.endless, self.input = load, endless, Input(budget)
        self.out: list[str] = []
        self.macros: dict[str, Macro] = {}
        self.environments: dict[str, tuple[Macro, str]] = {}
        self.conditions = {"iffalse": False, "iftrue": True}
        # each is called with the command just read and the frame it is in, and says whether it dealt with it
        self.actions: dict[str, Callable[[str, Frame], bool]] = {
            **dict.fromkeys(_DEFINE, self._define),
            **dict.fromkeys(("long", "global", "outer", "protected"), self._prefix),
            **dict.fromkeys(("input", "include", "subfile", "subfileinclude", "import", "subimport"), self._file),
            **dict.fromkeys(("usepackage", "RequirePackage", "documentclass", "LoadClass"), self._package),
            **dict.fromkeys(("verb", "lstinline"), self._verb),
            **dict.fromkeys(("iffalse", "iftrue"), self._condition),
            "newif": self._new_condition,
            "begin": self._begin,
            "end": self._end,
            "endinput": self._end_file,
            "xspace": self._xspace,
        }

    def run(self, text: str) -> str:
        self.verbatim = verbatim_names(text)
        self.input.push("", text, is_file=True)
        while self.input.frames:
            frame = self.input.frames[-1]
            for token in TOKEN.finditer(frame.text, frame.place):
                action = self.actions.get(token[1])
                if action is not None:
                    break
            else:
                self._emit(frame.text[frame.place :])
                self.input.frames.pop()
                continue
            self._emit(frame.text[frame.place : token.start()])
            frame.place = token.end()
            if not action(token[1], frame):
                self._emit(token.group())
        return "".join(self.out)

    def _emit(self, text: str) -> None:
        if text:
            if self.out and "a" <= text[0].lower() <= "z" and CONTROL_WORD_END.search(self.out[-1][-64:]):
                self.out.append(" ")
            self.out.append(text)

    def _emit_to(self, end: int, frame: Frame, command: str) -> bool:
        """Leave a command and what belongs to it as it is."""
        self._emit(f"\\{command}{frame.text[frame.place : end]}")
        frame.place = end
        return True

    # definitions and what they define

    def _define(self, command: str, frame: Frame) -> bool:
        found = read_definition(command, frame.text, frame.place)
        if found is None:
            self.input.spend(len(frame.text) - frame.place)
            return False
        if command == "let" and found.macro and found.macro.parts[0][1:] in self.macros:
            found = found._replace(macro=self.macros[found.macro.parts[0][1:]])
        elif command in ("edef", "xdef") and found.macro and not found.macro.delimiters:
            found = found._replace(macro=found.macro._replace(parts=(self._now(found.macro.parts[0]),)))
        is_environment = command.endswith("environment")
        if found.name in (PROTECTED_ENVIRONMENTS if is_environment else PROTECTED) or found.name in self.endless:
            return self._emit_to(found.end, frame, command)
        if found.macro is None or "@" in found.name[1:] or found.name[0] == "@" != found.name:
            self._forget(found.name, is_environment)
            return self._emit_to(found.end, frame, command)
        if command != "providecommand" or found.name not in self.macros:
            self._learn(found, found.macro)
        frame.place = found.end
        if not self.out or self.out[-1].rstrip(" \t")[-1:] in ("", "\n"):
            line = _LINE_END.match(frame.text, frame.place)  # alone on its line: left empty, it would end a paragraph
            frame.place = line.end() if line else frame.place
        return True

    def _learn(self, found: Definition, macro: Macro) -> None:
        if found.closing is not None:
            self.environments[found.name] = macro, found.closing
        elif found.name in self.macros or found.name not in self.actions:
            self.macros[found.name] = macro
            self.actions[found.name] = self._call

    def _forget(self, name: str, is_environment: bool) -> None:
        if is_environment:
            self.environments.pop(name, None)
        elif self.macros.pop(name, None):
            del self.actions[name]

    def _now(self, body: str) -> str:
        inner = _Expansion(lambda name, suffix: None, self.input.budget, self.endless)
        inner.macros = self.macros
        inner.actions |= dict.fromkeys(self.macros, inner._call)
        text = inner.run(body)
        self.input.budget = inner.input.budget
        return text

    def _prefix(self, command: str, frame: Frame) -> bool:
        return bool(_BEFORE_DEFINITION.match(frame.text, frame.place))

    def _call(self, name: str, frame: Frame) -> bool:
        macro = self.macros[name]
        arguments = self.input.arguments(macro)
        if arguments is None:
            return False
        text = macro.fill(arguments)
        if not arguments and name.isalpha():
            self._end_word(text)
        if not _ONE.fullmatch(text) and _TAKES_ONE.search(self.out[-1][-64:] if self.out else ""):
            text = text if text[0] == "{" and closing(text, 0) == len(text) - 1 else f"{{{text}}}"
        self.input.push(name, text)
        return True

    def _end_word(self, text: str) -> None:
        r"""What follows a word that is now written out: TeX skips blanks, and {} or "\ " were there only to keep one."""
        frame = self.input.frames[-1]
        if _ENVIRONMENT_MARK.search(text) and _LINE_END.match(frame.text, frame.place):
            return  # \beq on its own line: what it stands for has that line too, which changes nothing
        self.input.skip_blank()
        mark = frame.text[frame.place : frame.place + 2]
        if mark in ("{}", "\\ ") and text and not CONTROL_WORD_END.search(text[-64:]):
            frame.place += 2 if mark == "{}" else 1

    def _begin(self, command: str, frame: Frame) -> bool:
        found = _NAME.match(frame.text, frame.place)
        name = found[1] if found else ""
        if not found or name not in self.environments and name not in self.verbatim and name != "comment":
            return False
        if name in self.environments:
            before, frame.place = frame.place, found.end()
            macro, _ = self.environments[name]
            arguments = self.input.arguments(macro)
            if arguments is None:
                frame.place = before
                return False
            self.input.push(f"begin {name}", macro.fill(arguments))
            return True
        mark = f"\\end{{{name}}}"
        end = frame.text.find(mark, found.end())
        if end < 0:
            self.input.spend(len(frame.text) - frame.place)
            return False
        if name != "comment":
            return self._emit_to(end + len(mark), frame, command)
        frame.place = end + len(mark)
        return True

    def _end(self, command: str, frame: Frame) -> bool:
        found = _NAME.match(frame.text, frame.place)
        if found and found[1].strip() == "document":
            self.input.frames.clear()
            return True
        if not found or found[1] not in self.environments:
            return False
        frame.place = found.end()
        self.input.push(f"end {found[1]}", self.environments[found[1]][1])
        return True

    def _verb(self, command: str, frame: Frame) -> bool:
        return self._emit_to(verb_end(frame.text, frame.place), frame, command)

    def _xspace(self, command: str, frame: Frame) -> bool:
        self.input.skip_blank()
        following = self.input.peek(9)
        if following and not following[0].isspace() and not following.startswith(_NO_SPACE_BEFORE):
            self._emit(" ")
        return True

    # files

    def _file(self, command: str, frame: Frame) -> bool:
        if command.endswith("import"):
            found = _FOLDER_AND_FILE.match(frame.text, frame.place)
            name = posixpath.join(found[1], found[2]) if found else ""
        else:
            found = _FILE.match(frame.text, frame.place)
            name = (found[1] or found[2]) if found else ""
        if found is None:
            return False
        frame.place = found.end()
        self._read(self.load(name, ".tex"))
        return True

    def _package(self, command: str, frame: Frame) -> bool:
        found = _PACKAGES.match(frame.text, frame.place)
        if found is None:
            return False
        self._emit_to(found.end(), frame, command)
        for name in reversed(found[1].split(",")):
            self._read(self.load(name.strip(), ".cls" if "lass" in command else ".sty"))
        return True

    def _read(self, file: tuple[str, str] | None) -> None:
        if file and file[0] not in [frame.name for frame in self.input.frames if frame.is_file]:
            self.input.push(*file, is_file=True)

    def _end_file(self, command: str, frame: Frame) -> bool:
        while not self.input.frames.pop().is_file:
            pass
        return True

    # conditions

    def _new_condition(self, command: str, frame: Frame) -> bool:
        found = _NEW_IF.match(frame.text, frame.place)
        if found is None or "if" + found[1] in self.actions:
            return False
        frame.place = found.end()
        self.conditions["if" + found[1]] = False
        self.actions["if" + found[1]] = self._condition
        self.actions |= dict.fromkeys((found[1] + "true", found[1] + "false"), self._set_condition)
        return True

    def _set_condition(self, command: str, frame: Frame) -> bool:
        self.conditions["if" + command.removesuffix("true").removesuffix("false")] = command.endswith("true")
        return True

    def _condition(self, command: str, frame: Frame) -> bool:
        found = shown_branch(frame.text, frame.place, self.conditions[command])
        if found is None:
            self.input.spend(len(frame.text) - frame.place)
            return False
        kept, frame.place = found
        self.input.skip_blank()
        self.input.push(command, kept.lstrip(" \t"))
        return True
