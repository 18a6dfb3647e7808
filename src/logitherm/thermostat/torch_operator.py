"""The search as a PyTorch operator, so that compile and vmap see one opaque step instead of a loop that depends on
values."""

from __future__ import annotations

import torch

from logitherm.thermostat.search import Answer, Problem, search


@torch.library.custom_op("logitherm::solve_temperature", mutates_args=())
def _solve(
    z: torch.Tensor,
    log_prior: torch.Tensor | None,
    reference_temperature: torch.Tensor,
    goal: torch.Tensor,
    name: str,
    side: str,
    pooled: bool,
) -> list[torch.Tensor]:
    problem = Problem(name, side or None, pooled, z, log_prior, reference_temperature)
    return [v.clone() for v in search(problem, goal)]


@_solve.register_fake
def _(z, log_prior, reference_temperature, goal, name, side, pooled):
    return [
        torch.empty_like(goal),
        torch.empty_like(goal, dtype=torch.bool),
        torch.empty_like(goal),
        torch.empty_like(goal),
    ]


@_solve.register_vmap
def _(info, in_dims, z, log_prior, reference_temperature, goal, name, side, pooled):
    size = info.batch_size
    moved = [
        v if v is None else v.movedim(dim, 0) if dim is not None else v.expand(size, *v.shape)
        for v, dim in zip((z, log_prior, reference_temperature, goal), in_dims)
    ]
    if not pooled:
        return _solve(*moved, name, side, pooled), [0, 0, 0, 0]
    rows = [_solve(*(None if v is None else v[i] for v in moved), name, side, pooled) for i in range(size)]
    return [torch.stack(column) for column in zip(*rows)], [0, 0, 0, 0]


def answer(problem: Problem, goal: torch.Tensor) -> Answer:
    with torch.no_grad():
        found = _solve(
            problem.z.detach(),
            None if problem.log_prior is None else problem.log_prior.detach(),
            problem.reference_temperature.detach(),
            goal.detach(),
            problem.name,
            problem.side or "",
            problem.pooled,
        )
    return Answer(*found)
