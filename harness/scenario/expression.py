"""``${name}`` and ``${distance + 0.5}`` in scenario files: parameters and plain arithmetic, nothing else.

sum     = product (("+" | "-") product)*
product = factor (("*" | "/") factor)*
factor  = "-" factor | number | name | "floor" "(" sum ")" | "(" sum ")"
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set
from typing import NoReturn

from harness.errors import unknown_name

__all__ = ["ExpressionError", "Scalar", "escape", "names_in", "substitute"]

Scalar = str | int | float | bool

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_TOKEN = re.compile(r"\s*(?:(\d+\.\d*|\.\d+|\d+)|([A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z_]+)*)|(.))", re.DOTALL)
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9_.-]*)\s*")
_MAX_LENGTH = 200


class ExpressionError(Exception):
    """A reference that cannot be evaluated: ``message`` and ``hint``."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def escape(text: str) -> str:
    """The text that ``substitute`` turns back into ``text``."""
    return text.replace("${", "$${")


def substitute(text: str, parameters: Mapping[str, Scalar]) -> Scalar:
    """Fill in every ``${...}``; a text that is one reference takes the type of its value. ``$${`` gives ``${``.

    Raises:
        ExpressionError: for an unknown name, broken arithmetic, or arithmetic on text.
    """
    whole = _REFERENCE.fullmatch(text)
    if whole and whole.group(1) is not None:
        return _evaluate(whole.group(1), parameters)

    def filled(match: re.Match[str]) -> str:
        if match.group(0) == "$${":
            return "${"
        if match.group(1) is None:
            raise ExpressionError('"${" without a closing "}"', 'write $${ for a literal "${"')
        value = _evaluate(match.group(1), parameters)
        return str(value).lower() if isinstance(value, bool) else str(value)
    return _REFERENCE.sub(filled, text)


def names_in(text: str, declared: Set[str]) -> set[str]:
    """The declared parameters that a text refers to."""
    found: set[str] = set()
    for match in _REFERENCE.finditer(text):
        inside = match.group(1) or ""
        if inside.strip() in declared:
            found.add(inside.strip())
        else:
            found |= {t.group(2) for t in _TOKEN.finditer(inside) if t.group(2) in declared}
    return found


def _evaluate(expression: str, parameters: Mapping[str, Scalar]) -> Scalar:
    alone = _NAME.fullmatch(expression)
    if alone and alone.group(1) in parameters:
        return parameters[alone.group(1)]
    if len(expression) > _MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {_MAX_LENGTH} characters (got {len(expression)})")
    return _Parser(expression, parameters).value()


class _Parser:
    """Recursive descent over at most 200 characters; depth is bounded by that length."""

    def __init__(self, text: str, parameters: Mapping[str, Scalar]) -> None:
        self.text, self.parameters = text, parameters
        self.tokens = [m.group(1) or m.group(2) or m.group(3) for m in _TOKEN.finditer(text) if m.group(0).strip()]
        self.at = 0

    def value(self) -> int | float:
        try:
            result = self.sum()
        except ZeroDivisionError:
            self.fail("division by zero")
        except OverflowError:
            self.fail("the result is too large")
        if self.at < len(self.tokens):
            self.fail(f'unexpected "{self.tokens[self.at]}"')
        if not math.isfinite(result) or abs(result) > 1e15:
            self.fail("the result is too large")
        return result

    def fail(self, what: str) -> NoReturn:
        raise ExpressionError(f"${{{self.text}}}: {what}",
                              "an expression knows numbers, parameters, + - * /, parentheses and floor(...)")

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        if not token:
            self.fail("it ends too early" if self.tokens else "it is empty")
        self.at += 1
        return token

    def sum(self) -> int | float:
        left = self.product()
        while self.peek() in ("+", "-"):
            left = left + self.product() if self.take() == "+" else left - self.product()
        return left

    def product(self) -> int | float:
        left = self.factor()
        while self.peek() in ("*", "/"):
            left = left * self.factor() if self.take() == "*" else left / self.factor()
        return left

    def factor(self) -> int | float:
        token = self.take()
        if token == "-":
            return -self.factor()
        if token == "(":
            return self.closed()
        if token == "floor" and self.peek() == "(":
            self.take()
            return math.floor(self.closed())
        if token[0].isdigit() or token[0] == ".":
            return float(token) if "." in token and token != "." else self.whole(token)
        return self.parameter(token)

    def whole(self, token: str) -> int:
        if not token.isascii() or not token.isdigit():
            self.fail(f'unexpected "{token}"')
        return int(token)

    def closed(self) -> int | float:
        inside = self.sum()
        if self.take() != ")":
            self.fail('expected ")"')
        return inside

    def parameter(self, token: str) -> int | float:
        if not (token[0].isalpha() or token[0] == "_"):
            self.fail(f'unexpected "{token}"')
        if token not in self.parameters:
            problem = unknown_name("parameter", token, self.parameters)
            raise ExpressionError(problem.message, problem.hint)
        value = self.parameters[token]
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(f'"{token}" is {value!r}, not a number')
        return value
