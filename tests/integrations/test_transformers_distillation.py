"""A teacher in a real Hugging Face trainer, with tiny models built from their configuration."""

from __future__ import annotations

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the mixin is for the Hugging Face Trainer")
pytest.importorskip("accelerate", reason="the Hugging Face Trainer needs it")
from logitherm.distillation import (  # noqa: E402
    SparseTeacher,
    TeacherWriter,
    distillation_loss,
    open_teacher,
)
from logitherm.distillation.records import Layout  # noqa: E402
from logitherm.integrations.logprobs import teacher_of_prompts  # noqa: E402
from logitherm.integrations.transformers_distillation import DistillationMixin, hidden_of  # noqa: E402
from logitherm.thermostat import LearnableTemperature  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
STATES, LENGTH, ROWS = 40, 8, 8


class Distiller(DistillationMixin, transformers.Trainer):
    pass


def network(seed, width):
    transformers.set_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=STATES, n_positions=LENGTH, n_embd=width, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


class Texts(torch.utils.data.Dataset):
    """Tokens of which the first few are not to be learned, more of them in every text: batches differ in number."""

    def __init__(self, rows=None):
        self.tokens = torch.randint(1, STATES, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
        self.labels = self.tokens.clone()
        for i in range(ROWS):
            self.labels[i, : i % 5] = -100
        self.rows = rows

    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        found = {"input_ids": self.tokens[i], "labels": self.labels[i]}
        return found if self.rows is None else found | {"teacher_rows": self.rows[i]}


def trained(tmp_path, teacher, data, batch=8, steps=1, **options):
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=batch, gradient_accumulation_steps=steps,
        report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, use_cpu=True, learning_rate=0.1,
        optim="sgd", max_grad_norm=0.0, remove_unused_columns=False, lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = Distiller(network(1, 8), arguments, train_dataset=data, teacher=teacher, **options)
    trainer.train()
    loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return loss, torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


OPTIONS = {"temperature": 2.0, "hard_weight": 0.3}


def test_a_step_is_that_of_the_loss(tmp_path):
    teacher, data = network(0, 16).eval(), Texts()
    student = network(1, 8)
    z = student(data.tokens).logits[:, :-1]
    with torch.no_grad():
        theirs = teacher(data.tokens).logits[:, :-1]
    loss = distillation_loss(z, theirs, labels=data.labels[:, 1:], **OPTIONS)
    loss.backward()
    expected = torch.cat([(p - 0.1 * p.grad).detach().flatten() for p in student.parameters()])
    seen, after = trained(tmp_path, teacher, data, **OPTIONS)
    assert seen == pytest.approx(loss.item(), abs=2e-4)
    assert torch.allclose(after, expected, atol=1e-6)


def test_accumulated_steps_are_one_batch(tmp_path):
    """Batches with different numbers of labelled tokens weigh as these are many."""
    teacher = network(0, 16)
    whole = trained(tmp_path, teacher, Texts(), **OPTIONS)
    parts = trained(tmp_path, teacher, Texts(), batch=2, steps=4, **OPTIONS)
    assert parts[0] == pytest.approx(whole[0], abs=2e-4)
    assert torch.allclose(parts[1], whole[1], atol=1e-6)


def test_a_stored_teacher_of_all_tokens_is_the_live_one(tmp_path):
    teacher = network(0, 16).eval()
    data = Texts(rows=torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH))
    with torch.no_grad():
        z = teacher(data.tokens).logits.reshape(-1, STATES)
    known = SparseTeacher.from_logits(z, k=STATES, temperatures=(1.0, 2.0))
    with TeacherWriter(tmp_path / "teacher", Layout(STATES, (1.0, 2.0), top_k=STATES, dtype="float32")) as writer:
        writer.append(known)
    live = trained(tmp_path, teacher, Texts(), **OPTIONS)
    stored = trained(tmp_path, open_teacher(tmp_path / "teacher"), data, **OPTIONS)
    assert stored[0] == pytest.approx(live[0], abs=2e-4)
    assert torch.allclose(stored[1], live[1], atol=1e-5)


def test_a_function_may_know_a_few_tokens(tmp_path):
    teacher = network(0, 16).eval()

    def ask(inputs):
        with torch.no_grad():
            z = teacher(inputs["input_ids"]).logits[:, :-1]
        return SparseTeacher.from_logits(z.reshape(-1, STATES), k=STATES, temperatures=(2.0,))

    asked = trained(tmp_path, ask, Texts(), **OPTIONS)
    live = trained(tmp_path, teacher, Texts(), **OPTIONS)
    assert torch.allclose(asked[1], live[1], atol=1e-5)


def test_a_server_may_be_asked(tmp_path):
    """Its top log-probabilities of the texts of a batch, at the temperature of the loss."""
    teacher = network(0, 16).eval()

    def ask(inputs):
        with torch.no_grad():
            log_p = torch.log_softmax(teacher(inputs["input_ids"]).logits / 2.0, -1)
        prompts = [
            [None, *({str(i): {"logprob": p} for i, p in enumerate(row)} for row in text)]
            for text in log_p[:, :-1].tolist()
        ]
        return teacher_of_prompts(prompts, k=STATES, states=STATES, temperature=2.0)

    asked = trained(tmp_path, ask, Texts(), **OPTIONS)
    live = trained(tmp_path, teacher, Texts(), **OPTIONS)
    assert asked[0] == pytest.approx(live[0], abs=2e-4)
    assert torch.allclose(asked[1], live[1], atol=1e-5)


@pytest.mark.parametrize("kind", ["live", "stored", "asked", "whole logits"])
def test_block_by_block_is_the_same(tmp_path, kind, monkeypatch):
    teacher = network(0, 16).eval()
    data = Texts(rows=torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) if kind == "stored" else None)
    with torch.no_grad():
        z = teacher(data.tokens).logits.reshape(-1, STATES)
    given = teacher
    if kind == "stored":
        known = SparseTeacher.from_logits(z, k=5, temperatures=(2.0,))
        with TeacherWriter(tmp_path / "teacher", Layout(STATES, (2.0,), top_k=5, dtype="float32")) as writer:
            writer.append(known)
        given = open_teacher(tmp_path / "teacher")
    if kind in ("asked", "whole logits"):

        def given(inputs):
            with torch.no_grad():
                z = teacher(inputs["input_ids"]).logits
            rows = z[:, :-1].reshape(-1, STATES)
            return z if kind == "whole logits" else SparseTeacher.from_logits(rows, k=5, temperatures=(2.0,))

    plain = trained(tmp_path, given, data, **OPTIONS)
    sizes = []
    forward = transformers.GPT2LMHeadModel.forward

    def watched(self, *args, **kwargs):
        outputs = forward(self, *args, **kwargs)
        sizes.append(outputs.logits.shape[1])
        return outputs

    monkeypatch.setattr(transformers.GPT2LMHeadModel, "forward", watched)
    blocks = trained(tmp_path, given, data, blockwise=True, **OPTIONS)
    assert 1 in sizes and (kind in ("asked", "whole logits") or set(sizes) == {1})
    assert blocks[0] == pytest.approx(plain[0], abs=2e-4)
    assert torch.allclose(blocks[1], plain[1], atol=1e-6)


def test_a_cap_is_found_and_a_scale_refused(tmp_path):
    size = {
        "vocab_size": STATES, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 16,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    transformers.set_seed(0)
    capped = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(final_logit_softcapping=2.0, **size))
    tokens = Texts().tokens
    outputs, found = hidden_of(capped, {"input_ids": tokens}, capped)
    assert found.softcap == 2.0 and outputs["logits"].shape[1] == 1
    assert torch.allclose(found.logits(), capped(tokens).logits, atol=1e-5)
    scaled = transformers.GraniteForCausalLM(transformers.GraniteConfig(logits_scaling=4.0, **size))
    with pytest.raises(ValueError, match=r"blockwise: must be for models whose logits are .* GraniteForCausalLM"):
        hidden_of(scaled, {"input_ids": tokens}, scaled)


def test_a_learned_temperature_is_a_part_of_the_model(tmp_path):
    temperature = LearnableTemperature(2.0)
    with pytest.raises(ValueError, match=r"temperature: must be a part of the model .* got LearnableTemperature\(2\);"):
        trained(tmp_path, network(0, 16), Texts(), temperature=temperature)
    student = network(1, 8)
    student.temperature = temperature
    arguments = transformers.TrainingArguments(
        tmp_path, max_steps=2, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True
    )
    Distiller(
        student, arguments, train_dataset=Texts(), teacher=network(0, 16), temperature=student.temperature
    ).train()
    assert temperature.resolve().item() != pytest.approx(2.0, abs=1e-7)


def test_refusals(tmp_path):
    with pytest.raises(TypeError, match="teacher: must be a model, a TeacherStore or a function"):
        trained(tmp_path, "teacher", Texts())

    class Unlabelled(Texts):
        def __getitem__(self, i):
            return {"input_ids": self.tokens[i]}

    with pytest.raises(ValueError, match="inputs: must have labels"):
        trained(tmp_path, network(0, 16), Unlabelled())
    size = transformers.GPT2Config(vocab_size=4, n_embd=8, n_layer=1, n_head=1)
    classifier = transformers.GPT2ForSequenceClassification(size)
    with pytest.raises(ValueError, match="blockwise: must be for causal language models; got GPT2ForSeq"):
        hidden_of(classifier, {}, classifier)
    few = lambda inputs: SparseTeacher.from_logits(torch.zeros(ROWS * (LENGTH - 1), STATES), k=2)  # noqa: E731
    with pytest.raises(ValueError, match="teacher_temperature: must be None where only some tokens"):
        trained(tmp_path, few, Texts(), teacher_temperature=2.0)
