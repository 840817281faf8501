"""Hook points of a policy that computes the same frames twice: with a goal (``cond``) and without (``uncond``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from harness.agent.hooks import HookFunction, HookPoint, HookScope, HookStack
from harness.errors import HookError

__all__ = ["ROWS", "RowHookStack"]

ROWS = ("cond", "uncond")
"""The rows under guidance, in this order along the batch axis."""


class RowHookStack(HookStack):
    """A hook stack in which a name may have its row in front: ``cond.blocks.2.attn.hook_z``.

    A plain name is the whole batch, both rows. A glob names rows only if it begins with one: ``*`` does not.

    Args:
        points: In the order of the forward pass.
        aliases: Other spellings, alias to canonical name.
        shared: Names of points that both rows share (the image network looks once; read-outs of the mixture).

    Attributes:
        rows: The rows of the pass that runs now; the policy sets it.
    """

    def __init__(self, points: Iterable[HookPoint], aliases: Mapping[str, str], shared: Iterable[str]) -> None:
        super().__init__(points, aliases)
        self._shared = frozenset(shared)
        self.rows: tuple[str, ...] = ROWS[:1]

    def by_row(self, names: Iterable[str]) -> list[str]:
        """Names with every plain one that has rows spelt out as both, in the same order."""
        spelt = [each for name in names for each in
                 ([name] if name in self._shared or split_row(name)[0] else [f"{row}.{name}" for row in ROWS])]
        return list(dict.fromkeys(spelt))

    def resolve(self, globs: Iterable[str]) -> list[str]:
        """As in a ``HookStack``; a glob behind ``cond.`` or ``uncond.`` gives names of that row.

        Raises:
            HookError: when a pattern matches nothing, or only points that both rows share.
        """
        wanted: set[str] = set()
        for glob in globs:
            row, rest = split_row(glob)
            found = super().resolve([rest])
            if row is not None:
                own = [name for name in found if name not in self._shared]
                if not own:
                    raise HookError(f"{found[0]} is shared by both rows, so {glob!r} matches nothing",
                                    hint=f"leave out {row!r}")
                found = [f"{row}.{name}" for name in own]
            wanted.update(found)
        return [name for name in self._every_name() if name in wanted]

    def point(self, name: str) -> HookPoint:
        """The hook point of a name, with or without a row."""
        row, plain = split_row(name)
        return self.points[plain] if row is None else replace(self.points[plain], name=name)

    def _every_name(self) -> Iterable[str]:
        for name in self.points:
            yield name
            if name not in self._shared:
                yield from (f"{row}.{name}" for row in ROWS)

    def scope(self, pairs: Iterable[tuple[str, HookFunction]]) -> HookScope:
        """As in a ``HookStack``; a function behind a row's name gets that row alone.

        Raises:
            HookError: when a glob matches nothing.
        """
        plain = []
        for glob, fn in pairs:
            for name in self.resolve([glob]):
                row, canonical = split_row(name)
                plain.append((canonical, fn if row is None else self._for_row(row, self.point(name), fn)))
        return HookScope(self, plain)

    def _for_row(self, row: str, point: HookPoint, fn: HookFunction) -> HookFunction:
        def on_row(x: torch.Tensor, hook: HookPoint) -> torch.Tensor | None:
            if row not in self.rows:
                raise HookError(f"{point.name}: this pass has no row {row!r}, because it runs without guidance",
                                hint="give a cond_scale, or name the hook without a row")
            n = len(x) // len(self.rows)
            start = self.rows.index(row) * n
            part = x[start:start + n]
            new = self.checked(point, part, fn(part, point))
            if new is part:
                return None
            whole = x.clone()
            whole[start:start + n] = new
            return whole
        return on_row


def split_row(name: str) -> tuple[str | None, str]:
    """``cond.blocks.0.hook_mlp_out`` to ("cond", "blocks.0.hook_mlp_out"); None for a name without a row."""
    row, dot, rest = name.partition(".")
    return (row, rest) if dot and row in ROWS else (None, name)
