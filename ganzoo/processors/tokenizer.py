"""Tokenizers as files: strict reading of a `tokenizer.json`, and what goes wrong in one sentence.

All are `tokenizers.Tokenizer`s; `vocabulary` makes them from data.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import CheckpointError, GanzooError
from ganzoo.utils.files import read_json
from ganzoo.utils.layout import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ganzoo.utils.files import Files

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
MAX_VOCAB = 300_000
MAX_TOKENIZER_BYTES = 64 << 20
# How much longer a tokenizer may make a text by its replacements: a few chained ones could otherwise fill any memory.
MAX_GROWTH = 100


def load_tokenizer(text: str) -> Tokenizer:
    """Builds the tokenizer that the text of a `tokenizer.json` describes; nothing in it is code.

    Text is never taken for a special token: a sample that holds the letters `<eos>` does not end there.

    Raises:
        CheckpointError: It describes none, or one that does not work.
    """
    from tokenizers import Tokenizer

    _check_growth(text)
    with explained(f"{TOKENIZER_FILE} is damaged", CheckpointError):
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        tokenizer.encode("a \ue000.", add_special_tokens=False)
        tokenizer.decode([0, 1], skip_special_tokens=False)
    return tokenizer


def read_tokenizer_files(repository: Files) -> tuple[str, dict[str, Any]]:
    """The text of a checkpoint's `tokenizer.json`, at most 64 MiB, and the content of its `tokenizer_config.json`.

    Raises:
        CheckpointError: One of them is missing, too large, no UTF-8 text, or no JSON.
    """
    paths = {name: repository.find(name) for name in (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE)}
    for name, path in paths.items():
        if path is None:
            raise CheckpointError(
                f"{repository.name} has no {name}, without which its model can neither read nor write"
            )
    return _read_text(paths[TOKENIZER_FILE]), read_json(paths[TOKENIZER_CONFIG_FILE])


def vocab_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id: a pretrained vocabulary may have holes."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_TOKENIZER_BYTES:,} bytes; it is no tokenizer")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged: not UTF-8 text ({error})") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None


def _check_growth(text: str) -> None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{TOKENIZER_FILE} is damaged: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{TOKENIZER_FILE} is damaged: it holds a {type(values).__name__}, not an object")
    growth = 1
    open_values: list[Any] = [values.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]
    while open_values:
        value = open_values.pop()
        if isinstance(value, dict):
            content = value.get("content")
            if value.get("type") == "Replace" and isinstance(content, str):
                growth *= max(1, len(content))
            elif value.get("type") == "Precompiled":
                growth *= 20
            open_values.extend(value.values())
        elif isinstance(value, list):
            open_values.extend(value)
        if growth > MAX_GROWTH:
            raise CheckpointError(f"{TOKENIZER_FILE} makes texts more than {MAX_GROWTH} times longer; it is hostile")


@contextlib.contextmanager
def explained(what: str, kind: type[GanzooError]) -> Iterator[None]:
    """Turns whatever the tokenizer's own code raises, its panics included, into one sentence."""
    try:
        yield
    except GanzooError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise kind(f"{what} ({lines[0]})") from None
