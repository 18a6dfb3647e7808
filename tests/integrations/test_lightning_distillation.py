"""A teacher in a real Lightning trainer."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

lightning = pytest.importorskip("lightning.pytorch", reason="the module is for Lightning")
from logitherm.distillation import (  # noqa: E402
    SampledTeacher,
    SparseTeacher,
    TeacherWriter,
    distillation_loss,
    open_teacher,
    sparse_distillation_loss,
)
from logitherm.distillation.records import Layout  # noqa: E402
from logitherm.integrations.distilling import Batch  # noqa: E402
from logitherm.integrations.lightning_distillation import DistillationModule  # noqa: E402
from logitherm.thermostat import LearnableTemperature, LinearSchedule  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
STATES, FEATURES, N = 7, 5, 24
OPTIONS = {"temperature": 2.0, "hard_weight": 0.3}


def network(seed, width=16):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Dropout(0.0), nn.Linear(width, STATES))


class Reader(nn.Module):
    """A causal model of tokens, that gives what Hugging Face models give."""

    def __init__(self, seed, width):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.head = nn.Embedding(STATES, width), nn.Linear(width, STATES)

    def forward(self, input_ids):
        return {"logits": self.head(self.embedding(input_ids).cumsum(1))}


def images():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(STATES, (N,), generator=generator)
    return torch.randn(N, FEATURES, generator=generator), labels


def texts():
    tokens = torch.randint(STATES, (8, 6), generator=torch.Generator().manual_seed(0))
    labels = tokens.clone()
    for i in range(8):
        labels[i, : i % 4] = -100
    return [{"input_ids": t, "labels": y} for t, y in zip(tokens, labels)]


class Recorder(lightning.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def sgd(groups):
    return torch.optim.SGD(groups, 0.1)


def fitted(tmp_path, module, *loaders, **options):
    """The metrics of every step, and the trainer."""
    recorder = Recorder()
    options = {"max_epochs": 1} | options
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1, default_root_dir=tmp_path, callbacks=[recorder], **options,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, *loaders)
    return recorder.seen, trainer


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def stepped(student, loss):
    """The student's parameters after a step of gradient descent."""
    gradients = torch.autograd.grad(loss, list(student.parameters()))
    return torch.cat([(p - 0.1 * g).detach().flatten() for p, g in zip(student.parameters(), gradients)])


def test_a_step_is_that_of_the_loss(tmp_path):
    x, y = images()
    teacher, student = network(0, 32), network(1)
    loss = distillation_loss(student(x), teacher(x).detach(), labels=y, divergence="reverse_kl", **OPTIONS)
    expected = stepped(student, loss)
    module = DistillationModule(student, teacher=teacher, divergence="reverse_kl", optimizer=sgd, **OPTIONS)
    seen, _ = fitted(tmp_path, module, DataLoader(TensorDataset(x, y), N))
    assert seen[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(flat(module.student), expected, atol=1e-7)


def test_sequences_have_their_shift_said(tmp_path):
    student, teacher = Reader(1, 4), Reader(0, 8)
    module = DistillationModule(student, teacher=teacher, optimizer=sgd)
    with pytest.raises(
        ValueError, match=r"shift: must be said where labels are sequences; got None, and labels of shape"
    ):
        module._shift(Batch(None, torch.zeros(2, 5)))
    assert not module._shift(Batch(None, torch.zeros(5)))


def test_texts_are_shifted(tmp_path):
    data = texts()
    batch = torch.utils.data.default_collate(data)
    teacher, student = Reader(0, 16), Reader(1, 4)
    z, theirs = (model(batch["input_ids"])["logits"][:, :-1] for model in (student, teacher))
    loss = distillation_loss(z, theirs.detach(), labels=batch["labels"][:, 1:], **OPTIONS)
    expected = stepped(student, loss)
    module = DistillationModule(student, teacher=teacher, shift=True, optimizer=sgd, **OPTIONS)
    seen, _ = fitted(tmp_path, module, DataLoader(data, 8))
    assert seen[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(flat(module.student), expected, atol=1e-7)


def test_the_teacher_is_no_part_of_the_module(tmp_path):
    x, y = images()
    teacher = network(0, 32)
    teacher[2].p = 0.5  # so that its mode can be seen
    before = copy.deepcopy(teacher.state_dict())
    module = DistillationModule(network(1), teacher=teacher, optimizer=sgd, **OPTIONS)
    _, trainer = fitted(tmp_path, module, DataLoader(TensorDataset(x, y), 8), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)["state_dict"]
    assert set(saved) == {f"student.{name}" for name in network(1).state_dict()}
    assert len(list(module.parameters())) == 4 and not any(
        p is q for p in module.parameters() for q in teacher.parameters()
    )
    module.train()
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    again = DistillationModule.load_from_checkpoint(tmp_path / "last.ckpt", student=network(2), teacher=teacher)
    assert torch.equal(flat(again.student), flat(module.student))


def test_the_teacher_follows_the_module():
    module = DistillationModule(network(1), teacher=network(0))
    assert {p.device.type for p in module.teacher.parameters()} == {"cpu"}
    module.to("meta")
    assert {p.device.type for p in module.teacher.parameters()} == {"meta"}
    bare = nn.ReLU()
    assert DistillationModule(network(1), teacher=bare).teacher is bare


def stored(tmp_path, z):
    with TeacherWriter(tmp_path / "teacher", Layout(STATES, (1.0, 2.0), top_k=STATES, dtype="float32")) as writer:
        writer.append(SparseTeacher.from_logits(z.detach().reshape(-1, STATES), k=STATES, temperatures=(1.0, 2.0)))
    return open_teacher(tmp_path / "teacher")


def test_a_stored_teacher_of_all_states_is_the_live_one(tmp_path):
    x, y = images()
    teacher, rows = network(0, 32), torch.arange(N)
    live = DistillationModule(network(1), teacher=teacher, optimizer=sgd, **OPTIONS)
    fitted(tmp_path, live, DataLoader(TensorDataset(x, y), 8))
    module = DistillationModule(network(1), teacher=stored(tmp_path, teacher(x)), optimizer=sgd, **OPTIONS)
    fitted(tmp_path, module, DataLoader(TensorDataset(x, y, rows), 8))
    assert torch.allclose(flat(module.student), flat(live.student), atol=1e-6)
    assert not torch.allclose(flat(module.student), flat(network(1)), atol=1e-3)


def test_a_stored_teacher_of_texts(tmp_path):
    """Positions without a row of the store do not count."""
    data = texts()
    batch = torch.utils.data.default_collate(data)
    teacher = Reader(0, 16)
    z = teacher(batch["input_ids"])["logits"]
    known = [{**text, "teacher_rows": torch.arange(6) + 6 * i} for i, text in enumerate(data)]
    live = DistillationModule(Reader(1, 4), teacher=teacher, shift=True, optimizer=sgd, **OPTIONS)
    fitted(tmp_path, live, DataLoader(data[:4], 4))
    for i in range(4, 8):
        known[i]["teacher_rows"] = torch.full((6,), -1)
    module = DistillationModule(Reader(1, 4), teacher=stored(tmp_path, z), shift=True, optimizer=sgd, **OPTIONS)
    fitted(tmp_path, module, DataLoader(known, 8))
    assert torch.allclose(flat(module.student), flat(live.student), atol=1e-6)
    none = DistillationModule(
        Reader(1, 4), teacher=open_teacher(tmp_path / "teacher"), shift=True, optimizer=sgd, **OPTIONS
    )
    seen, _ = fitted(tmp_path, none, DataLoader(known[4:], 4))
    assert seen[0]["train_loss"] == 0 and torch.equal(flat(none.student), flat(Reader(1, 4)))


@pytest.mark.parametrize("kind", ["logits", "top", "draws"])
def test_a_function_may_be_the_teacher(tmp_path, kind):
    x, y = images()
    z = network(0, 32)(x).detach()
    found = {
        "logits": z,
        "top": SparseTeacher.from_logits(z, k=3, temperatures=(2.0,)),
        "draws": SampledTeacher.from_logits(z, draws=9, temperature=2.0, generator=0),
    }[kind]
    student = network(1)
    loss_of = distillation_loss if kind == "logits" else sparse_distillation_loss
    expected = stepped(student, loss_of(student(x), found, labels=y, **OPTIONS))

    def ask(inputs):
        assert torch.equal(inputs, x)
        return found

    module = DistillationModule(student, teacher=ask, optimizer=sgd, **OPTIONS)
    fitted(tmp_path, module, DataLoader(TensorDataset(x, y), N))
    assert torch.allclose(flat(module.student), expected, atol=1e-7)


def test_a_learned_temperature_is_trained_logged_and_saved(tmp_path):
    x, y = images()
    teacher, student = network(0, 32), network(1)
    t = LearnableTemperature(2.0, low=1.0, high=8.0)
    loss = distillation_loss(student(x), teacher(x).detach(), temperature=t)
    slope = torch.autograd.grad(loss, t.log_temperature)[0].item()
    module = DistillationModule(student, teacher=teacher, temperature=t, optimizer=sgd)
    assert [group.get("weight_decay") for group in module.parameter_groups()] == [None, 0.0]
    seen, trainer = fitted(tmp_path, module, DataLoader(TensorDataset(x, y), N), max_epochs=2)
    assert [s["temperature"] for s in seen] == pytest.approx([2.0, 2.0 * math.exp(-0.1 * slope)], rel=1e-5)
    assert abs(slope) > 1e-3 and "teacher_temperature" not in seen[0]
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = DistillationModule.load_from_checkpoint(
        tmp_path / "last.ckpt", student=network(2), teacher=teacher, temperature=LearnableTemperature(4.0)
    )
    assert again.temperature.resolve().item() == t.resolve().item()


def test_a_schedule_sees_the_steps_of_the_optimizer(tmp_path):
    x, y = images()
    schedule = LinearSchedule(4.0, 1.0, steps=3)
    module = DistillationModule(network(1), teacher=network(0), temperature=schedule, optimizer=sgd)
    seen, _ = fitted(tmp_path, module, DataLoader(TensorDataset(x, y), 3), accumulate_grad_batches=2, max_epochs=1)
    assert [s["temperature"] for s in seen] == [4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 1.0, 1.0]
    scheduled = DistillationModule(network(1), teacher=network(0), temperature=schedule)
    constant = DistillationModule(network(1), teacher=network(0), temperature=4.0)
    assert scheduled.training_step((x, y), 0).item() == constant.training_step((x, y), 0).item()


def test_validation_is_of_the_student_itself(tmp_path):
    """Every label that counts weighs alike, in whatever batch."""
    x, y = images()
    y = y.clone()
    y[:6] = -100  # the whole of a batch, and some of the next
    module = DistillationModule(network(1), teacher=network(0), optimizer=sgd, **OPTIONS)
    _, trainer = fitted(tmp_path, module, DataLoader(TensorDataset(*images()), 8), DataLoader(TensorDataset(x, y), 5))
    z = module.student(x)[6:]
    wanted = nn.functional.cross_entropy(z, y[6:])
    assert trainer.callback_metrics["val_nll"].item() == pytest.approx(wanted.item(), rel=1e-5)
    accuracy = (z.argmax(-1) == y[6:]).float().mean().item()
    assert trainer.callback_metrics["val_accuracy"].item() == pytest.approx(accuracy, rel=1e-6)


def test_validation_of_texts(tmp_path):
    module = DistillationModule(Reader(1, 4), teacher=Reader(0, 8), shift=True, optimizer=sgd)
    _, trainer = fitted(tmp_path, module, DataLoader(texts(), 8), DataLoader(texts(), 3))
    batch = torch.utils.data.default_collate(texts())
    z = module.student(batch["input_ids"])["logits"][:, :-1]
    wanted = nn.functional.cross_entropy(z.reshape(-1, STATES), batch["labels"][:, 1:].reshape(-1))
    assert trainer.callback_metrics["val_nll"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_accumulated_batches_are_one(tmp_path):
    data = TensorDataset(*images())
    after = []
    for batch, parts in ((24, 1), (6, 4)):
        module = DistillationModule(network(1), teacher=network(0, 32), optimizer=sgd, **OPTIONS)
        fitted(tmp_path, module, DataLoader(data, batch), accumulate_grad_batches=parts)
        after.append(flat(module.student))
    assert torch.allclose(*after, atol=1e-6)


def test_an_optimizer_may_have_a_schedule_or_be_overridden(tmp_path):
    def halved(groups):
        optimizer = torch.optim.SGD(groups, 0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    class Own(DistillationModule):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

        def read_batch(self, batch):
            x, y = batch["image"], batch["digit"]
            return super().read_batch((x, y))

    x, y = images()
    loader = DataLoader(TensorDataset(x, y), N)
    module = DistillationModule(network(1), teacher=network(0), optimizer=halved)
    _, trainer = fitted(tmp_path, module, loader, max_epochs=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.1 / 4
    named = DataLoader([{"image": a, "digit": b} for a, b in zip(x, y)], N)
    own, usual = Own(network(1), teacher=network(0)), DistillationModule(network(1), teacher=network(0), optimizer=sgd)
    fitted(tmp_path, own, named)
    fitted(tmp_path, usual, loader)
    assert torch.equal(flat(own.student), flat(usual.student))


def test_refusals(tmp_path):
    x, y = images()
    student = network(1)

    def step(batch=(x, y), **options):
        return DistillationModule(student, **{"teacher": network(0)} | options).training_step(batch, 0)

    def few(inputs):
        return SparseTeacher.from_logits(network(0)(inputs), k=2)

    with pytest.raises(TypeError, match="teacher: must be a model, a TeacherStore or a function; got str"):
        step(teacher="teacher")
    with pytest.raises(ValueError, match="teacher: must not share parameters with the student"):
        step(teacher=student)
    with pytest.raises(ValueError, match=r"batch: must be \(inputs, labels\), .*; got shape \(24, 5\)"):
        step(x)
    with pytest.raises(ValueError, match="got 1 things; collate it so"):
        step([x])
    with pytest.raises(ValueError, match="inputs: must have labels"):
        step({"input_ids": x})
    with pytest.raises(ValueError, match="inputs: must have a column 'teacher_rows' for a stored teacher"):
        step(teacher=stored(tmp_path, network(0)(x)))
    with pytest.raises(ValueError, match="teacher_temperature: must be None where only some tokens"):
        step(teacher=few, teacher_temperature=2.0)
    with pytest.raises(ValueError, match="temperature: must be constant with a stored teacher"):
        step(teacher=few, temperature=LearnableTemperature(2.0))
    with pytest.raises(ValueError, match="optimizer: must be a function from parameter groups"):
        fitted(tmp_path, DistillationModule(student, teacher=network(0)), DataLoader(TensorDataset(x, y), N))
