"""The monitor in a real Hugging Face trainer: attention that collapses rings, attention that learns does not."""

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the monitor is for the Hugging Face Trainer")
pytest.importorskip("accelerate", reason="the Hugging Face Trainer needs it")
from logitherm.integrations.transformers_attention_monitor import AttentionMonitor  # noqa: E402
from logitherm.integrations.transformers_attention_report import attention_report  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = torch.randint(3, 40, (32, 12), generator=torch.Generator().manual_seed(0))
BATCH = TEXTS[:4]


class Texts(torch.utils.data.Dataset):
    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, i):
        return {"input_ids": TEXTS[i], "labels": TEXTS[i]}


class Sharpen(transformers.TrainerCallback):
    """Queries of one head grow step by step, as under a learning rate that is far too high."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        with torch.no_grad():
            model.transformer.h[1].attn.c_attn.weight[:, :8].mul_(10)


def trained(tmp_path, *, sharpen=False, monitor=True, **options):
    transformers.set_seed(0)
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=16, bos_token_id=1, eos_token_id=2
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=8, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, use_cpu=True, learning_rate=1e-3,
    )  # fmt: skip
    trainer = transformers.Trainer(transformers.GPT2LMHeadModel(config), arguments, train_dataset=Texts())
    if sharpen:
        trainer.add_callback(Sharpen())
    watch = AttentionMonitor(trainer, BATCH, every=2, **options) if monitor else None
    if watch:
        trainer.add_callback(watch)
    trainer.train()
    return trainer, watch


def test_training_as_usual_logs_and_does_not_ring(tmp_path):
    trainer, watch = trained(tmp_path)
    assert watch.alarms == []
    assert [found["step"] for found in watch.history] == [0, 2, 4, 6, 8, 10, 12]
    logged = [entry for entry in trainer.state.log_history if "attention/layer_1/entropy" in entry]
    assert [entry["step"] for entry in logged] == [found["step"] for found in watch.history]
    report = attention_report(trainer.model, BATCH)
    last = logged[-1]
    for i, values in enumerate(report.values("entropy")):
        assert last[f"attention/layer_{i}/entropy"] == pytest.approx(values.mean())
        assert last[f"attention/layer_{i}/entropy_min"] == pytest.approx(values.min())
    assert last["attention/layer_0/normalised"] == pytest.approx(report.values("normalised_entropy")[0].mean())


def test_a_head_that_collapses_rings_once_and_ends_the_training(tmp_path, caplog):
    rung = []
    _, watch = trained(tmp_path, sharpen=True, threshold=0.1, patience=2, on_collapse=rung.append)
    assert [(alarm.layer, alarm.head) for alarm in watch.alarms] == [(1, 0)] and rung == watch.alarms
    below = [found["step"] for found in watch.history if found["normalised"][1][0] < 0.1]
    assert watch.alarms[0].step == below[1], "the second in a row"
    assert "layer 1, head 0: its attention has collapsed" in caplog.text
    trainer, stopped = trained(tmp_path, sharpen=True, threshold=0.1, patience=2, stop=True)
    assert trainer.state.global_step == stopped.alarms[0].step < 12


def test_training_goes_on_as_without_it(tmp_path):
    (plain, _), (watched, _) = trained(tmp_path, monitor=False), trained(tmp_path)
    for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("options", [{}, {"every": 0}, {"every": 1.5}, {"patience": 0}, {"threshold": 1.0}])
def test_wrong_arguments_are_named(options):
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(options), 'trainer')}: must be"):
        AttentionMonitor(None, BATCH, **options)
