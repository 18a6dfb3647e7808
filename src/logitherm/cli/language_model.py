"""Language models of transformers, and the texts that they read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def load_causal_lm(name: str, device: str, purpose: str) -> tuple[Any, Any]:
    """A tokenizer and a model in evaluation mode; transformers stays silent. `purpose` is for the missing extra."""
    try:
        import torch
        import transformers
    except ImportError as error:
        from logitherm.io import MissingExtra

        raise MissingExtra(purpose, "transformers", "transformers") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if (os.sep in name or name.startswith(".")) and not os.path.isdir(name):
        raise ValueError(f"{name}: no such folder; name that of a model, or a model of the hub")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        model = transformers.AutoModelForCausalLM.from_pretrained(name)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name}: cannot be loaded as a causal language model ({reason}); check its name") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes where there is none
        raise ValueError(f"{name}: must have a tokenizer; got none; save it there, by its save_pretrained")
    try:
        model.to(torch.device(device))  # type: ignore[arg-type]
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts that it was built for CUDA
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"device: must be one that PyTorch has here; got {device} ({reason}); cpu is one") from error
    return tokenizer, model.eval()


def read_documents(path: Path, column: str | None) -> list[str]:
    """What a column of a .jsonl says, row by row, as `datasets` writes it with `to_json`."""
    from logitherm.io import InputError

    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # a text of JSON may have other line ends
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: must be a JSON object a line; line {number} is none; mend it") from error
        name = column or "text"
        if not isinstance(row, dict) or not isinstance(row.get(name), str):
            got = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise InputError(
                f"{path}: must have a text in {name!r} on every line; line {number} has {got}; name another"
            )
        found.append(row[name])
    return found


def places_of(model: Any) -> int | None:
    """How many tokens a model can read, the prompt's and its own together; None where it does not say."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return None if found is None else int(found)


def read_text(path: Path) -> str:
    """A file of text in UTF-8."""
    from logitherm.io import InputError, require_file

    require_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be text in UTF-8; byte {error.start} is not; convert it") from error
