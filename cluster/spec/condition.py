"""The gate's language: ``accuracy >= 0.9 and macro_f1 >= production.macro_f1``.

Numbers, metrics, ``ALIAS.metric``, ``and or not``, comparisons, ``+ - * /`` and parentheses,
parsed into a tree of our own: nothing is ever evaluated as Python.
"""

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from cluster.spec.grammar import NUMBER, Scalar, show

Lookup = Callable[[str | None, str], float | None]
"""Alias (None: the version at the gate) and metric to its value; None where it has none."""

_NAME = r"[a-z_][a-z0-9_]*(?:@[0-9]+)?"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{NUMBER}|\.[0-9]+)(?![\w.])|(?P<name>(?:[a-z][a-z0-9-]*\.)?{_NAME})(?![\w.@])"
    r"|(?P<sign><=|>=|==|[<>()+*/-]))"
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


class ConditionError(ValueError):
    """A condition that cannot be evaluated on these numbers."""


class Number(NamedTuple):
    value: float


class Metric(NamedTuple):
    """A metric of the version at the gate (alias None) or of the one that an alias names."""

    alias: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.alias}.{self.name}" if self.alias else self.name


class Operation(NamedTuple):
    """``and or not``, a comparison, or arithmetic (``-`` alone has one operand)."""

    sign: str
    operands: tuple["Node", ...]

    @property
    def is_truth(self) -> bool:
        return self.sign not in _ARITHMETIC


Node = Number | Metric | Operation


class Verdict(NamedTuple):
    """Whether the gate opens, and a line for each comparison with its numbers."""

    holds: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Expression(Scalar):
    """A parsed condition and the text it came from."""

    text: str
    tree: Node
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "x-kind": "condition",
        "examples": ["accuracy >= 0.9 and p99_ms <= 50"],
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        if not isinstance(value, str):
            raise ValueError(f'{show(value)} is not a condition; write one like "accuracy >= 0.9"')
        return cls(value, _Parser(value).parse())

    def __str__(self) -> str:
        return self.text

    def names(self) -> Iterator[Metric]:
        """Every metric that the condition reads."""
        yield from _metrics(self.tree)

    def evaluate(self, lookup: Lookup) -> Verdict:
        """Whether the condition holds.

        Comparisons with an alias that ``lookup`` has no number for are open, and an open
        condition holds: the first version needs no incumbent. Raises ConditionError where a
        metric of the version itself is missing or a divisor is 0.
        """
        reasons: list[str] = []
        return Verdict(_truth(self.tree, lookup, reasons) is not False, tuple(reasons))


def _metrics(node: Node) -> Iterator[Metric]:
    if isinstance(node, Metric):
        yield node
    elif isinstance(node, Operation):
        for operand in node.operands:
            yield from _metrics(operand)


def _truth(node: Node, lookup: Lookup, reasons: list[str]) -> bool | None:
    """True, False, or None where it is open (Kleene's logic)."""
    assert isinstance(node, Operation)
    if node.sign in _COMPARE:
        return _comparison(node, lookup, reasons)
    values = [_truth(operand, lookup, reasons) for operand in node.operands]
    if node.sign == "not":
        return None if values[0] is None else not values[0]
    decisive = node.sign == "or"
    if decisive in values:
        return decisive
    return None if None in values else not decisive


def _comparison(node: Operation, lookup: Lookup, reasons: list[str]) -> bool | None:
    left, right = (_number(operand, lookup) for operand in node.operands)
    text = f"{write(node.operands[0])} {node.sign} {write(node.operands[1])}"
    if left is None or right is None:
        reasons.append(f"{text}: open, nothing to compare with")
        return None
    holds = _COMPARE[node.sign](left, right)
    reasons.append(f"{text}: {left:.6g} {node.sign} {right:.6g} {'holds' if holds else 'fails'}")
    return holds


def _number(node: Node, lookup: Lookup) -> float | None:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Metric):
        value = lookup(node.alias, node.name)
        if value is None and node.alias is None:
            raise ConditionError(f'the evaluation has no metric "{node.name}"')
        return value
    numbers = [_number(operand, lookup) for operand in node.operands]
    if None in numbers:
        return None
    known: list[Any] = numbers
    if len(known) == 1:
        return -float(known[0])
    if node.sign == "/" and known[1] == 0:
        raise ConditionError(f"{write(node)} divides by 0")
    return _ARITHMETIC[node.sign](known[0], known[1])


def write(node: Node) -> str:
    """The text of a part of a condition."""
    if isinstance(node, Number):
        return f"{node.value:.12g}"
    if isinstance(node, Metric):
        return str(node)
    parts = [f"({write(o)})" if isinstance(o, Operation) else write(o) for o in node.operands]
    if len(parts) == 1:
        return f"{node.sign} {parts[0]}" if node.sign == "not" else f"-{parts[0]}"
    return f" {node.sign} ".join(parts)


class _Parser:
    """Recursive descent: or, and, not, comparison, sum, product, sign, atom."""

    deepest = 50

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self.tokens = list(self._tokens())

    def _tokens(self) -> Iterator[tuple[str, str]]:
        at, end = 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None:
                raise ValueError(f'"{self.text[at:end].strip()[:20]}" is not understood{_ALLOWED}')
            assert match.lastgroup is not None
            yield match.lastgroup, match[match.lastgroup]
            at = match.end()

    def parse(self) -> Node:
        """The whole text as one truth."""
        if not self.tokens:
            raise ValueError('is empty; write a condition like "accuracy >= 0.9"')
        node = self._truth(self._either())
        if self.at < len(self.tokens):
            raise ValueError(f'unexpected "{self.tokens[self.at][1]}"{_ALLOWED}')
        return node

    def _take(self, *signs: str) -> str | None:
        if self.at < len(self.tokens) and self.tokens[self.at][1] in signs:
            self.at += 1
            return self.tokens[self.at - 1][1]
        return None

    def _either(self) -> Node:
        node = self._both()
        while self._take("or"):
            node = Operation("or", (self._truth(node), self._truth(self._both())))
        return node

    def _both(self) -> Node:
        node = self._negation()
        while self._take("and"):
            node = Operation("and", (self._truth(node), self._truth(self._negation())))
        return node

    def _negation(self) -> Node:
        if self._take("not"):
            return self._deeper(lambda: Operation("not", (self._truth(self._negation()),)))
        return self._compared()

    def _compared(self) -> Node:
        node = self._sum()
        sign = self._take(*_COMPARE)
        if sign is None:
            return node
        node = Operation(sign, (self._value(node), self._value(self._sum())))
        if self._take(*_COMPARE):
            raise ValueError("one comparison after another; join the two with and")
        return node

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = Operation(sign, (self._value(node), self._value(self._product())))
        return node

    def _product(self) -> Node:
        node = self._signed()
        while sign := self._take("*", "/"):
            node = Operation(sign, (self._value(node), self._value(self._signed())))
        return node

    def _signed(self) -> Node:
        if self._take("-"):
            return self._deeper(lambda: Operation("-", (self._value(self._signed()),)))
        return self._atom()

    def _atom(self) -> Node:
        if self.at >= len(self.tokens):
            raise ValueError("ends where a number or a metric was expected")
        if self._take("("):
            node = self._deeper(self._either)
            if not self._take(")"):
                raise ValueError('a ")" is missing')
            return node
        kind, text = self.tokens[self.at]
        if kind == "sign" or text in ("and", "or", "not"):
            raise ValueError(f'"{text}" where a number or a metric was expected')
        self.at += 1
        if kind == "number":
            return Number(float(text))
        alias, _, name = text.rpartition(".")
        return Metric(alias or None, name)

    def _deeper(self, parse: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > self.deepest:
            raise ValueError("is nested too deeply")
        node = parse()
        self.depth -= 1
        return node

    def _truth(self, node: Node) -> Node:
        if isinstance(node, Operation) and node.is_truth:
            return node
        raise ValueError(f"{write(node)} is a number; compare it with another")

    def _value(self, node: Node) -> Node:
        if isinstance(node, Operation) and node.is_truth:
            raise ValueError(f"{write(node)} is true or false, where a number was expected")
        return node


_ALLOWED = "; allowed: numbers, metrics, ALIAS.metric, and or not, < <= > >= ==, + - * /, ( )"
