"""Derivatives in PyTorch: against finite differences, under its transforms, and finite wherever the values are."""

import math
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import logitherm as lt

INF = math.inf
STATE_FUNCTIONS = ["log_partition", "free_energy", "mean_energy", "entropy", "heat_capacity"]
FUNCTIONS = [*STATE_FUNCTIONS, "softmax", "log_softmax"]


def logits(*shape, seed=0, mask=False, dtype=torch.float64):
    z = 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if mask:
        z[..., 1] = -INF
    return z.to(dtype)


def allowed_part(function, z, t, **kwargs):
    """The function of the finite logits alone, with -inf put in their place: finite differences of -inf are NaN."""

    def call(finite, t):
        full = torch.full(z.shape, -INF, dtype=z.dtype)
        full = full.masked_scatter(z > -INF, finite)
        out = getattr(lt, function)(full, t, **kwargs)
        return out[..., (z > -INF).reshape(-1, z.shape[-1]).all(dim=0)] if out.shape == z.shape else out

    return call, z[z > -INF].clone().requires_grad_()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("mask", [False, True], ids=["", "mask"])
@pytest.mark.parametrize("prior", [False, True], ids=["", "prior"])
@pytest.mark.parametrize("temperature", ["one", "per row"])
class TestFiniteDifferences:
    def arguments(self, function, mask, prior, temperature):
        z = logits(3, 4, mask=mask)
        t = torch.tensor(0.8 if temperature == "one" else [0.5, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
        kwargs = {"log_prior": torch.tensor([0.3, -0.5, -INF, 1.0], dtype=torch.float64)} if prior else {}
        call, finite = allowed_part(function, z, t, **kwargs)
        if prior and "softmax" in function:  # what the prior forbids has a log probability of -inf
            return lambda z, t: call(z, t)[..., [0, -1]], finite, t
        return call, finite, t

    def test_first(self, function, mask, prior, temperature):
        call, z, t = self.arguments(function, mask, prior, temperature)
        assert gradcheck(call, (z, t))

    def test_second(self, function, mask, prior, temperature):
        call, z, t = self.arguments(function, mask, prior, temperature)
        assert gradgradcheck(call, (z, t))


def test_third_derivatives_of_the_entropy():
    def slope(z, t):
        (dt,) = torch.autograd.grad(lt.entropy(z, t).sum(), t, create_graph=True)
        return dt

    z, t = logits(2, 3).requires_grad_(), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(slope, (z, t))


def gradients(function, z, t, weights=None, **kwargs):
    z, t = torch.as_tensor(z).clone().requires_grad_(), torch.as_tensor(t, dtype=z.dtype).clone().requires_grad_()
    out = getattr(lt, function)(z, t, **kwargs)
    weights = torch.ones_like(out) if weights is None else weights
    torch.where(weights == 0, 0.0, out * weights).sum().backward()
    return out.detach(), z.grad, t.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestLimits:
    """What the closed forms say where finite differences cannot go."""

    z = (2.0, 2.0, 1.0, -INF)

    def at(self, function, t, dtype):
        z = torch.tensor([self.z], dtype=dtype)
        return [v[0] if v.ndim else v for v in gradients(function, z, torch.tensor([t], dtype=dtype))]

    @pytest.mark.parametrize("t", [0.0, 1e-44])
    def test_cold(self, dtype, t):
        p = [0.5, 0.5, 0.0, 0.0]
        for function, dz, dt in (
            ("free_energy", [-v for v in p], -math.log(2)),
            ("mean_energy", [-v for v in p], 0.0),
            ("entropy", [0.0] * 4, 0.0),
            ("heat_capacity", [0.0] * 4, 0.0),
        ):
            _, by_logits, by_temperature = self.at(function, t, dtype)
            assert by_logits.tolist() == dz, function
            assert math.isclose(by_temperature, dt, rel_tol=1e-6), function

    def test_hot(self, dtype):
        p = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0], dtype=dtype)
        for function, dz, dt in (
            ("log_partition", 0 * p, 0.0),
            ("free_energy", -p, -math.log(3)),
            ("mean_energy", -p, 0.0),
            ("entropy", 0 * p, 0.0),
            ("heat_capacity", 0 * p, 0.0),
        ):
            _, by_logits, by_temperature = self.at(function, INF, dtype)
            assert torch.allclose(by_logits, dz), function
            assert math.isclose(by_temperature, dt, rel_tol=1e-6), function

    @pytest.mark.parametrize("t", [0.0, 1e-44, INF])
    def test_probabilities(self, dtype, t):
        """Ties are a kink at T = 0: the derivative is infinite between them, and 0 where they move together."""
        z = torch.tensor([[3.0, 1.0, -INF]], dtype=dtype)
        for function in ("softmax", "log_softmax"):
            weights = torch.tensor([[1.0, 2.0, 0.0]], dtype=dtype)
            if function == "log_softmax" and t < 1:
                weights[0, 1] = 0  # its log probability is -inf
            _, by_logits, by_temperature = gradients(function, z, [t], weights)
            assert torch.equal(by_logits, torch.zeros_like(by_logits))
            assert by_temperature.tolist() == [0.0]

    @pytest.mark.parametrize("function", FUNCTIONS)
    @pytest.mark.parametrize("t", [0.0, 1e-44, 1e-3, 1.0, 1e30, INF])
    @pytest.mark.parametrize(
        "z",
        [
            pytest.param([1e30, -1e30, 0.0], id="1e30"),
            pytest.param([-1e30, -1e30 - 1e25, -INF], id="-1e30"),
            pytest.param([1e4, -1e4, 5.0], id="1e4"),
            pytest.param([-INF, -INF, 2.0], id="one allowed"),
        ],
    )
    @pytest.mark.parametrize("prior", [None, [0.5, -1.0, 0.0], [-INF, 0.0, 1.0]])
    def test_no_nan(self, dtype, function, t, z, prior):
        z = torch.tensor([z], dtype=dtype)
        prior = None if prior is None else torch.tensor(prior, dtype=dtype)
        weights = None
        if function == "log_softmax":
            weights = torch.isfinite(lt.log_softmax(z, t, log_prior=prior)).to(dtype)
        out, by_logits, by_temperature = gradients(function, z, [t], weights, log_prior=prior)
        assert not out.isnan().any()
        assert not by_logits.isnan().any()
        assert not by_temperature.isnan().any()
        if function == "softmax":  # which sums to 1 whatever the logits and T
            tiny = 1e-5 if dtype == torch.float32 else 1e-12
            assert by_logits.abs().max() <= tiny * max(1, 1 / t if t else 0)


def test_a_forbidden_logit_far_above_does_not_blur_the_gradient():
    """The state of 1e30 is forbidden by the prior: the others must not be measured from it."""
    z = torch.tensor([1e30, 1.0, 0.0, -1.0], requires_grad=True)
    prior = torch.tensor([-INF, 0.0, 0.0, 0.0])
    lt.entropy(z, 0.7, log_prior=prior).backward()
    alone = torch.tensor([1.0, 0.0, -1.0], requires_grad=True)
    lt.entropy(alone, 0.7).backward()
    assert torch.allclose(z.grad, torch.cat([torch.zeros(1), alone.grad]), rtol=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_prior_is_a_constant(function):
    z, q = logits(2, 3).requires_grad_(), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    getattr(lt, function)(z, 1.0, log_prior=q).sum().backward()
    assert q.grad is None


@pytest.mark.parametrize("function", FUNCTIONS)
def test_large_input_by_the_kernel_has_the_gradients_of_the_reference(function, ran):
    z = logits(200, 100, dtype=torch.float32)
    t = torch.linspace(0.3, 3, 200)
    weights = None
    if "softmax" in function:
        weights = torch.randn(200, 100, generator=torch.Generator().manual_seed(1))
    _, by_logits, by_temperature = gradients(function, z, t, weights)
    assert ran("softmax") >= 1
    exact = gradients(function, z[:20].double(), t[:20].double(), None if weights is None else weights[:20].double())
    assert ran("softmax") == 0
    assert torch.allclose(by_logits[:20].double(), exact[1], rtol=1e-4, atol=1e-5)
    assert torch.allclose(by_temperature[:20].double(), exact[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("mask", [False, True], ids=["", "mask"])
class TestVmap:
    def test_values(self, function, mask):
        f = getattr(lt, function)
        z, t = logits(3, 2, 4, mask=mask), torch.tensor([0.0, 0.5, INF], dtype=torch.float64)
        whole = f(z, t[:, None])
        assert torch.equal(torch.func.vmap(f)(z, t), whole)
        assert torch.equal(torch.func.vmap(f, in_dims=(1, None), out_dims=1)(z, t), whole)
        assert torch.equal(torch.func.vmap(torch.func.vmap(f, in_dims=(0, None)))(z, t), whole)
        one = torch.func.vmap(f, in_dims=(None, 0))(z[0], t)
        assert torch.equal(one, torch.stack([f(z[0], s) for s in t]))

    def test_a_prior_a_row(self, function, mask):
        f = getattr(lt, function)
        z, q = logits(3, 4, mask=mask), logits(3, 4, seed=1)
        found = torch.func.vmap(lambda z, q: f(z, 0.5, log_prior=q))(z, q)
        assert torch.equal(found, f(z, 0.5, log_prior=q))
        shared = torch.func.vmap(lambda z: f(z, 0.5, log_prior=q[0]))(z)
        assert torch.equal(shared, f(z, 0.5, log_prior=q[0]))

    def test_gradients(self, function, mask):
        f = getattr(lt, function)
        z, t = logits(3, 4, mask=mask), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)

        def loss(z, t):
            out = f(z, t)
            return torch.where(out == -INF, 0.0, out).square().sum()

        by_logits, by_temperature = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(z, t)
        z, t = z.requires_grad_(), t.requires_grad_()
        out = f(z, t)
        torch.where(out == -INF, 0.0, out).square().sum().backward()
        assert torch.allclose(by_logits, z.grad, rtol=1e-12)
        assert torch.allclose(by_temperature, t.grad, rtol=1e-12)


def test_hessian_by_functional_transforms():
    """The Hessian of log Z is the covariance of p over T^2."""
    z = logits(5)
    hessian = torch.func.jacrev(torch.func.jacrev(lambda z: lt.log_partition(z, 0.7)))(z)
    p = lt.softmax(z, 0.7)
    assert torch.allclose(hessian, (torch.diag(p) - torch.outer(p, p)) / 0.7**2, rtol=1e-10)


def test_no_error_under_vmap_but_nan():
    z = torch.tensor([[0.0, math.nan], [0.0, 1.0], [-INF, -INF]])
    for function in FUNCTIONS:
        found = torch.func.vmap(getattr(lt, function))(z)
        assert found[[0, 2]].isnan().all(), function
        assert found[1].isfinite().all()
    cold = torch.func.vmap(lambda t: lt.entropy(z[1], t))(torch.tensor([1.0, -1.0, math.nan]))
    assert cold.isnan().tolist() == [False, True, True]


def run_all(functions, z, t, q):
    total, outs = 0.0, []
    for function in functions:
        out = getattr(lt, function)(z, t, log_prior=q if function in ("free_energy", "log_softmax") else None)
        outs.append(out)
        total = total + torch.where(out == -INF, 0.0, out).square().sum()
    return total, outs


def assert_compiled_is_eager(functions, backend):
    """Values and gradients in one graph; NaN in, NaN out, and no error."""
    torch.compiler.reset()
    compiled = torch.compile(partial(run_all, functions), fullgraph=True, backend=backend)
    q = torch.tensor([0.0, 0.5, -INF, 0.0], dtype=torch.float64)
    t = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    for mask in (False, True):
        found = []
        for run in (partial(run_all, functions), compiled):
            arguments = logits(3, 4, mask=mask).requires_grad_(), t.clone().requires_grad_()
            total, outs = run(*arguments, q)
            total.backward()
            found.append((total, *outs, *(a.grad for a in arguments)))
        for eager, other in zip(*found):
            assert torch.allclose(eager, other, rtol=1e-12, atol=1e-14)
    bad = logits(3, 4)
    bad[0, 0], bad[1] = math.nan, -INF
    _, outs = compiled(bad.requires_grad_(), torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64).requires_grad_(), q)
    assert all(out.isnan().reshape(3, -1).all() for out in outs)


def test_one_graph_holds_several_functions():
    assert_compiled_is_eager(["free_energy", "mean_energy", "entropy", "softmax"], "aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="the compiler needs one for C++")
def test_compiled():
    """The other ones, to machine code."""
    assert_compiled_is_eager(["log_partition", "heat_capacity", "log_softmax"], "inductor")


def test_autocast_and_inference_mode_leave_the_numbers_alone():
    z = logits(3, 4, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(lt.entropy(z), lt.entropy(z.clone()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lt.entropy(z).dtype == torch.float32


def test_half_logits_have_half_gradients():
    for dtype in (torch.float16, torch.bfloat16):
        z = logits(3, 4, dtype=dtype).requires_grad_()
        out = lt.softmax(z, 0.5)
        assert out.dtype == dtype
        out[..., 0].sum().backward()
        assert z.grad.dtype == dtype
        exact = logits(3, 4, dtype=dtype).double().requires_grad_()
        lt.softmax(exact, 0.5)[..., 0].sum().backward()
        assert torch.allclose(z.grad.double(), exact.grad, atol=1e-2)


def test_numpy_agrees():
    z = logits(3, 4)
    for function in FUNCTIONS:
        assert np.allclose(getattr(lt, function)(z, 0.7).numpy(), getattr(lt, function)(z.numpy(), 0.7), rtol=1e-14)
