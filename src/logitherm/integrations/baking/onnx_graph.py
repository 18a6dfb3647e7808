"""ONNX: into the last Gemm or MatMul of a graph, or as nodes behind the logits where there is none to hold it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from logitherm.integrations.baking.fold import Baked, fitted_to, fold, is_temperature
from logitherm.io import InputError
from logitherm.kernels.affine import Affine

STANDARD = ("", "ai.onnx")  # domains
TYPES: dict[int, Any] = {1: np.float32, 10: np.float16, 11: np.float64}  # of onnx.TensorProto
PROBABILITIES = ("Softmax", "LogSoftmax", "Sigmoid")
SAME = ("Identity", "Cast")
SHAPES = ("Squeeze", "Unsqueeze", "Flatten", "Reshape")
SOFTMAX_LAST = 13  # operator set from which a Softmax is over the last axis by default
FREE_CONSTANTS = 4  # version of the format from which constants need not be listed among the inputs
BROADCAST = 7  # operator set from which Div, Mul and Add broadcast


def fold_graph(model: Any, mapped: Affine, output: str | None) -> Baked:
    """Change a model of onnx in place."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    chosen = logits = _output(graph, output)
    end = makers.get(_behind(makers, chosen, (*SAME, *SHAPES)))
    if end is not None and end.op_type in PROBABILITIES:
        logits = end.input[0]
    kind = _types(model).get(logits)
    source = _behind(makers, logits, (*SAME, *SHAPES))
    _require_logits(makers.get(source), kind, chosen)
    if logits != chosen:
        _require_last_axis(end, mapped, kind, model)
    reshaped = source != _behind(makers, logits, SAME)
    return _fold_layer(model, makers, source, mapped, reshaped) or _insert(model, makers[logits], logits, kind, mapped)


def _output(graph: Any, name: str | None) -> str:
    names = [value.name for value in graph.output]
    if name is None and len(names) > 1:
        raise InputError(f"output: must be named where there are several; got None for {', '.join(names)}; name one")
    if name is not None and name not in names:
        raise InputError(f"output: must be one of {', '.join(names)}; got {name!r}; name one")
    return name or names[0]


def _behind(makers: dict[str, Any], name: str, kinds: Collection[str]) -> str:
    """What a tensor is made of, before operators of these kinds."""
    while name in makers and makers[name].op_type in kinds and makers[name].domain in STANDARD:
        name = makers[name].input[0]
    return name


def _types(model: Any) -> dict[str, Any]:
    """The types of tensors that are known, by name."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: value.type.tensor_type
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type")
    }


def _require_logits(maker: Any, kind: Any, chosen: str) -> None:
    problem = None
    if maker is None:
        problem = "no node makes them"
    elif maker.domain == "ai.onnx.ml":
        problem = f"{maker.op_type} makes probabilities or labels inside; bake the scikit-learn model before its export"
    elif maker.op_type in PROBABILITIES:
        problem = f"{maker.op_type} makes probabilities; bake the model before its export"
    elif kind is None or kind.elem_type not in TYPES:
        problem = "they are not of float16, float32 or float64; name another output"
    if problem:
        raise InputError(f"output: must be logits, or probabilities of them; got {chosen!r}, where {problem}")


def _require_last_axis(softmax: Any, mapped: Affine, kind: Any, model: Any) -> None:
    """Raise where classes are not on the last axis, unless all are mapped alike."""
    if softmax.op_type == "Sigmoid" or is_temperature(mapped):
        return
    axis = _attributes(softmax).get("axis", -1 if _opset(model) >= SOFTMAX_LAST else 1)
    rank = len(kind.shape.dim) if kind.HasField("shape") else None
    if axis != -1 and rank is not None and axis != rank - 1:
        raise InputError(
            f"output: must have its classes on the last axis; got {softmax.op_type} over axis {axis} of {rank}; "
            "use TemperatureScaling, or transpose"
        )


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _opset(model: Any) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 1)


def _uses(graph: Any) -> Iterator[str]:
    """Every reading of a name, in the bodies of If, Loop and Scan too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _uses(body)
    yield from (value.name for value in graph.output)


def _fresh(graph: Any, name: str) -> str:
    """This name, or the next one that nothing has."""
    taken = {n for node in graph.node for n in (*node.input, *node.output, node.name)}
    taken |= {value.name for value in (*graph.initializer, *graph.input, *graph.value_info)}
    return next(n for n in (name, *(f"{name}_{i}" for i in range(len(taken) + 1))) if n not in taken)


# -- into a layer ----------------------------------------------------------------------------------------


def _fold_layer(model: Any, makers: dict[str, Any], logits: str, mapped: Affine, reshaped: bool) -> Baked | None:
    """Fold into the layer that makes these logits, if one does whose weights are its own."""
    graph = model.graph
    uses = list(_uses(graph))
    inputs = {value.name for value in graph.input}
    replaceable = inputs if model.ir_version >= FREE_CONSTANTS else set()
    own = {
        tensor.name: tensor
        for tensor in graph.initializer
        if uses.count(tensor.name) == 1 and tensor.name not in replaceable and tensor.data_type in TYPES
    }
    layer, addend = makers[logits], None
    if layer.op_type == "Add":
        products = [name for name in layer.input if name in makers and makers[name].op_type == "MatMul"]
        if len(products) != 1 or uses.count(products[0]) != 1:
            return None
        addend = next(name for name in layer.input if name != products[0])
        layer = makers[products[0]]
    if layer.domain not in STANDARD or layer.op_type not in ("Gemm", "MatMul"):
        return None
    if len(layer.input) > 2 and layer.input[2]:
        addend = layer.input[2]
    stored, constant = own.get(layer.input[1]), own.get(addend or "")
    if stored is None or len(stored.dims) != 2 or (addend is not None and constant is None):
        return None
    options = _attributes(layer)
    inputs_first = not options.get("transB", 0)
    weight = _values(stored).T if inputs_first else _values(stored)
    outputs, bias = len(weight), None
    if constant is not None:
        values = _values(constant)
        if values.size not in (1, outputs) or values.size != (values.shape or (1,))[-1]:
            return None
        if values.size != outputs and constant.name in inputs:  # its shape is declared
            return None
        bias = options.get("beta", 1.0) * np.broadcast_to(values.reshape(-1), (outputs,))
    where = f"{layer.op_type} {(layer.name or logits)!r}"
    mapped = fitted_to(mapped, outputs, where)
    lacks_bias = bias is None and mapped.bias.any()
    if (reshaped and outputs > 1 and not is_temperature(mapped)) or (lacks_bias and layer.op_type == "MatMul"):
        return None
    new_weight, new_bias = fold(mapped, weight, bias, largest=float(np.finfo(TYPES[stored.data_type]).max), where=where)
    _store(stored, new_weight.T if inputs_first else new_weight)
    if constant is not None:
        _store(constant, np.reshape(np.asarray(new_bias), (*constant.dims[:-1], outputs)))
    elif new_bias is not None:
        name = _add_constant(model, f"{layer.input[1]}_bias", new_bias, stored.data_type)
        del layer.input[2:]
        layer.input.append(name)
    for attribute in layer.attribute:
        if attribute.name == "beta":
            attribute.f = 1.0
    return Baked(where, folded=True)


def _values(tensor: Any) -> np.ndarray:
    from onnx import numpy_helper

    values: np.ndarray = numpy_helper.to_array(tensor).astype(np.float64)
    return values


def _tensor(values: Any, name: str, data_type: int) -> Any:
    from onnx import numpy_helper

    with np.errstate(over="ignore"):
        stored = np.asarray(values).astype(TYPES[data_type])
    if np.isinf(stored).any() and np.isfinite(values).all():
        raise ValueError(
            f"calibrator: must fit the graph's {stored.dtype}; got numbers up to {np.abs(values).max():.3g}; "
            "export the model in float32"
        )
    return numpy_helper.from_array(np.ascontiguousarray(stored), name)


def _store(tensor: Any, values: np.ndarray) -> None:
    tensor.CopyFrom(_tensor(values, tensor.name, tensor.data_type))


def _add_constant(model: Any, name: str, values: Any, data_type: int) -> str:
    """Its name in the graph."""
    model.ir_version = max(model.ir_version, FREE_CONSTANTS)
    name = _fresh(model.graph, name)
    model.graph.initializer.append(_tensor(values, name, data_type))
    return name


# -- behind the logits -----------------------------------------------------------------------------------


def _insert(model: Any, maker: Any, logits: str, kind: Any, mapped: Affine) -> Baked:
    """Nodes that map what the maker gives: whatever reads the logits by their name reads mapped ones."""
    from onnx import helper

    if _opset(model) < BROADCAST:
        raise InputError(
            f"model: must have operator set {BROADCAST} or later for a node to be inserted; got {_opset(model)}; "
            "convert it with onnx.version_converter"
        )
    graph = model.graph
    dims = list(kind.shape.dim) if kind.HasField("shape") else []
    outputs = 1 if len(dims) == 1 else dims[-1].dim_value if dims else 0  # 0: not known
    if outputs:
        mapped = fitted_to(mapped, outputs, f"output {logits!r}")
    elif not is_temperature(mapped):  # broadcasting would make up classes
        raise InputError(
            f"model: must have a known number of classes at {logits!r} for a calibrator with numbers of its own for "
            "every class; the graph does not say; export with a fixed last axis, or use TemperatureScaling"
        )
    steps: list[tuple[str, Any]] = []
    if is_temperature(mapped):
        steps.append(("Div", 1 / mapped.scale.reshape(-1)[0]))
    elif mapped.matrix is not None:
        steps.append(("MatMul", (np.diag(mapped.scale) + mapped.matrix).T))
    else:
        steps.append(("Mul", mapped.scale))
    if mapped.bias.any():
        steps.append(("Add", mapped.bias))
    place = next(i for i, node in enumerate(graph.node) if logits in node.output) + 1
    current = _fresh(graph, f"{logits}_uncalibrated")
    maker.output[list(maker.output).index(logits)] = current
    for step, (operator, values) in enumerate(steps):
        constant = _add_constant(model, f"calibrator_{operator}_constant", values, kind.elem_type)
        result = logits if step == len(steps) - 1 else _fresh(graph, f"{logits}_scaled")
        name = _fresh(graph, f"calibrator_{operator}")
        graph.node.insert(place + step, helper.make_node(operator, [current, constant], [result], name=name))
        current = result
    return Baked(f"{' and '.join(operator for operator, _ in steps)} after {maker.op_type}", folded=False)
