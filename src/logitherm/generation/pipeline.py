"""A sampler as data: an ordered list of steps, and the draw at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, is_array, like, namespace, to_numpy
from logitherm.generation import fast
from logitherm.generation.draws import Draws
from logitherm.generation.noise import DRAW
from logitherm.generation.requests import as_rows, context_of, entry, on_device, require_rows, step_of
from logitherm.generation.steps import XTC, Context, Mirostat, RepetitionPenalty, Step, Temperature
from logitherm.generation.steps.context import ShapeError
from logitherm.generation.steps.laws import softmax
from logitherm.kernels.sampling import inverse_cdf, may_run

ASK_FOR_ROWS = ', or pass on_error="row"'
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
    Pipeline([Temperature(0.7), TopK(50), TopP(0.9)])  # CPU: Temperature, TopK, TopP by threshold
    >>> z = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    >>> drawn = pipeline.sample(z, seed=7, position=0)
    >>> drawn.kept.tolist()
    [41, 41]
    """

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        if isinstance(steps, Step) or not isinstance(steps, Iterable):
            raise TypeError(f"steps: must be a list of steps; got {type(steps).__name__}; give Pipeline([step])")
        self.steps: tuple[Step, ...] = tuple(steps)
        cooled = False
        for number, step in enumerate(self.steps):
            if not isinstance(step, Step) or isinstance(step, type):
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

        self._plan = fast.plan(self.steps)

    def __repr__(self) -> str:
        return f"Pipeline([{', '.join(map(_called, self.steps))}])" + self._told()

    def _told(self) -> str:
        """What is fused on the CPU."""
        if self._plan is None or not self.steps:
            return "  # CPU: as defined" if self.steps else ""
        before, told, after = (", ".join(type(step).__name__ for step in part) for part in self._plan)
        text = f"  # CPU: {told} by threshold" if told else "  # CPU: drawn by blocks"
        return text + (f" after {before}" if before else "") + (f"; {after} on what they keep" if after else "")

    def process(self, logits: Array, **request: Any) -> Array:
        """Logits after every step, as each is defined: -inf for what is removed. Arguments are those of `sample`."""
        z = as_rows(logits)
        context = context_of(z, self.steps, **request)
        require_rows(z)
        for step in self.steps:
            z = step(z, context)
        return z

    def probabilities(self, logits: Array, **request: Any) -> Array:
        """The law that `sample` draws from, shape of the logits. Arguments are those of `sample`.

        Where a step has a chance of its own (XTC) it is the law after that chance, and `seed` must be given.
        """
        if "seed" not in request and any(isinstance(step, XTC) for step in self.steps):
            raise ValueError("seed: must be given, as whether XTC strikes is drawn; got none; pass that of the request")
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
            `Draws.memory` of the call before. Mirostat learns from it: without, every token is its first.
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
        for name, value, possible in (("route", route, ROUTES), ("on_error", on_error, ON_ERROR)):
            if value not in possible:
                raise ValueError(f"{name}: must be one of {', '.join(possible)}; got {value!r}; choose one")
        options: dict[str, Any] = {
            "seed": seed,
            "position": position,
            "request": request,
            "history": history,
            "prompt_lengths": prompt_lengths,
            "step": step,
            "memory": memory,
        }
        z = as_rows(logits)
        try:
            return self._sample(z, logits, options, route)
        except ShapeError:
            raise
        except ValueError:
            if on_error == "raise":
                raise
        return self._row_by_row(z, logits, options, route)

    # -- one batch -----------------------------------------------------------------------------------------

    def _sample(self, z: Array, given: Array, options: dict[str, Any], route: str) -> Draws:
        context = context_of(z, self.steps, **options)
        plain = None if on_device(z) else to_numpy(z)
        outcome = None
        if plain is not None and self._plan is not None and route != "reference" and plain.size:
            if route == "kernels" or may_run(plain):
                outcome = self._by_kernels(plain, self._plan, context)
        elif route == "kernels":
            raise ShapeError("route: the kernels must apply; these steps or logits are not for them; leave it out")
        route = "reference" if outcome is None else "kernels"
        if outcome is None:
            outcome = self._as_defined(z, context)
        if self.steps and isinstance(self.steps[-1], Mirostat):
            self.steps[-1].update(outcome.log_probability, context)
        return Draws(
            token=like(outcome.token, given if is_array(given) else z),
            log_probability=outcome.log_probability,
            kept=outcome.kept,
            memory=context.memory,
            route=route,
            _logits=z,
            _support=_support_of(outcome, plain),
        )

    def _by_kernels(self, z: np.ndarray, plan: fast.Plan, context: Context) -> fast.Outcome:
        if plan.before:
            require_rows(z)
            for step in plan.before:
                z = step(z, context)
        outcome = fast.run(z, plan.told, plan.after, context)
        if plan.before and outcome.floors is not None:  # thresholds are those of the changed logits
            outcome.states, outcome.floors = _states_above(z, outcome.floors), None
        return outcome

    def _as_defined(self, z: Array, context: Context) -> fast.Outcome:
        require_rows(z)
        xp = namespace(z)
        for step in self.steps:
            z = step(z, context)
        uniform = xp.astype(like(context.uniform(DRAW), z), xp.float64)
        chosen, log_p = inverse_cdf(xp.astype(z, xp.float64), uniform)
        kept = to_numpy(z) > -math.inf
        states = np.where(kept, np.arange(kept.shape[1]), -1)
        return fast.Outcome(to_numpy(chosen), to_numpy(log_p), kept.sum(axis=1), states=states)

    # -- a batch with bad requests -------------------------------------------------------------------------

    def take(self, row: int, rows: int) -> Pipeline:
        """The pipeline of one request out of so many: parameters that are arrays have its entry alone."""
        return Pipeline([step_of(step, row, rows) for step in self.steps])

    def _row_by_row(self, z: Array, given: Array, options: dict[str, Any], route: str) -> Draws:
        """Every request alone, which is what it has in a batch."""
        rows = z.shape[0]
        token, log_p, kept = np.full(rows, -1, np.int64), np.full(rows, np.nan), np.zeros(rows, np.int64)
        errors: dict[int, str] = {}
        memory = {name: np.array(value) for name, value in (options["memory"] or {}).items()}
        drawn: dict[int, Draws] = {}
        if options["request"] is None and np.ndim(options["seed"]) == 0:
            options = options | {"request": np.arange(rows)}
        for row in range(rows):
            own = {name: entry(value, row, rows) for name, value in options.items() if name != "memory"}
            own["memory"] = {name: value[row : row + 1] for name, value in (options["memory"] or {}).items()}
            try:
                one = z[row : row + 1]
                found = self.take(row, rows)._sample(one, one, own, route)
            except ShapeError:
                raise
            except ValueError as error:
                errors[row] = str(error).replace("request 0", f"request {row}").replace(ASK_FOR_ROWS, "")
                continue
            drawn[row] = found
            token[row], log_p[row], kept[row] = int(found.token[0]), found.log_probability[0], found.kept[0]
            for name, value in found.memory.items():
                memory.setdefault(name, np.full(rows, np.nan))[row] = value[0]
        return Draws(
            token=like(token, given if is_array(given) else z),
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
        text = f"<{len(value)} requests>" if np.ndim(value) else _written(value)
        parts.append(text if i == 0 else f"{f.name}={text}")
    return f"{type(step).__name__}({', '.join(parts)})"


def _written(value: Any) -> str:
    """A parameter; of a fitted calibrator its T too."""
    t = getattr(value, "temperature_", None)
    return repr(value) if t is None else f"{type(value).__name__} of T = {float(t):.4g}"


def _states_above(z: np.ndarray, floors: np.ndarray) -> np.ndarray:
    return np.where(z >= floors[:, None], np.arange(z.shape[1]), -1)


def _support_of(outcome: fast.Outcome, z: np.ndarray | None) -> Any:
    def support(row: int) -> np.ndarray:
        if outcome.floors is not None and z is not None:
            return np.flatnonzero(z[row] >= outcome.floors[row])
        assert outcome.states is not None
        return outcome.states[row][outcome.states[row] >= 0]

    return support
