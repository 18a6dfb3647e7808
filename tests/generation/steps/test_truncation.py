"""Every truncation against its definition, written out state by state in many digits, and the symmetries of all."""

import math
from fractions import Fraction

import array_api_strict
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from logitherm.generation import Epsilon, Eta, MinP, Pipeline, PLess, TopH, TopK, TopNSigma, TopP, Typical
from logitherm.generation.steps import Context

CONTEXT = Context(history=[], prompt_lengths=np.zeros(0, int), uniform=lambda stream: np.full(1, 0.5))
INF = math.inf


def law(z):
    e = [math.exp(v - max(z)) for v in z]
    total = math.fsum(e)
    return [v / total for v in e]


def prefix(z, p, order, enough):
    """States in this order up to the first at which `enough(mass so far)`, and all that tie with it."""
    kept, mass = set(), Fraction(0)
    for i in order:
        if enough(mass):
            break
        kept.add(i)
        mass += Fraction(p[i])
    return kept


def falling(p):
    return sorted(range(len(p)), key=lambda i: -p[i])


def top_k(z, k):
    return {i for i in range(len(z)) if sum(v > z[i] for v in z) < k}


def top_p(z, p):
    q = law(z)
    kept = prefix(z, q, falling(q), lambda mass: mass >= p)
    return {i for i in range(len(z)) if z[i] >= min(z[j] for j in kept)}


def min_p(z, p):
    return {i for i, v in enumerate(law(z)) if v >= p * max(law(z))}


def top_n_sigma(z, n):
    finite = [v for v in z if v > -INF]
    mean = math.fsum(finite) / len(finite)
    sigma = math.sqrt(math.fsum((v - mean) ** 2 for v in finite) / len(finite))
    return {i for i, v in enumerate(z) if v >= max(z) - n * sigma}


def entropy(p):
    return -math.fsum(v * math.log(v) for v in p if v > 0)


def epsilon(z, e):
    p = law(z)
    return {i for i, v in enumerate(p) if v >= e or z[i] == max(z)}


def eta(z, e):
    p = law(z)
    return {i for i, v in enumerate(p) if v >= min(e, math.sqrt(e) * math.exp(-entropy(p))) or z[i] == max(z)}


def top_h(z, alpha):
    p = law(z)
    order = falling(p)
    kept = 1
    for n in range(2, len(p) + 1):
        q = [p[i] for i in order[:n]]
        if p[order[n - 1]] == 0 or entropy([v / math.fsum(q) for v in q]) > alpha * entropy(p):
            break
        kept = n
    return {i for i in range(len(p)) if z[i] >= z[order[kept - 1]]}


def p_less(z):
    p = law(z)
    return {i for i, v in enumerate(p) if v >= math.fsum(x * x for x in p) or z[i] == max(z)}


def typical(z, mass):
    p = law(z)
    s = entropy(p)
    distance = [abs(-math.log(v) - s) if v > 0 else INF for v in p]
    order = sorted(range(len(p)), key=lambda i: distance[i])
    kept = prefix(z, p, order, lambda so_far: so_far >= mass)
    return {i for i in range(len(p)) if distance[i] <= max(distance[j] for j in kept) and p[i] > 0}


CASES = [
    (TopK, top_k, st.integers(1, 6)),
    (TopP, top_p, st.floats(0.01, 0.99)),
    (MinP, min_p, st.floats(1e-4, 0.99)),
    (TopNSigma, top_n_sigma, st.floats(0.01, 3)),
    (Epsilon, epsilon, st.floats(1e-4, 0.9)),
    (Eta, eta, st.floats(1e-4, 0.9)),
    (TopH, top_h, st.floats(0.05, 0.95)),
    (PLess, p_less, st.none()),
    (Typical, typical, st.floats(0.01, 0.99)),
]
NAMES = [case[0].__name__ for case in CASES]
# sixteenths: sums and shifts are exact, ties are frequent
LOGITS = st.lists(st.one_of(st.integers(-160, 160).map(lambda n: n / 16), st.just(-INF)), min_size=6, max_size=12)


def made(step, value):
    return step() if value is None else step(value)


def kept_by(step, z):
    out = step(np.array([z]), CONTEXT)[0]
    return {i for i in range(len(z)) if out[i] > -INF}


def clear(definition, z, value):
    """The definition's answer, where rounding does not decide it."""
    if value is None:
        return definition(z)
    answers = [
        definition(z, v)
        for v in ((value,) if isinstance(value, int) else (value, value * (1 - 1e-9), value * (1 + 1e-9)))
    ]
    assume(all(a == answers[0] for a in answers))
    return answers[0]


@pytest.mark.parametrize(("step", "definition", "values"), CASES, ids=NAMES)
def test_the_definition(step, definition, values):
    @given(z=LOGITS, value=values)
    def check(z, value):
        assume(max(z) > -INF)
        assume(definition is not p_less or len(set(z)) > 1)
        expected = {i for i in clear(definition, z, value) if z[i] > -INF}
        found = kept_by(made(step, value), z)
        if found != expected:  # typical and p-less have thresholds that meet probabilities exactly
            p = law(z)
            target = math.log(math.fsum(v * v for v in p)) if definition is p_less else None
            edge = [abs(math.log(p[i]) - target) if target is not None else tied(p, i) for i in found ^ expected]
            assert max(edge) < 1e-9

    def tied(p, i):
        """How near to another state's distance from the entropy that of this state is."""
        s = entropy(p)
        distances = [abs(-math.log(v) - s) for j, v in enumerate(p) if v > 0 and j != i and v != p[i]]
        return min((abs(abs(-math.log(p[i]) - s) - d) for d in distances), default=INF)

    check()


@pytest.mark.parametrize(("step", "definition", "values"), CASES, ids=NAMES)
def test_symmetries(step, definition, values):
    """The same states whatever is added to all logits, and under any names of the states; values are not touched."""

    @given(z=LOGITS, value=values, shift=st.integers(-64, 64), order=st.permutations(range(12)))
    def check(z, value, shift, order):
        assume(max(z) > -INF)
        clear(definition, z, value)
        one = made(step, value)
        kept = kept_by(one, z)
        assert kept and all(z[i] > -INF for i in kept)
        assert max(range(len(z)), key=z.__getitem__) in kept or step is Typical
        order = [i for i in order if i < len(z)]
        assert {order[i] for i in kept_by(one, [z[j] for j in order])} == kept or step in (Typical, TopH, PLess)
        assert kept_by(one, [v + shift for v in z]) == kept or step in (Typical, TopH, TopNSigma, PLess)
        out = one(np.array([z]), CONTEXT)[0]
        assert all(out[i] == z[i] if i in kept else out[i] == -INF for i in range(len(z)))

    check()


@pytest.mark.parametrize("step", [case[0] for case in CASES if case[0] is not PLess])
def test_an_entry_a_request(step, rng):
    """Arrays of parameters are to every row what numbers are to it alone."""
    choose = np.array([1, 3, 5]) if step is TopK else np.array([0.1, 0.4, 0.8])
    z = rng.normal(size=(3, 40))
    together = step(choose)(z, CONTEXT)
    for row in range(3):
        assert np.array_equal(together[row], step(choose[row].item())(z[row : row + 1], CONTEXT)[0])
    assert np.array_equal(step(choose.tolist())(z, CONTEXT), together)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("step", "definition", "values"), CASES, ids=NAMES)
def test_the_array_api_is_all_they_need(step, definition, values, dtype, rng):
    """So that they run on whatever device an array is."""
    z = rng.normal(size=(4, 30)).astype(dtype)
    z[:, 3] = -INF
    one = made(step, None if step is PLess else 2 if step is TopK else 0.3)
    strict = one(array_api_strict.asarray(z), CONTEXT)
    assert strict.dtype == getattr(array_api_strict, dtype)
    assert np.array_equal(np.asarray(strict), one(z, CONTEXT))


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("step", "definition", "values"), CASES, ids=NAMES)
def test_pytorch(step, definition, values, kind, rng):
    torch = pytest.importorskip("torch")
    z = torch.as_tensor(rng.normal(size=(4, 30))).to(getattr(torch, kind))
    z[:, 3] = -INF
    one = made(step, None if step is PLess else 2 if step is TopK else 0.3)
    ours = Pipeline([one]).process(z)
    assert isinstance(ours, torch.Tensor)
    assert ours.dtype == (torch.float64 if kind == "float64" else torch.float32)
    wide = Pipeline([one]).process(z.to(torch.float64).numpy())
    assert np.array_equal(ours.numpy() > -INF, wide > -INF)


@pytest.mark.parametrize("step", [TopK(1), TopP(1e-9), MinP(1.0), TopNSigma(0), TopH(0.0), Epsilon(0.999), Eta(0.999)])
def test_the_largest_is_always_kept_and_so_are_its_ties(step):
    """top-k 1 is every token tied at the top, as T = 0 is: it does not pick one by its place."""
    assert kept_by(step, [0.0, 2.0, 1.0, 2.0, -INF]) == {1, 3}


def test_everything_is_kept_at_the_other_end():
    z = [0.0, -80.0, 1.0, -INF, -300.0]
    for step in (TopK(5), TopK(9, clamp=True), TopP(1.0), TopNSigma(1e6), TopH(1.0)):
        assert kept_by(step, z) == {0, 1, 2, 4}, step


def test_a_nucleus_of_a_large_vocabulary_is_right_in_float32(rng):
    """The cumulative sum is wide: in float32 it would be off by many states of a flat law."""
    z = (rng.normal(size=(4, 100_000)) * 0.5).astype(np.float32)
    for p in (0.5, 0.99):
        wide, narrow = (TopP(p)(x, CONTEXT) > -INF for x in (z.astype(np.float64), z))
        assert np.abs(wide.sum(-1) - narrow.sum(-1)).max() <= 2


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (TopK(0), "k: must be a whole number of at least 1; request 0 has 0; leave the step out to keep all"),
        (TopK(np.array([1, 2.5])), "k: must be a whole number of at least 1; request 1 has 2.5; leave"),
        (TopK(-1), "k: must be a whole number of at least 1; request 0 has -1; leave"),
        (TopK(5), "k: must be at most the 4 states; request 0 has 5; give fewer, or clamp=True"),
        (TopK(np.array([4, 5])), "k: must be at most the 4 states; request 1 has 5"),
        (TopP(0.0), r"p: must be in \(0, 1\]; request 0 has 0; leave the step out to keep all; a temp"),
        (TopP(1.1), r"p: must be in \(0, 1\]; request 0 has 1.1; leave"),
        (TopP(np.array([0.5, math.nan])), r"p: must be in \(0, 1\]; request 1 has nan; leave"),
        (MinP(0), r"p: must be in \(0, 1\]; request 0 has 0; leave the step out"),
        (MinP(1.5), r"p: must be in \(0, 1\]; request 0 has 1.5; leave"),
        (TopNSigma(-1), "n: must be finite and at least 0; request 0 has -1; 1 is usual"),
        (Epsilon(0), r"epsilon: must be in \(0, 1\); request 0 has 0; 3e-4"),
        (Eta(1), r"epsilon: must be in \(0, 1\); request 0 has 1; 3e-4"),
        (TopH(1.5), r"alpha: must be in \[0, 1\]; request 0 has 1.5; 0.4"),
        (Typical(0), r"mass: must be in \(0, 1\]; request 0 has 0; 0.9"),
        (TopP([0.5] * 3), r"p: must be a number or one a request, shape \(2,\); got list .*; mend it"),
        (TopK("many"), r"k: must be a number or one a request, shape \(2,\); got str 'many'; mend it"),
    ],
)
@pytest.mark.parametrize("route", ["kernels", "reference"])
def test_bad_parameters_name_the_request(step, message, route):
    z = np.zeros((2, 4))
    if route == "kernels" and type(step) not in (TopK, TopP, MinP):
        step = Pipeline([TopP(1.0), step])
    steps = step.steps if isinstance(step, Pipeline) else [step]
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Pipeline(steps).sample(z, seed=0, position=0, route=route)
    assert "\n" not in str(caught.value)
