"""Hook points: named places in a policy's forward pass where a function may look, or put something else.

A network asks ``name in stack.listeners`` at each point and calls ``stack.apply`` only when somebody listens, so a
point nobody listens to costs one dictionary lookup. Functions run in the order in which they were entered; a later
one sees what an earlier one put there. ``hooks()`` contexts nest and are left last-in first-out.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import torch

from harness.errors import HookError, nearest_names

__all__ = ["ActivationCache", "HookFunction", "HookPoint", "HookScope", "HookStack"]


@dataclass(frozen=True)
class HookPoint:
    """One place in the forward pass; functions get it as their second argument.

    Attributes:
        name: Such as ``blocks.2.attn.hook_z``.
        axes: What each axis of the activation counts: ``b`` batch, ``t`` query time, ``T`` key time (remembered
            window, then the new positions, oldest first), ``h`` head, ``d_head``, ``d`` width and so on.
        shape: Sizes of the axes after ``b`` and ``t`` when the policy looks at one frame.
        derived: True for a read-out that nothing downstream depends on; it can be read and not replaced.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    derived: bool = False

    @property
    def layer(self) -> int | None:
        """The transformer block it lies in, None outside (a prefix such as ``cond.`` or ``image.`` may stand first)."""
        match = re.match(r"(?:(?!cnn\b)\w+\.)?blocks\.(\d+)\.", self.name)
        return int(match[1]) if match else None


Result = TypeVar("Result")

HookFunction = Callable[[torch.Tensor, HookPoint], torch.Tensor | None]
"""``fn(activation, hook)``: return None to leave the activation, or a new tensor of the same shape to replace it.
It must not change the activation in place."""


class HookScope:
    """One ``with policy.hooks(...)`` block."""

    def __init__(self, stack: HookStack, pairs: Sequence[tuple[str, HookFunction]]) -> None:
        self._stack = stack
        self.pairs = tuple(pairs)

    def __enter__(self) -> HookScope:
        self._stack.push(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.pop(self)


class HookStack:
    """Every hook point of one policy, and who listens now.

    Args:
        points: In the order of the forward pass.
        aliases: Other spellings, alias to canonical name.
    """

    def __init__(self, points: Iterable[HookPoint], aliases: Mapping[str, str]) -> None:
        self.points: dict[str, HookPoint] = {point.name: point for point in points}
        self.aliases = dict(aliases)
        self.listeners: dict[str, tuple[HookFunction, ...]] = {}
        self._scopes: list[HookScope] = []

    @property
    def depth(self) -> int:
        """How many scopes are entered."""
        return len(self._scopes)

    def resolve(self, globs: Iterable[str]) -> list[str]:
        """Canonical names that match, in the order of the forward pass, each once.

        Args:
            globs: Names or shell-style patterns (``*``, ``?``, ``[0-2]``; ``*`` also crosses dots).

        Raises:
            HookError: when a pattern matches no name, with the nearest names.
        """
        wanted: set[str] = set()
        for glob in globs:
            if glob in self.points:
                wanted.add(glob)
                continue
            found = [name for name in self.points if fnmatch.fnmatchcase(name, glob)]
            found += [name for alias, name in self.aliases.items() if fnmatch.fnmatchcase(alias, glob)]
            if not found:
                raise self._nothing_matches(glob)
            wanted.update(found)
        return [name for name in self.points if name in wanted]

    def _nothing_matches(self, glob: str) -> HookError:
        close = nearest_names(glob, [*self.points, *self.aliases])
        if not close:
            # A pattern is long on wildcards and short on letters: compare its last word instead.
            last = glob.rpartition(".")[2].strip("*?")
            ends = {name.rpartition(".")[2]: name for name in self.points}
            close = [ends[end] for end in nearest_names(last, ends)]
        hint = f"did you mean {' or '.join(repr(name) for name in close)}?" if close else "docs/hooks.md lists them all"
        return HookError(f'"{glob}" matches none of this policy\'s {len(self.points)} hook points', hint=hint)

    def scope(self, pairs: Iterable[tuple[str, HookFunction]]) -> HookScope:
        """A context in which functions listen; each pair's name may be a glob.

        Raises:
            HookError: when a glob matches nothing.
        """
        # Plain names, a hundred of them in every step that is traced, are not looked for among the patterns.
        return HookScope(self, [(name, fn) for glob, fn in pairs
                                for name in ([glob] if glob in self.points else self.resolve([glob]))])

    def cached(self, call: Callable[[], Result], names_filter: str | Sequence[str] | None = None,
               ) -> tuple[Result, ActivationCache]:
        """Run ``call``, keeping activations. Hooks already entered come first; the cache holds what they left.

        Args:
            call: One forward pass of the network.
            names_filter: A name, or names and globs; None for every point that the pass reaches, except the per-head
                ``blocks.*.attn.hook_result``, which is large and costs extra arithmetic.

        Raises:
            HookError: when a name or glob matches nothing, or the pass reached none that it asks for.
        """
        kept: dict[str, torch.Tensor] = {}

        def keep(x: torch.Tensor, hook: HookPoint) -> None:
            kept[hook.name] = x.detach()

        if names_filter is None:
            names = [name for name in self.points if not name.endswith("attn.hook_result")]
        else:
            names = self.resolve([names_filter] if isinstance(names_filter, str) else names_filter)
        with self.scope([(name, keep) for name in names]):
            result = call()
        if names and not kept:
            raise HookError(f"this pass reached none of {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}",
                            hint="name points of the part that was run")
        ordered = {name: kept[name] for name in names if name in kept}
        return result, ActivationCache(ordered, {name: self.point(name) for name in self._every_name()}, self.aliases)

    def point(self, name: str) -> HookPoint:
        """The hook point that ``resolve`` called ``name``."""
        return self.points[name]

    def _every_name(self) -> Iterable[str]:
        """Every name that ``resolve`` may give."""
        return self.points

    def push(self, scope: HookScope) -> None:
        """Enter a scope (``HookScope.__enter__`` does)."""
        if scope in self._scopes:
            raise HookError("these hooks are already entered", hint="make a new hooks(...) for each with block")
        self._scopes.append(scope)
        self._rebuild()

    def pop(self, scope: HookScope) -> None:
        """Leave the innermost scope.

        Raises:
            HookError: when ``scope`` is not the innermost one.
        """
        if not self._scopes or self._scopes[-1] is not scope:
            raise HookError("hooks were left in another order than the reverse of entering",
                            hint="nest the with blocks, or use one contextlib.ExitStack")
        self._scopes.pop()
        self._rebuild()

    def _rebuild(self) -> None:
        table: dict[str, tuple[HookFunction, ...]] = {}
        for scope in self._scopes:
            for name, fn in scope.pairs:
                table[name] = (*table.get(name, ()), fn)
        self.listeners = table

    def apply(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Run the listeners of ``name`` over ``value``; the very same tensor comes back when none replaced it.

        Raises:
            HookError: for a replacement that is not a tensor of the same shape, dtype and device, or at a derived
                point.
        """
        point = self.points[name]
        for fn in self.listeners.get(name, ()):
            value = self.checked(point, value, fn(value, point))
        return value

    @staticmethod
    def checked(point: HookPoint, value: torch.Tensor, new: torch.Tensor | None) -> torch.Tensor:
        """What a function put in place of ``value``; ``value`` itself when it put nothing.

        Raises:
            HookError: as in ``apply``.
        """
        if new is None or new is value:
            return value
        if point.derived:
            raise HookError(f"{point.name} is a read-out: nothing depends on it, so replacing it changes nothing",
                            hint="replace the activation that it is computed from")
        if not isinstance(new, torch.Tensor):
            raise HookError(f"the function at {point.name} returned {type(new).__name__}, expected a tensor or None")
        if new.shape != value.shape or new.dtype != value.dtype or new.device != value.device:
            raise HookError(f"the function at {point.name} returned {new.dtype} {tuple(new.shape)} on {new.device}, "
                            f"expected {value.dtype} {tuple(value.shape)} on {value.device}")
        return new


class _NotCached(HookError, KeyError):
    """Both, so that ``Mapping.get`` works as everywhere."""


class ActivationCache(Mapping[str, torch.Tensor]):
    """The activations of one forward pass by hook name, in the order of the pass; aliases are understood.

    Args:
        values: Canonical name to tensor, batch and time axes first.
        points: Their hook points.
        aliases: Other spellings, alias to canonical name.
    """

    def __init__(self, values: Mapping[str, torch.Tensor], points: Mapping[str, HookPoint],
                 aliases: Mapping[str, str]) -> None:
        self._values = dict(values)
        self._points = points
        self._aliases = aliases

    def __getitem__(self, name: str) -> torch.Tensor:
        canonical = self._aliases.get(name, name)
        if canonical in self._values:
            return self._values[canonical]
        if canonical in self._points:
            raise _NotCached(f"{name} was not cached in this pass", hint="name it in names_filter")
        close = nearest_names(name, [*self._points, *self._aliases])
        raise _NotCached(f'no hook point is called "{name}"',
                         hint=f"did you mean {' or '.join(map(repr, close))}?" if close else None)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._aliases.get(name, name) in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def point(self, name: str) -> HookPoint:
        """The hook point (axes, shape) behind a cached name."""
        return self._points[self._aliases.get(name, name)]

    def by_age(self, name: str | None = None) -> torch.Tensor | dict[str, torch.Tensor]:
        """Attention by frame age instead of key position: [b, h, t, age], age 0 is the query's own frame.

        Key positions run from the oldest remembered frame to the newest, so the same frame stands in another column
        for each query; here it is the age that stands still. Ages run to the end of the window (0..127 for VPT).

        Args:
            name: One cached [b, h, t, T] activation; None for all of them, by name.

        Raises:
            HookError: for an activation that has no query and key axes.
        """
        if name is None:
            return {n: rows_by_age(self[n]) for n in self if self.point(n).axes == ("b", "h", "t", "T")}
        value = self[name]
        if self.point(name).axes != ("b", "h", "t", "T"):
            raise HookError(f"{name} has axes {list(self.point(name).axes)}, expected b, h, t, T",
                            hint="attention is by age: hook_pattern, hook_attn_scores, hook_rel_bias")
        return rows_by_age(value)


def rows_by_age(pattern_bhtT: torch.Tensor) -> torch.Tensor:
    """[b, h, t, T] with T = window + t, oldest first, to [b, h, t, window] with age 0 first."""
    n_queries, n_keys = pattern_bhtT.shape[-2:]
    window = n_keys - n_queries
    query = torch.arange(n_queries, device=pattern_bhtT.device)[:, None]
    column = window + query - torch.arange(window, device=pattern_bhtT.device)
    return pattern_bhtT.gather(-1, column.expand(*pattern_bhtT.shape[:-1], window))
