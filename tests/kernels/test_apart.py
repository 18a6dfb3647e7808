"""States set apart: the CPU kernels and their definition in PyTorch, against plain sums."""

import math

import pytest

torch = pytest.importorskip("torch")

from logitherm.kernels import apart  # noqa: E402


@pytest.fixture(params=["kernel", "definition"])
def way(request, monkeypatch):
    if request.param == "definition":
        monkeypatch.setattr(apart, "_on_cpu", lambda z: False)
    return request.param


def rows(dtype):
    generator = torch.Generator().manual_seed(0)
    z = (4 * torch.randn(7, 1500, generator=generator, dtype=torch.float64)).to(dtype)
    z[1, 3:1400] = -math.inf
    z[2, 5:] = -math.inf  # nothing but the tokens
    tokens = torch.tensor([[0, 1, 2, 3, 4], [1499, 7, 900, 1, 0], *[[4, 3, 2, 1, 0]] * 5])
    tokens[3, 0] = 2000  # of another vocabulary
    return z, tokens, torch.tensor([0.02, 0.5, 1.0, 1.0, 2.0, 30.0, 1e4], dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_over_the_others(way, dtype, ran):
    z, tokens, t = rows(dtype)
    given = z.clone()
    found = apart.set_apart(z, tokens, t, hot=True)
    assert bool(ran("set_apart")) == (way == "kernel")
    epsilon = 20 * torch.finfo(dtype).eps
    for i in range(7):
        known = [k for k in tokens[i].tolist() if k < 1500]
        assert found.near[i].tolist() == [given[i, k].item() if k < 1500 else -math.inf for k in tokens[i].tolist()]
        assert torch.equal(z[i, known], torch.full((len(known),), -math.inf, dtype=dtype))
        x = z[i].double() - (found.high[i].double() if i != 2 else 0.0)
        for mine, temperature in ((found.log_rest, t[i].double()), (found.log_rest_one, 1.0)):
            assert mine[i].item() == pytest.approx((x / temperature).logsumexp(-1).item(), abs=epsilon)
    assert found.high[2] == -math.inf and torch.equal(found.top, given.amax(-1))
    wanted = ((z.double() - found.top[:, None]) / t.double()[:, None]).logsumexp(-1)
    assert torch.allclose(found.log_rest_below(found.top, t).double(), wanted, rtol=epsilon, atol=epsilon)


@pytest.mark.parametrize("softcap", [None, 40.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laws_of_the_others(way, dtype, softcap, ran):
    z, tokens, t = rows(dtype)
    log_all = z.double().logsumexp(-1)
    found = apart.set_apart(z, tokens, t, hot=True)
    given, factor = z.double().clone(), torch.linspace(-1, 2, 7, dtype=dtype)
    hard = torch.tensor([0.0, 0.5, 1.0, 0.3, 0.0, 0.2, 0.1], dtype=dtype)
    apart.spread(z, t, found, factor, log_all.to(dtype), hard, softcap)
    assert bool(ran("spread")) == (way == "kernel")
    law = torch.nan_to_num(torch.softmax(given / t.double()[:, None], -1))
    wanted = factor.double()[:, None] * law + hard.double()[:, None] * (given - log_all[:, None]).exp()
    if softcap is not None:
        wanted = torch.where(given > -math.inf, wanted * (1 - (given / softcap) ** 2), 0.0)
    assert torch.allclose(z.double(), wanted, rtol=0, atol=50 * torch.finfo(dtype).eps)
    assert (z[given == -math.inf] == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_that_are_none_show_in_their_top(way, bad):
    z, tokens, t = rows(torch.float32)
    z[4, 0], z[5, 700] = bad, bad
    top = apart.set_apart(z, tokens, t).top
    assert (~torch.isfinite(top)).tolist() == [False] * 4 + [True, True, False]
    assert str(top[5].item()) == str(bad)
