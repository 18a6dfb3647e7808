"""Hugging Face causal language models as `next_logits`, with their cache of keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

try:
    import torch
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.causal_lm", "torch", "torch") from error


class CausalLM:
    """The logits of the next token of each sequence, for `logitherm.generation.runs.draw_texts` and `choose`.

    Sequences that are those of the call before with one token more, some of them left out, cost one step of the model;
    others are read anew, padded on the left. Logits come out in the dtype of the model, on its device.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of `AutoModelForCausalLM`, or anything called like one; it is put into evaluation mode.
    cache : bool
        False for models that have no cache which can be cut to some of its rows.

    References
    ----------
    Wolf et al. (2020), Transformers: state-of-the-art natural language processing.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1, n_positions=32))
    >>> next_logits = CausalLM(model)
    >>> tuple(next_logits([[1, 2, 3], [4]]).shape)
    (2, 50)
    """

    def __init__(self, model: Any, *, cache: bool = True) -> None:
        self.model = model.eval()
        self.cache = cache
        self._accepted = set(inspect.signature(model.forward).parameters)
        self._name = "cache" if "cache" in self._accepted else "past_key_values"  # transformers before 5.24
        self.steps = 0  # calls that a cache made cheap
        self._known: list[list[int]] = []
        self._past: Any = None
        self._mask: Any = None

    def __call__(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        asked = [list(map(int, sequence)) for sequence in sequences]
        rows = self._continued(asked)
        if rows is None:
            width = max(map(len, asked))
            tokens = self._tensor([[0] * (width - len(each)) + each for each in asked])
            self._mask = self._tensor([[0] * (width - len(each)) + [1] * len(each) for each in asked])
            self._past = None
        else:
            if len(rows) < len(self._known):
                self._past.batch_select_indices(self._tensor(rows))
                self._mask = self._mask[self._tensor(rows)]
            tokens = self._tensor([each[-1:] for each in asked])
            self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
            self.steps += 1
        options = {
            "attention_mask": self._mask,
            "position_ids": (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :],
            self._name: self._past,
            "use_cache": self.cache,
            "logits_to_keep": 1,
        }
        with torch.no_grad():
            answer = self.model(tokens, **{name: value for name, value in options.items() if name in self._accepted})
        self._known = asked
        self._past = getattr(answer, self._name) if self.cache else None
        return answer.logits[:, -1]

    def _continued(self, asked: list[list[int]]) -> list[int] | None:
        """The rows of the call before that these continue by a token, in order; None where they are others."""
        if self._past is None:
            return None
        rows, start = [], 0
        for each in asked:
            for row in range(start, len(self._known)):
                if self._known[row] == each[:-1]:
                    rows.append(row)
                    start = row + 1
                    break
            else:
                return None
        return rows

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, device=self.model.device)
