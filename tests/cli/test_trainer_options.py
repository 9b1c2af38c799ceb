"""What the trainer is given: what cannot work is refused in a line before anything is loaded."""

import pytest
import yaml

LIGHTNING = "lightning.pytorch."


@pytest.fixture
def line(kronlit, config, tmp_path):
    """The one line that a fit ends in, with `trainer` set to what is given."""

    def run(*words, **trainer):
        content = yaml.safe_load(config.read_text())
        content["trainer"] |= trainer
        path = tmp_path / "trainer.yaml"
        path.write_text(yaml.safe_dump(content))
        code, _, err = kronlit("fit", "--config", path, *words)
        assert code == 2, err
        assert "Traceback" not in err
        (found,) = [line for line in err.splitlines() if line.startswith("kronlit: ")]
        return found

    return run


@pytest.mark.parametrize(
    ("key", "name", "arguments", "package"),
    [
        ("plugins", "plugins.XLAPrecision", {"precision": "32-true"}, "torch_xla"),
        ("strategy", "strategies.DeepSpeedStrategy", {}, "DeepSpeed"),
        ("strategy", "strategies.XLAStrategy", {}, "torch_xla"),
        ("logger", "loggers.WandbLogger", {}, "wandb"),
    ],
)
def test_a_class_of_lightning_whose_package_is_missing_is_named_with_it(line, key, name, arguments, package):
    given = {"class_path": LIGHTNING + name, "init_args": arguments}
    said = line(**{key: [given] if key == "plugins" else given})
    assert name.split(".")[1] in said
    assert package in said
    assert "pip install" in said


def test_a_missing_package_behind_a_word_is_a_line(line):
    assert "torch_xla" in line("--trainer.accelerator", "tpu")


NO_WAY = ["ddp_spawn", "ddp_fork_find_unused_parameters_true", "ddp_notebook", "fsdp", "deepspeed", "xla", "single_tpu"]


@pytest.mark.parametrize("strategy", [*NO_WAY, "dp", "strategies.FSDPStrategy", "strategies.ModelParallelStrategy"])
def test_a_strategy_that_cannot_work_is_refused(line, strategy):
    given = {"class_path": LIGHTNING + strategy} if "." in strategy else strategy
    said = line(strategy=given)
    assert f"`trainer.strategy`='{strategy.split('.')[-1]}'" in said
    assert said.endswith("use one of auto, ddp, ddp_sharded.")


@pytest.mark.parametrize("precision", ["8", "nosuch", "transformer-engine", "16-true", "64"])
def test_a_precision_that_cannot_work_is_refused_with_those_that_do(line, precision):
    assert line("--trainer.precision", precision) == (
        f"kronlit: `trainer.precision`='{precision}' would not train in float32; use 32-true, bf16-mixed, 16-mixed, "
        "bf16-true."
    )


def test_bitsandbytes_of_lightning_is_refused_for_what_kronlit_has(line):
    pytest.importorskip("bitsandbytes", reason="the extra quantized has it")
    given = {"class_path": LIGHTNING + "plugins.BitsandbytesPrecision", "init_args": {"mode": "nf4"}}
    assert line(plugins=given) == (
        "kronlit: `trainer.plugins`: BitsandbytesPrecision would quantise what is trained, too: set "
        "`model.quantization` instead."
    )


def test_deepspeeds_precision_without_deepspeed_is_refused(line):
    given = {"class_path": LIGHTNING + "plugins.DeepSpeedPrecision", "init_args": {"precision": "32-true"}}
    assert "DeepSpeedPrecision" in line(plugins=given)


def test_an_argument_that_is_missing_is_named_as_it_is_given(line, kronlit, config):
    words = ["--trainer.callbacks", "EarlyStopping"]
    assert line(*words) == "kronlit: `--trainer.callbacks.monitor` must be given."
    words += ["--trainer.callbacks.monitor", "val/loss", "--trainer.fast_dev_run", "true"]
    assert kronlit("fit", "--config", config, *words)[0] == 0


ONE = {
    "callbacks": {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}},
    "plugins": {"class_path": "lightning.fabric.plugins.environments.LightningEnvironment"},
    "logger": {"class_path": f"{LIGHTNING}loggers.CSVLogger", "init_args": {"save_dir": "logs"}},
}
OTHER = {
    "callbacks": {"class_path": f"{LIGHTNING}callbacks.LearningRateMonitor"},
    "plugins": {
        "class_path": f"{LIGHTNING}plugins.MixedPrecision",
        "init_args": {"precision": "bf16-mixed", "device": "cpu"},
    },
    "logger": {"class_path": f"{LIGHTNING}loggers.CSVLogger", "init_args": {"save_dir": "others"}},
}


@pytest.mark.parametrize("key", ONE)
def test_one_in_place_of_a_list_trains(kronlit, config, tmp_path, key):
    words = []
    for number, value in enumerate(([OTHER[key]], ONE[key])):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump({"trainer": {key: value}}))
        words += ["--config", path]
    code, _, err = kronlit("fit", "--config", config, *words, "--trainer.max_epochs", "1", "--run_dir", "one")
    assert code == 0, err
    (saved,) = [*tmp_path.glob("one/**/config.yaml"), *tmp_path.glob("logs/**/config.yaml")]
    (kept,) = yaml.safe_load(saved.read_text())["trainer"][key]
    assert kept["class_path"].endswith(ONE[key]["class_path"].split(".")[-1])
