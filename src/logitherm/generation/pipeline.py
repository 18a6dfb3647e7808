"""A sampler as data: an ordered list of steps, and the draw at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, is_array, is_torch, like, namespace, to_numpy
from logitherm.generation import fast
from logitherm.generation.draws import Draws
from logitherm.generation.noise import DRAW, as_words, uniforms
from logitherm.generation.steps import Context, Mirostat, RepetitionPenalty, Step, Temperature
from logitherm.gibbs import softmax
from logitherm.kernels.sampling import Rows, inverse_cdf, may_run, noise

ROUTES = ("auto", "kernels", "reference")
ON_ERROR = ("raise", "row")


class Pipeline:
    """Steps in the order in which they change the logits, and then one draw a request.

    A step is called with logits (rows, states) and returns such, -inf for a state that it removes; those of this
    library are frozen dataclasses, whose parameters are numbers or arrays with one entry a request. On the CPU, steps
    are fused where their order allows it, with the same law: `repr` says which.

    Parameters
    ----------
    steps : iterable of Step
        Without any the model's own law is drawn from.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation import Pipeline, Temperature, TopK, TopP
    >>> pipeline = Pipeline([Temperature(0.7), TopK(50), TopP(0.9)])
    >>> pipeline
    Pipeline([Temperature(0.7), TopK(50), TopP(0.9)])  # CPU: Temperature, TopK by threshold; TopP on what they keep
    >>> z = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    >>> drawn = pipeline.sample(z, seed=7, position=0)
    >>> drawn.kept.tolist()
    [41, 41]
    """

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self.steps: tuple[Step, ...] = tuple(steps)
        cooled = False
        for number, step in enumerate(self.steps):
            if not isinstance(step, Step):
                raise TypeError(
                    f"steps: must be steps, with a kind and a call; number {number} is {type(step).__name__}; give "
                    "Temperature(0.7), say"
                )
            if isinstance(step, RepetitionPenalty) and cooled:
                raise ValueError(
                    f"steps: a repetition penalty must come before any temperature, after which logits have no zero of "
                    f"their own; got it as number {number}; move it to the front"
                )
            cooled = cooled or isinstance(step, Temperature)
            if isinstance(step, Mirostat) and number < len(self.steps) - 1:
                raise ValueError("steps: mirostat must be the last, as it learns from what is drawn; move it there")

    def __repr__(self) -> str:
        return f"Pipeline([{', '.join(map(_called, self.steps))}])" + self._plan()

    def _plan(self) -> str:
        """What is fused on the CPU."""
        before, told, others = self._parts()
        if not told:
            return "" if not self.steps else "  # CPU: as defined"
        names = [type(step).__name__ for step in told]
        first = next((i + 1 for i, step in enumerate(told) if step.kind == "support"), len(told))
        fused, rest = names[:first], names[first:] + [type(step).__name__ for step in others]
        text = f"  # CPU: {', '.join(fused)} by threshold"
        if before:
            text += f" after {', '.join(type(step).__name__ for step in before)}"
        return text + (f"; {', '.join(rest)} on what they keep" if rest else "")

    def _parts(self) -> tuple[list[Step], list[Step], list[Step]]:
        """Steps before all thresholds, steps that thresholds tell, and the others."""
        start = 0
        while start < len(self.steps) and self.steps[start].needs_history:
            start += 1
        told, others = fast.split(self.steps[start:])
        if any(step.needs_history for step in others):  # they know tokens by their number, so nothing may be left out
            return list(self.steps), [], []
        return list(self.steps[:start]), told, others

    def process(self, logits: Array, **request: Any) -> Array:
        """Logits after every step, as each is defined: -inf for what is removed. Arguments are those of `sample`."""
        z, context, _ = self._start(logits, **request)
        _require_rows(z)
        for step in self.steps:
            z = step(z, context)
        return z

    def probabilities(self, logits: Array, **request: Any) -> Array:
        """The law that `sample` draws from, shape of the logits. Arguments are those of `sample`."""
        return softmax(self.process(logits, **request))

    def sample(
        self,
        logits: Array,
        *,
        seed: Any,
        position: Any,
        request: Any = None,
        history: Sequence[Sequence[int]] | Array | None = None,
        prompt_lengths: Any = 0,
        step: Any = None,
        memory: dict[str, np.ndarray] | None = None,
        on_error: str = "raise",
        route: str = "auto",
    ) -> Draws:
        """Draw one token for every row of logits.

        The noise is a function of (seed, request, position) alone (`logitherm.generation.noise` has the contract), so a
        request with its own seed, or its own number under one seed, has the same tokens in any batch.

        Parameters
        ----------
        logits : floating array, shape (rows, states)
            -inf forbids a state. Half types are computed in float32.
        seed : int or integer array, shape (rows,)
            0 <= seed < 2^64.
        position : int or integer array, shape (rows,)
            Which token of its request this is: another one for every call, or the noise repeats.
        request : integer array, shape (rows,), optional
            What tells requests with the same seed apart. The number of the row if there is one seed for all; 0 where
            every row has its own.
        history : sequence of token sequences, or integer array (rows, length), optional
            Tokens of every request so far, its prompt first, for steps that look at them; negative ones are padding.
        prompt_lengths : int or integer array
            How many of them are the prompt.
        step : any
            For temperatures that are schedules.
        memory : dict, optional
            `Draws.memory` of the call before.
        on_error : "raise" or "row"
            Whether a bad request is an error of the whole batch, or of its row alone: then its token is -1, its reason
            is in `Draws.errors`, and the others have theirs.
        route : "auto", "kernels" or "reference"
            The compiled kernels where they apply, or always, or never.

        Returns
        -------
        Draws

        Raises
        ------
        ValueError
            A request with NaN, +inf or nothing allowed; parameters out of range, with the request's number.

        Examples
        --------
        >>> import numpy as np
        >>> z = np.array([[2.0, 1.0, 0.0]] * 2)
        >>> Pipeline().sample(z, seed=1, position=0).token.tolist()
        [1, 0]
        >>> Pipeline().sample(z[1:], seed=1, request=[1], position=0).token.tolist()     # the second, alone
        [0]
        """
        if route not in ROUTES or on_error not in ON_ERROR:
            raise ValueError(
                f"route: must be one of {', '.join(ROUTES)} and on_error of {', '.join(ON_ERROR)}; got {route!r} and "
                f"{on_error!r}"
            )
        options: dict[str, Any] = {
            "seed": seed,
            "position": position,
            "request": request,
            "history": history,
            "prompt_lengths": prompt_lengths,
            "step": step,
            "memory": memory,
        }
        try:
            return self._sample(*self._start(logits, **options), route)
        except ValueError:
            if on_error == "raise":
                raise
        return self._row_by_row(logits, options, route)

    # -- one batch -----------------------------------------------------------------------------------------

    def _start(
        self,
        logits: Array,
        seed: Any = 0,
        position: Any = 0,
        request: Any = None,
        history: Any = None,
        prompt_lengths: Any = 0,
        step: Any = None,
        memory: dict[str, np.ndarray] | None = None,
    ) -> tuple[Array, Context, Array]:
        """Logits in the compute dtype, what goes with them, and the logits as they came."""
        z = as_logits(logits)
        if z.ndim != 2:
            raise ValueError(f"logits: must have shape (requests, states); got {tuple(z.shape)}; reshape them")
        rows = z.shape[0]
        words = [as_words(v, name) for v, name in ((seed, "seed"), (position, "position"))]
        if request is None:
            request = np.arange(rows) if words[0].ndim == 0 else 0
        words.append(as_words(request, "request"))
        for word, name in zip(words, ("seed", "position", "request")):
            if word.shape not in ((), (rows,)):
                raise ValueError(f"{name}: must be one number or one a request, shape ({rows},); got {word.shape}")
        seeds, positions, requests = (np.ascontiguousarray(np.broadcast_to(word, (rows,))) for word in words)
        compiled = may_run(to_numpy(z)) if not _on_device(z) else False

        def uniform(stream: int) -> np.ndarray:
            make = noise if compiled else uniforms
            return make(seeds, requests, positions, stream)

        lengths = np.broadcast_to(np.asarray(prompt_lengths), (rows,))
        kept = {name: np.array(value) for name, value in (memory or {}).items()}
        return z, Context(_histories(history, rows, self.steps), lengths, uniform, step, kept), logits

    def _sample(self, z: Array, context: Context, given: Array, route: str) -> Draws:
        plain = None if _on_device(z) else to_numpy(z)
        before, told, others = self._parts()
        outcome = None
        fusible = route != "reference" and bool(told or not self.steps)
        if plain is not None and fusible and (may_run(plain) or (route == "kernels" and plain.size)):
            outcome = self._by_kernels(np.ascontiguousarray(plain), before, [*told, *others], context)
        if outcome is None and route == "kernels":
            raise ValueError("route: the kernels must apply; these steps or logits are not for them; leave it out")
        route = "reference" if outcome is None else "kernels"
        if outcome is None:
            outcome = self._as_defined(z, context)
        for step in self.steps:
            if isinstance(step, Mirostat):
                step.update(outcome.log_probability, context)
        return Draws(
            token=like(outcome.token, given if is_array(given) else z),
            log_probability=outcome.log_probability,
            kept=outcome.kept,
            memory=context.memory,
            route=route,
            _logits=z,
            _support=_support_of(outcome, plain),
        )

    def _by_kernels(
        self, z: np.ndarray, before: Sequence[Step], steps: Sequence[Step], context: Context
    ) -> fast.Outcome | None:
        for step in before:
            z = step(z, context)
        rows = Rows(z)
        if not np.isfinite(rows.top).all():
            _require_rows(z)
        outcome = fast.run(rows, steps, context)
        if outcome is not None and before and outcome.floors is not None:
            outcome.states = _states_above(z, outcome.floors)  # thresholds are those of the changed logits
            outcome.floors = None
        return outcome

    def _as_defined(self, z: Array, context: Context) -> fast.Outcome:
        _require_rows(z)
        xp = namespace(z)
        for step in self.steps:
            z = step(z, context)
        uniform = xp.astype(like(context.uniform(DRAW), z), xp.float64)
        chosen, log_p = inverse_cdf(xp.astype(z, xp.float64), uniform)
        kept = to_numpy(z) > -math.inf
        states = np.where(kept, np.arange(kept.shape[1]), -1)
        return fast.Outcome(to_numpy(chosen), to_numpy(log_p), kept.sum(axis=1), states=states)

    # -- a batch with bad requests -------------------------------------------------------------------------

    def take(self, row: int) -> Pipeline:
        """The pipeline of one request: parameters that are arrays have its entry alone."""
        return Pipeline([_taken(step, row) for step in self.steps])

    def _row_by_row(self, logits: Array, options: dict[str, Any], route: str) -> Draws:
        z = as_logits(logits)
        rows = z.shape[0]
        token, log_p, kept = np.full(rows, -1, np.int64), np.full(rows, np.nan), np.zeros(rows, np.int64)
        errors: dict[int, str] = {}
        memory: dict[str, np.ndarray] = {}
        drawn: dict[int, Draws] = {}
        if options["request"] is None and np.ndim(options["seed"]) == 0:
            options = options | {"request": np.arange(rows)}
        for row in range(rows):
            own = {name: _entry(value, row, rows) for name, value in options.items() if name != "memory"}
            own["memory"] = {name: value[row : row + 1] for name, value in (options["memory"] or {}).items()}
            try:
                one = self.take(row)
                found = one._sample(*one._start(z[row : row + 1], **own), route)
            except ValueError as error:
                errors[row] = str(error).replace("request 0", f"request {row}")
                continue
            drawn[row] = found
            token[row], log_p[row], kept[row] = int(found.token[0]), found.log_probability[0], found.kept[0]
            for name, value in found.memory.items():
                memory.setdefault(name, np.full(rows, np.nan))[row] = value[0]
        return Draws(
            token=like(token, z),
            log_probability=log_p,
            kept=kept,
            errors=errors,
            memory=memory,
            route="kernels" if any(d.route == "kernels" for d in drawn.values()) else "reference",
            _logits=z,
            _support=lambda row: drawn[row].support(0) if row in drawn else np.zeros(0, np.int64),
        )


def _called(step: Step) -> str:
    """A step as it is written: parameters that are not their defaults."""
    if not is_dataclass(step):
        return repr(step)
    parts = []
    for i, f in enumerate(fields(step)):
        value = getattr(step, f.name)
        same = value is f.default or (np.ndim(value) == 0 and not is_array(value) and value == f.default)
        if i and same:
            continue
        text = f"<{len(value)} requests>" if np.ndim(value) else repr(value)
        parts.append(text if i == 0 else f"{f.name}={text}")
    return f"{type(step).__name__}({', '.join(parts)})"


def _taken(step: Step, row: int) -> Step:
    if not is_dataclass(step):
        return step
    arrays = {f.name: getattr(step, f.name) for f in fields(step) if np.ndim(getattr(step, f.name)) == 1}
    arrays = {name: np.asarray(value) for name, value in arrays.items() if name != "breakers"}
    changed = {name: value[row : row + 1] if row < len(value) else value for name, value in arrays.items()}
    return replace(step, **changed) if changed else step  # type: ignore[type-var]


def _entry(value: Any, row: int, rows: int) -> Any:
    """What one request has of a value that may have one entry a request."""
    many = (isinstance(value, (list, tuple)) or (is_array(value) and value.ndim > 0)) and len(value) == rows
    return value[row : row + 1] if many else value


def _require_rows(z: Array) -> None:
    """Raise for the first request whose logits are no law."""
    xp = namespace(z)
    top = to_numpy(xp.max(z, axis=-1))
    bad = ~np.isfinite(top)  # a maximum over NaN is NaN
    if bad.any():
        row = int(np.argmax(bad))
        what = "NaN" if np.isnan(top[row]) else "+inf" if top[row] > 0 else "no allowed token (all -inf)"
        raise ValueError(
            f"logits: must be finite or -inf with at least one finite; request {row} has {what}; mend the model or the "
            'mask, or pass on_error="row"'
        )


def _histories(history: Any, rows: int, steps: Sequence[Step]) -> list[np.ndarray]:
    if history is None:
        if any(step.needs_history for step in steps):
            names = ", ".join(type(step).__name__ for step in steps if step.needs_history)
            raise ValueError(f"history: must be given for {names}; got none; pass the tokens of every request")
        return [np.zeros(0, np.int64)] * rows
    if len(history) != rows:
        raise ValueError(f"history: must have one entry a request, {rows}; got {len(history)}; [] is one without")
    found = [to_numpy(tokens).astype(np.int64).reshape(-1) for tokens in history]
    return [tokens[tokens >= 0] for tokens in found]


def _states_above(z: np.ndarray, floors: np.ndarray) -> np.ndarray:
    return np.where(z >= floors[:, None], np.arange(z.shape[1]), -1)


def _support_of(outcome: fast.Outcome, z: np.ndarray | None) -> Any:
    def support(row: int) -> np.ndarray:
        if outcome.floors is not None and z is not None:
            return np.flatnonzero(z[row] >= outcome.floors[row])
        assert outcome.states is not None
        return outcome.states[row][outcome.states[row] >= 0]

    return support


def _on_device(z: Array) -> bool:
    return not isinstance(z, np.ndarray) and not (is_torch(z) and z.device.type == "cpu")
