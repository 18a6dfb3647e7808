"""ONNX: a file read, changed and written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from logitherm.integrations.baking.fold import Baked, affine_map
from logitherm.integrations.baking.onnx_graph import fold_graph
from logitherm.io import InputError, MissingExtra, check_target, require_file, write_whole

MOST_BYTES = 2**31 - 2**20  # of one protocol buffer, less the graph itself


def bake_onnx(
    path: str | os.PathLike[str],
    calibrator: Any,
    output_path: str | os.PathLike[str],
    *,
    output: str | None = None,
    force: bool = False,
) -> Baked:
    """Write an ONNX model whose logits are calibrated: names, shapes and dtypes of its outputs stay.

    Where the logits come from a Gemm, a MatMul or a MatMul and an Add whose weights are stored in the file and used
    nowhere else, the map is folded into those weights, at no cost at inference. Otherwise a Div (or Mul, MatMul, Add)
    is put behind the logits. A Softmax, LogSoftmax or Sigmoid at the output is taken to act on the logits that the
    calibrator was fitted to, any other output for those logits; whatever else reads them, other outputs too, reads
    calibrated ones.

    Parameters
    ----------
    path : path of an .onnx file
        float16, float32 or float64. Weights in files beside it are read, and written into the new file.
    calibrator
        As in `logitherm.bake`: classes are on the last axis.
    output_path : path
        Where to write, whole or not at all.
    output : str, optional
        Name of the output, where the graph has several.
    force : bool
        Replace an existing file.

    Returns
    -------
    Baked
        What was done: `folded` into which layer, or which node was inserted.

    Raises
    ------
    MissingExtra
        onnx is not installed.
    InputError
        A file that cannot be read or written, is no sound ONNX model, or would be larger than 2 GB; an output that is
        no logits, or of an unknown number of classes where a node of one number a class would be inserted.
    TypeError, ValueError
        As in `logitherm.bake`.

    References
    ----------
    The ONNX operators Gemm, MatMul and Softmax: onnx.ai/onnx/operators.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper, save
    >>> weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "weight")
    >>> value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
    >>> node = helper.make_node("MatMul", ["x", "weight"], ["logits"], name="head")
    >>> graph = helper.make_graph([node], "g", [value("x")], [value("logits")], [weight])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(helper.make_model(graph), f"{folder}/model.onnx")
    ...     print(bake_onnx(f"{folder}/model.onnx", 1.7, f"{folder}/calibrated.onnx"))
    folded into MatMul 'head'
    """
    mapped = affine_map(calibrator)
    check_target(output_path, force=force)
    model = _read(Path(path))
    done = fold_graph(model, mapped, output)
    write_whole(output_path, _serialised(model), force=force)
    return done


def _read(path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtra(f"reading {path}", "onnx", "onnx") from error
    require_file(path)
    try:
        model = onnx.load(path)
        if sum(len(tensor.raw_data) for tensor in model.graph.initializer) >= MOST_BYTES:
            raise InputError(f"{path}: must be less than 2 GB with its weights; it is more; bake it before the export")
        onnx.checker.check_model(model)
    except InputError:
        raise
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: must be a sound ONNX model ({reason}); export it again") from error
    return model


def _serialised(model: Any) -> bytes:
    import onnx

    data: bytes = model.SerializeToString()
    onnx.checker.check_model(data)
    return data
