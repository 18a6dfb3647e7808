"""The callback in a real Hugging Face trainer, with a tiny model built from its configuration."""

from __future__ import annotations

import pytest
import torch

from logitherm import fit_temperature
from logitherm.calibration.overfitting import mean_overconfidence

transformers = pytest.importorskip("transformers", reason="the callback is for the Hugging Face Trainer")
pytest.importorskip("accelerate", reason="the Hugging Face Trainer needs it")
from logitherm.integrations.transformers import TemperatureCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Sentences(torch.utils.data.Dataset):
    """Words of which one of the first three says the class."""

    def __init__(self, n, seed):
        generator = torch.Generator().manual_seed(seed)
        self.words = torch.randint(3, 40, (n, 6), generator=generator)
        self.labels = torch.randint(0, 3, (n,), generator=generator)
        told = torch.rand(n, generator=generator) < 0.8
        self.words[:, 2] = torch.where(told, self.labels, self.words[:, 2])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"input_ids": self.words[i], "attention_mask": torch.ones(6, dtype=torch.long), "labels": self.labels[i]}


def trained(tmp_path, callback=True, **options):
    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=3
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=2, per_device_train_batch_size=16, per_device_eval_batch_size=64,
        report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, learning_rate=5e-3,
    )  # fmt: skip
    trainer = transformers.Trainer(
        transformers.BertForSequenceClassification(config), arguments,
        train_dataset=Sentences(200, 0), eval_dataset=Sentences(150, 1),
    )  # fmt: skip
    if callback:
        trainer.add_callback(TemperatureCallback(trainer, **options))
    trainer.train()
    return trainer


def test_temperature_and_overconfidence_of_both_are_logged_each_epoch(tmp_path):
    trainer = trained(tmp_path)
    seen = [entry for entry in trainer.state.log_history if "temperature/train" in entry]
    assert [entry["epoch"] for entry in seen] == [1.0, 2.0]
    model = trainer.model.eval()
    for name, rows in (("train", trainer.train_dataset), ("held_out", trainer.eval_dataset)):
        with torch.no_grad():
            logits = model(input_ids=rows.words, attention_mask=torch.ones_like(rows.words)).logits
        assert seen[-1][f"temperature/{name}"] == pytest.approx(
            fit_temperature(logits, rows.labels).temperature, rel=1e-3
        )
        score = mean_overconfidence(logits, rows.labels)
        logged = [seen[-1][f"overconfidence/{name}{end}"] for end in ("", "_low", "_high")]
        assert logged == pytest.approx([score.value, score.low, score.high], rel=1e-3, abs=1e-4)


def test_training_goes_on_as_without_it(tmp_path):
    plain, with_it = trained(tmp_path, callback=False).model, trained(tmp_path, rows=40).model
    for a, b in zip(plain.parameters(), with_it.parameters(), strict=True):
        assert torch.equal(a, b)
