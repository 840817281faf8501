"""CLIP's byte-pair encoding against the tokens that CLIP's own code gives."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from golden_policies import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.clip import tokenizer
from harness.agent.clip.tokenizer import BOS, CONTEXT, EOS, N_TOKENS, clean, encode_prompt, pieces, prompt_tokens
from harness.errors import AgentError

TEXTS = json.loads((GOLDEN / "clip_tokens.json").read_text())["texts"]


def test_tokens_of_the_original() -> None:
    assert len(TEXTS) >= 100
    for text, tokens in TEXTS:
        assert encode_prompt(text) == tokens, text


def test_a_prompt_has_marks_and_zeros_behind() -> None:
    """The numbers that everybody quotes for this sentence."""
    row = prompt_tokens("a photo of a cat")
    assert row.shape == (1, CONTEXT) and row.dtype == np.int64
    assert row[0, :7].tolist() == [BOS, 320, 1125, 539, 320, 2368, EOS] and not row[0, 7:].any()
    assert row[0].argmax() == 6, "the end mark is the largest number: the text tower finds it so"


def test_the_vocabulary_has_a_number_for_everything() -> None:
    assert len(tokenizer._numbers()) == N_TOKENS - 2
    assert sorted(tokenizer._numbers().values()) == list(range(N_TOKENS - 2))


def decoded(tokens: list[int]) -> str:
    symbols = {number: symbol for symbol, number in tokenizer._numbers().items()}
    bytes_of = {letter: byte for byte, letter in tokenizer._byte_letters().items()}
    text = "".join(symbols[token] for token in tokens).replace("</w>", " ")
    return b"".join(b" " if letter == " " else bytes([bytes_of[letter]]) for letter in text).decode()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=200, deadline=None)
def test_nothing_of_a_text_is_lost(text: str) -> None:
    """Decoding gives the pieces back, and the pieces are the text without its spaces."""
    cleaned = clean(text)
    cut = list(pieces(cleaned))
    assert "".join(cut) == "".join(c for c in cleaned if not c.isspace())
    assert decoded(encode_prompt(text)) == "".join(f"{piece} " for piece in cut)
    for piece in cut:
        kinds = {unicodedata.category(c)[0] for c in piece if not c.isspace()}
        assert kinds <= {"L"} or not kinds & {"L", "N"} or len(piece) == 1 or piece in tokenizer._CONTRACTIONS


@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_case_and_spacing_do_not_matter(text: str) -> None:
    try:
        tokens = encode_prompt(text)
    except AgentError:
        return
    assert encode_prompt(clean(text)) == tokens or "&" in clean(text)
    assert encode_prompt(f"  {text}\n") == tokens


@pytest.mark.parametrize(("text", "words"), [
    ("tree " * 76, "has 76 tokens, and the text tower reads 75"), (7, "expected a text, got int"),
    ("\ud800", "not Unicode"), ("chop <|EndOfText|> a tree", "marks the ends"),
])
def test_prompts_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        prompt_tokens([text])


def test_the_longest_prompt() -> None:
    row = prompt_tokens("tree " * 75)[0]
    assert row[-1] == EOS and (row[1:-1] == encode_prompt("tree")[0]).all()


@pytest.mark.parametrize("found", [b"not a table", None])
def test_a_damaged_vocabulary_is_refused(found: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    if found is not None:
        path.write_bytes(gzip.compress(found))
    monkeypatch.setattr(tokenizer, "_TABLE", path)
    with pytest.raises(AgentError, match="damaged" if found else "missing"):
        tokenizer._merges.__wrapped__()
