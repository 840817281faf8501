"""CLIP's byte-pair encoding: a prompt to the 77 numbers that the text tower reads.

The merge table is data that came with CLIP (``VOCABULARY.md``); the code is ours. A text is put into Unicode form NFC,
HTML entities become characters (twice over, as in CLIP), runs of white space become one space, letters become small.
It is then cut into pieces: English contractions, runs of letters, single numerals, runs of anything else; the bytes of
each piece are merged in the order of the table. CLIP also repairs mis-decoded text with the library ``ftfy`` (curly
quotes become straight ones, for instance); that step is not here, so type a prompt in plain characters.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import html
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import AgentError

__all__ = ["BOS", "CONTEXT", "EOS", "N_TOKENS", "encode_prompt", "pieces", "prompt_tokens"]

CONTEXT = 77
"""Tokens of one prompt, the two marks included."""
N_TOKENS = 49408
BOS, EOS, PAD = 49406, 49407, 0
_MARKS = ("<|startoftext|>", "<|endoftext|>")
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_END = "</w>"
"""Stands behind the last symbol of a piece."""

_TABLE = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
_N_MERGES = N_TOKENS - 2 * 256 - 2

Pair = tuple[str, str]


@functools.cache
def _byte_letters() -> dict[int, str]:
    """A printable character for each byte: itself where it is one, else the next free one from 256 on."""
    own = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(256, 512))
    return {byte: chr(byte) if byte in own else chr(next(spare)) for byte in range(256)}


@functools.cache
def _merges() -> dict[Pair, int]:
    """Pair of symbols to its rank; the lowest rank is merged first.

    Raises:
        AgentError: when the table is missing or not the one that CLIP was trained with.
    """
    try:
        packed = _TABLE.read_bytes()
    except OSError as problem:
        raise AgentError(f"the vocabulary {_TABLE.name} is missing from this installation", where=str(_TABLE),
                         hint="install the package again") from problem
    if (digest := hashlib.sha256(packed).hexdigest()) != _SHA256:
        raise AgentError(f"the vocabulary {_TABLE.name} is damaged: its SHA-256 is {digest}, expected {_SHA256}",
                         where=str(_TABLE), hint="install the package again")
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1:_N_MERGES + 1]
    ranks: dict[Pair, int] = {}
    for line in lines:
        left, right = line.split()
        ranks[left, right] = len(ranks)
    return ranks


@functools.cache
def _numbers() -> dict[str, int]:
    """Symbol to token: the 256 bytes, the same as ends of pieces, then one for each merge."""
    # The order of the bytes is that in which CLIP wrote them down: the printable ones first.
    letters = _byte_letters()
    printable = [letters[byte] for byte in range(256) if letters[byte] == chr(byte)]
    rest = [letters[byte] for byte in range(256) if letters[byte] != chr(byte)]
    single = printable + rest
    symbols = [*single, *(letter + _END for letter in single), *(left + right for left, right in _merges())]
    return {symbol: number for number, symbol in enumerate(symbols)}


def _kind(character: str) -> str:
    """``L`` letter, ``N`` numeral, ``Z`` white space, ``O`` anything else."""
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "Z" if character.isspace() else "O"


def clean(text: str) -> str:
    """The text as it is cut into pieces: NFC, entities resolved, one space between words, small letters."""
    text = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return " ".join(text.split()).lower()


def pieces(text: str) -> Iterator[str]:
    """Cut a cleaned text: contractions, runs of letters, single numerals, runs of other characters."""
    start = 0
    while start < len(text):
        contraction = next((c for c in _CONTRACTIONS if text.startswith(c, start)), None)
        kind = _kind(text[start])
        stop = start + 1
        if contraction is not None:
            stop = start + len(contraction)
        elif kind in "LO":
            while stop < len(text) and _kind(text[stop]) == kind:
                stop += 1
        if kind != "Z":
            yield text[start:stop]
        start = stop


@functools.lru_cache(4096)
def _encode_piece(piece: str) -> tuple[int, ...]:
    letters = _byte_letters()
    symbols = [letters[byte] for byte in piece.encode("utf-8")]
    symbols[-1] += _END
    ranks = _merges()
    while len(symbols) > 1:
        pairs = list(zip(symbols, symbols[1:], strict=False))
        best = min(pairs, key=lambda pair: ranks.get(pair, _N_MERGES))
        if best not in ranks:
            break
        symbols = _merged(symbols, best)
    numbers = _numbers()
    return tuple(numbers[symbol] for symbol in symbols)


def _merged(symbols: Sequence[str], pair: Pair) -> list[str]:
    """Every occurrence of ``pair``, from the left, as one symbol."""
    joined: list[str] = []
    i = 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            joined.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            joined.append(symbols[i])
            i += 1
    return joined


def encode_prompt(text: str) -> list[int]:
    """The tokens of a text, without marks and without a limit.

    Raises:
        AgentError: for anything but a text, one that is not Unicode, or one that holds CLIP's own marks.
    """
    if not isinstance(text, str):
        raise AgentError(f"prompt: expected a text, got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise AgentError(f"prompt: {text!r} is not Unicode text", hint="type it as UTF-8") from problem
    cleaned = clean(text)
    for mark in _MARKS:
        if mark in cleaned:
            raise AgentError(f"prompt: {mark} marks the ends of a prompt and may not stand in one")
    return [number for piece in pieces(cleaned) for number in _encode_piece(piece)]


def prompt_tokens(texts: str | Sequence[str]) -> npt.NDArray[np.int64]:
    """Prompts as the text tower reads them: int64 [n, 77], begin mark, tokens, end mark, then zeros.

    Args:
        texts: One prompt or several.

    Raises:
        AgentError: for a prompt of more than 75 tokens (nothing is cut off), or as in ``encode_prompt``.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    table = np.full((len(texts), CONTEXT), PAD, np.int64)
    for row, text in zip(table, texts, strict=True):
        tokens = [BOS, *encode_prompt(text), EOS]
        if len(tokens) > CONTEXT:
            raise AgentError(f"the prompt has {len(tokens) - 2} tokens, and the text tower reads {CONTEXT - 2}: "
                             f"{text[:60]!r}...", hint="say it in fewer words; nothing is cut off in silence")
        row[:len(tokens)] = tokens
    return table
