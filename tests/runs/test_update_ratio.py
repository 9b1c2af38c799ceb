"""The size of a step beside the frozen weights, in metrics.csv: of a copy of each change before and after its step."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from test_modules import build, trainer

from kronlit import AdaMixLoRA, BitFit, KronA, LoRA
from kronlit.adapters import placements
from kronlit.modules import CausalLM, SequenceClassification, TextToText
from kronlit.training.metrics_logger import MetricsFile
from kronlit.training.update_ratio import UpdateRatio


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


class Steps(Callback):
    """Keeps ΔW of every change, as its definition has it, before and after the steps of a training."""

    def __init__(self, change):
        self.change, self.kept = change, []

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.kept.append({name: self.change(each) for name, each in placements(pl_module.model)})

    def on_train_end(self, trainer, pl_module):
        self.on_train_batch_start(trainer, pl_module)
        self.weights = {name: each.host.weight.detach().numpy() for name, each in placements(pl_module.model)}


def run(kind, method, change, request, tmp_path, glue):
    seed_everything(0)
    module, data = build(kind, request, glue, method)
    steps = Steps(change)
    log = trainer(
        tmp_path,
        *(steps, UpdateRatio()),
        max_steps=40,
        max_epochs=-1,
        enable_checkpointing=False,
        limit_val_batches=0,
        logger=MetricsFile(tmp_path, 0, 0),
    )
    log.fit(module, data)
    with (tmp_path / "version_0/metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if any(v and k.startswith("update_ratio") for k, v in row.items())]
    return steps, {
        int(row["step"]): {key.split("/")[1]: float(v) for key, v in row.items() if v and "/" in key} for row in rows
    }


def kron(each):
    return 0.5 * np.kron(each.matrix.a.detach().numpy(), each.matrix.b.detach().numpy())


@pytest.mark.parametrize(("kind", "names"), [(SequenceClassification, "query value"), (TextToText, "q v")])
def test_it_is_the_step_over_the_frozen_weight(kind, names, request, tmp_path, glue):
    steps, found = run(kind, KronA(scale=0.5), kron, request, tmp_path, glue)
    assert list(found) == [12, 37]  # the middle of every 25 steps
    for step, ratios in found.items():
        assert list(ratios) == ["query", "value"]
        for site, name in zip(ratios, names.split(), strict=True):
            each = [
                rms(steps.kept[step + 1][key] - steps.kept[step][key]) / rms(weight)
                for key, weight in steps.weights.items()
                if key.split(".")[-1] == name
            ]
            some = np.linspace(0, len(each) - 1, min(4, len(each))).round().astype(int)  # T5 has six
            assert ratios[site] == pytest.approx(np.mean([each[i] for i in some]), rel=1e-4)


def test_the_parts_of_one_module_count_apart(request, tmp_path, glue):
    def change(each):
        parts = (each.matrix.query, each.matrix.value)
        query, value = (part.b.detach().numpy() @ part.a.detach().numpy() for part in parts)
        return query, value

    steps, found = run(CausalLM, LoRA(rank=2), change, request, tmp_path, glue)
    ratios = found[12]
    width = next(iter(steps.weights.values())).shape[0]
    for site, index, columns in (("query", 0, slice(0, width)), ("value", 1, slice(2 * width, 3 * width))):
        each = [
            rms(steps.kept[13][key][index] - steps.kept[12][key][index]) / rms(weight[:, columns])  # stored transposed
            for key, weight in steps.weights.items()
        ]
        assert ratios[site] == pytest.approx(np.mean(each), rel=1e-4)


def test_a_mixture_moves_by_its_mean(request, tmp_path, glue):
    def change(each):
        return each.scale * (each.matrix.b.detach().mean(0) @ each.matrix.a.detach().mean(0)).numpy()

    steps, found = run(SequenceClassification, AdaMixLoRA(rank=2), change, request, tmp_path, glue)
    each = [
        rms(steps.kept[13][key] - steps.kept[12][key]) / rms(weight)
        for key, weight in steps.weights.items()
        if key.endswith("query")
    ]
    assert found[12]["query"] == pytest.approx(np.mean(each), rel=1e-4)


def test_it_leaves_the_training_as_it_is(request, tmp_path, glue):
    def fit(*callbacks):
        seed_everything(0)
        module, data = build(SequenceClassification, request, glue, KronA())
        trainer(tmp_path, *callbacks, max_steps=30, max_epochs=-1, enable_checkpointing=False).fit(module, data)
        return [p.detach() for p in module.parameters() if p.requires_grad]

    assert all(torch.equal(one, other) for one, other in zip(fit(), fit(UpdateRatio()), strict=True))


def test_a_method_without_changes_of_weights_logs_none(request, tmp_path, glue):
    _, found = run(SequenceClassification, BitFit(), lambda each: SimpleNamespace(), request, tmp_path, glue)
    assert found == {}
