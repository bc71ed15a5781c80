# SPDX-License-Identifier: MIT
"""The changes that tools/mutate makes to a C++ file: one small mistake each.

This is no parser. It goes by the shape that clang-format gives this project's code: blanks around a binary operator and
none around the angle brackets of a template, braces around every body.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

OTHER_COMPARISON = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">"}
OTHER_OPERATOR = {"&&": "||", "||": "&&", "+": "-", "-": "+"}

NOT_CODE = re.compile(
    r"""//[^\n]* | /\*.*?\*/                            # comments
      | "(?:\\.|[^"\\\n])*" | (?<!\w)'(?:\\.|[^'\\\n])+'  # texts and characters, not the ' of 20'000
      | ^[ ]*\#(?:\\\n|[^\n])*                          # lines of the preprocessor
      | \[\[[^\]]*\]\]                                  # attributes
      | \bstatic_assert\(.*?\);
      | \b(?:public|private|protected):""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
OPERATOR = re.compile(r"(?<=\s)(?:[=!<>]=|[<>]|&&|\|\||[+-])(?=\s)")
NUMBER = re.compile(r"(?<![\w.'])(0[xX][\da-fA-F']+|\d[\d']*)([uUlL]*)(?![\w.'])")
ORDER = re.compile(r"(?<=memory_order_)(?:acquire|release|acq_rel|seq_cst)\b")
CONDITION = re.compile(r"\b(?:if|while) \(")

TEMPLATE = r"\s*(?:template\s*<[^;{]*?>\s+)?"
SCOPE = re.compile(TEMPLATE + r"(?:inline\s+)?(?:namespace|class|struct|union|enum|extern)\b")
# What stands before the brace of a body; before that of an initialiser stands the name of a type or an object.
BODY = re.compile(r"(?:\)|\b(?:const|noexcept|mutable|else|do))\s*$|^\s*$")
# Where the code of a declaration begins: a default, or the initialisers of a constructor.
INITIALISER = re.compile(r"\s=\s|\)\s*(?:noexcept\s*)?:\s")
LABEL = re.compile(r"(?:case\b.*?[^:]|default):(?!:)\s*", re.DOTALL)
DECLARATION = re.compile(
    r"(?:const|constexpr|static|auto|using|struct|enum)\b|[\w:]+(?:<.*>)?[\s&*]+(?:const\s+)?\w+\s*[=({\[;]", re.DOTALL
)
CONTROL = re.compile(r"(?:if|for|while|do|else|switch)\b")
RETURN = re.compile(r"return\b\s*[^;]")


@dataclass(frozen=True)
class Mutant:
    path: str
    kind: str  # compare, logic, arithmetic, number, negate, drop or order
    begin: int  # in the file's text
    end: int
    new: str
    line: int  # counted from 1
    place: str  # the first line of the function or declaration
    removed: tuple[str, ...]  # whole lines, without blanks around them and comments
    added: tuple[str, ...]

    @property
    def key(self) -> tuple:
        """What it is known by when lines have moved."""
        return self.path, self.place, self.removed, self.added

    def applied_to(self, text: str) -> str:
        return text[: self.begin] + self.new + text[self.end :]

    def diff(self) -> str:
        return "\n".join(
            [f"@@ {self.place}", *(f"-{line}" for line in self.removed), *(f"+{line}" for line in self.added)]
        )


@dataclass
class Block:
    """An open bracket."""

    bracket: str
    begin: int
    head: int  # where the statement or declaration at hand begins
    scope: bool = False  # of a namespace or a class
    body: bool = False  # of a function or a statement
    depth: int = 0  # how many bodies it is in, itself included
    place: int = -1  # where the function or declaration begins that it is in


class Shape:
    """Which parts of a file run."""

    def __init__(self, code: str) -> None:
        """`code` has blanks in place of what is not code."""
        self.code = code
        self.place = [-1] * len(code)  # for each character that runs, where its function or declaration begins
        self.statements: list[tuple[int, int, int]] = []  # begin, end and depth
        stack = [Block("{", 0, 0, scope=True)]
        for i, char in enumerate(code):
            top = stack[-1]
            if char in "([":
                stack.append(Block(char, i, i + 1, depth=top.depth, place=top.place))
            elif char == "{":
                stack.append(self.open(top, i))
            elif char in ")]}":
                closed = stack.pop()
                top = stack[-1]
                if char == "}" and top.scope and not closed.scope:
                    self.mark(closed.begin + 1, i, closed.place)
                if char == "}" and top.bracket == "{" and (closed.body or closed.scope):
                    top.head = i + 1
            elif char == ";" and top.bracket == "{":
                if top.scope:
                    self.mark_declaration(top, i)
                else:
                    self.statements.append((top.head, i + 1, top.depth))
                top.head = i + 1

    def open(self, top: Block, i: int) -> Block:
        head = self.code[top.head : i]
        if SCOPE.match(head):
            return Block("{", i, i + 1, scope=True)
        body = bool(BODY.search(head))
        place = top.place
        if top.scope:
            self.mark_declaration(top, i)
            place = self.begin_of(top.head)
        return Block("{", i, i + 1, body=body, depth=top.depth + body, place=place)

    def begin_of(self, head: int) -> int:
        return re.compile(TEMPLATE).match(self.code, head).end()

    def mark(self, begin: int, end: int, place: int) -> None:
        self.place[begin:end] = [place] * (end - begin)

    def mark_declaration(self, scope: Block, end: int) -> None:
        if found := INITIALISER.search(self.code, scope.head, end):
            self.mark(found.end() - 1, end, self.begin_of(scope.head))


def next_number(text: str) -> str:
    digits = text.replace("'", "")
    return hex(int(digits, 16) + 1) if digits[:2] in ("0x", "0X") else str(int(digits) + 1)


def closing(code: str, opening: int) -> int:
    depth = 0
    for i in range(opening, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if depth == 0:
            return i
    raise ValueError(f"a bracket at {opening} is not closed")


def changes(text: str) -> Iterator[tuple[str, int, int, str, int]]:
    """Kind, begin, end, new text and place of each."""
    code = NOT_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    shape = Shape(code)

    for found in OPERATOR.finditer(code):
        old = found[0]
        if old in OTHER_COMPARISON:
            yield "compare", *found.span(), OTHER_COMPARISON[old], shape.place[found.start()]
        elif old in ("&&", "||"):
            yield "logic", *found.span(), OTHER_OPERATOR[old], shape.place[found.start()]
        elif '"' not in (text[: found.start()].rstrip()[-1], text[found.end() :].lstrip()[0]):  # texts are not subtracted
            yield "arithmetic", *found.span(), OTHER_OPERATOR[old], shape.place[found.start()]
    for found in NUMBER.finditer(code):
        yield "number", *found.span(1), next_number(found[1]), shape.place[found.start()]
    for found in ORDER.finditer(code):
        yield "order", *found.span(), "relaxed", shape.place[found.start()]
    for found in CONDITION.finditer(code):
        end = closing(code, found.end() - 1)
        begin = max(found.end(), code.rfind(";", found.end(), end) + 1)
        begin += len(code[begin:end]) - len(code[begin:end].lstrip())
        condition = code[begin:end]
        # One with an operator is changed there, and one that declares something cannot be negated.
        if not OPERATOR.search(condition) and " = " not in condition:
            yield "negate", begin, end, f"!({text[begin:end]})", shape.place[begin]
    for head, end, depth in shape.statements:
        begin = head + len(code[head:end]) - len(code[head:end].lstrip())
        if label := LABEL.match(code, begin, end):
            begin = label.end()
        statement = code[begin:end]
        if statement == ";" or CONTROL.match(statement):
            continue
        # A function's last return cannot be missing.
        if depth < 2 if RETURN.match(statement) else DECLARATION.match(statement):
            continue
        yield "drop", begin, end, ";", shape.place[begin]


def lines_of(text: str) -> tuple[str, ...]:
    """Its lines without blanks around them and comments, and not what is left of one whose statement was dropped."""
    lines = (re.sub(r"//.*", "", line).strip() for line in text.splitlines())
    return tuple(line for line in lines if line not in ("", ";"))


def mutants_of(path: str, text: str) -> list[Mutant]:
    """The mutants of the file at `path`, in the order of its text."""
    starts = [0] + [found.end() for found in re.finditer(r"\n", text)]
    mutants = []
    times: Counter[tuple] = Counter()
    for kind, begin, end, new, function in sorted(changes(text), key=lambda change: change[1:3]):
        if function < 0:  # nothing runs there
            continue
        first = bisect_right(starts, begin) - 1
        line_begin = starts[first]
        line_end = text.index("\n", end)
        place = lines_of(text[starts[bisect_right(starts, function) - 1] : text.index("\n", function)])[0]
        removed = lines_of(text[line_begin:line_end])
        added = lines_of(text[line_begin:begin] + new + text[end:line_end])
        times[place, removed, added] += 1
        if times[place, removed, added] > 1:
            place += f" #{times[place, removed, added]}"
        mutants.append(Mutant(path, kind, begin, end, new, first + 1, place, removed, added))
    return mutants
