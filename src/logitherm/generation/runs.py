"""Texts drawn from a model at several temperatures, and the numbers of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from logitherm._array import Array
from logitherm.generation.pipeline import Pipeline
from logitherm.generation.steps import Temperature
from logitherm.generation.texts import TokenNumbers, token_numbers

NextLogits = Callable[[Sequence[Sequence[int]]], Array]
NUMBERS = tuple(TokenNumbers.__dataclass_fields__)


@dataclass(frozen=True)
class Runs:
    """Texts of one model, at every temperature and of every prompt.

    Attributes
    ----------
    temperatures : float64 array, shape (temperatures,)
        Rising.
    prompts : list of token lists
    texts : nested lists, [temperature][prompt][sample]
        The tokens that were drawn, without the prompt and without a stop token.
    counts : int64 array, shape (temperatures, prompts, samples)
        Draws of every text, that of a stop token included.
    sums : dict of float64 arrays of that shape
        Over the draws of every text, of each number of `TokenNumbers`.
    """

    temperatures: np.ndarray
    prompts: list[list[int]]
    texts: list[list[list[list[int]]]]
    counts: np.ndarray
    sums: dict[str, np.ndarray] = field(repr=False)

    @property
    def samples(self) -> int:
        """Texts of every prompt at every temperature."""
        return int(self.counts.shape[2])


def draw_texts(
    next_logits: NextLogits,
    prompts: Sequence[Sequence[int]],
    temperatures: Sequence[float] | np.ndarray,
    *,
    samples: int = 8,
    tokens: int = 64,
    stop: int | Sequence[int] = (),
    seed: int = 0,
    batch: int = 64,
    tell: Callable[[float], object] | None = None,
) -> Runs:
    """Draw texts from the laws softmax(z / T), with entropy, surprise and heat capacity of every token.

    The uniform numbers behind sample s of a prompt are the same at every temperature, so that texts of neighbouring
    temperatures begin alike and differences between temperatures are less a matter of chance.

    Parameters
    ----------
    next_logits : callable
        Of a list of token sequences, the logits of the next token of each, shape (sequences, states): NumPy or torch.
        A step asks for the sequences of the step before, each with its new token, less those that are done: a model
        with a cache can use that, as `logitherm.integrations.causal_lm.CausalLM` does.
    prompts : sequence of token sequences
        None of them empty.
    temperatures : sequence of floats
        0 <= T <= inf.
    samples : int
        Texts of every prompt at every temperature.
    tokens : int
        Longest text.
    stop : int or sequence of ints
        Tokens that end a text.
    seed : int
        Of all draws.
    batch : int
        Texts at a time.
    tell : callable, optional
        Told the share that is done.

    Returns
    -------
    Runs

    Raises
    ------
    ValueError
        No prompt, an empty one, temperatures out of range or twice, no samples, no tokens; or what
        `Pipeline.sample` raises.

    Examples
    --------
    A model of three words that goes round, and now and then elsewhere:

    >>> import numpy as np
    >>> def next_logits(sequences):
    ...     return np.array([[4.0 * (word == (s[-1] + 1) % 3) for word in range(3)] for s in sequences])
    >>> runs = draw_texts(next_logits, [[0]], [0.1, 5.0], samples=1, tokens=9)
    >>> runs.texts[0][0][0]
    [1, 2, 0, 1, 2, 0, 1, 2, 0]
    >>> (runs.sums["entropy"] / runs.counts)[:, 0, 0].round(3).tolist()
    [0.0, 1.02]
    """
    grid, asked = _checked(temperatures, prompts)
    for name, number in (("samples", samples), ("tokens", tokens), ("batch", batch)):
        if number < 1:
            raise ValueError(f"{name}: must be 1 at least; got {number}; ask for more")
    stops = {stop} if isinstance(stop, int) else set(stop)
    shape = (len(grid), len(asked), samples)
    found: dict[tuple[int, int, int], list[int]] = {}
    counts = np.zeros(shape, np.int64)
    sums = {name: np.zeros(shape) for name in NUMBERS}
    rows = [(t, p, s) for p in range(shape[1]) for t in range(shape[0]) for s in range(samples)]
    for start in range(0, len(rows), batch):
        alive = rows[start : start + batch]
        found.update((row, []) for row in alive)
        for position in range(tokens):
            drawn, numbers = _draw(next_logits, asked, found, alive, grid, samples, seed, position)
            at = tuple(np.array(alive).T)
            counts[at] += 1
            for name, values in numbers.items():
                sums[name][at] += values
            going = [(row, token) for row, token in zip(alive, drawn) if token not in stops]
            for row, token in going:
                found[row].append(token)
            alive = [row for row, _ in going]
            if not alive:
                break
            if tell is not None:
                tell((start + min(batch, len(rows) - start) * (position + 1) / tokens) / len(rows))
    texts = [[[found[t, p, s] for s in range(samples)] for p in range(shape[1])] for t in range(shape[0])]
    return Runs(grid, asked, texts, counts, sums)


Row = tuple[int, int, int]


def _draw(
    next_logits: NextLogits,
    prompts: list[list[int]],
    found: dict[Row, list[int]],
    alive: list[Row],
    grid: np.ndarray,
    samples: int,
    seed: int,
    position: int,
) -> tuple[list[int], dict[str, np.ndarray]]:
    """One token for every text that is not done."""
    logits = next_logits([prompts[row[1]] + found[row] for row in alive])
    t = grid[[row[0] for row in alive]]
    request = np.array([row[1] * samples + row[2] for row in alive])
    drawn = Pipeline([Temperature(t)]).sample(logits, seed=seed, position=position, request=request)
    return [int(token) for token in drawn.token], vars(token_numbers(logits, drawn.token, t))


def _checked(
    temperatures: Sequence[float] | np.ndarray, prompts: Sequence[Sequence[int]]
) -> tuple[np.ndarray, list[list[int]]]:
    grid = np.unique(np.asarray(temperatures, dtype=np.float64))
    if grid.size == 0 or grid.size < len(temperatures) or not (grid >= 0).all():
        raise ValueError(
            f"temperatures: must be different numbers of at least 0; got {list(temperatures)}; give [0.5, 1.0], say"
        )
    asked = [[int(token) for token in prompt] for prompt in prompts]
    if not asked or not all(asked):
        raise ValueError("prompts: must be one at least, and none empty; give each a token that begins a text")
    return grid, asked


def text_logits(
    next_logits: NextLogits, texts: Sequence[Sequence[int]], *, tokens: int | None = None, batch: int = 64
) -> Iterator[tuple[np.ndarray, Array, np.ndarray]]:
    """Logits of every token of given texts but their first, with the tokens that came and the number of their text.

    Parameters
    ----------
    next_logits : callable
        As of `draw_texts`.
    texts : sequence of token sequences
    tokens : int, optional
        How many tokens of each to read.
    batch : int
        Texts at a time.

    Yields
    ------
    text : integer array, shape (rows,)
    logits : array, shape (rows, states)
    token : integer array, shape (rows,)

    Examples
    --------
    >>> import numpy as np
    >>> (part,) = text_logits(lambda sequences: np.zeros((len(sequences), 5)), [[1, 2]])
    >>> part[1].shape, part[2].tolist()
    ((1, 5), [2])
    """
    cut = [list(map(int, text[:tokens])) for text in texts]
    for start in range(0, len(cut), batch):
        numbers = list(range(start, min(start + batch, len(cut))))
        for position in range(1, max((len(cut[i]) for i in numbers), default=0)):
            numbers = [i for i in numbers if len(cut[i]) > position]
            logits = next_logits([cut[i][:position] for i in numbers])
            yield np.array(numbers), logits, np.array([cut[i][position] for i in numbers])
