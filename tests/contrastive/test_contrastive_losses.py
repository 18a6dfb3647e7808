"""InfoNCE, CLIP, SigLIP and SupCon against their definitions on the whole matrix of similarities."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize, softplus

from logitherm.contrastive import clip_loss, info_nce, siglip_loss, supcon_loss
from logitherm.thermostat import CosineSchedule, LearnableTemperature, PerGroup, SetPoint

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])  # 2 and 3 have no partner


def made(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def cosines(a, b):
    return normalize(a, dim=1) @ normalize(b, dim=1).T


def info_nce_whole(q, k, t, negatives=None):
    s = cosines(q, k)
    if negatives is not None:
        s = torch.cat([s.diagonal()[:, None], cosines(q, negatives)], 1)
        return cross_entropy(s / torch.as_tensor(t).reshape(-1, 1), torch.zeros(len(q), dtype=torch.long))
    return cross_entropy(s / torch.as_tensor(t).reshape(-1, 1), torch.arange(len(q)))


def clip_whole(a, b, t):
    return 0.5 * (info_nce_whole(a, b, t) + info_nce_whole(b, a, t))


def siglip_whole(a, b, t, bias):
    x = cosines(a, b) / torch.as_tensor(t).reshape(-1, 1) + torch.as_tensor(bias).reshape(-1, 1)
    sign = 2 * torch.eye(len(a), dtype=x.dtype) - 1
    return softplus(-sign * x, threshold=1000).sum() / len(a)


def supcon_whole(f, y, t, base=None):
    """As the code of Khosla et al. has it, but only over anchors with positives."""
    x = cosines(f, f) / torch.as_tensor(t).reshape(-1, 1)
    others = ~torch.eye(len(f), dtype=torch.bool)
    same = (y[:, None] == y[None]) & others
    log_p = x - torch.where(others, x, -math.inf).logsumexp(1, keepdim=True)
    count = same.sum(1)
    rows = -torch.where(same, log_p, 0.0).sum(1) / count.clamp_min(1)
    if base is not None:
        rows = rows * torch.as_tensor(t) / base
    return rows[count > 0].mean()


CASES = {
    "info_nce": (lambda a, b, t, bias, **more: info_nce(a, b, temperature=t, **more), info_nce_whole),
    "clip": (lambda a, b, t, bias, **more: clip_loss(a, b, temperature=t, **more), clip_whole),
    "siglip": (lambda a, b, t, bias, **more: siglip_loss(a, b, temperature=t, bias=bias, **more), siglip_whole),
    "supcon": (
        lambda a, b, t, bias, **more: supcon_loss(a, LABELS, temperature=t, base_temperature=0.07, **more),
        lambda a, b, t: supcon_whole(a, LABELS, t, 0.07),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("t", [0.005, 0.07, 1.0, torch.linspace(0.05, 0.5, 7, dtype=torch.float64)])
def test_equals_its_definition_on_the_whole_matrix(name, t):
    ours, whole = CASES[name]
    results = []
    for loss in (ours, whole):
        a, b, bias = made(7, 5), made(7, 5, seed=1), torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
        temperature = torch.as_tensor(t, dtype=torch.float64).clone().requires_grad_()
        value = loss(a, b, temperature, bias) if loss is ours or name == "siglip" else loss(a, b, temperature)
        value.backward()
        results.append([value, a.grad, b.grad, temperature.grad, bias.grad])
    for mine, theirs in zip(*results):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("per_row", [False, True])
def test_gradients_are_those_of_finite_differences(name, per_row):
    shape = (7,) if per_row else ()
    t = torch.full(shape, 0.3, dtype=torch.float64, requires_grad=True)
    bias = torch.full(shape, -1.0, dtype=torch.float64, requires_grad=True)
    loss = lambda *x: CASES[name][0](*x, block=4, reduction="none")  # noqa: E731
    assert torch.autograd.gradcheck(loss, (made(7, 3), made(7, 3, seed=1), t, bias))


def test_gradients_with_negatives_of_their_own_and_with_more_keys_than_queries():
    t = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    q, k, queue = made(5, 4), made(5, 4, seed=1), made(9, 4, seed=2)
    assert torch.autograd.gradcheck(
        lambda q, k, n, t: info_nce(q, k, temperature=t, negatives=n, block=4), (q, k, queue, t)
    )
    torch.testing.assert_close(
        info_nce(q, k, temperature=t, negatives=queue), info_nce_whole(q, k, t, queue), rtol=1e-12, atol=0
    )
    assert torch.autograd.gradcheck(lambda q, k, t: info_nce(q, k, temperature=t, block=4), (q, queue, t))
    torch.testing.assert_close(info_nce(q, queue, temperature=t), info_nce_whole(q, queue, t), rtol=1e-12, atol=0)
    info_nce(q, k.detach(), temperature=0.1, negatives=queue.detach()).backward()  # a queue has no gradient
    assert queue.grad is None


@pytest.mark.parametrize("name", CASES)
def test_blocks_do_not_change_the_result(name):
    results = []
    for block in (1, 2, 3, 7, 1024):  # 3 leaves one row, 1 has blocks of nothing but a pair left out
        a, b, t = made(7, 5), made(7, 5, seed=1), torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        value = CASES[name][0](a, b, t, -1.0, block=block)
        value.backward()
        results.append([value.detach(), a.grad, t.grad])
    for found in results[:-1]:
        for mine, theirs in zip(found, results[-1]):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


def similarities_and_slopes(t, n=6):
    """Similarities given as features, with those of keys as unit vectors: the gradient is that in s."""
    s = made(n, n)
    loss = info_nce(s, torch.eye(n, dtype=torch.float64), temperature=t, normalize=False, reduction="sum")
    loss.backward()
    others = ~torch.eye(n, dtype=torch.bool)
    return s.detach(), s.grad, others, loss.item()


def test_relative_penalty_of_negatives_is_a_gibbs_law():
    for t in (0.1, 0.5, 2.0):
        s, slope, others, _ = similarities_and_slopes(t)
        law = torch.where(others, s / t, -math.inf).softmax(1)
        push = torch.where(others, slope, 0.0)
        torch.testing.assert_close(push / push.sum(1, keepdim=True), law)
        torch.testing.assert_close(slope.sum(1), torch.zeros(6, dtype=torch.float64))


def test_hot_limit_pushes_all_alike_and_cold_limit_the_hardest():
    s, slope, others, loss = similarities_and_slopes(1e7)
    torch.testing.assert_close((1e7 * slope)[others], torch.full((30,), 1 / 6, dtype=torch.float64), rtol=1e-5, atol=0)
    assert loss / 6 == pytest.approx(math.log(6), rel=1e-6)
    t = 1e-4
    s, slope, others, loss = similarities_and_slopes(t)
    hardest = torch.where(others, s, -math.inf)
    margin = (hardest.max(1).values - s.diagonal()).clamp_min(0)
    assert t * loss == pytest.approx(margin.sum().item(), rel=1e-3)
    wanted = torch.nn.functional.one_hot(hardest.argmax(1), 6) * (margin > 0)[:, None] / t
    torch.testing.assert_close(slope[others], wanted[others].double(), atol=1e-6, rtol=1e-6)


def test_clip_is_symmetric_and_both_of_its_paths_agree():
    a, b = made(7, 5), made(7, 5, seed=1)
    torch.testing.assert_close(clip_loss(a, b, temperature=0.1), clip_loss(b, a, temperature=0.1), rtol=1e-13, atol=0)
    one = clip_loss(a, b, temperature=0.1, block=2)
    torch.testing.assert_close(one, clip_loss(a, b, temperature=torch.full((7,), 0.1), block=2), rtol=1e-7, atol=0)


def test_small_losses_keep_their_digits():
    """-log softmax computed as a difference of float32 numbers near 200 would be 0 or negative."""
    x = torch.eye(4).requires_grad_()
    loss = info_nce(x, x, temperature=0.05)
    assert loss.item() == pytest.approx(3 * math.exp(-20), rel=1e-4)


def test_the_factor_of_supcon_is_that_of_the_papers_code():
    f = made(7, 5)
    plain = supcon_loss(f, LABELS, temperature=0.14)
    torch.testing.assert_close(supcon_loss(f, LABELS, temperature=0.14, base_temperature=0.07), 2 * plain)
    torch.testing.assert_close(supcon_loss(f, LABELS, temperature=0.07, base_temperature=0.07),
                               supcon_loss(f, LABELS, temperature=0.07))  # fmt: skip


def test_views_of_samples_are_positives_of_each_other():
    f = made(4, 2, 5)
    views = supcon_loss(f, torch.arange(4), temperature=0.2)
    flat = supcon_loss(f.flatten(0, 1), torch.arange(4).repeat_interleave(2), temperature=0.2)
    torch.testing.assert_close(views, flat, rtol=0, atol=0)
    assert supcon_loss(f, torch.arange(4), temperature=0.2, reduction="none").shape == (8,)


@pytest.mark.parametrize("n", [1, 4])
def test_without_any_positive_supcon_is_a_zero_with_gradient(n):
    f = made(n, 3)
    loss = supcon_loss(f, torch.arange(n), temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert f.grad.abs().max() == 0


def test_reductions():
    a, b = made(5, 3), made(5, 3, seed=1)
    for loss in (CASES["info_nce"][0], CASES["clip"][0], CASES["siglip"][0]):
        rows = loss(a, b, 0.2, -1.0, reduction="none")
        assert rows.shape == (5,)
        torch.testing.assert_close(rows.sum(), loss(a, b, 0.2, -1.0, reduction="sum"))
        torch.testing.assert_close(rows.mean(), loss(a, b, 0.2, -1.0))


# -- half types ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_half_types_are_computed_in_float32_with_or_without_autocast(name, dtype):
    ours = CASES[name][0]
    results = []
    for kind, autocast in ((torch.float64, False), (dtype, False), (dtype, True), (torch.float32, True)):
        a, b = (made(7, 16, dtype=dtype, seed=i).detach().to(kind).requires_grad_() for i in (0, 1))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = ours(a, b, 0.005, -1.0)
            assert value.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
            value.backward()
        assert a.grad.dtype == kind
        results.append((value.double(), a.grad.double()))
    for value, grad in results[1:]:
        torch.testing.assert_close(value, results[0][0], rtol=2e-5, atol=2e-5)
        bound = 2 * torch.finfo(dtype).eps * results[0][1].abs().max().item()
        torch.testing.assert_close(grad, results[0][1], rtol=0, atol=bound)


def test_a_hard_pair_in_fp16_has_its_loss_and_its_gradient():
    """An epsilon inside the logarithm would end the loss at -log(6.1e-5) = 9.70, with a gradient near 0."""
    t = 0.07
    positive, negative, turn = 2.2045, 0.9378, math.acos(-0.209)  # angles with the query, and of the two about it
    q = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float16, requires_grad=True)
    k = torch.tensor([[math.cos(positive), math.sin(positive), 0.0]], dtype=torch.float16, requires_grad=True)
    n = torch.tensor(
        [[math.cos(negative), *(math.sin(negative) * f(turn) for f in (math.cos, math.sin))]],
        dtype=torch.float16,
        requires_grad=True,
    )
    loss = info_nce(q, k, temperature=t, negatives=n)
    loss.backward()
    norm = math.sqrt(sum(x.grad.float().square().sum().item() for x in (q, k, n)))
    assert loss.item() == pytest.approx(16.91, abs=0.03)
    assert norm == pytest.approx(24.2, abs=0.1)
    wide = [x.detach().double().requires_grad_() for x in (q, k, n)]
    exact = info_nce_whole(wide[0], wide[1], t, wide[2])
    exact.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    for mine, theirs in zip((q, k, n), wide):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
def test_losses_are_part_of_a_compiled_graph():
    tower, learned = torch.nn.Linear(6, 4), LearnableTemperature(0.1, low=0.01)
    x = made(9, 6, dtype=torch.float32).detach()

    def total(x):
        a = tower(x)
        loss = info_nce(a, a.roll(1, 1), temperature=learned) + clip_loss(a, a.flip(1), temperature=learned, block=4)
        loss = loss + siglip_loss(a, a.roll(2, 1), temperature=learned, bias=-3.0)
        return loss + supcon_loss(a, torch.arange(9) % 3, temperature=learned)

    found = []
    for function in (total, torch.compile(total, backend="aot_eager", fullgraph=True)):
        value = function(x)
        gradients = torch.autograd.grad(value, [tower.weight, learned.log_temperature])
        found.append((value.detach(), *gradients))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


# -- temperatures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_temperature(name):
    loss = CASES[name][0]
    a, b = made(7, 5), made(7, 5, seed=1)
    table, groups = torch.tensor([0.1, 0.4], dtype=torch.float64), torch.tensor([0, 1, 0, 1, 0, 1, 0])
    torch.testing.assert_close(loss(a, b, PerGroup(table, groups), -1.0), loss(a, b, table[groups], -1.0))
    schedule = CosineSchedule(0.5, 0.1, steps=10)
    torch.testing.assert_close(loss(a, b, schedule, -1.0, step=5), loss(a, b, schedule.at(5), -1.0))
    with pytest.raises(ValueError, match="step: must be a number"):
        loss(a, b, schedule, -1.0)
    learned = LearnableTemperature(0.2)
    loss(a, b, learned, -1.0).backward()
    plain = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    loss(a, b, plain, -1.0).backward()
    assert learned.log_temperature.grad.item() == pytest.approx(0.2 * plain.grad.item(), rel=1e-5)


def test_a_set_point_holds_for_the_law_of_the_negatives():
    a, b = made(7, 5), made(7, 5, seed=1)
    others = ~torch.eye(7, dtype=torch.bool)
    s = torch.where(others, cosines(a, b), -math.inf).detach()
    point = SetPoint(entropy=1.2)
    t = point.resolve(s)
    torch.testing.assert_close(info_nce(a, b, temperature=point), info_nce(a, b, temperature=t))
    targets = torch.linspace(0.8, 1.5, 7, dtype=torch.float64)
    each = SetPoint(entropy=targets).resolve(s)
    torch.testing.assert_close(info_nce(a, b, temperature=SetPoint(entropy=targets)), info_nce(a, b, temperature=each))
    back = point.resolve(torch.where(others, cosines(b, a), -math.inf).detach())
    both = 0.5 * (info_nce(a, b, temperature=t) + info_nce(b, a, temperature=back))
    torch.testing.assert_close(clip_loss(a, b, temperature=point), both)
    with pytest.raises(ValueError, match="temperature: must be a set point of every row"):
        info_nce(a, b, temperature=SetPoint(entropy=1.2, pooled=True))
    with pytest.raises(TypeError, match="temperature: must not be a set point for siglip_loss"):
        siglip_loss(a, b, temperature=point, bias=0.0)


class Looks:
    def resolve(self, logits, step=None):
        return logits.amax(-1)


def test_an_object_that_looks_at_similarities_is_refused():
    with pytest.raises(ValueError, match=r"temperature: must lie in \[0, inf\]; got nan"):
        info_nce(made(4, 3), made(4, 3), temperature=Looks())


# -- bad inputs ------------------------------------------------------------------------------------------

GOOD = torch.eye(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: info_nce(GOOD.long(), GOOD, temperature=1), TypeError, "queries: must be a floating tensor"),
        (lambda: info_nce(GOOD.numpy(), GOOD, temperature=1), TypeError, "queries: must be a floating tensor"),
        (lambda: info_nce(GOOD[0], GOOD, temperature=1), ValueError, r"queries: must have shape \(samples, features\)"),
        (lambda: info_nce(GOOD, GOOD[:3], temperature=1), ValueError, "keys: must have at least 4 rows"),
        (lambda: info_nce(GOOD, GOOD[:, :3], temperature=1), ValueError, "keys: must have 4 features"),
        (lambda: info_nce(GOOD[:1], GOOD[:1], temperature=1), ValueError, "keys: must have a negative for every row"),
        (lambda: info_nce(0 * GOOD, GOOD, temperature=1), ValueError, "queries: rows must be .*row 0 of 4 has norm 0"),
        (lambda: info_nce(GOOD, GOOD * math.nan, temperature=1), ValueError, "keys: rows must be finite.*NaN or inf"),
        (lambda: info_nce(GOOD, GOOD, temperature=0.0), ValueError, "temperature: must be positive and finite"),
        (lambda: info_nce(GOOD, GOOD, temperature=math.inf), ValueError, "temperature: must be positive and finite"),
        (
            lambda: info_nce(GOOD, GOOD, temperature=-1.0),
            ValueError,
            r"temperature: must be positive and finite for a loss; got -1",
        ),
        (lambda: info_nce(GOOD, GOOD, temperature=torch.ones(3)), ValueError, "temperature: must broadcast"),
        (lambda: info_nce(GOOD, GOOD, temperature=1, reduction="max"), ValueError, "reduction: must be one of"),
        (lambda: info_nce(GOOD, GOOD, temperature=1, block=0), ValueError, "block: must be a positive integer"),
        (lambda: info_nce(GOOD, GOOD, temperature=1, negatives=GOOD[:, 1:]), ValueError, "negatives: must have 4"),
        (lambda: clip_loss(GOOD, GOOD[:3], temperature=1), ValueError, "texts: must have 4 rows"),
        (lambda: clip_loss(GOOD[:1], GOOD[:1], temperature=1), ValueError, "texts: must have a negative"),
        (lambda: siglip_loss(GOOD, GOOD, temperature=1, bias=math.nan), ValueError, "bias: must be finite"),
        (lambda: siglip_loss(GOOD, GOOD, temperature=1, bias=GOOD), ValueError, "bias: must be a number or one a row"),
        (lambda: supcon_loss(GOOD, torch.ones(4), temperature=1), ValueError, "labels: must be integers of shape"),
        (lambda: supcon_loss(GOOD, torch.arange(3), temperature=1), ValueError, "labels: must be integers of shape"),
        (
            lambda: supcon_loss(GOOD, torch.arange(4), temperature=1, base_temperature=0),
            ValueError,
            "base_temperature: must be positive",
        ),
    ],
)
def test_bad_inputs_are_named_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_one_pair_is_enough_for_siglip_and_a_zero_row_without_norms():
    assert siglip_loss(GOOD[:1], GOOD[:1], temperature=1.0, bias=0.0).item() == pytest.approx(math.log1p(math.exp(-1)))
    assert info_nce(0 * GOOD, GOOD, temperature=1.0, normalize=False).item() == pytest.approx(math.log(4))
