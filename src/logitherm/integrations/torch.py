"""A PyTorch module that divides the logits of another by a temperature, fitted straight from a data loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

try:
    import torch
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.torch", "torch", "torch") from error

from torch import Tensor, nn

from logitherm._array import HALF_TYPES, describe, dtype_name, require_temperature
from logitherm.calibration.temperature_scaling import heated
from logitherm.gibbs import softmax
from logitherm.integrations.sampling import evaluating
from logitherm.thermometer import TemperatureFit, fit_temperature

ORDINARY = None  # no limit


class TemperatureScaledModel(nn.Module):
    """logits / T of a classifier: probabilities that are honest on the data T was fitted to, the same predictions.

    The forward pass takes what the model takes and gives its logits divided by T, in their own dtype (float16 and
    bfloat16 are divided in float32), with gradients. Values are not looked at: NaN stays NaN.

    Limits: T = 0 makes the largest logits 0 and all others -inf; T = inf makes every allowed logit 0.

    Parameters
    ----------
    model : torch.nn.Module
        A trained classifier; it is held, not copied.
    temperature : float
        T in the units of the logits, 0 <= T <= inf.
    read : callable, optional
        Takes the logits from what the model returns, where that is not the logits alone:
        `read=lambda output: output.logits` for a Hugging Face model.
    axis : int
        The axis of the classes: 1 for the maps (rows, classes, height, width) of a segmentation.

    Attributes
    ----------
    temperature : Tensor
        T: a buffer of one float32 that `state_dict` carries and that goes wherever the model goes. Neither `.half()`
        nor `.double()` changes its dtype, for a T of 8 or 11 bits would be off by up to 0.4 %.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(2000, 3, generator=generator)
    >>> labels = torch.multinomial(x.softmax(1), 1, generator=generator)[:, 0]
    >>> overconfident = torch.nn.Linear(3, 3)
    >>> with torch.no_grad():
    ...     _ = overconfident.weight.copy_(2 * torch.eye(3))
    ...     _ = overconfident.bias.zero_()
    >>> model = TemperatureScaledModel(overconfident)
    >>> fit = model.fit(DataLoader(TensorDataset(x, labels), batch_size=256))
    >>> fit.interval[0] < 2.0 < fit.interval[1]
    True
    >>> bool(torch.allclose(model(x), overconfident(x) / fit.temperature))
    True
    """

    temperature: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        temperature: float = 1.0,
        read: Callable[[Any], Tensor] | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__()
        self.model = model
        self.read = read
        self.axis = axis
        self.register_buffer("temperature", torch.empty((), dtype=torch.float32, device=_device_of(model)))
        self.set_temperature(temperature)

    def set_temperature(self, temperature: float) -> None:
        """Make T another number, 0 <= T <= inf (the way to do it: the limits are noticed here)."""
        require_temperature(temperature)
        self._limit = _limit(temperature)
        self.temperature.fill_(float(temperature))

    def logits(self, *args: Any, **kwargs: Any) -> Tensor:
        """Logits of the model as they are."""
        output = self.model(*args, **kwargs)
        found = output if self.read is None else self.read(output)
        if not isinstance(found, Tensor):
            raise TypeError(
                f"read: must make a tensor of logits of the model's output; got {describe(found)}; "
                "pass read=lambda output: output.logits, say"
            )
        if not found.is_floating_point():
            raise TypeError(f"logits: must be floating point; got {describe(found)}; take the output before the argmax")
        return found

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Logits of the model divided by T."""
        z = self.logits(*args, **kwargs)
        wide = z.float() if dtype_name(z) in HALF_TYPES else z
        if self._limit is ORDINARY:
            return (wide / self.temperature).to(z.dtype)
        return heated(wide.movedim(self.axis, -1), self._limit).movedim(-1, self.axis).to(z.dtype)

    def predict_proba(self, *args: Any, **kwargs: Any) -> Tensor:
        """softmax(logits / T) in the mode the module is in, with gradients; NaN and +inf in a row raise."""
        return softmax(self.logits(*args, **kwargs), self.temperature, axis=self.axis)

    def fit(
        self,
        loader: Iterable[Any],
        *,
        ignore_index: int | None = None,
        zero_labels: str = "raise",
        confidence: float = 0.95,
        keep_logits: bool = True,
        device: torch.device | str | None = None,
    ) -> TemperatureFit:
        """Set T to the maximum-likelihood temperature of held-out batches.

        The model runs in evaluation mode without gradients, under whatever autocast is on; each module's mode and the
        random state of the CPU are as before afterwards. Where the fit fails, T is as before.

        Parameters
        ----------
        loader : iterable of batches
            (inputs, labels) or (inputs, labels, weights), where a tuple or list of inputs is several arguments of the
            model and a mapping is named ones; or mappings with "labels", whose other entries are named arguments.
        ignore_index : int
            A label that marks rows to leave out (-100 in PyTorch).
        zero_labels : "raise" or "exclude"
            What to do with rows whose label has logit -inf.
        confidence : float
            Level of the interval.
        keep_logits : bool
            True runs the model once and keeps the logits in memory, in their dtype: rows x classes x 4 bytes for
            float32, 200 MB for 50 000 images of 1000 classes. False keeps nothing and runs the model two to four times
            over data that must be the same each time, in any order.
        device : torch.device, optional
            Where inputs are put: by default where the first parameter of the model is.

        Returns
        -------
        TemperatureFit

        Raises
        ------
        TypeError, ValueError
            As `logitherm.fit_temperature`; batches of another form; a one-shot loader with `keep_logits=False`.
        """
        if not keep_logits and isinstance(loader, Iterator):
            raise ValueError(
                f"loader: must be readable more than once where logits are not kept; got a one-shot "
                f"{type(loader).__name__}; pass a DataLoader, or keep_logits=True"
            )
        made = _Batches(self, loader, _device_of(self.model) if device is None else device)
        with evaluating(self.model):
            found = fit_temperature(
                list(made) if keep_logits else made,
                ignore_index=ignore_index,
                zero_labels=zero_labels,
                confidence=confidence,
                axis=self.axis,
            )
        self.set_temperature(found.temperature)
        return found

    def extra_repr(self) -> str:
        return f"temperature={'?' if self.temperature.is_meta else f'{self.temperature.item():.4g}'}"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> TemperatureScaledModel:
        """What `.to`, `.half` and the like do: T moves with the model, but keeps its digits."""
        before = self.temperature
        super()._apply(fn, recurse)
        if self.temperature.dtype != before.dtype:
            self.temperature = before.to(self.temperature.device)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        loaded = state_dict.get(f"{prefix}temperature")
        if loaded is None:
            return
        try:
            require_temperature(loaded)
            self._limit = _limit(float(loaded))
        except (TypeError, ValueError) as error:
            rest[-1].append(str(error))  # the list of errors that load_state_dict raises with


class _Batches:
    """(logits, labels[, weights]) of every batch, on the CPU, made anew each time they are read."""

    def __init__(self, scaled: TemperatureScaledModel, loader: Iterable[Any], device: Any) -> None:
        self.scaled, self.loader, self.device = scaled, loader, device

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for number, batch in enumerate(self.loader):
            inputs, *observed = _parts(batch, number)
            inputs = _moved(inputs, self.device)
            if isinstance(inputs, Mapping):
                z = self.scaled.logits(**inputs)
            elif isinstance(inputs, (tuple, list)):
                z = self.scaled.logits(*inputs)
            else:
                z = self.scaled.logits(inputs)
            yield z.cpu(), *observed


def _parts(batch: Any, number: int) -> tuple[Any, ...]:
    """Inputs, labels and, where there are, weights of a batch."""
    if isinstance(batch, Mapping) and "labels" in batch:
        inputs = dict(batch)
        return inputs, inputs.pop("labels")
    if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
        return tuple(batch)
    got = f"a mapping of {sorted(batch)}" if isinstance(batch, Mapping) else describe(batch)
    raise ValueError(
        "loader: batches must be (inputs, labels), (inputs, labels, weights) or mappings with 'labels'; "
        f"batch {number} is {got}; make them so by the loader's collate_fn"
    )


def _moved(inputs: Any, device: Any) -> Any:
    """Inputs with every tensor in them on the device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return {name: _moved(value, device) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return [_moved(value, device) for value in inputs]
    return inputs


def _device_of(model: nn.Module) -> torch.device:
    """Where the first parameter or buffer of a model is; the CPU for a model without any."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def _limit(temperature: float) -> float | None:
    """T where it is 0 or inf in float32, to which no quotient leads."""
    with np.errstate(over="ignore"):
        rounded = float(np.float32(temperature))
    return ORDINARY if 0 < rounded < math.inf else rounded
