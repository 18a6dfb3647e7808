"""safetensors checkpoints: the bytes of one weight and its bias, and not another byte."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from logitherm.integrations.baking.fold import Baked, affine_map, fold
from logitherm.io import InputError, check_target, require_file, write_whole
from logitherm.io.errors import listing
from logitherm.kernels.affine import Affine

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
LARGEST_BF16 = float(np.uint32(0x7F7F0000).view(np.float32))
AGAIN = "write it again with safetensors"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "shared.weight")


def bake_safetensors(
    path: str | os.PathLike[str],
    calibrator: Any,
    output_path: str | os.PathLike[str],
    *,
    weight: str = "classifier.weight",
    bias: str | None = None,
    force: bool = False,
) -> Baked:
    """Write a checkpoint whose model has calibrated logits: the head's weight and bias differ, every other byte stays.

    Metadata, names, dtypes and the order in the file stay. Nothing is added: the code that loads the checkpoint would
    refuse or drop a tensor that it does not expect, so a map with a bias needs a head with one.

    Parameters
    ----------
    path : path of a .safetensors file
        Of a sharded checkpoint the shard that holds the head; it is read into memory.
    calibrator
        As in `logitherm.bake`.
    output_path : path
        Where to write, whole or not at all.
    weight : str
        The head's weight, shape (classes, features), of float16, bfloat16, float32 or float64.
    bias : str, optional
        Its bias, shape (classes,). By default the name of the weight with `bias` for `weight`, if there is such.
    force : bool
        Replace an existing file.

    Returns
    -------
    Baked

    Raises
    ------
    InputError
        A file that cannot be read or written; no such tensors; a head that is tied to the embeddings, where dividing
        it would change those too.
    TypeError, ValueError
        As in `logitherm.bake`; a map with a bias for a head that has none.

    References
    ----------
    The format: github.com/huggingface/safetensors#format.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.numpy import load_file, save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     old, new = f"{folder}/model.safetensors", f"{folder}/calibrated.safetensors"
    ...     save_file({"score.weight": np.eye(2, dtype=np.float32)}, old)
    ...     print(bake_safetensors(old, 2.0, new, weight="score.weight"))
    ...     load_file(new)["score.weight"].tolist()
    folded into 'score.weight'
    [[0.5, 0.0], [0.0, 0.5]]
    """
    mapped = affine_map(calibrator)
    check_target(output_path, force=force)
    source = Path(path)
    data, tensors = _read(source)
    done = _fold(data, tensors, source, mapped, weight, bias)
    write_whole(output_path, data, force=force)  # type: ignore[arg-type]  # any buffer can be written
    return done


def _read(path: Path) -> tuple[bytearray, dict[str, Any]]:
    """All bytes, and dtype, shape and place in them of every tensor."""
    require_file(path)
    with open(path, "rb") as file:
        data = bytearray(os.fstat(file.fileno()).st_size)
        file.readinto(data)
    size = int.from_bytes(data[:8], "little")
    try:
        if not 8 < 8 + size <= len(data):
            raise ValueError("its header is cut off")
        tensors = json.loads(data[8 : 8 + size])
        tensors.pop("__metadata__", None)
        for name, tensor in tensors.items():
            low, high = (8 + size + offset for offset in tensor["data_offsets"])
            if not 8 + size <= low <= high <= len(data):
                raise ValueError(f"{name!r} lies outside the file")
            tensors[name] = (tensor["dtype"], tuple(tensor["shape"]), slice(low, high))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = str(error)[:100]
        raise InputError(f"{path}: must be a safetensors file ({reason}); {AGAIN}") from error
    return data, tensors


def _fold(data: bytearray, tensors: dict[str, Any], path: Path, mapped: Affine, weight: str, bias: str | None) -> Baked:
    _require_untied(data, tensors, path, weight)
    if bias is not None and bias not in tensors:
        raise InputError(f"{path}: must hold the bias; it has no {bias!r}; leave it out for a head without one")
    bias = bias or f"{weight.removesuffix('weight')}bias"
    w = _values(data, tensors, path, weight, 2)
    b = _values(data, tensors, path, bias, 1) if bias in tensors else None
    if b is not None and len(b) != len(w):
        raise InputError(f"{path}: {bias!r} must have the {len(w)} rows of {weight!r}; it has {len(b)}; name another")
    largest = min(_largest(tensors[name][0]) for name in (weight, bias) if name in tensors)
    new_weight, new_bias = fold(mapped, w, b, largest=largest, where=repr(weight))
    if b is None and new_bias is not None:
        raise ValueError(
            f"calibrator: must have no bias for a head without one; {path} has no {bias!r}, and whatever loads it "
            "would drop or refuse a new tensor; use TemperatureScaling, or name the bias"
        )
    _store(data, tensors[weight], new_weight)
    if new_bias is not None:
        _store(data, tensors[bias], new_bias)
    return Baked(repr(weight) + (f" and {bias!r}" if new_bias is not None else ""), folded=True)


def _require_untied(data: bytearray, tensors: dict[str, Any], path: Path, weight: str) -> None:
    """Raise where the weight is not there, or its values are also those of another tensor."""
    advice = "untie and save the model first, or set the temperature of generation instead"
    tied = [name for name in tensors if name.endswith(EMBEDDINGS)]
    if weight not in tensors and weight.endswith("lm_head.weight") and tied:
        raise InputError(
            f"{path}: must hold a head of its own; it has no {weight!r}, which is tied to the embeddings {tied[0]!r}: "
            f"changing those would change the input too; {advice}"
        )
    if weight not in tensors:
        heads = [name for name, (_, shape, _) in tensors.items() if len(shape) == 2][::-1]
        raise InputError(
            f"{path}: must hold the weight of the head; it has no {weight!r}; matrices from its end: {listing(heads)}; "
            "name one, of a sharded checkpoint in the shard that holds it"
        )
    kind, shape, place = tensors[weight]
    everything = np.frombuffer(data, dtype=np.uint8)
    for name, (other_kind, other_shape, other) in tensors.items():
        alike = name != weight and (other_kind, other_shape) == (kind, shape)
        if alike and everything[place].any() and np.array_equal(everything[place], everything[other]):
            raise InputError(
                f"{path}: must hold a head of its own; {weight!r} is a copy of {name!r}, to which it seems tied; "
                f"{advice}"
            )


# -- numbers ---------------------------------------------------------------------------------------------


def _values(data: bytearray, tensors: dict[str, Any], path: Path, name: str, axes: int) -> np.ndarray:
    kind, shape, place = tensors[name]
    if kind not in TYPES or len(shape) != axes:
        due = "(classes, features)" if axes == 2 else "(classes,)"
        raise InputError(
            f"{path}: {name!r} must be float16, bfloat16, float32 or float64 of shape {due}; it is {kind} of shape "
            f"{shape}; name another, or dequantise it"
        )
    stored = np.frombuffer(data[place], dtype=TYPES[kind])
    if stored.size != math.prod(shape):
        raise InputError(f"{path}: {name!r} must have {math.prod(shape)} numbers; it has {stored.size}; {AGAIN}")
    if kind == "BF16":  # the upper half of a float32
        stored = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float64).reshape(shape)


def _store(data: bytearray, tensor: tuple[str, tuple[int, ...], slice], values: np.ndarray) -> None:
    kind, _, place = tensor
    if kind == "BF16":  # to nearest, ties to even
        bits = values.astype(np.float32).view(np.uint32)
        data[place] = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    else:
        data[place] = values.astype(TYPES[kind]).tobytes()


def _largest(kind: str) -> float:
    return LARGEST_BF16 if kind == "BF16" else float(np.finfo(TYPES[kind]).max)
