"""Losses on whole logits: their definition, their derivatives, their limits, and what other libraries get wrong."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

pytest.importorskip("torch", reason="the losses are PyTorch's")
import torch

from logitherm import entropy as entropy_of
from logitherm.distillation import distillation_loss
from logitherm.thermostat import CosineSchedule, SetPoint

DIVERGENCES = ["forward_kl", "reverse_kl", "jsd", "skew_forward", "skew_reverse", "dkd", "mse"]
KLS = ["forward_kl", "reverse_kl", "jsd", "skew_forward", "skew_reverse"]


def pair(rows=4, states=7, seed=0, dtype=torch.float64, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (spread * torch.randn(rows, states, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.to(dtype), teacher.to(dtype)


def labels_of(rows, states):
    return torch.arange(rows) * 5 % states


def kl(p, q):
    return np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(q)), 0).sum(-1)


def defined(student, teacher, t_s, t_t, divergence, labels):
    """In NumPy, of probabilities."""
    p, q = (softmax(z.numpy() / t, axis=-1) for z, t in ((teacher, t_t), (student, t_s)))
    if divergence == "forward_kl":
        return kl(p, q)
    if divergence == "reverse_kl":
        return kl(q, p)
    if divergence == "jsd":
        m = (p + q) / 2
        return (kl(p, m) + kl(q, m)) / 2 / 0.25
    if divergence == "skew_forward":
        return kl(p, 0.1 * p + 0.9 * q)
    if divergence == "skew_reverse":
        return kl(q, 0.1 * q + 0.9 * p)
    if divergence == "mse":
        return (student / t_s - teacher / t_t).numpy().var(-1) / 2
    rows, y = np.arange(len(p)), labels.numpy()
    two = [np.stack([law[rows, y], 1 - law[rows, y]], 1) for law in (p, q)]
    rest = [np.delete(law, y[i]) / (1 - law[y[i]]) for i in range(len(p)) for law in (p[i], q[i])]
    return kl(*two) + 8 * np.array([kl(rest[2 * i], rest[2 * i + 1]) for i in range(len(p))])


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (2.0, 2.0), (0.7, 3.0)])
def test_the_definition(divergence, temperatures):
    student, teacher = pair()
    y = labels_of(4, 7)
    t_s, t_t = temperatures
    found = distillation_loss(
        student,
        teacher,
        temperature=t_s,
        teacher_temperature=t_t,
        divergence=divergence,
        labels=y,
        reduction="none",
    )
    expected = t_s * t_t * defined(student, teacher, t_s, t_t, divergence, y)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11)


@pytest.mark.parametrize("scale", ["T2", "none", "limit", 2.5])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_derivatives_of_all_there_is(divergence, scale):
    """Logits and temperatures of both sides; finite differences of the loss that is returned, scale and all."""
    if divergence == "dkd" and scale == "limit":
        scale = "T2"
    student, teacher = (z.requires_grad_() for z in pair(3, 6))
    t_s, t_t = (torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in ([0.7, 2, 5], [1.7, 2.5, 0.5]))

    def loss(student, teacher, t_s, t_t):
        return distillation_loss(
            student,
            teacher,
            temperature=t_s,
            teacher_temperature=t_t,
            divergence=divergence,
            scale=scale,
            labels=labels_of(3, 6),
            hard_weight=0.3,
        )

    assert torch.autograd.gradcheck(loss, (student, teacher, t_s, t_t))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_derivatives_in_one_learned_temperature_and_of_standardized_logits(divergence):
    student, teacher = (z.requires_grad_() for z in pair(3, 6))
    t = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)

    def loss(student, teacher, t):
        y = labels_of(3, 6)
        return distillation_loss(student, teacher, temperature=t, divergence=divergence, labels=y, standardize=True)

    assert torch.autograd.gradcheck(loss, (student, teacher, t))


def test_the_gradient_of_the_classic_one():
    """T (q - p): as large at every high temperature."""
    student, teacher = pair()
    student.requires_grad_()
    for t in (1.0, 4.0, 20.0):
        (grad,) = torch.autograd.grad(distillation_loss(student, teacher, temperature=t, reduction="sum"), student)
        assert torch.allclose(grad, t * (torch.softmax(student / t, -1) - torch.softmax(teacher / t, -1)), atol=1e-12)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    t=st.sampled_from([1e-3, 0.1, 1.0, 4.0, 1e4]),
    divergence=st.sampled_from(DIVERGENCES),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_nothing_at_the_teacher_itself(seed, t, divergence, dtype):
    """Zero loss and zero slope: at every temperature, with forbidden states and rows that do not count."""
    student, _ = pair(5, 9, seed, dtype)
    student[1, 4:] = -math.inf
    y = labels_of(5, 4)
    y[3] = -100
    teacher = student.clone()
    student.requires_grad_()
    loss = distillation_loss(student, teacher, temperature=t, divergence=divergence, labels=y)
    loss.backward()
    slack = 1e-6 if dtype == torch.float32 else 1e-14
    assert abs(loss.item()) <= slack * t**2
    assert student.grad.abs().max() <= slack * max(t, 1)


@pytest.mark.parametrize("divergence", [*KLS, "mse"])
def test_the_limit_of_high_temperature(divergence):
    """Half the variance over states of the difference of logits, whatever the divergence (Hinton et al., 2.1)."""
    student, teacher = pair()
    found = distillation_loss(student, teacher, temperature=1e4, divergence=divergence, scale="limit", reduction="none")
    assert torch.allclose(found, (student - teacher).var(-1, correction=0) / 2, rtol=2e-3)


def test_the_jsd_is_continuous_to_both_divergences():
    student, teacher = pair()
    for weight, name in ((1e-7, "forward_kl"), (1 - 1e-7, "reverse_kl")):
        near = distillation_loss(student, teacher, divergence="jsd", mixture=weight)
        assert near.item() == pytest.approx(distillation_loss(student, teacher, divergence=name).item(), rel=1e-4)
        at = distillation_loss(student, teacher, divergence="jsd", mixture=round(weight))
        assert at.item() == distillation_loss(student, teacher, divergence=name).item()


def test_decoupled_weights_of_the_divergence_itself():
    """KL = target + (1 - p_y) others (Zhao et al., eq. 6)."""
    student, teacher = pair(1)
    y = torch.tensor([2])
    others = 1 - torch.softmax(teacher, -1)[0, 2].item()
    whole = distillation_loss(student, teacher, divergence="dkd", dkd_weights=(1.0, others), labels=y)
    assert whole.item() == pytest.approx(distillation_loss(student, teacher).item(), rel=1e-12)
    two = distillation_loss(student[:, :2], teacher[:, :2], divergence="dkd", labels=torch.tensor([1]))
    assert two.item() == pytest.approx(distillation_loss(student[:, :2], teacher[:, :2]).item(), rel=1e-12)


@pytest.mark.parametrize("margin", [100.0, 200.0, 1e4, -1e4])
@pytest.mark.parametrize("divergence", [*KLS, "dkd"])
def test_wide_margins_are_finite(divergence, margin):
    student = torch.tensor([[margin, 0.0, 1.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, margin, -1.0]])
    loss = distillation_loss(student, teacher, divergence=divergence, labels=torch.tensor([0]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("divergence", KLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_near_convergence(divergence, dtype):
    """Not negative, and as exact as the inputs allow: where logarithms are taken in bfloat16 the JSD is negative."""
    _, teacher = pair(64, 1000, spread=4.0)
    student = (teacher * 1.02).to(dtype).requires_grad_()
    teacher = teacher.to(dtype)
    found = distillation_loss(student, teacher, divergence=divergence, reduction="none")
    exact = distillation_loss(student.double(), teacher.double(), divergence=divergence, reduction="none")
    assert found.dtype == torch.float32 and found.min() >= 0
    assert torch.allclose(found.double(), exact, rtol=1e-3)
    found.sum().backward()
    assert student.grad.dtype == dtype


def test_forbidden_states_of_either_side():
    student, teacher = pair(1, 4)
    teacher[0, 1] = -math.inf
    student.requires_grad_()
    loss = distillation_loss(student, teacher)
    loss.backward()
    q, p = torch.softmax(student[0], 0), torch.softmax(teacher[0], 0)
    assert torch.allclose(student.grad[0], q - p)
    assert distillation_loss(student, teacher, divergence="reverse_kl").item() == math.inf
    assert math.isfinite(distillation_loss(student, teacher, divergence="jsd").item())
    masked = student.detach().clone()
    masked[0, 2] = -math.inf
    assert distillation_loss(masked, teacher).item() == math.inf


def test_vocabularies_that_are_padded():
    """What one side has beyond the other is no part of either law: the same model has no loss."""
    student, _ = pair(3, 64)
    teacher = torch.cat([student, torch.full((3, 4), -30.0)], -1)
    assert distillation_loss(student, teacher, temperature=4.0).item() == 0
    assert distillation_loss(teacher, student, temperature=4.0).item() == 0
    for mine, theirs in (
        (32_000, 50_257),
        (10, 100),
        (3, 5),
        (64, 80),
    ):  # classes of another task are no padding either
        with pytest.raises(ValueError, match=f"teacher: must have the student's {mine} states, up to padding"):
            distillation_loss(torch.zeros(3, mine), torch.zeros(3, theirs))


# -- rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_reductions_against_a_loop(reduction, weighted, labelled):
    student, teacher = (z.reshape(2, 3, 7) for z in pair(6))
    y = torch.tensor([[0, -100, 2], [3, -100, 6]]) if labelled else None
    w = torch.rand(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) if weighted else None
    hard = 0.4 if labelled else 0.0
    found = distillation_loss(
        student, teacher, temperature=2.0, labels=y, hard_weight=hard, token_weights=w, reduction=reduction
    )
    rows, weights = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    for i in range(2):
        for j in range(3):
            if y is not None and y[i, j] < 0:
                continue
            weights[i, j] = 1 if w is None else w[i, j]
            p, q = (softmax(z[i, j].numpy() / 2) for z in (teacher, student))
            rows[i, j] = (1 - hard) * 4 * kl(p, q)
            if y is not None:
                rows[i, j] -= hard * log_softmax(student[i, j].numpy())[y[i, j]]
    rows = rows * weights
    expected = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / weights.sum()}[reduction]
    assert torch.allclose(found, expected, rtol=1e-12)


def test_rows_that_do_not_count_may_be_anything():
    student, teacher = pair(3)
    y = torch.tensor([1, -100, 2])
    expected = distillation_loss(student[[0, 2]], teacher[[0, 2]], labels=y[[0, 2]], hard_weight=0.5)
    student[1] = math.nan
    student.requires_grad_()
    loss = distillation_loss(student, teacher, labels=y, hard_weight=0.5)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item()) and student.grad[1].abs().max() == 0


def test_a_batch_without_rows_that_count_is_a_zero_with_a_graph():
    student, teacher = pair(3)
    student.requires_grad_()
    loss = distillation_loss(student, teacher, labels=torch.full((3,), -100), hard_weight=0.5)
    loss.backward()
    assert loss.item() == 0 and student.grad.abs().max() == 0


# -- temperatures ----------------------------------------------------------------------------------------


def test_temperatures_of_every_kind():
    student, teacher = pair()
    schedule = CosineSchedule(4.0, 1.0, steps=10)
    assert torch.equal(
        distillation_loss(student, teacher, temperature=schedule, step=5),
        distillation_loss(student, teacher, temperature=float(schedule.at(5))),
    )
    each = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    rows = distillation_loss(student, teacher, temperature=each, reduction="none")
    for i in range(4):
        assert rows[i].item() == pytest.approx(
            distillation_loss(student[i], teacher[i], temperature=float(each[i])).item()
        )


def test_a_set_point_is_held_by_the_teacher():
    student, teacher = pair()
    entropy = math.log(7) - 0.5
    at = SetPoint(entropy=entropy)
    t = at.resolve(teacher)
    p = torch.softmax(teacher / t[:, None], -1)
    assert torch.allclose(-(p * p.log()).sum(-1), torch.full((4,), entropy, dtype=torch.float64), atol=1e-9)
    both = distillation_loss(student, teacher, temperature=at)
    assert torch.allclose(both, distillation_loss(student, teacher, temperature=t))
    hers = distillation_loss(student, teacher, temperature=1.0, teacher_temperature=at)
    assert torch.allclose(hers, distillation_loss(student, teacher, temperature=1.0, teacher_temperature=t))


@pytest.mark.parametrize("hard_weight", [0.0, 0.3])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_the_kernel_is_exact_and_runs(divergence, hard_weight, ran):
    """float32 against float64 without it, 2e-6 of the largest slope; strided logits, rows that do not count."""
    options = {"temperature": torch.linspace(0.5, 4, 40), "divergence": divergence}
    if hard_weight:
        labels = torch.arange(40) % 7
        labels[3] = -100
        options |= {"labels": labels, "hard_weight": hard_weight}
    found = []
    for dtype in (torch.float32, torch.float64):
        student, teacher = (z.float().to(dtype)[:, ::2].requires_grad_() for z in pair(40, 2000))
        mine = dtype == torch.float32
        loss = distillation_loss(student, teacher.detach() if mine else teacher, **options)
        assert ran("divergence") == mine
        found.append((loss.item(), torch.autograd.grad(loss, student)[0].double()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert (found[0][1] - found[1][1]).abs().max() <= 2e-6 * found[1][1].abs().max()


def test_a_teacher_as_uncertain_as_the_student():
    student, teacher = pair()
    matched = SetPoint(entropy=entropy_of(student.detach()))
    t = matched.resolve(teacher)
    assert torch.allclose(entropy_of(teacher, t), entropy_of(student), atol=1e-9) and t.std() > 0.1
    found = distillation_loss(student, teacher, temperature=1.0, teacher_temperature=matched)
    assert torch.allclose(found, distillation_loss(student, teacher, temperature=1.0, teacher_temperature=t))


def test_the_temperature_of_a_robust_loss_is_a_set_point():
    """T LSE(z / T) + (radius - log V) T is least where the entropy is log V - radius (Qiu et al. 2024, TempNet)."""
    z, radius = pair()[1], 0.5
    t = SetPoint(entropy=math.log(7) - radius).resolve(z)

    def robust(t):
        return t * torch.logsumexp(z / t[:, None], -1) + (radius - math.log(7)) * t

    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        assert bool((robust(factor * t) > robust(t)).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: must be positive and finite for a loss; got 0"),
        ({"temperature": -1.0}, "temperature: must be positive and finite for a loss; got -1"),
        ({"teacher_temperature": -1.0}, "teacher_temperature: must be positive and finite for a loss; got -1"),
        ({"temperature": SetPoint(entropy=5.0)}, r"got inf from SetPoint\(entropy=5.0\); take one that every row"),
        ({"teacher_temperature": math.inf}, "teacher_temperature: must be positive and finite"),
        ({"divergence": "kl"}, "divergence: must be one of forward_kl"),
        ({"mixture": 0.5}, "mixture: must be for jsd"),
        ({"divergence": "jsd", "mixture": 1.5}, "mixture: must be a weight from 0 to 1"),
        ({"scale": "T"}, "scale: must be one of T2"),
        ({"divergence": "dkd", "scale": "limit"}, 'scale: "limit" must be for another divergence'),
        ({"hard_weight": 0.5}, "labels: must be given with a hard_weight"),
        ({"divergence": "dkd"}, "labels: must be given with dkd"),
        ({"hard_weight": 1.5, "labels": torch.zeros(4, dtype=torch.long)}, "hard_weight: must lie in"),
        ({"labels": torch.full((4,), 9)}, "labels: must lie in \\[0, 7\\) or be -100; got 9"),
        ({"labels": torch.zeros(4)}, "labels: must be integers of the batch shape"),
        ({"labels": torch.zeros(4, dtype=torch.bool)}, "labels: must be integers of the batch shape"),
        ({"labels": np.zeros(4, dtype=int)}, "labels: must be a torch tensor; got numpy.ndarray"),
        ({"token_weights": [1.0] * 4}, "token_weights: must be a torch tensor; got list"),
        ({"divergence": "dkd", "dkd_weights": (1, 2, 3)}, "dkd_weights: must be two numbers"),
        ({"token_weights": torch.ones(3)}, "token_weights: must have the batch shape"),
        ({"token_weights": -torch.ones(4)}, "token_weights: must be finite and at least 0"),
        ({"reduction": "batchmean"}, "reduction: must be one of mean"),
    ],
)
def test_refusals(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        distillation_loss(*pair(), **options)


def test_logits_that_are_none():
    student, teacher = pair()
    teacher[2, 3] = math.nan
    with pytest.raises(ValueError, match=r"teacher: rows must be finite.*row 2 has NaN"):
        distillation_loss(student, teacher)
    with pytest.raises(TypeError, match="student: must be floating point"):
        distillation_loss(torch.zeros(3, 4, dtype=torch.long), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="teacher: must have the batch"):
        distillation_loss(student, teacher[:2])
    with pytest.raises(TypeError, match=r"teacher: must be a torch tensor; got numpy\.ndarray; convert it"):
        distillation_loss(student, teacher.numpy())


def test_a_batch_of_no_rows_is_a_zero_with_a_graph():
    student = torch.zeros(0, 7, requires_grad=True)
    loss = distillation_loss(student, torch.zeros(0, 7))
    loss.backward()
    assert loss.item() == 0 and student.grad.shape == (0, 7)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap])
def test_function_transforms_are_refused_in_one_line(transform):
    student, teacher = pair()

    def loss(z):
        return distillation_loss(z, teacher if transform is torch.func.grad else teacher[0])

    with pytest.raises(NotImplementedError, match=r"student: must not be under torch.func; .*; take loss.backward\(\)"):
        transform(loss)(student)


def test_the_surrounding_model_compiles_and_runs_under_autocast():
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 20)
    x, teacher = torch.randn(5, 8), torch.randn(5, 20)

    def loss(x):
        return distillation_loss(layer(x), teacher, temperature=2.0)

    eager = loss(x)
    assert torch.allclose(torch.compile(loss, backend="aot_eager")(x), eager)
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(x)
    half.backward()
    assert half.dtype == torch.float32 and abs(half.item() - eager.item()) < 0.05 * eager.item()
