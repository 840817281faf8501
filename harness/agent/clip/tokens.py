"""What stands at each place of the image tower's token axis: the class token, then the patches row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from harness.errors import AgentError, unknown_name

__all__ = ["TOKENS", "ImageTokens", "TokenSet"]

TokenSet = Literal["all", "cls", "patches"]
TOKENS: tuple[str, ...] = get_args(TokenSet)
"""Sets of image tokens by name."""

Values = TypeVar("Values")


@dataclass(frozen=True)
class ImageTokens:
    """The token axis ``p`` of an image tower.

    Attributes:
        grid: Patches (rows, columns).
    """

    grid: tuple[int, int]

    @property
    def n(self) -> int:
        """The class token and all patches."""
        return 1 + self.grid[0] * self.grid[1]

    @property
    def kinds(self) -> tuple[str, ...]:
        """``cls`` or ``patch`` for each position [p]."""
        return ("cls", *("patch",) * (self.n - 1))

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row of the grid for each position [p]; -1 for the class token."""
        return np.concatenate([[-1], np.repeat(np.arange(self.grid[0]), self.grid[1])])

    @property
    def columns(self) -> npt.NDArray[np.int64]:
        """Column of the grid for each position [p]; -1 for the class token."""
        return np.concatenate([[-1], np.tile(np.arange(self.grid[1]), self.grid[0])])

    @staticmethod
    def places(which: TokenSet) -> slice:
        """Where the tokens of a set are.

        Raises:
            AgentError: for another name than all, cls and patches.
        """
        if which not in TOKENS:
            raise unknown_name("set of tokens", str(which), TOKENS, error=AgentError)
        return {"all": slice(None), "cls": slice(0, 1), "patches": slice(1, None)}[which]

    def picture(self, values: Values) -> Values:
        """What belongs to the patches, as a picture of them.

        Args:
            values: An array or tensor [..., p].

        Returns:
            [..., rows, columns], without the class token's.

        Raises:
            AgentError: for another number of tokens.
        """
        shape = tuple(values.shape)  # type: ignore[attr-defined]
        if not shape or shape[-1] != self.n:
            raise AgentError(f"expected a last axis of {self.n} tokens (the class token and {self.grid[0]} x "
                             f"{self.grid[1]} patches), got {list(shape)}")
        return values[..., 1:].reshape(*shape[:-1], *self.grid)  # type: ignore[index,no-any-return]
