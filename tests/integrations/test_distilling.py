"""What trainers share when they distil."""

import pytest

torch = pytest.importorskip("torch")

from logitherm.distillation import distillation_loss  # noqa: E402
from logitherm.integrations.distilling import aligned, called, frozen, logits_of, read_batch, teacher_loss  # noqa: E402


def test_batches():
    x, y, rows = torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([5, -1])
    assert read_batch((x, y)) == (x, y, None)
    assert read_batch([x, y, rows]) == (x, y, rows)
    assert read_batch({"input_ids": x, "labels": y, "teacher_rows": rows}) == ({"input_ids": x}, y, rows)
    with pytest.raises(ValueError, match="got 4 things; collate it so"):
        read_batch((x, y, rows, rows))
    with pytest.raises(ValueError, match="inputs: must have labels"):
        read_batch({"input_ids": x, "labels": None})


def test_what_models_take_and_give():
    z = torch.zeros(2, 3)
    assert called(lambda input_ids: input_ids, {"input_ids": z}) is z and called(lambda x: x, z) is z
    assert all(logits_of(outputs) is z for outputs in (z, {"logits": z}, (z, 1)))
    z, y = torch.zeros(2, 4, 3), torch.zeros(2, 4)
    assert [tuple(part.shape) for part in aligned(z, y, True)] == [(2, 3, 3), (2, 3)]
    assert aligned(z, y, False) == (z, y)
    with pytest.raises(
        ValueError, match=r"shift: must be False where labels are no sequences; got labels of shape \(2,"
    ):
        aligned(z[:, 0], y[:, 0], True)
    for nothing in (None, (), {"loss": z}, z.numpy()):
        with pytest.raises(TypeError, match="teacher: must give logits as a torch tensor"):
            logits_of(nothing, "teacher")


def test_teachers():
    teacher, student = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    assert frozen(teacher, student) is teacher and not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters()) and all(p.requires_grad for p in student.parameters())
    student.weight = teacher.weight
    with pytest.raises(ValueError, match="teacher: must not share parameters with the student"):
        frozen(teacher, student)
    with pytest.raises(TypeError, match="teacher: must be a model, a TeacherStore or a function; got int 3"):
        frozen(3, student)


def test_both_temperatures_reach_the_loss():
    x, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, -100, 1, 0])
    z, teacher = 2 * x, torch.nn.Linear(3, 3)
    options = {"temperature": 2.0, "teacher_temperature": 3.0, "hard_weight": 0.2, "divergence": "dkd"}
    loss = teacher_loss(z, read_batch((x, y)), teacher, shift=False, **options)
    assert not loss.requires_grad, "nothing is learned through the teacher"
    assert loss.item() == distillation_loss(z, teacher(x), labels=y, **options).item()
