"""Losses against a teacher of whom few tokens are known."""

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from logitherm.distillation import (  # noqa: E402
    SampledTeacher,
    SparseTeacher,
    distillation_loss,
    sparse_distillation_loss,
)

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "skew_forward", "skew_reverse")
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 20.0)


def logits(*shape, seed=0, spread=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=dtype)


def slope(loss, z):
    return torch.autograd.grad(loss, z)[0]


def brute(z_s, teacher, temperature, divergence):
    """T^2 times the divergence of laws of k + 1 states, by plain sums of probabilities."""
    q_all = torch.softmax(z_s / temperature, -1)
    q = q_all.gather(-1, teacher.tokens)
    q = torch.cat([q, (q_all.sum(-1) - q.sum(-1))[:, None]], -1)
    p = teacher.log_law(temperature).exp()
    kl = lambda a, b: (a * (a / b).log()).sum(-1)  # noqa: E731
    found = {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "jsd": lambda: 2 * (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)),
        "skew_forward": lambda: kl(p, 0.1 * p + 0.9 * q),
        "skew_reverse": lambda: kl(q, 0.1 * q + 0.9 * p),
    }[divergence]()
    return temperature**2 * found


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_nothing_to_learn_from_oneself(divergence, temperature):
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 2e-6)):
        z = logits(6, 300, dtype=dtype).requires_grad_()
        teacher = SparseTeacher.from_logits(z, k=5, temperatures=TEMPERATURES)
        loss = sparse_distillation_loss(z, teacher, temperature=temperature, divergence=divergence, reduction="sum")
        assert 0 <= loss.item() <= (0 if divergence.endswith("_kl") else tolerance * temperature**2)  # mixtures round
        assert slope(loss, z).abs().max() <= tolerance * temperature


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_divergence_of_k_and_one_states(divergence):
    z_s, z_t = logits(20, 40, seed=1), logits(20, 40)
    for k, temperature in itertools.product((1, 7, 39), TEMPERATURES):
        teacher = SparseTeacher.from_logits(z_t, k=k, temperatures=TEMPERATURES)
        found = sparse_distillation_loss(z_s, teacher, temperature=temperature, divergence=divergence, reduction="none")
        assert torch.allclose(found, brute(z_s, teacher, temperature, divergence), rtol=1e-8, atol=1e-10)
        whole = distillation_loss(z_s, z_t, temperature=temperature, divergence=divergence, reduction="none")
        assert bool((found <= whole * (1 + 1e-12)).all()), "data processing"


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_all_states_are_the_whole_loss(divergence):
    z_s, z_t = logits(8, 30, seed=1).requires_grad_(), logits(8, 30)
    teacher = SparseTeacher.from_logits(z_t, k=30, temperatures=(3.0,))
    assert bool((teacher.log_rest == -math.inf).all())
    loss = sparse_distillation_loss(z_s, teacher, temperature=3.0, divergence=divergence)
    whole = distillation_loss(z_s, z_t, temperature=3.0, divergence=divergence)
    assert torch.allclose(loss, whole, rtol=1e-12)
    assert torch.allclose(slope(loss, z_s), slope(whole, z_s), rtol=1e-9, atol=1e-14)


def gradcheck(teacher, **options):
    z, labels = logits(3, 6, seed=1).requires_grad_(), torch.tensor([5, -100, 2])
    options |= {"labels": labels, "hard_weight": 0.3}
    return torch.autograd.gradcheck(lambda z: sparse_distillation_loss(z, teacher, **options), z)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_slopes_are_those_of_the_returned_loss(divergence):
    teacher = SparseTeacher.from_logits(logits(3, 6), k=2, temperatures=(0.7, 2.0))
    t = torch.tensor([0.7, 0.7, 2.0])
    assert gradcheck(teacher, temperature=t, divergence=divergence, scale="limit")


@pytest.mark.parametrize("scale", ["T2", "none", 0.7])
def test_slopes_are_those_of_the_returned_loss_of_draws(scale):
    teacher = SampledTeacher.from_logits(logits(3, 6), draws=4, temperature=2.0, generator=0, proposal_power=0.5)
    assert gradcheck(teacher, temperature=2.0, scale=scale)


def test_temperature_and_tail_do_not_commute():
    """One atom for the tail that is tempered as a token is wrong at student = teacher; the stored sum is not."""
    z = logits(50, 2000, spread=2.0)
    teacher = SparseTeacher.from_logits(z, k=20, temperatures=(1.0, 4.0))
    lumped = torch.log_softmax(teacher.log_law(1.0) / 4, -1)
    apart = (teacher.log_law(4.0).exp() * (teacher.log_law(4.0) - lumped)).sum(-1).mean()
    assert apart > 0.05
    assert sparse_distillation_loss(z, teacher, temperature=4.0).item() == 0


def test_a_temperature_that_is_not_stored_is_refused():
    z = logits(3, 9)
    with pytest.raises(ValueError, match=r"stored of the teacher \(1, 2, 4\); got 3; take one of these"):
        sparse_distillation_loss(z, SparseTeacher.from_logits(z, k=2), temperature=3.0)
    with pytest.raises(ValueError, match=r"stored of the teacher \(2\); got 1"):
        sparse_distillation_loss(z, SampledTeacher.from_logits(z, draws=2, temperature=2.0, generator=0))
    with pytest.raises(ValueError, match="got 3"):
        SparseTeacher.from_logits(z, k=2).log_law(3.0)
    t = torch.ones((), dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="temperature: must be constant"):
        sparse_distillation_loss(z, SparseTeacher.from_logits(z, k=2), temperature=t)
    with pytest.raises(ValueError, match="temperature: must be positive and finite for a loss; got -1"):
        sparse_distillation_loss(z, SparseTeacher.from_logits(z, k=2), temperature=-1.0)
    with pytest.raises(TypeError, match=r"temperatures: must be a sequence of numbers; got 2.0; write \(2.0,\)"):
        SparseTeacher.from_logits(z, k=2, temperatures=2.0)
    third = SparseTeacher.from_logits(z.float(), k=2, temperatures=(1 / 3,))
    assert sparse_distillation_loss(z.float(), third, temperature=1 / 3).item() == 0


def test_arguments_of_another_kind():
    log_p, tokens = torch.log_softmax(logits(3, 9), -1).topk(3)
    make = SparseTeacher.from_log_probabilities
    for given, error, message in (
        ((tokens, log_p.tolist(), 1.0), TypeError, "log_probabilities: must be a torch tensor; got list"),
        ((tokens * 0, log_p, 1.0), ValueError, "tokens: must differ in a row; row 0 has one twice"),
        ((tokens, log_p, 0.0), ValueError, "temperature: must be a number, positive and finite; got float 0.0"),
        ((tokens, log_p, None), ValueError, "temperature: must be a number, positive and finite; got NoneType None"),
    ):
        with pytest.raises(error, match=message):
            make(given[0], given[1], temperature=given[2], states=9)
    for k in (2.0, 0, 10):
        with pytest.raises(ValueError, match="k: must be an integer from 1 to the 9 states"):
            SparseTeacher.from_logits(logits(3, 9), k=k)


def test_a_batch_of_no_rows_is_a_zero_with_a_graph():
    z = logits(0, 9).requires_grad_()
    loss = sparse_distillation_loss(z, SparseTeacher.from_logits(z.detach(), k=2))
    loss.backward()
    assert loss.item() == 0 and z.grad.shape == (0, 9)


def test_margins():
    for dtype in (torch.float32, torch.float64):
        for temperature, k in itertools.product((1e-2, 1.0, 100.0), (1, 3)):
            z_t = torch.tensor([[1e4, 0.0, -1e4, 5.0, 1.0]], dtype=dtype)
            z_s = torch.tensor([[-1e4, 1e4, 0.0, 5.0, 1.0]], dtype=dtype).requires_grad_()
            teacher = SparseTeacher.from_logits(z_t, k=k, temperatures=(temperature,))
            for divergence in DIVERGENCES:
                options = {"temperature": temperature, "divergence": divergence}
                loss = sparse_distillation_loss(z_s, teacher, **options)
                whole = distillation_loss(z_s, z_t, **options)
                assert torch.isfinite(loss) and 0 < loss <= whole * (1 + 1e-6)
                assert torch.isfinite(slope(loss, z_s)).all()
            same = sparse_distillation_loss(z_t.requires_grad_(), teacher, temperature=temperature)
            assert same.item() == 0 and slope(same, z_t).abs().max() <= 1e-6 * temperature


def test_a_tail_below_the_rounding_of_one_is_known():
    z = torch.tensor([[40.0, 0.0, -1.0, -2.0]])
    teacher = SparseTeacher.from_logits(z, k=1, temperatures=(1.0,))
    wanted = math.log(sum(math.exp(-40 - i) for i in range(3)))
    assert teacher.log_law(1.0)[0, 1].item() == pytest.approx(wanted, rel=1e-6)
    student = torch.tensor([[38.0, 0.0, -1.0, -2.0]], requires_grad=True)
    found = slope(sparse_distillation_loss(student, teacher), student)[0]
    assert found[1].item() == pytest.approx(math.exp(-38) - math.exp(-40), rel=1e-5)


def test_forbidden_states():
    z = logits(4, 10)
    z[:, 7:] = -math.inf
    z[0, 1:] = -math.inf
    student = logits(4, 10, seed=1)
    student[:, 9] = -math.inf
    student.requires_grad_()
    for k in (2, 8):
        teacher = SparseTeacher.from_logits(z, k=k, temperatures=(2.0,))
        loss = sparse_distillation_loss(student, teacher, temperature=2.0)
        assert torch.isfinite(loss) and torch.isfinite(slope(loss, student)).all()
        assert (slope(sparse_distillation_loss(student, teacher, temperature=2.0), student)[:, 9] == 0).all()
        own = z.clone().requires_grad_()
        same = sparse_distillation_loss(own, teacher, temperature=2.0)
        assert same.item() == 0 and slope(same, own).abs().max() < 1e-15
    narrow = torch.full((4, 10), -math.inf, dtype=torch.float64)
    narrow[:, 7] = 0.0
    assert sparse_distillation_loss(narrow, teacher, temperature=2.0).item() == math.inf
    for bad, what in ((math.nan, "NaN"), (math.inf, r"\+inf"), (-math.inf, "no allowed state")):
        broken = student.detach().clone()
        broken[2] = bad
        with pytest.raises(ValueError, match=f"row 2.* {what}"):
            sparse_distillation_loss(broken, teacher, temperature=2.0)
        with pytest.raises(ValueError, match=f"row 2.* {what}"):
            SparseTeacher.from_logits(broken, k=2)


def test_padded_vocabularies():
    z_t, z_s = logits(6, 20), logits(6, 20, seed=1)
    z_t[0, 19] = 30.0  # the larger vocabulary has a token that counts
    wide = torch.nn.functional.pad(z_s, (0, 1), value=50.0).requires_grad_()
    teacher = SparseTeacher.from_logits(z_t, k=20, temperatures=(2.0,))
    loss = sparse_distillation_loss(wide, teacher, temperature=2.0)
    assert torch.allclose(loss, distillation_loss(wide, z_t, temperature=2.0))
    assert (slope(loss, wide)[:, 20:] == 0).all()
    narrow = z_s[:, :19].clone().requires_grad_()
    for divergence in DIVERGENCES:
        loss = sparse_distillation_loss(narrow, teacher, temperature=2.0, divergence=divergence)
        whole = distillation_loss(narrow, z_t, temperature=2.0, divergence=divergence)
        assert torch.allclose(loss, whole)
        assert torch.allclose(slope(loss, narrow), slope(whole, narrow))
    draws = SampledTeacher.from_logits(z_t, draws=8, temperature=2.0, generator=0)
    loss = sparse_distillation_loss(narrow, draws, temperature=2.0, reduction="sum")
    p = draws.estimate()[:, :19]
    q = torch.softmax(narrow / 2, -1)
    assert torch.isfinite(loss)
    assert torch.allclose(slope(loss, narrow), 2 * (q * p.sum(-1, keepdim=True) - p), atol=1e-12)
    with pytest.raises(ValueError, match="state i is then another token"):
        sparse_distillation_loss(logits(6, 2000), teacher, temperature=2.0)


@pytest.mark.parametrize("kind", ["logits", "draws"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_and_rows_that_do_not_count(kind, reduction):
    z_t, z_s = logits(6, 20), logits(2, 3, 20, seed=1)
    z_s[0, 1] = math.nan  # of a row that does not count
    labels = torch.tensor([[1, -1, 3], [4, 5, -1]])
    weights = torch.tensor([[0.5, 2.0, 1.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
    if kind == "logits":
        teacher = SparseTeacher.from_logits(z_t, k=4, temperatures=(2.0,))
    else:
        teacher = SampledTeacher.from_logits(z_t, draws=4, temperature=2.0, generator=0)
    z_s.requires_grad_()
    options = {"temperature": 2.0, "hard_weight": 0.25, "ignore_index": -1, "labels": labels, "token_weights": weights}
    loss = sparse_distillation_loss(z_s, teacher, reduction=reduction, **options)
    rows = []
    for i, (b, s) in enumerate(itertools.product(range(2), range(3))):
        if labels[b, s] < 0 or weights[b, s] == 0:
            rows.append(torch.zeros((), dtype=torch.float64))
            continue
        z = z_s[b, s][None]
        if kind == "logits":
            of_row = SparseTeacher.from_logits(z_t[i : i + 1], k=4, temperatures=(2.0,))
            soft = brute(z, of_row, 2.0, "forward_kl")[0]
        else:
            soft = -4 * (teacher.estimate()[i] * torch.log_softmax(z[0] / 2, -1)).sum()
        hard = -torch.log_softmax(z[0], -1)[labels[b, s]]
        rows.append(weights[b, s] * (0.75 * soft + 0.25 * hard))
    rows = torch.stack(rows).reshape(2, 3)
    counted = (weights * (labels >= 0)).sum()
    wanted = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / counted}[reduction]
    assert torch.allclose(loss, wanted)
    found = slope(loss.sum(), z_s)
    assert (found[0, 1] == 0).all() and (found[1, 0] == 0).all() and bool(found[1, 1].any())


@pytest.mark.parametrize("kind", ["logits", "draws"])
def test_a_batch_in_which_nothing_counts_is_0_and_in_the_graph(kind):
    z = logits(3, 20).requires_grad_()
    if kind == "logits":
        teacher = SparseTeacher.from_logits(z, k=4)
    else:
        teacher = SampledTeacher.from_logits(z, draws=4, generator=0)
    labels = torch.full((3,), -100)
    for reduction, hard in itertools.product(("mean", "sum"), (0.0, 0.5)):
        loss = sparse_distillation_loss(z, teacher, labels=labels, hard_weight=hard, reduction=reduction)
        assert loss.item() == 0 and loss.requires_grad
        assert (slope(loss, z) == 0).all()


@pytest.mark.parametrize("power", [1.0, 0.5, 2.0])
def test_the_slope_of_draws_has_no_bias(power):
    """z-test of every state's mean slope over many draws; divided by its sum, the estimate would be biased."""
    n, states, draws, t = 40_000, 12, 6, 2.0
    z_t, z_s = logits(1, states, spread=2.0), logits(1, states, seed=1, spread=2.0)
    many = z_s.expand(n, -1).clone().requires_grad_()
    teacher = SampledTeacher.from_logits(
        z_t.expand(n, -1), draws=draws, temperature=t, generator=3, proposal_power=power
    )
    assert (teacher.weights is None) == (power == 1)
    found = slope(sparse_distillation_loss(many, teacher, temperature=t, scale="none", reduction="sum"), many)
    wanted = (torch.softmax(z_s / t, -1) - torch.softmax(z_t / t, -1))[0] / t

    def deviations(slopes):
        return ((slopes.mean(0) - wanted) / (slopes.std(0) / n**0.5)).abs().max()

    assert deviations(found) < 4.0
    p = teacher.estimate()
    divided = (torch.softmax(z_s / t, -1) - p / p.sum(-1, keepdim=True)) / t
    assert (deviations(divided) < 4.0) == (power == 1), "a sum of 1 for draws from p itself"


def test_draws_are_repeatable_and_avoid_forbidden_states(monkeypatch):
    z = logits(5, 9, dtype=torch.bfloat16)
    z[:, 4] = -math.inf
    one, two, other = (SampledTeacher.from_logits(z, draws=50, generator=seed) for seed in (1, 1, 2))
    assert torch.equal(one.tokens, two.tokens) and not torch.equal(one.tokens, other.tokens)
    assert not (one.tokens == 4).any()
    monkeypatch.setattr("logitherm.distillation.sparse.DRAWN", 20)
    assert torch.equal(SampledTeacher.from_logits(z, draws=50, generator=1).tokens, one.tokens), "blocks change nothing"
    assert torch.allclose(one.estimate().sum(-1), torch.ones(5, dtype=torch.float64))
    even = SampledTeacher.from_logits(z, draws=4000, generator=0, proposal_power=0.0)
    assert torch.allclose(even.estimate(), torch.softmax(z.float(), -1), atol=0.1)


def test_log_probabilities_of_a_server():
    z = logits(4, 50)
    log_p = torch.log_softmax(z, -1).topk(5)
    teacher = SparseTeacher.from_log_partition(log_p.indices, log_p.values, torch.zeros(4, 1), states=50)
    own = SparseTeacher.from_logits(z, k=5, temperatures=(1.0,))
    assert torch.allclose(teacher.log_law(1.0), own.log_law(1.0))
    assert torch.allclose(teacher.log_partition, torch.zeros(4, 1, dtype=torch.float64), atol=1e-12)
    shift = z.max(-1).values
    assert torch.allclose(own.log_partition[:, 0] + shift, z.logsumexp(-1))
    with pytest.raises(ValueError, match="log_partition: must be at least that of the k logits; row 0 has less"):
        SparseTeacher.from_log_partition(log_p.indices, log_p.values, torch.full((4, 1), -9.0), states=50)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("k", [1, 5, 50])
def test_log_probabilities_at_their_temperature(divergence, k):
    z = logits(4, 50).requires_grad_()
    log_p = torch.log_softmax(z.detach() / 0.7, -1).topk(k)
    teacher = SparseTeacher.from_log_probabilities(log_p.indices, log_p.values, temperature=0.7, states=50)
    loss = sparse_distillation_loss(z, teacher, temperature=0.7, divergence=divergence)
    assert abs(loss.item()) < 1e-12 and slope(loss, z).abs().max() < 1e-12
    assert bool((teacher.log_rest == -math.inf).all()) == (k == 50)
    other = logits(4, 50, seed=1).requires_grad_()
    own = SparseTeacher.from_logits(z.detach(), k=k, temperatures=(0.7,))
    found, wanted = (
        slope(sparse_distillation_loss(other, of, temperature=0.7, divergence=divergence), other)
        for of in (teacher, own)
    )
    assert torch.allclose(found, wanted, atol=1e-9)
    with pytest.raises(ValueError, match=r"stored of the teacher \(0.7\); got 1; take one of these"):
        sparse_distillation_loss(z, teacher, temperature=1.0)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_log_probabilities_that_round_to_more_than_1(divergence):
    """Nearly all mass on a few tokens, in float32: the tail is lost, and takes nothing with it."""
    z = logits(400, 50, dtype=torch.float32, spread=12.0)
    log_p = torch.log_softmax(z / 0.7, -1).topk(8)
    assert 0 < log_p.values.logsumexp(-1).max() < 1e-6
    teacher = SparseTeacher.from_log_probabilities(log_p.indices, log_p.values, temperature=0.7, states=50)
    z.requires_grad_()
    loss = sparse_distillation_loss(z, teacher, temperature=0.7, divergence=divergence, reduction="none")
    assert loss.max() < 1e-5 and loss.min() > -1e-6
    assert slope(loss.sum(), z).abs().max() < 1e-5
    coarse = log_p.values.bfloat16()  # whoever stored them so
    rounded = SparseTeacher.from_log_probabilities(log_p.indices, coarse, temperature=0.7, states=50)
    assert torch.isfinite(sparse_distillation_loss(z, rounded, temperature=0.7, divergence=divergence))


@pytest.mark.parametrize(
    ("log_p", "options", "message"),
    [
        ([[0.0, -0.1]], {}, "log_probabilities: must be of at most 1 in all in a row; row 0 has 1.9"),
        ([[-0.5, -2.0], [8.0, 3.0]], {}, "row 1 has 3001"),
        ([[math.nan, -2.0]], {}, "row 0 has nan"),
        ([[-0.5, -2.0]], {"temperature": 0.0}, "temperature: must be a number, positive"),
        ([[-0.5, -2.0, -3.0]], {}, "logits: must have the shape of tokens"),
    ],
)
def test_log_probabilities_that_are_none(log_p, options, message):
    options = {"temperature": 1.0, "states": 9} | options
    with pytest.raises(ValueError, match=message):
        SparseTeacher.from_log_probabilities(
            torch.tensor([[0, 1]]).expand(len(log_p), 2), torch.tensor(log_p), **options
        )


def test_log_probabilities_must_have_their_temperature():
    with pytest.raises(TypeError, match="temperature"):
        SparseTeacher.from_log_probabilities(torch.tensor([[0]]), torch.tensor([[-0.5]]), states=9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_float32_inside(dtype):
    z_s, z_t = logits(6, 200, seed=1).to(dtype).requires_grad_(), logits(6, 200).to(dtype)
    teacher = SparseTeacher.from_logits(z_t, k=10)
    loss = sparse_distillation_loss(z_s, teacher, temperature=2.0)
    assert loss.dtype == torch.float32
    exact = SparseTeacher.from_logits(z_t.double(), k=10)
    assert loss.item() == pytest.approx(sparse_distillation_loss(z_s.double(), exact, temperature=2.0).item(), rel=1e-5)
    assert slope(loss, z_s).dtype == dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": logits(4, 9)}, "teacher: must be a SparseTeacher or a SampledTeacher"),
        ({"student": logits(3, 9)}, "teacher: must have the 3 rows of the student; got 4"),
        ({"divergence": "dkd"}, "divergence: must be one of forward_kl, .* for a SparseTeacher; got dkd"),
        ({"reduction": "batchmean"}, "reduction: must be one of"),
        ({"hard_weight": 0.5}, "labels: must be given with a hard_weight"),
        ({"temperature": -1.0}, "temperature: must be positive and finite for a loss"),
        (
            {"teacher": SampledTeacher.from_logits(logits(4, 9), draws=2, generator=0), "divergence": "reverse_kl"},
            "must be one of forward_kl for a SampledTeacher",
        ),
    ],
)
def test_errors_say_what_to_do(change, message):
    options = {"student": logits(4, 9), "teacher": SparseTeacher.from_logits(logits(4, 9), k=2), **change}
    with pytest.raises((TypeError, ValueError), match=message):
        sparse_distillation_loss(options.pop("student"), options.pop("teacher"), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda z: SparseTeacher.from_logits(z, k=10),
            "k: must be an integer from 1 to the 9 states; got 10",
        ),
        (lambda z: SparseTeacher.from_logits(z, k=2, temperatures=(1, 0)), "temperatures: must be positive"),
        (lambda z: SparseTeacher.from_logits(z, k=2, temperatures=(1, 1)), "all different"),
        (lambda z: SparseTeacher.from_logits(z.numpy(), k=2), "logits: must be a torch tensor"),
        (lambda z: SampledTeacher.from_logits(z, draws=0, generator=0), "draws: must be an integer from 1; got 0"),
        (lambda z: SampledTeacher.from_logits(z, draws=1, generator=None), "generator: must be"),
        (lambda z: SampledTeacher.from_logits(z, draws=1, generator=0, proposal_power=-1), "proposal_power: must be"),
        (lambda z: SampledTeacher(torch.zeros(1, 1).long(), 1.0, 9, z[:1, :1]), "weights: must be given if"),
        (lambda z: SparseTeacher(torch.full((1, 1), 9), z[:1, :1], z[:1, :1], (1.0,), 9), r"must lie in \[0, 9\)"),
        (lambda z: SparseTeacher(torch.zeros(1, 1).long(), z[:1, :2], z[:1, :1], (1.0,), 9), "shape of tokens"),
        (lambda z: SparseTeacher(torch.zeros(1, 1).long(), z[:1, :1], z[:1, :2], (1.0,), 9), "log_rest: must have"),
    ],
)
def test_teachers_that_are_none(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(logits(4, 9))
