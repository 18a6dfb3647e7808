"""A layer of attention with a temperature."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from logitherm._array import describe
from logitherm.attention.tempered import tempered_attention


class TemperedAttention(nn.Module):
    """Multi-head attention whose temperature is anything that `tempered_attention` takes.

    Parameters
    ----------
    width, heads : int
        `width` must be a multiple of `heads`.
    key_heads : int, optional
        Default `heads`; a divisor of it.
    temperature : float, tensor, Temperature, SetPoint or rule, optional
        A parameter of a rule, `LogLength(nn.Parameter(...))`, is one of the layer, learned and saved with it.
        `LearnableTemperature(torch.full((heads, 1), math.sqrt(width / heads)))` is one a head, learned with the layer.
    bias : bool
        Whether the projections have one.
    dropout : float
        Of weights, in training.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> from logitherm.thermostat import LearnableTemperature
    >>> layer = TemperedAttention(16, 2, temperature=LearnableTemperature(torch.full((2, 1), math.sqrt(8))))
    >>> layer(torch.zeros(1, 5, 16), causal=True).shape
    torch.Size([1, 5, 16])
    >>> [name for name, _ in layer.named_parameters() if "temperature" in name]
    ['temperature.log_temperature']
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        key_heads: int | None = None,
        temperature: Any = None,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        key_heads = heads if key_heads is None else key_heads
        if heads < 1 or key_heads < 1 or width < 1 or width % heads or heads % key_heads:
            raise ValueError(
                f"heads: must divide the width {width}, and be a multiple of key_heads; got {heads} and {key_heads}; "
                "change one"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: must be at least 0 and below 1; got {dropout}; it is a share of the weights")
        self.heads, self.key_heads, self.dropout = heads, key_heads, dropout
        self.temperature = temperature
        if not isinstance(temperature, nn.Module):
            for name, value in getattr(temperature, "__dict__", {}).items():
                if isinstance(value, nn.Parameter):
                    self.register_parameter(f"temperature_{name}", value)
        size = width // heads
        self.query = nn.Linear(width, width, bias)
        self.key = nn.Linear(width, key_heads * size, bias)
        self.value = nn.Linear(width, key_heads * size, bias)
        self.out = nn.Linear(width, width, bias)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        hard: bool = False,
        step: Any = None,
    ) -> Tensor:
        """From queries x (batch, n, width) and keys and values of `context`, or of x itself."""
        context = x if context is None else context
        for name, given in (("x", x), ("context", context)):
            if given.ndim != 3 or given.shape[-1] != self.query.in_features or len(given) != len(x):
                raise ValueError(
                    f"{name}: must be (batch, tokens, {self.query.in_features}), of one batch; got {describe(given)}; "
                    "reshape it"
                )
        q = self._split(self.query(x), self.heads)
        k, v = (self._split(projection(context), self.key_heads) for projection in (self.key, self.value))
        found = tempered_attention(
            q, k, v, temperature=self.temperature, mask=mask, causal=causal, hard=hard, step=step,
            dropout=self.dropout if self.training else 0.0,
        )  # fmt: skip
        return self.out(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    @staticmethod
    def _split(x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)
