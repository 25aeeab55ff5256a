"""Variable assignments of a shell script, parsed without executing it.

    export NODE_IPS=(10.0.0.1 10.0.0.2)     an array
    ETCD_NODES="n1=https://${IP1}:2380"     text; earlier variables are expanded
    KEY=$(head -c 32 /dev/urandom)          assigned but unknown: reading it raises ConfigError with the reason

Supports the shell's quoting rules, comments, line continuation, arrays, `+=`, `export` and similar, `$NAME` and `${NAME}`, and
here-documents (skipped). Values that depend on execution, such as command output or an assignment under an `if`, are unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from tercet.deploy.draft.text_file import read_text
from tercet.errors import ConfigError

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[(\d{1,4})\])?(\+?)=")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_DESCRIPTOR = re.compile(r"[0-9]+(?=[<>])")
_HERE_DOCUMENT = re.compile(r"<<(-?)[ \t]*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\2")
_DECLARATIONS = frozenset(("export", "declare", "typeset", "readonly", "local"))
_OPENING = frozenset(("if", "for", "while", "until", "case", "select", "function", "{"))
_CLOSING = frozenset(("fi", "done", "esac", "}"))
_MIDDLE = frozenset(("then", "do", "else", "elif", "!", "time"))
_ARRAY_SIZE_MAX = 1000


@dataclass(frozen=True)
class Text:
    """The value of a word. unknown: why the part after `known` depends on execution; "" if it does not."""

    known: str
    unknown: str = ""


@dataclass(frozen=True)
class Variable:
    """The last value of a variable; is_array distinguishes A=(x) from A=x."""

    name: str
    line: int
    values: tuple[Text, ...]
    is_array: bool


@dataclass
class Script:
    """Variables by name, and the commands, which are not executed."""

    path: Path
    variables: dict[str, Variable] = field(default_factory=dict)
    commands: dict[int, str] = field(default_factory=dict)
    """Line: first word of the command."""

    def text(self, name: str) -> str:
        """The value of a variable, "" if not assigned. Raises ConfigError if it is an array or unknown."""
        variable = self.variables.get(name)
        if variable is None:
            return ""
        if variable.is_array:
            raise ConfigError(f"{self.where(name)}: is an array, expected text")
        return self._known(variable)[0]

    def array(self, name: str) -> tuple[str, ...]:
        """The values of an array, or the words of a text. Raises ConfigError if one is unknown."""
        variable = self.variables.get(name)
        if variable is None:
            return ()
        values = self._known(variable)
        return values if variable.is_array else tuple(values[0].replace(",", " ").split())

    def where(self, name: str) -> str:
        """environment.sh:12: NAME"""
        variable = self.variables.get(name)
        return f"{self.path}:{variable.line}: {name}" if variable else f"{self.path}: {name}"

    def _known(self, variable: Variable) -> tuple[str, ...]:
        for value in variable.values:
            if value.unknown:
                raise ConfigError(
                    f"{self.where(variable.name)}: the value depends on executing the script, which is not done: "
                    f"{value.unknown}; write the value literally"
                )
        return tuple(value.known for value in variable.values)


def read_script(path: Path) -> Script:
    """Raises ConfigError for an unreadable file or an unterminated quote."""
    text = read_text(path, "shell script")
    parser = _Parser(Script(path), text.replace("\r\n", "\n"))
    parser.run()
    return parser.script


class _Parser:
    """One pass over the script, a statement at a time."""

    def __init__(self, script: Script, text: str) -> None:
        self.script = script
        self._text = text
        self._at = 0
        self._here: list[tuple[str, bool]] = []  # terminators of here-documents that start on the next line
        self._depth = 0  # nesting of if, for, while, case, functions
        self._parentheses = 0
        self._after = ""  # the preceding operator, if execution depends on it

    def run(self) -> None:
        while self._at < len(self._text):
            self._statement()

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _statement(self) -> None:
        """Parse up to and including the terminating operator or newline."""
        assigned: list[tuple[str, Variable, bool]] = []
        words: list[str] = []
        line = self._line()
        while (operator := self._skip_to_word()) == "":
            line = line if words or assigned else self._line()
            is_declaration = bool(words) and words[0] in _DECLARATIONS
            found = _ASSIGNMENT.match(self._text, self._at) if not words or is_declaration else None
            if found:
                assigned.append(self._assignment(found))
                continue
            word = self._word().known
            if not words and not assigned and self._is_structure(word):
                continue
            words.append(word)
        self._record(words, assigned, line, operator)
        self._note_operator(operator)

    def _is_structure(self, word: str) -> bool:
        self._depth += word in _OPENING
        self._depth = max(0, self._depth - (word in _CLOSING))
        return word in _MIDDLE or word in _CLOSING or word == "{"

    def _record(self, words: list[str], assigned: list[tuple[str, Variable, bool]], line: int, operator: str) -> None:
        if words and words[0] not in _DECLARATIONS:
            if words[0] == "unset":
                for name in words[1:]:
                    self.script.variables.pop(name, None)
            elif words[0] not in _OPENING:
                self.script.commands.setdefault(line, words[0])
            return  # assignments before a command apply to that command only
        is_certain = not self._depth and not self._parentheses and self._after not in ("&&", "||", "|") and operator != "|"
        is_map = "-A" in words
        for name, variable, is_added in assigned:
            if not is_certain:
                variable = _unknown(variable, "it is assigned conditionally, in a loop or in a function")
            elif is_map:
                variable = _unknown(variable, "it is an associative array")
            self.script.variables[name] = self._joined(variable) if is_added else variable

    def _joined(self, more: Variable) -> Variable:
        """The value after +=, for an array or a text."""
        old = self.script.variables.get(more.name)
        if old is None:
            return more
        if old.is_array != more.is_array:
            return _unknown(more, "it appends text to an array or an array to text")
        if more.is_array:
            return replace(more, values=old.values + more.values)
        first, second = old.values[0], more.values[0]
        return replace(more, values=(first if first.unknown else Text(first.known + second.known, second.unknown),))

    def _note_operator(self, operator: str) -> None:
        if operator == "(":
            self._parentheses += 1
        elif operator == ")":
            self._parentheses = max(0, self._parentheses - 1)
        if operator != "\n":
            self._after = operator
        elif self._after not in ("&&", "||", "|"):
            self._after = ""

    def _skip_to_word(self) -> str:
        """Consume the operator that ends the statement; "" at the start of a word."""
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter in " \t":
                self._at += 1
            elif self._text.startswith("\\\n", self._at):
                self._at += 2
            elif letter == "#":
                self._at = self._end_of_line()
            elif letter in "<>" or _DESCRIPTOR.match(self._text, self._at):
                self._redirection()
            elif letter in "\n;&|()":
                return self._operator(letter)
            else:
                return ""
        return "\n"

    def _operator(self, letter: str) -> str:
        double = self._text[self._at : self._at + 2]
        operator = double if double in ("&&", "||", ";;") else letter
        self._at += len(operator)
        if letter == "\n":
            self._skip_here_documents()
        return operator

    def _redirection(self) -> None:
        while self._text[self._at].isdigit():
            self._at += 1
        found = _HERE_DOCUMENT.match(self._text, self._at)
        if found and not self._text.startswith("<<<", self._at):
            self._here.append((found[3], bool(found[1])))
            self._at = found.end()
            return
        while self._at < len(self._text) and self._text[self._at] in "<>&":
            self._at += 1
        if self._skip_blanks() not in "\n;&|()":
            self._word()

    def _skip_blanks(self) -> str:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1
        return self._text[self._at : self._at + 1] or "\n"

    def _end_of_line(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _skip_here_documents(self) -> None:
        for end, has_tabs in self._here:
            while self._at < len(self._text):
                line = self._text[self._at : self._end_of_line()]
                self._at += len(line) + 1
                if (line.lstrip("\t") if has_tabs else line) == end:
                    break
        self._here = []

    def _assignment(self, found: re.Match[str]) -> tuple[str, Variable, bool]:
        line = self._line()
        name, index, added = found.groups()
        self._at = found.end()
        if self._text[self._at : self._at + 1] == "(" and index is None:
            return name, Variable(name, line, self._array(name, line), is_array=True), bool(added)
        value = self._word()
        if index is None:
            return name, Variable(name, line, (value,), is_array=False), bool(added)
        return name, self._with_element(name, line, int(index), value), False

    def _with_element(self, name: str, line: int, index: int, value: Text) -> Variable:
        old = self.script.variables.get(name)
        values = old.values if old is not None and old.is_array else ()
        if index > len(values):
            missing = Text("", f"element {index} is assigned without element {len(values)}")
            return Variable(name, line, (*values, missing), is_array=True)
        return Variable(name, line, (*values[:index], value, *values[index + 1 :]), is_array=True)

    def _array(self, name: str, line: int) -> tuple[Text, ...]:
        self._at += 1
        values: list[Text] = []
        while True:
            operator = self._skip_to_word()
            if operator == ")":
                return tuple(values)
            if self._at >= len(self._text) or len(values) > _ARRAY_SIZE_MAX:
                raise ConfigError(f"{self.script.path}:{line}: {name}: unterminated array")
            if operator == "":
                values.append(self._word())
            elif operator != "\n":
                raise ConfigError(f"{self.script.path}:{line}: {name}: unsupported {operator!r} in an array")

    def _word(self) -> Text:
        """One word, unquoted, with known variables expanded."""
        pieces = _Pieces()
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter in " \t\n;&|()<>":
                break
            if letter == "'":
                end = self._end_of("'", self._at + 1)
                pieces.add(self._text[self._at + 1 : end])
                self._at = end + 1
            elif letter == '"':
                self._double_quoted(pieces)
            elif letter == "\\":
                following = self._text[self._at + 1 : self._at + 2]
                pieces.add("" if following == "\n" else following)
                self._at += 2
            elif letter in "$`":
                self._expansion(pieces)
            else:
                pieces.add(letter)
                self._at += 1
        return pieces.text()

    def _double_quoted(self, pieces: _Pieces) -> None:
        line = self._line()
        self._at += 1
        while True:
            letter = self._text[self._at : self._at + 1]
            if letter == "":
                raise self._unterminated('"', line)
            if letter == '"':
                self._at += 1
                return
            if letter == "\\" and self._text[self._at + 1 : self._at + 2] in ('"', "\\", "$", "`", "\n"):
                following = self._text[self._at + 1]
                pieces.add("" if following == "\n" else following)
                self._at += 2
            elif letter in "$`":
                self._expansion(pieces)
            else:
                pieces.add(letter)
                self._at += 1

    def _end_of(self, quote: str, start: int) -> int:
        end = self._text.find(quote, start)
        if end < 0:
            raise self._unterminated(quote, self._line())
        return end

    def _unterminated(self, opening: str, line: int) -> ConfigError:
        return ConfigError(f"{self.script.path}:{line}: unterminated {opening}")

    def _expansion(self, pieces: _Pieces) -> None:
        """An expansion that starts with $ or `."""
        rest = self._text[self._at : self._at + 3]
        found = _VARIABLE.match(self._text, self._at)
        if found:
            self._at = found.end()
            pieces.append(self._value(found[1] or found[2]))
        elif rest.startswith(("$(", "${")):
            pieces.append(Text("", "it runs a command" if rest[1] == "(" else "it uses a parameter expansion"))
            self._skip_nested({"(": ")", "{": "}"}[rest[1]])
        elif rest.startswith("`"):
            self._at = self._end_of("`", self._at + 1) + 1
            pieces.append(Text("", "it runs a command"))
        elif rest[1:2] in ("'", '"'):
            self._at += 1  # $'...' and $"...": parsed as a quoted word next, without escapes
            if rest[1] == "'" and "\\" in self._text[self._at : self._end_of("'", self._at + 1)]:
                pieces.append(Text("", "it uses escapes in $'...'"))
        elif rest[1:2] and rest[1] in "?!@*#$-0123456789":
            pieces.append(Text("", f"it uses {rest[:2]}"))
            self._at += 2
        else:
            pieces.add("$")
            self._at += 1

    def _value(self, name: str) -> Text:
        variable = self.script.variables.get(name)
        if variable is None:
            return Text("", f"it uses ${name}, which is not assigned before")
        return variable.values[0] if variable.values else Text("")

    def _skip_nested(self, closing: str) -> None:
        """Skip $( ... ) or ${ ... }, including quoted parentheses inside."""
        opening, line = self._text[self._at + 1], self._line()
        self._at += 2
        depth = 1
        while depth:
            letter = self._text[self._at : self._at + 1]
            if letter == "":
                raise self._unterminated(f"${opening}", line)
            if letter in "'\"":
                self._at = self._end_of(letter, self._at + 1)
            elif letter == "\\":
                self._at += 1
            depth += (letter == opening) - (letter == closing)
            self._at += 1


@dataclass
class _Pieces:
    """A word under construction. Everything after its first unknown piece is unknown."""

    _known: list[str] = field(default_factory=list)
    _unknown: str = ""

    def add(self, text: str) -> None:
        if not self._unknown:
            self._known.append(text)

    def append(self, text: Text) -> None:
        self.add(text.known)
        self._unknown = self._unknown or text.unknown

    def text(self) -> Text:
        return Text("".join(self._known), self._unknown)


def _unknown(variable: Variable, reason: str) -> Variable:
    return replace(variable, values=(Text("", reason),))
