"""Reading a pickle without being its servant: plain values come out, and nothing it asks for is ever run.

A pickle is a program for a small stack machine, and Python's own machine imports what the program names and calls what
it likes. Here the program is walked opcode by opcode (``pickletools.genops`` only takes it apart) by a machine of our
own, which knows numbers, strings and containers. It has no import and no call, so there is nothing to forbid and
nothing to forget to forbid: a class or function that a caller has listed becomes a record with its name and its
arguments, any other is refused by its name, before its arguments are even looked at. An ``Unpickler`` with a
``find_class`` of one's own would still call what it found, set attributes on it and consult the extension registry.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from harness.errors import WeightsError

__all__ = ["Named", "Record", "walk_pickle"]

MOST_OPCODES = 500_000
"""A state dict of 800 tensors takes about 30,000."""
MOST_NUMBER_KEYS = 1000
"""Strings are hashed with a secret; numbers can be chosen to collide."""
MOST_VALUES = 300_000
"""Counted as they unfold: an element that is referred to twice counts twice. So many may also be copied by calls."""
DEEPEST = 64
LONGEST_NUMBER = 128
"""Bits. PyTorch's magic number has 77."""
_ORDERED_DICT = "collections.OrderedDict"
_MAKERS = ("copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__")
_SETS: dict[str, Callable[[Any], Any]] = {
    "builtins.set": set, "__builtin__.set": set, "builtins.frozenset": frozenset, "__builtin__.frozenset": frozenset}
_BASES = ("builtins.object", "__builtin__.object", "builtins.dict", "__builtin__.dict")
"""May stand beside a listed class as what it was derived from."""
_PUSH = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8",
))
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_NOTHING = frozenset({"PROTO", "FRAME"})
_CONTAINERS = (dict, list, tuple, set, frozenset)
_REFUSED = {
    "EXT1": "an extension code", "EXT2": "an extension code", "EXT4": "an extension code",
    "NEXT_BUFFER": "a buffer outside of the file", "READONLY_BUFFER": "a buffer outside of the file",
    "BYTEARRAY8": "a byte array",
}


@dataclass(frozen=True)
class Named:
    """A class or function that a pickle names, and that nobody has looked up."""

    name: str


@dataclass(eq=False)
class Record:
    """What a pickle wanted to make of a listed class: its words, none of its deeds.

    Attributes:
        name: The class or function, such as ``gym3.types.Discrete``; "persistent id" for PyTorch's storages.
        arguments: What it was to be called with.
        state: What was to be set on it afterwards, None for nothing.
        items: What was to be put into it.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


def walk_pickle(file: BinaryIO, listed: Callable[[str], bool], *, persistent: bool = False,
                made: list[Record] | None = None) -> Any:
    """The value that a pickle describes, made of plain containers, numbers, strings and records.

    Args:
        file: Open at the pickle's first byte, in memory (a read of more than there is must cost nothing); left behind
            its last.
        listed: Which dotted names may become records.
        persistent: Whether persistent ids may, too (PyTorch's storages).
        made: Gets every record, also those that are not part of the value: a reader that obeys makes them all.

    Raises:
        WeightsError: for a name that is not listed and anything else that is not plain; for what is no pickle, a
            truncated one, and one that is too large, too deep or refers to itself.
    """
    machine = _Machine(listed, persistent, [] if made is None else made)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MOST_OPCODES:
                raise WeightsError(f"the pickle has more than {MOST_OPCODES:,} steps")
            machine.do(opcode.name, argument)
        value = machine.result()
    except WeightsError:
        raise
    except Exception as problem:  # whatever a damaged program makes the machine stumble over
        words = str(problem).splitlines()
        raise WeightsError(f"the pickle is damaged or cut off: {words[0][:120] if words else 'it ends too early'}"
                           ) from problem
    _check_size(value)
    return value


class _Machine:
    """The stack, the marks and the memo."""

    def __init__(self, listed: Callable[[str], bool], persistent: bool, made: list[Record]) -> None:
        self._listed, self._persistent, self._made = listed, persistent, made
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._number_keys = self._copied = 0
        self._stopped = False

    def result(self) -> Any:
        if not self._stopped or len(self._stack) != 1 or self._marks:
            raise ValueError("it does not end with one value")
        return self._stack[0]

    def do(self, name: str, argument: Any) -> None:
        if name in _PUSH:
            if isinstance(argument, int) and argument.bit_length() > LONGEST_NUMBER:
                raise WeightsError(f"the pickle holds a number of {argument.bit_length()} bits")
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _REFUSED:
            raise WeightsError(f"it asks for {_REFUSED[name]}")
        elif name not in _NOTHING:
            steps: Any = getattr(self, f"_{name.lower()}", None)
            if steps is None:
                raise WeightsError(f"it holds the step {name}, which no plain value needs")
            steps(argument)

    def _items(self) -> list[Any]:
        """What was pushed since the last mark."""
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _key(self, key: Any) -> Any:
        # No tuples: the hash of a deeply nested one runs on C's own stack.
        if isinstance(key, str):
            return key
        if key is not None and not isinstance(key, (int, float, bytes)):
            raise WeightsError(f"it holds a {type(key).__name__} as a key, expected a text or a number")
        self._number_keys += 1
        if self._number_keys > MOST_NUMBER_KEYS:
            raise WeightsError(f"it holds more than {MOST_NUMBER_KEYS} keys that are no texts")
        return key

    def _name(self, name: str) -> Named:
        if name in (_ORDERED_DICT, *_MAKERS, *_SETS, *_BASES) or self._listed(name):
            return Named(name)
        raise WeightsError(f"it asks for {ascii(name[:100])[1:-1]}")

    # --- stack and memo ----------------------------------------------------------------------------------------------

    def _stop(self, _: Any) -> None:
        self._stopped = True

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._items()

    def _pop_mark(self, _: Any) -> None:
        self._items()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    # --- containers --------------------------------------------------------------------------------------------------

    def _list(self, _: Any) -> None:
        items = self._items()
        self._stack.append(items)

    def _tuple(self, _: Any) -> None:
        items = self._items()
        self._stack.append(tuple(items))

    def _last(self, n: int) -> None:
        if len(self._stack) < n:
            raise IndexError("the stack is empty")
        self._stack[-n:] = [tuple(self._stack[-n:])]

    def _tuple1(self, _: Any) -> None:
        self._last(1)

    def _tuple2(self, _: Any) -> None:
        self._last(2)

    def _tuple3(self, _: Any) -> None:
        self._last(3)

    def _dict(self, _: Any) -> None:
        items = self._items()
        self._stack.append({})
        self._set(items)

    def _frozenset(self, _: Any) -> None:
        items = self._items()
        self._stack.append(frozenset(map(self._key, items)))

    def _append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._items())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, (list, Record)):
            raise WeightsError(f"it appends to a {type(target).__name__}")
        (target.items if isinstance(target, Record) else target).extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self, _: Any) -> None:
        self._set(self._items())

    def _set(self, items: list[Any]) -> None:
        target, pairs = self._stack[-1], list(zip(items[::2], items[1::2], strict=True))
        if isinstance(target, Record):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            target.update((self._key(key), value) for key, value in pairs)
        else:
            raise WeightsError(f"it sets items of a {type(target).__name__}")

    def _additems(self, _: Any) -> None:
        items, target = self._items(), self._stack[-1]
        if not isinstance(target, set):
            raise WeightsError(f"it adds to a {type(target).__name__}")
        target.update(map(self._key, items))

    # --- names, and what becomes of them -----------------------------------------------------------------------------

    def _global(self, argument: str) -> None:
        self._stack.append(self._name(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise WeightsError("it asks for something whose name is no text")
        self._stack.append(self._name(f"{module}.{name}"))

    def _count_copies(self, *values: Any) -> None:
        """A few steps of a program can have one long list copied again and again."""
        self._copied += sum(len(value) for value in values if isinstance(value, (*_CONTAINERS, str, bytes)))
        if self._copied > MOST_VALUES:
            raise WeightsError(f"the pickle copies more than {MOST_VALUES:,} values")

    def _push_record(self, record: Record) -> None:
        self._made.append(record)
        self._stack.append(record)

    def _make(self, maker: Any, arguments: Any, keywords: Any = None) -> None:
        if not isinstance(maker, Named) or not isinstance(arguments, tuple):
            raise WeightsError(f"it calls a {type(maker).__name__}, expected a listed name")
        self._count_copies(arguments, keywords, *arguments)
        if maker.name == _ORDERED_DICT:
            self._stack.append({})
            for pairs in arguments:
                self._set([x for pair in pairs for x in _pair(pair)])
        elif maker.name in _SETS:
            self._stack.append(_SETS[maker.name](map(self._key, arguments[0] if arguments else ())))
        elif maker.name in _MAKERS:
            self._make(arguments[0], tuple(x for x in arguments[1:] if x is not None and not _is_base(x)))
        elif _is_base(maker):
            raise WeightsError(f"it makes a {maker.name}")
        else:
            self._push_record(Record(maker.name, arguments, items=list(keywords.items()) if keywords else []))

    def _reduce(self, _: Any) -> None:
        arguments, maker = self._stack.pop(), self._stack.pop()
        self._make(maker, arguments)

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        keywords, arguments, maker = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._make(maker, arguments, keywords)

    def _inst(self, argument: str) -> None:
        items = self._items()
        self._make(self._name(argument.replace(" ", ".", 1)), tuple(items))

    def _obj(self, _: Any) -> None:
        items = self._items()
        self._make(items[0], tuple(items[1:]))

    def _build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):
            # A state dict carries version numbers as an attribute; those of a dict are let go.
            raise WeightsError(f"it sets the state of a {type(target).__name__}")

    def _persid(self, argument: Any) -> None:
        if not self._persistent:
            raise WeightsError("it asks for a persistent id, something outside of the file")
        self._push_record(Record("persistent id", (argument,)))

    def _binpersid(self, _: Any) -> None:
        self._persid(self._stack.pop())


def _is_base(value: Any) -> bool:
    return isinstance(value, Named) and value.name in _BASES


def _pair(value: Any) -> tuple[Any, Any]:
    first, second = value
    return first, second


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, Record):
        yield from value.arguments
        yield value.state
        yield from value.items


def _check_size(value: Any) -> None:
    """Refuse what is small in the file and endless when walked: cycles, and references that double at each level."""
    n, open_parts = 0, [_parts(value)]
    while open_parts:
        for part in open_parts[-1]:
            n += 1
            if n > MOST_VALUES:
                raise WeightsError(f"the pickle unfolds to more than {MOST_VALUES:,} values")
            if isinstance(part, (*_CONTAINERS, Record)):
                if len(open_parts) >= DEEPEST:
                    raise WeightsError(f"the pickle is nested deeper than {DEEPEST} levels, or refers to itself")
                open_parts.append(_parts(part))
                break
        else:
            open_parts.pop()
