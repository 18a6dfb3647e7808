"""Where a fit reads from: layouts and masks of one array; batches, whatever their sizes, with nothing kept."""

import subprocess
import sys
import weakref

import numpy as np
import pytest

from logitherm import fit_temperature

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

SAME = {"temperature": 1e-7, "nll_before": 2e-7, "nll_after": 2e-7, "likelihood_ratio": 1e-5}
SAME |= {"standard_error": 1e-4, "sandwich_error": 1e-4, "interval": 1e-4}


@pytest.fixture(scope="module")
def data(draw):
    logits, labels = draw(3000, 6, 2.0)
    return logits.astype(np.float32), labels


@pytest.fixture(scope="module")
def whole(data):
    return fit_temperature(*data)


def agree(found, want):
    for name, tolerance in SAME.items():
        assert getattr(found, name) == pytest.approx(getattr(want, name), rel=tolerance), name
    assert (found.n, found.classes) == (want.n, want.classes)


# -- one array -------------------------------------------------------------------------------------------


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "strided states": lambda z: np.repeat(z, 2, axis=1)[:, ::2],
    "strided rows": lambda z: np.repeat(z, 2, axis=0)[::2],
    "reversed": lambda z: z[:, ::-1].copy()[:, ::-1],
    "byte order": lambda z: z.astype(">f4"),
    "list": lambda z: z.tolist(),
    "torch": torch.tensor,
    "torch transposed": lambda z: torch.tensor(z.T.copy()).T,
    "torch with gradient": lambda z: torch.tensor(z, requires_grad=True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, data, whole):
    logits, labels = data
    agree(fit_temperature(LAYOUTS[layout](logits), labels), whole)


def test_read_only_input_stays_as_it_was(data, whole):
    logits, labels = (v.copy() for v in data)
    logits.flags.writeable = labels.flags.writeable = False
    agree(fit_temperature(logits, labels), whole)
    np.testing.assert_array_equal(logits, data[0])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("kind", ["numpy", "torch", "float16"])
def test_axes_and_batches(axis, kind, data, whole):
    logits, labels = data
    moved = np.moveaxis(logits.reshape(30, 100, 6), -1, axis)
    want = whole
    if kind == "torch":
        moved = torch.from_numpy(moved)
    elif kind == "float16":
        moved, want = moved.astype(np.float16), fit_temperature(logits.astype(np.float16), labels)
    agree(fit_temperature(moved, labels.reshape(30, 100), axis=axis), want)


def test_jax_arrays(data, whole):
    jnp = pytest.importorskip("jax.numpy")
    logits, labels = data
    agree(fit_temperature(jnp.asarray(logits), jnp.asarray(labels)), whole)
    agree(fit_temperature(jnp.asarray(logits.T), labels, axis=0), whole)


def test_a_single_row_without_a_batch():
    z = np.array([0.5, 0.0, -1.0])
    assert fit_temperature(z, 1) == fit_temperature(z[None], [1])


def test_rows_sorted_by_class(data, whole):
    logits, labels = data
    order = np.argsort(labels, kind="stable")
    agree(fit_temperature(logits[order], labels[order]), whole)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, ">i8"])
def test_kinds_of_labels(kind, data, whole):
    logits, labels = data
    agree(fit_temperature(logits, labels.astype(kind)), whole)


# -- rows to leave out -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def littered(data):
    """The data among rows of garbage, and where they are."""
    logits, labels = data
    kept = np.zeros(4000, bool)
    kept[np.sort(np.random.default_rng(1).permutation(4000)[:3000])] = True
    z = np.full((4000, 6), np.nan, np.float32)
    z[1::2] = np.where(kept[1::2, None], 0, -np.inf)
    z[kept] = logits
    y = np.full(4000, -100)
    y[kept] = labels
    return z, y, kept


def test_ignored_labels(littered, whole):
    z, y, _ = littered
    agree(fit_temperature(z, y, ignore_index=-100), whole)
    agree(fit_temperature(torch.from_numpy(z), torch.from_numpy(y), ignore_index=-100), whole)
    agree(fit_temperature(z.reshape(40, 100, 6), y.reshape(40, 100), ignore_index=-100), whole)


def test_masked_rows_may_hold_anything(littered, whole):
    z, y, kept = littered
    agree(fit_temperature(z, y, mask=kept), whole)
    agree(fit_temperature(z, np.where(kept, y, 7), mask=torch.from_numpy(kept)), whole)
    weights = np.where(kept, 1.0, np.nan)
    agree(fit_temperature(z, y, mask=kept, weights=weights), whole)
    agree(fit_temperature(z, samples=y[:, None], mask=kept), whole)
    soft = np.where(kept[:, None], np.eye(6)[np.where(kept, y, 0)], np.nan)
    found = fit_temperature(z, soft_labels=soft, mask=kept)
    assert found.temperature == pytest.approx(whole.temperature, rel=1e-7)
    assert found.n == 3000


def test_mask_and_ignored_labels_together(littered, data):
    z, y, kept = littered
    half = np.arange(4000) < 2000
    want = fit_temperature(z[half & kept], y[half & kept])
    agree(fit_temperature(z, y, mask=half, ignore_index=-100), want)


def test_an_ignored_label_may_be_a_class(data):
    logits, labels = data
    agree(fit_temperature(logits, labels, ignore_index=0), fit_temperature(logits[labels > 0], labels[labels > 0]))


# -- batches ---------------------------------------------------------------------------------------------


class Afresh:
    """An iterable that calls a function for every pass."""

    def __init__(self, function):
        self.function, self.passes = function, 0

    def __iter__(self):
        self.passes += 1
        return iter(self.function(self.passes))


@pytest.mark.parametrize("sizes", [[3000], [1, 2999], [2999, 1], [1000] * 3, [7] * 428 + [4], [0, 5, 0, 2995]])
def test_any_sizes_of_batches(sizes, data, whole):
    logits, labels = data
    ends = np.cumsum(sizes)
    agree(fit_temperature([(logits[e - n : e], labels[e - n : e]) for e, n in zip(ends, sizes)]), whole)


def test_batches_of_one_row(data):
    logits, labels = (v[:300] for v in data)
    agree(fit_temperature([(z[None], y[None]) for z, y in zip(logits, labels)]), fit_temperature(logits, labels))


def test_sorted_batches(data, whole):
    """The first batch, on which the search starts, holds one class only, all of it right."""
    logits, labels = data
    order = np.lexsort((labels != logits.argmax(axis=1), labels))
    logits, labels = logits[order], labels[order]
    agree(fit_temperature([(logits[i : i + 150], labels[i : i + 150]) for i in range(0, 3000, 150)]), whole)


def test_batches_of_any_dimensions(data, whole):
    logits, labels = data
    batches = [
        (logits[:1000].reshape(10, 100, 6), labels[:1000].reshape(10, 100)),
        (torch.from_numpy(logits[1000:]), torch.from_numpy(labels[1000:])),
    ]
    agree(fit_temperature(batches), whole)
    first_axis = [(np.moveaxis(z, -1, 0) if z.ndim == 3 else z.T, y) for z, y in batches]
    agree(fit_temperature(first_axis, axis=0), whole)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_data_loader_of_logits(shuffle, data, whole):
    pairs = TensorDataset(*(torch.from_numpy(v) for v in data))
    agree(fit_temperature(DataLoader(pairs, batch_size=256, shuffle=shuffle)), whole)


WORKERS = """
import sys, numpy, torch
from torch.utils.data import DataLoader, TensorDataset
from logitherm import fit_temperature
if __name__ == "__main__":
    data = numpy.load(sys.argv[1])
    pairs = TensorDataset(torch.from_numpy(data["logits"]), torch.from_numpy(data["labels"]))
    print(fit_temperature(DataLoader(pairs, batch_size=256, num_workers=2)).temperature)
"""


@pytest.mark.slow
def test_a_data_loader_with_workers(data, whole, tmp_path):
    """In a process of its own: workers are forked, which JAX, loaded by other tests, does not bear."""
    np.savez(tmp_path / "data.npz", logits=data[0], labels=data[1])
    command = [sys.executable, "-W", "error", "-c", WORKERS, str(tmp_path / "data.npz")]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert float(printed) == pytest.approx(whole.temperature, rel=1e-7)


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 4))
    inputs = torch.randn(1000, 8)
    with torch.no_grad():
        logits = model.eval()(inputs)
    labels = torch.where(torch.rand(1000) < 0.7, logits.argmax(1), torch.randint(4, (1000,)))
    return model, inputs, labels, logits


def test_a_data_loader_of_inputs_with_a_model(classifier):
    model, inputs, labels, logits = classifier
    modes = []
    model.register_forward_hook(lambda *_: modes.append((torch.is_grad_enabled(), model.training)))
    found = fit_temperature(DataLoader(TensorDataset(inputs, labels), batch_size=100), model=model)
    want = fit_temperature(logits, labels)
    assert found.temperature == pytest.approx(want.temperature, rel=1e-6)
    assert found.interval == pytest.approx(want.interval, rel=1e-4)
    assert set(modes) == {(False, False)}


def test_a_model_in_training_mode_is_noticed(classifier):
    model, inputs, labels, _ = classifier
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=100)
    with pytest.raises(ValueError, match="put the model in evaluation mode"):
        fit_temperature(loader, model=model.train())


def test_weights_and_ignored_labels_in_batches(data):
    logits, labels = data
    weights = np.random.default_rng(0).random(3000)
    batches = [(logits[i::3], labels[i::3], weights[i::3]) for i in range(3)]
    agree(fit_temperature(batches), fit_temperature(logits, labels, weights=weights))
    ignored = np.where(weights < 0.2, -100, labels)
    batches = [(logits[i::3], ignored[i::3]) for i in range(3)]
    agree(fit_temperature(batches, ignore_index=-100), fit_temperature(logits, ignored, ignore_index=-100))


def test_a_batch_may_have_no_weight_at_all(data):
    logits, labels = data
    weights = np.r_[np.zeros(1000), np.ones(2000)]
    batches = [(logits[i : i + 500], labels[i : i + 500], weights[i : i + 500]) for i in range(0, 3000, 500)]
    found = fit_temperature(batches)
    assert found.temperature == pytest.approx(fit_temperature(logits[1000:], labels[1000:]).temperature, rel=1e-7)


def test_bounds_from_batches(data):
    logits, _ = data
    for labels, bound in ((logits.argmax(axis=1), "zero"), (logits.argmin(axis=1), "infinite")):
        found = fit_temperature([(logits[i::4], labels[i::4]) for i in range(4)])
        assert found.at_bound == bound
        assert found.nll_after == pytest.approx(fit_temperature(logits, labels).nll_after, abs=1e-9)


def test_impossible_labels_in_batches(data):
    logits, labels = data[0].copy(), data[1]
    logits[:7, :][np.arange(7), labels[:7]] = -np.inf
    batches = [(logits[i::4], labels[i::4]) for i in range(4)]
    with pytest.raises(ValueError, match="7 of 3000 rows"):
        fit_temperature(batches)
    found = fit_temperature(batches, zero_labels="exclude")
    agree(found, fit_temperature(logits[7:], labels[7:]))
    assert found.excluded == 7


def test_few_passes_and_one_batch_at_a_time(data):
    """What was handed out is gone when the next batch is asked for, but for the first, where the search starts."""
    logits, labels = data
    alive = most = 0

    def gone():
        nonlocal alive
        alive -= 1

    def batches(_):
        nonlocal alive, most
        for start in range(0, 3000, 300):
            block = logits[start : start + 300].copy()
            weakref.finalize(block, gone)
            alive += 1
            most = max(most, alive)
            yield block, labels[start : start + 300]
            del block

    source = Afresh(batches)
    found = fit_temperature(source)
    assert source.passes == found.iterations + 1  # the first batch alone is read once more
    assert found.iterations <= 5
    assert most <= 3


def changing_size(logits, labels):
    return Afresh(lambda passes: [(logits[passes:], labels[passes:])])


def changing_values(logits, labels):
    return Afresh(lambda passes: [(logits + np.float32(0.1 * passes), labels)])


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (lambda z, y: iter([(z, y)]), ValueError, "must be readable more than once; got a one-shot list_iterator"),
        (lambda z, y: ((z, y) for _ in range(1)), ValueError, "got a one-shot generator; pass a list, a DataLoader"),
        (lambda z, y: [], ValueError, "at least one batch"),
        (lambda z, y: [z], ValueError, r"batches must be .*; batch 0 is shape \(3000, 6\)"),
        (lambda z, y: [(z, y), {"logits": z}], ValueError, "batches must be .*; batch 1 is dict"),
        (lambda z, y: [(z,)], ValueError, "batches must be"),
        (lambda z, y: [(z, y), (z[:, :3], np.zeros_like(y))], ValueError, "must agree in classes; batch 1 has 3 for 6"),
        (lambda z, y: [(z, y), (z, y + 1)], ValueError, r"labels: must lie in \[0, 6\).*\(in batch 1\)"),
        (lambda z, y: [(z, y), (z * np.nan, y)], ValueError, r"row 0 has NaN.*\(in batch 1\)"),
        (lambda z, y: [(z, y), (z, y * 1.0)], TypeError, r"labels: must be integers.*\(in batch 1\)"),
        (changing_size, ValueError, "the same in every pass, in any order; got 299. rows after 299."),
        (changing_values, ValueError, "got other logits for the same 3000 rows"),
        (lambda z, y: object(), TypeError, "logits: must be"),
    ],
)
def test_batches_that_cannot_be_fitted(data, batches, error, message):
    with pytest.raises(error, match=message):
        fit_temperature(batches(*data))


@pytest.mark.parametrize("name", ["labels", "weights", "mask", "samples", "soft_labels"])
def test_what_goes_with_rows_is_refused_beside_batches(name, data):
    with pytest.raises(ValueError, match=f"{name}.*: must not be given with batches"):
        fit_temperature([data], **{name: data[1]})


def test_a_model_must_be_callable():
    with pytest.raises(TypeError, match="model: must be callable, inputs to logits; got int 3"):
        fit_temperature([(np.zeros((2, 3)), np.zeros(2, dtype=int))], model=3)
