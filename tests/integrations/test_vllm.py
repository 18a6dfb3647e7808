"""The thermostats of vLLM against its documented interface; an engine has not run them."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from abc import ABC
from dataclasses import dataclass, field
from enum import Enum, auto
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

import logitherm
from logitherm.generation import EDT, DynamicTemperature

V1 = "vllm.v1.sample.logits_processor"
V2 = "vllm.v1.worker.gpu.sample.logits_processor.interface"


class MoveDirectionality(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass(frozen=True)
class BatchUpdate:
    """As v1/sample/logits_processor/interface.py of vLLM 0.33 has it."""

    batch_size: int
    removed: list = field(default_factory=list)
    added: list = field(default_factory=list)
    moved: list = field(default_factory=list)


@pytest.fixture(params=["both runners", "only the older"])
def processor_class(request, monkeypatch):
    """The class as it is made where vLLM has these interfaces."""
    older, newer = type("LogitsProcessor", (ABC,), {}), type("LogitsProcessor", (ABC,), {})
    for name in (V1, V2):
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    sys.modules[V1].LogitsProcessor = older
    sys.modules[V1].MoveDirectionality = MoveDirectionality
    if request.param == "both runners":
        sys.modules[V2].LogitsProcessor = newer
    monkeypatch.delitem(sys.modules, "logitherm.integrations.vllm", raising=False)
    module = importlib.import_module("logitherm.integrations.vllm")
    yield module.ThermostatLogitsProcessor
    assert issubclass(module.ThermostatLogitsProcessor, older)
    assert issubclass(module.ThermostatLogitsProcessor, newer) == (request.param == "both runners")
    del sys.modules["logitherm.integrations.vllm"]


def params(temperature=1.0, **extra_args):
    return SimpleNamespace(temperature=temperature, extra_args=extra_args or None)


def added(row, **extra_args):
    return row, params(**extra_args), [1, 2], []


@pytest.fixture
def z():
    return 4 * torch.randn((4, 200), generator=torch.Generator().manual_seed(0))


def test_every_request_has_its_own_thermostat(processor_class, z):
    processor = processor_class(None, torch.device("cpu"), False)
    assert processor.is_argmax_invariant()
    assert processor.apply(z) is z
    update = BatchUpdate(
        4,
        added=[
            added(0, logitherm_target_entropy=1.5),
            added(1),
            added(2, logitherm_target_top_probability=[0.25]),
            added(3, logitherm_temperature=5),
        ],
    )
    processor.update_state(update)
    found = processor.apply(z.clone())
    assert logitherm.entropy(found[0]) == pytest.approx(1.5, abs=1e-5)
    assert torch.equal(found[1], z[1])
    assert found[2].softmax(-1).max() == pytest.approx(0.25, abs=1e-5)
    torch.testing.assert_close(found[3].softmax(-1), (z[3] / 5).softmax(-1))
    assert torch.equal(found.argmax(-1), z.argmax(-1))
    processor.update_state(None)
    assert set(processor.requests) == {0, 2, 3}


def test_rows_that_leave_come_and_move(processor_class):
    processor = processor_class(None, torch.device("cpu"), False)
    one, two, three = (("logitherm_target_entropy", (h,)) for h in (1.0, 2.0, 3.0))
    first = [added(row, logitherm_target_entropy=h) for row, h in enumerate((1, 2, 3))]
    processor.update_state(BatchUpdate(3, added=first))
    assert processor.requests == {0: one, 1: two, 2: three}
    processor.update_state(BatchUpdate(3, moved=[(0, 2, MoveDirectionality.SWAP)]))
    assert processor.requests == {0: three, 1: two, 2: one}
    processor.update_state(BatchUpdate(2, removed=[1], moved=[(2, 1, MoveDirectionality.UNIDIRECTIONAL)]))
    assert processor.requests == {0: three, 1: one}
    processor.update_state(BatchUpdate(2, removed=[0], added=[added(0)]))  # another request, without a wish
    assert processor.requests == {1: one}
    processor.update_state(BatchUpdate(2, added=[added(1)]))  # in place of one that is there
    assert processor.requests == {}
    processor.update_state(BatchUpdate(2, added=first[:1], moved=[(0, 1, MoveDirectionality.SWAP)]))
    assert processor.requests == {1: one}


def test_slots_of_the_newer_runner(processor_class, z):
    """A request may own several rows, where tokens are drafted, and slots are used again."""
    processor = processor_class(None, SimpleNamespace(max_num_reqs=8))
    assert processor.add_request(5, params(logitherm_target_entropy=1.5)) is True
    assert processor.add_request(2, params()) is False
    rows = SimpleNamespace(expanded_idx_mapping=torch.tensor([2, 5, 5, 7]))
    found = processor.apply(z.clone(), rows)
    assert logitherm.entropy(found[1:3]).tolist() == pytest.approx([1.5, 1.5], abs=1e-5)
    assert torch.equal(found[[0, 3]], z[[0, 3]])
    assert processor.add_request(5, params()) is False
    assert torch.equal(processor.apply(z.clone(), rows), z)


def test_logits_with_nan_are_left_to_vllm(processor_class, z):
    processor = processor_class(None, torch.device("cpu"), False)
    processor.update_state(BatchUpdate(2, added=[added(row, logitherm_target_entropy=1.0) for row in (0, 1)]))
    z[0, 3] = torch.nan
    found = processor.apply(z[:2].clone())
    assert torch.isnan(found[0, 3]) and logitherm.entropy(found[1]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["logitherm_edt", "logitherm_dynamic_temperature"])
def test_thermostats_of_tokens(processor_class, z, name):
    numbers = [0.8, 1.5] if name == "logitherm_edt" else [0.5, 1.5]
    kind = EDT if name == "logitherm_edt" else DynamicTemperature
    processor = processor_class(None, torch.device("cpu"), False)
    processor_class.validate_params(params(**{name: numbers}))
    processor.update_state(BatchUpdate(1, added=[added(0, **{name: numbers})]))
    expected = logitherm.softmax(z[:1], kind(*numbers))
    torch.testing.assert_close(processor.apply(z[:1].clone()).softmax(-1), expected)


@pytest.mark.parametrize(
    ("extra_args", "message"),
    [
        ({"logitherm_target_entropy": -1}, r"logitherm_target_entropy: entropy: must lie in \[0, inf\]"),
        ({"logitherm_target_entropy": [1, 2]}, "logitherm_target_entropy: must have as many numbers as it takes"),
        ({"logitherm_target_entropy": "much"}, "logitherm_target_entropy: must be a number or a list of numbers"),
        ({"logitherm_entropy": 1}, "extra_args: must have one of logitherm_target_entropy, .*got logitherm_entropy"),
        ({"logitherm_temperature": 1, "logitherm_target_entropy": 1}, "extra_args: must have one of"),
        ({"logitherm_temperature": -1}, r"temperature: must be in \[0, inf\]"),
        ({"logitherm_temperature": 3, "temperature": 0.5}, "temperature: must be 1 where logitherm_temperature sets"),
    ],
)
def test_requests_that_are_refused(processor_class, extra_args, message):
    with pytest.raises(ValueError, match=message):
        processor_class.validate_params(params(**extra_args))


def test_other_requests_are_let_through(processor_class):
    processor_class.validate_params(params(temperature=0.5))
    processor_class.validate_params(params(temperature=0.5, target_token=3))
    processor_class.validate_params(params(logitherm_temperature=0))


def test_vllm_finds_it_by_its_entry_point():
    found = [point for point in entry_points(group="vllm.logits_processors") if point.name == "logitherm"]
    if not found:
        pytest.skip("logitherm is installed from before it had an entry point")
    assert found[0].value == "logitherm.integrations.vllm:ThermostatLogitsProcessor"


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is there")
def test_without_vllm_one_line_says_so():
    done = subprocess.run(
        [sys.executable, "-c", "import logitherm.integrations.vllm"], capture_output=True, text=True, timeout=120
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("logitherm.integrations.vllm needs vllm: pip install vllm (the extra `vllm`)")
