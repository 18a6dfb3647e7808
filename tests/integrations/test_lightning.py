"""The callback in a real Lightning trainer."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from logitherm import fit_temperature
from logitherm.calibration.overfitting import mean_overconfidence

lightning = pytest.importorskip("lightning.pytorch", reason="the callback is for Lightning")
from logitherm.integrations.lightning import TemperatureCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


class Recorder(lightning.Callback):
    def __init__(self):
        self.seen = []

    def on_train_epoch_end(self, trainer, module):
        self.seen.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def data(n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator)
    return TensorDataset(x, (x[:, :3] + 0.5 * torch.randn(n, 3, generator=generator)).argmax(dim=1))


def trained(tmp_path, *callbacks):
    lightning.seed_everything(0, verbose=False)
    module = Classifier()
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), default_root_dir=tmp_path,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaders = DataLoader(data(300, 0), 32, shuffle=True), DataLoader(data(200, 1), 50)
        trainer.fit(module, *loaders)
    return module, trainer


def test_temperature_and_overconfidence_of_both_are_logged_each_epoch(tmp_path):
    recorder = Recorder()
    module, _ = trained(tmp_path, TemperatureCallback(), recorder)
    assert len(recorder.seen) == 3
    for name, rows in (("train", data(300, 0)), ("held_out", data(200, 1))):
        temperatures = [seen[f"temperature/{name}"] for seen in recorder.seen]
        assert all(0 < t < math.inf for t in temperatures) and len(set(temperatures)) == 3
        module.eval()
        with torch.no_grad():
            logits = module(rows.tensors[0])
        fit, score = fit_temperature(logits, rows.tensors[1]), mean_overconfidence(logits, rows.tensors[1])
        assert temperatures[-1] == pytest.approx(fit.temperature, rel=1e-4)
        logged = [recorder.seen[-1][f"overconfidence/{name}{end}"] for end in ("", "_low", "_high")]
        assert logged == pytest.approx([score.value, score.low, score.high], rel=1e-3, abs=1e-5)
        assert logged[1] < logged[0] < logged[2]


def test_training_goes_on_as_without_it(tmp_path):
    plain, with_it = trained(tmp_path)[0], trained(tmp_path, TemperatureCallback(rows=50))[0]
    for a, b in zip(plain.parameters(), with_it.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_batch_of_another_form(tmp_path):
    class Named(Recorder):
        pass

    recorder = Named()
    read = lambda module, batch: (2 * module(batch[0]), batch[1])  # noqa: E731
    trained(tmp_path, TemperatureCallback(read=read), recorder)
    other = Named()
    trained(tmp_path, TemperatureCallback(), other)
    ratio = recorder.seen[-1]["temperature/train"] / other.seen[-1]["temperature/train"]
    assert ratio == pytest.approx(2, rel=1e-4)
