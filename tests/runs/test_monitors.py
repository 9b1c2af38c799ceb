"""What is watched in training is checked against what will be logged, before the training."""

import csv

import pytest
import yaml

from kronlit.data.tasks import GLUE_TASKS
from kronlit.methods import HeadOnly
from kronlit.modules import CausalLM
from kronlit.training.monitors import check_monitors, logged_names


@pytest.fixture
def module_of(kronlit, monkeypatch):
    """The module that a command line trains."""

    def run(*words):
        found = []
        monkeypatch.setattr("kronlit.cli.fit.check_monitors", lambda module, callbacks: found.append(module))
        code, _, err = kronlit("fit", *words)
        assert code == 0, err
        return found[0]

    return run


def test_what_is_taken_for_logged_is_what_a_fit_logs(module_of, config, tmp_path):
    words = ["--config", config, "--data.task", "mnli", "--data.splits", "official", "--trainer.max_epochs", "1"]
    words += ["--trainer.log_every_n_steps", "1"]
    module = module_of(*words)  # two validation sets
    rows = csv.DictReader((tmp_path / "runs/small/version_0/metrics.csv").open())
    assert logged_names(module) == set(rows.fieldnames)
    assert "val_mismatched/accuracy" in rows.fieldnames


@pytest.mark.parametrize("validate_by", ["loss", "generation"])
def test_texts_have_scores_in_validation_only_where_they_are_generated(tiny_gpt2, validate_by):
    pytest.importorskip("sacrebleu")
    pytest.importorskip("pycocoevalcap")
    from kronlit.data.tasks import GENERATION_TASKS

    module = CausalLM(str(tiny_gpt2), HeadOnly(), GENERATION_TASKS["e2e"], validate_by=validate_by)
    assert {"val/loss", "val/perplexity", "val/score"} <= logged_names(module)
    assert ("val/bleu" in logged_names(module)) == (validate_by == "generation")


WRONG = [
    ({"best_checkpoint": {"monitor": "val/acuracy"}}, "`best_checkpoint.monitor`='val/acuracy'"),
    ({"best_checkpoint": {"monitor": "val_accuracy"}}, "`best_checkpoint.monitor`='val_accuracy'"),
    ({"trainer": {"callbacks": {"class_path": "EarlyStopping", "init_args": {"monitor": "val/acuracy"}}}}, "callbacks"),
    (
        {"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/acuracy"}}]}},
        "`trainer.callbacks.monitor`='val/acuracy'",
    ),
]


@pytest.mark.parametrize(("given", "named"), WRONG)
def test_a_slip_is_found_before_the_training(kronlit, config, tmp_path, monkeypatch, given, named):
    monkeypatch.setattr("kronlit.modules.SequenceClassification.load", lambda self: pytest.fail("it was loaded"))
    more = tmp_path / "more.yaml"
    more.write_text(yaml.safe_dump(given))
    code, _, err = kronlit("fit", "--config", config, "--config", more)
    assert code == 2
    assert named in err
    assert "did you mean 'val/accuracy'?" in err


def test_what_third_parties_log_may_be_watched(kronlit, config, tmp_path, monkeypatch):
    (tmp_path / "mine_to_watch.py").write_text("""
from lightning.pytorch import Callback
class Mine(Callback):
    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/mine", 1.0)
""")
    monkeypatch.syspath_prepend(tmp_path)
    more = tmp_path / "more.yaml"
    callbacks = [{"class_path": "mine_to_watch.Mine"}]
    more.write_text(yaml.safe_dump({"best_checkpoint": {"monitor": "val/mine"}, "trainer": {"callbacks": callbacks}}))
    code, _, err = kronlit("fit", "--config", config, "--config", more, "--trainer.max_epochs", "1")
    assert code == 0, err
    assert list((tmp_path / "runs").glob("**/best-*.ckpt"))


def test_early_stopping_that_is_not_strict_may_watch_what_is_not_there():
    from lightning.pytorch.callbacks import EarlyStopping

    class Metrics:
        names = ("loss",)

    class Module:
        val_metrics = (Metrics(),)

        task = GLUE_TASKS["rte"]

    Module.__module__ = "kronlit.modules"
    check_monitors(Module(), {"x": [EarlyStopping("val/nothing", strict=False)]})
    with pytest.raises(ValueError, match=r"`x\.monitor`='val/nothing' is not logged"):
        check_monitors(Module(), {"x": [EarlyStopping("val/nothing")]})
