"""Attention at a temperature: against the dense definition, with its derivatives, by every rule."""

import math

import pytest

torch = pytest.importorskip("torch")
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from logitherm.attention import (  # noqa: E402
    TemperedAttention,
    attention_state,
    resolve_temperature,
    target,
    tempered_attention,
)
from logitherm.attention.rules import Adaptive, ByPosition, LogLength, Queries, Yarn  # noqa: E402
from logitherm.thermostat import CosineSchedule, LearnableTemperature, SetPoint  # noqa: E402

B, H, KEY_HEADS, N, WIDTH = 2, 4, 2, 9, 8
MASK = torch.rand(B, 1, N, N, generator=torch.Generator().manual_seed(9)) < 0.6
MASK[..., 0] = True


def qkv(dtype=torch.float64, queries=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, H, queries, WIDTH), (B, KEY_HEADS, N, WIDTH), (B, KEY_HEADS, N, 5)
    return [
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes
    ]


def dense(q, k, v, t, mask=None, causal=False):
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    x = q @ k.mT / (t if isinstance(t, float) else t.expand(q.shape[:-1])[..., None])
    place = torch.arange(N - q.shape[2], N)[:, None]
    x = x.masked_fill(torch.arange(N) > place, -math.inf) if causal else x
    x = x if mask is None else x.masked_fill(~mask, -math.inf)
    return x.softmax(-1) @ v


def entropies(q, k, t, mask=None, causal=False):
    return attention_state(q, k, temperature=t, mask=mask, causal=causal).entropy


LEARNED = torch.linspace(0.5, 4, H, dtype=torch.float64)[:, None]
T_QUERIES = torch.linspace(0.3, 5, B * H * N, dtype=torch.float64).reshape(B, H, N)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": MASK}, {"mask": MASK, "causal": True}])
@pytest.mark.parametrize("t", [None, 1.7, LEARNED, T_QUERIES], ids=["usual", "number", "heads", "queries"])
def test_values_and_derivatives(t, options):
    q, k, v = qkv()
    learned = [q, k, v]
    if isinstance(t, torch.Tensor):
        t = t.clone().requires_grad_()
        learned.append(t)
    found = tempered_attention(q, k, v, temperature=t, **options)
    wanted = dense(q, k, v, math.sqrt(WIDTH) if t is None else t, **options)
    assert torch.allclose(found, wanted, atol=1e-12)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = zip(*(torch.autograd.grad((x * weights).sum(), learned) for x in (found, wanted)))
    assert all(torch.allclose(mine, theirs, atol=1e-11) for mine, theirs in pairs)


def test_queries_at_the_end_of_a_cache():
    q, k, v = qkv(queries=3)
    for n in (3, 1):
        found = tempered_attention(q[:, :, -n:], k, v, causal=True)
        assert torch.allclose(found, dense(q[:, :, -n:], k, v, math.sqrt(WIDTH), causal=True))


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": MASK}])
def test_an_entropy_is_held(options, monkeypatch):
    monkeypatch.setattr(target, "VALUES", 3 * B * H * N)
    q, k, _ = qkv()
    t = resolve_temperature(SetPoint(entropy=0.9), q, k, **options)
    held = entropies(q, k, t.detach(), **options)
    counts = Queries(q, k, options.get("mask"), options.get("causal", False)).visible.expand(B, H, N)
    enough = counts > math.exp(0.9)
    assert (held[enough] - 0.9).abs().max() < 1e-10 and enough.sum() > 50
    assert torch.isinf(t[~enough & (counts > 1)]).all(), "too few keys: as even as can be"


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": MASK}])
def test_derivatives_of_an_entropy_that_is_held(options, monkeypatch):
    monkeypatch.setattr(target, "VALUES", 3 * H * N)
    q, k, v = (x.detach()[:1, :, -4:] if i == 0 else x.detach()[:1] for i, x in enumerate(qkv()))
    options = {name: value[:1, :, -4:] if name == "mask" else value for name, value in options.items()}
    entropy = torch.linspace(0.5, 1.0, 4, dtype=torch.float64)

    def attend(q, k, v, entropy):
        return tempered_attention(q, k, v, temperature=SetPoint(entropy=entropy), **options)

    inputs = [x.clone().requires_grad_() for x in (q, k, v, entropy)]
    assert torch.autograd.gradcheck(attend, inputs, rtol=1e-4, atol=1e-6, fast_mode=True)


def test_entropies_that_no_temperature_gives():
    q, k, v = qkv()
    hot = resolve_temperature(SetPoint(entropy=5.0), q, k)
    assert torch.isinf(hot).all()
    even = tempered_attention(q, k, v, temperature=SetPoint(entropy=5.0))
    assert torch.allclose(even, v.repeat_interleave(2, 1).mean(2, keepdim=True).expand_as(even))
    even.sum().backward()
    cold = tempered_attention(q, k, v, temperature=SetPoint(entropy=0.0))
    assert torch.allclose(cold, tempered_attention(q, k, v, hard=True), atol=1e-5)
    assert torch.isfinite(q.grad).all()


def test_hard_attention_is_straight_through():
    q, k, v = qkv()
    found = tempered_attention(q, k, v, temperature=2.0, hard=True)
    best = (q @ k.repeat_interleave(2, 1).mT).argmax(-1)
    assert torch.allclose(found, v.repeat_interleave(2, 1).gather(2, best[..., None].expand(*best.shape, 5)))
    soft = tempered_attention(q, k, v, temperature=2.0)
    for mine, theirs in zip(*(torch.autograd.grad(x.sum(), [q, k, v]) for x in (found, soft))):
        assert torch.equal(mine, theirs)
    twins = torch.ones(1, 1, 4, 3)
    assert torch.allclose(
        tempered_attention(twins, twins, torch.arange(4.0)[None, None, :, None], hard=True).mean(), torch.tensor(1.5)
    )


def test_rules_and_temperatures():
    q, k, v = qkv()
    usual = math.sqrt(WIDTH)
    counts = torch.arange(1, N + 1, dtype=torch.float64)
    rules = {
        LogLength(): usual / counts.clamp_min(2).log(),
        LogLength(0.5, length=4): 2 * usual / (counts.log() / math.log(4)).clamp_min(1),
        ByPosition(scale=0.5, every=2): usual / (1 + 0.5 * torch.log1p(torch.floor(counts / 2))),
        Yarn(16.0): torch.tensor(usual / (0.1 * math.log(16) + 1) ** 2),
        CosineSchedule(4.0, 1.0, steps=10): torch.tensor(2.5),
        (lambda seen: 1.0 + seen.position): counts,
    }
    for rule, t in rules.items():
        found = tempered_attention(q, k, v, temperature=rule, causal=True, step=5)
        assert torch.allclose(found, dense(q, k, v, t, causal=True), atol=1e-6), rule
    entropy = entropies(q, k, usual)
    poly = -0.037 * entropy**4 + 0.481 * entropy**3 - 2.3 * entropy**2 + 4.917 * entropy - 1.791
    t = usual / torch.where(entropy > 0.5, poly.clamp_min(1), 1.0)
    assert torch.allclose(tempered_attention(q, k, v, temperature=Adaptive()), dense(q, k, v, t), atol=1e-10)
    seen = Queries(q, k, MASK, True)
    brute = (MASK & torch.ones(N, N, dtype=torch.bool).tril()).sum(-1)
    assert torch.equal(seen.visible, brute)
    with pytest.raises(ValueError, match="length: must be more than 1; got 1"):
        LogLength(length=1)


def test_what_is_learned_stays_finite():
    q, k, v = qkv(torch.float32)
    scale = torch.ones(H, 1, requires_grad=True)
    tempered_attention(q, k, v, temperature=LogLength(scale), causal=True).sum().backward()
    assert torch.isfinite(scale.grad).all() and scale.grad.abs().sum() > 0


def test_a_layer_learns_its_temperatures():
    torch.manual_seed(0)
    layer = TemperedAttention(16, 4, key_heads=2, temperature=LearnableTemperature(torch.full((4, 1), 2.0)))
    x = torch.randn(3, 7, 16)
    layer(x, causal=True).square().sum().backward()
    assert (layer.temperature.log_temperature.grad != 0).all()
    assert layer(x, torch.randn(3, 5, 16)).shape == x.shape
    with pytest.raises(ValueError, match="heads: must divide the width 16"):
        TemperedAttention(16, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # of the compiler
@pytest.mark.parametrize("t", [None, SetPoint(entropy=0.9), LogLength()])
def test_half_types_autocast_and_the_compiler(t):
    q, k, v = qkv(torch.float32)

    def attend(q, k, v):
        return tempered_attention(q, k, v, temperature=t, causal=True)

    eager = attend(q, k, v)
    assert torch.allclose(torch.compile(attend, backend="aot_eager")(q, k, v), eager, atol=1e-5)
    half = attend(*(x.detach().bfloat16() for x in (q, k, v)))
    assert half.dtype == torch.bfloat16 and (half.float() - eager).abs().max() < 0.06
    layer = TemperedAttention(16, 2, temperature=t)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(1, 4, 16), causal=True)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and torch.isfinite(layer.query.weight.grad).all()


def test_the_usual_temperature_is_pytorchs():
    q, k, v = qkv(torch.float32)
    assert torch.equal(
        tempered_attention(q, k, v, causal=True), scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    )
    none = MASK.clone()
    none[0, 0, 2] = False
    assert (tempered_attention(q, k, v, mask=none)[0, :, 2] == 0).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temperature": 0.0}, "temperature: must be positive; got 0.0; hard=True is the limit"),
        ({"temperature": math.nan}, "temperature: must be positive; got nan"),
        ({"temperature": torch.ones(H)}, r"temperature: must broadcast .* give one number or \(heads, 1\)"),
        ({"temperature": SetPoint}, "temperature: must be a rule itself; got the class SetPoint"),
        (
            {"temperature": SetPoint(entropy=1.0, pooled=True)},
            "temperature: must be a set point of entropy, a query each",
        ),
        ({"q": torch.zeros(B, H, N, WIDTH).numpy()}, "q: must be a tensor of PyTorch; got numpy.ndarray"),
        ({"mask": torch.ones(N, N, dtype=torch.bool).numpy()}, "mask: must be a boolean tensor.* got numpy.ndarray"),
        ({"mask": torch.ones(B, N, dtype=torch.bool)}, r"mask: must broadcast .* it is mask\[:, None, None\]"),
        ({"temperature": torch.zeros(H, 1)}, "temperature: must be positive; got 0"),
        ({"temperature": torch.ones(3)}, "temperature: must broadcast"),
        ({"temperature": SetPoint(top_probability=0.5)}, "temperature: must be a set point of entropy"),
        ({"k": torch.zeros(B, 3, N, WIDTH)}, "k: must have the batch and width of q"),
        ({"v": torch.zeros(B, KEY_HEADS, 3, 5)}, "v: must have the batch, heads and keys of k"),
        ({"q": torch.zeros(N, WIDTH)}, r"q: must be a floating tensor \(batch, heads, rows, width\)"),
        ({"mask": torch.zeros(N, N)}, "mask: must be a boolean tensor.* pass mask.bool"),
        ({"q": torch.zeros(B, H, N + 1, WIDTH), "causal": True}, "causal: must have at least as many keys as queries"),
    ],
)
def test_refusals(changed, message):
    q, k, v = qkv(torch.float32)
    with pytest.raises((ValueError, TypeError), match=message):
        tempered_attention(**{"q": q, "k": k, "v": v} | changed)


def test_what_a_new_user_may_hand_over():
    q, k, v = qkv(torch.float32)
    none = MASK.clone()
    none[0, 0, 2] = False
    out = tempered_attention(q, k, v, temperature=SetPoint(entropy=0.5), mask=none)
    out.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v)), "a query that sees no key leaves no NaN"
    one = torch.ones(N, dtype=torch.bool)
    assert torch.allclose(tempered_attention(q, k, v, mask=one), tempered_attention(q, k, v), atol=1e-6)
    layer = TemperedAttention(16, 4, temperature=LogLength(torch.nn.Parameter(torch.ones(4, 1))))
    assert "temperature_scale" in layer.state_dict()
    for bad, message in (
        ({"temperature": LogLength}, "temperature: must be a rule itself; got the class LogLength"),
        ({"temperature": SetPoint(entropy=-1.0)}, "temperature: must have an entropy of 0 or more"),
        ({"dropout": 1.5}, "dropout: must be at least 0 and below 1"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            tempered_attention(q, k, v, **bad)
    with pytest.raises(ValueError, match="factor: must be at least 1"):
        Yarn(0.5)
    for layer_inputs, message in (
        ((torch.zeros(5, 16),), r"x: must be \(batch, tokens, 16\)"),
        ((torch.zeros(2, 5, 16), torch.zeros(1, 5, 16)), r"context: must be \(batch, tokens, 16\), of one batch"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(*layer_inputs)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: LogLength(torch.ones(4)), r"scale: must be one number, or \(heads, 1\); got shape \(4,\)"),
        (lambda: LogLength(0.0), "scale: must be positive"),
        (lambda: LogLength("1"), "scale: must be positive, or a tensor; got str '1'"),
        (lambda: LogLength(length="2048"), "length: must be more than 1; got '2048'"),
        (lambda: ByPosition(scale=-0.1), "scale: must be 0 or more"),
        (lambda: ByPosition(every=0), "every: must be at least 1"),
        (lambda: Yarn(math.inf), "factor: must be at least 1; got inf"),
    ],
)
def test_rules_refuse_what_makes_no_temperature(made, message):
    with pytest.raises(ValueError, match=message):
        made()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_limits_of_the_temperature_are_finite(dtype):
    """In half types queries over a small T overflow, of which NaN would come."""
    q, k, v = (x.detach().to(dtype) for x in qkv())
    best = tempered_attention(q, k, v, hard=True)
    for cold in (1e-40, 1e-30, torch.tensor(1e-40), torch.full((H, 1), 1e-6), SetPoint(entropy=0.0)):
        assert torch.allclose(tempered_attention(q, k, v, temperature=cold), best, atol=2e-2), cold
    even = v.repeat_interleave(2, 1).mean(2, keepdim=True).expand_as(best)
    for hot in (math.inf, torch.tensor(math.inf), 1e30):
        assert torch.allclose(tempered_attention(q, k, v, temperature=hot), even, atol=2e-2), hot
    none = tempered_attention(q, k[:, :, :0], v[:, :, :0], hard=True)
    assert none.shape == best.shape and (none == 0).all()
