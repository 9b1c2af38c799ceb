"""The commands of the trainer: a LightningCLI whose YAMLs name a model, a method and data."""

import importlib
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from kronlit.cli.below import below_of, stand_on
from kronlit.cli.earlier_run import MovedRun, relocate_files, run_of_checkpoint, run_of_config
from kronlit.cli.ensemble import add_ensemble_options, checkpoint_of, ensemble_of
from kronlit.cli.options import CKPT_PATH, TRAINER_DEFAULTS, OneLineParser, add_options, named_command
from kronlit.cli.preflight import check_method
from kronlit.cli.quiet import quieten
from kronlit.cli.trainer_errors import quiet_on_a_full_disk, trainer_errors
from kronlit.config.aliases import check_configs
from kronlit.config.argument_types import check_arguments, check_class
from kronlit.config.class_change import own_defaults_for
from kronlit.config.mistakes import one_line
from kronlit.config.signatures import parameters
from kronlit.config.user_error import UserError
from kronlit.config.words import values_of
from kronlit.data import TaskData
from kronlit.data.tasks import Task
from kronlit.data.trained_task import follow_task, task_of
from kronlit.exchange.init_adapter import InitAdapter
from kronlit.exchange.merged_prediction import MergedPrediction
from kronlit.methods import Method
from kronlit.modules import FrozenPLM
from kronlit.modules.origin import check_meaning
from kronlit.modules.resumption import check_settings
from kronlit.structured import StructuredLinear
from kronlit.training.checkpoint import AtomicCheckpoint
from kronlit.training.checkpoint_lookup import KEYWORDS, best_of_run, find_checkpoint, say_what_is_not_found
from kronlit.training.compiled import CompiledLayers
from kronlit.training.end_of_fit import EndOfFit
from kronlit.training.monitors import check_monitors
from kronlit.training.never_predicted import NeverPredicted
from kronlit.training.next_steps import after_fit
from kronlit.training.predictions import PredictionWriter
from kronlit.training.preemption import StopBetweenBatches
from kronlit.training.processes import EndTogether
from kronlit.training.progress import progress
from kronlit.training.run_directory import loggers, new_evaluation, new_version, run_lock
from kronlit.training.scored_rows import ScoredRows
from kronlit.training.sharded import ShardedFrozenDDP
from kronlit.training.signals import TERMINATED, Terminated
from kronlit.training.strategies import check_precision_name, check_strategy
from kronlit.training.summary import write_summary
from kronlit.training.tensorboard import log_outcome
from kronlit.training.true_bfloat16 import use_true_bfloat16
from kronlit.training.update_ratio import UpdateRatio

StrategyRegistry.register("ddp_sharded", ShardedFrozenDDP, description=ShardedFrozenDDP.__doc__)


class CLI(LightningCLI):
    """The commands `fit`, `validate`, `test` and `predict`. Each run writes a folder of its own."""

    subcommands = staticmethod(named_command)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_options(parser)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        action = next(action for action in parser._actions if action.dest == "ckpt_path")
        if subcommand != "fit":
            add_ensemble_options(parser)
        action.help = CKPT_PATH["fit" if subcommand == "fit" else "others"].format(command=subcommand)
        return parser

    def _parse_ckpt_path(self) -> None:
        """Do nothing: what runs is set by the command line and the configs, never by a checkpoint."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        words = sys.argv[1:]
        self.run_alone = run_of_checkpoint(words)
        words[1:1] = ["--config", str(self.run_alone / "config.yaml")] if self.run_alone else []
        self.config = parser.parse_args(words)
        config = self.config[self.config.subcommand]
        seed = config.seed_everything
        if not 0 <= seed < 2**32:
            raise UserError(f"`seed_everything`={seed} must lie between 0 and 2^32 - 1.")
        trainer = config.trainer
        for name in ("callbacks", "logger", "plugins"):  # Lightning takes one as well as a list
            if isinstance(trainer[name], Namespace):
                trainer[name] = [trainer[name]]

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        names = [Path(str(path)).stem for path in config.config or []]
        run = run_of_config(config.config or [], config.run_dir, sys.argv[1:])
        if used := run or self.run_alone:
            relocate_files(config, used)
        self.run_dir = run.parent if run else Path(config.run_dir or Path("runs", "-".join(names) or "unnamed"))
        config.run_dir = str(self.run_dir)  # the default comes from the config's name, and the saved one is renamed
        check_class(config.model, "model")
        check_class(config.data, "data")
        for key, kind in {"trainer": Trainer, "best_checkpoint": ModelCheckpoint}.items():
            check_arguments(kind, config[key], key, float32=False)
        if config.model.init_args.get("task") is not None:
            raise UserError("`model.task` is taken from `data`: leave it out.")
        path = str(best_of_run(Path(config.ckpt_path))) if self.run_alone else config.ckpt_path
        self.ckpt_path = find_checkpoint(path, self.run_dir, str(self.subcommand), run)
        config.below = below_of(config)
        self.ensemble = ensemble_of(config, str(self.subcommand), self.ckpt_path)
        self._follow_checkpoint(config.data)
        self.goes_on = self.ckpt_path if (self.subcommand, config.ckpt_path) == ("fit", "last") else None
        if self.subcommand == "fit":
            say_what_is_not_found({name: config[f"{name}_checkpoint"] for name in KEYWORDS})
        self.pause = config.stop_after_epochs
        if self.pause is not None and self.pause < 1:
            raise UserError(f"`stop_after_epochs`={self.pause} must be at least 1.")
        config.ckpt_path = config.stop_after_epochs = None  # the saved config is to repeat the run from its beginning
        if self.subcommand != "fit" and not (self.ckpt_path or self.ensemble or config.init_adapter):
            rank_zero_only(print)(
                "no --ckpt_path: this is the model as it comes, with nothing trained.", file=sys.stderr
            )

    def _follow_checkpoint(self, data: Any) -> None:
        """Give `data` the classes and columns of the checkpoint, or of the first of several runs."""
        path = self.ckpt_path or checkpoint_of(self.ensemble)
        checkpoint = AtomicCheckpoint().load_checkpoint(path) if path else {}
        # Without the large entries: this stays in memory until the command ends, and Lightning loads the file again.
        self.checkpoint = {k: v for k, v in checkpoint.items() if k not in ("state_dict", "optimizer_states")}
        if (task := task_of(self.checkpoint)) is not None:
            module, name = data.class_path.rsplit(".", 1)
            known = parameters(getattr(importlib.import_module(module), name))
            given = bool(values_of(sys.argv[1:], "--data.columns", "--data.init_args.columns"))
            follow_task(data.init_args, {name: one.default for name, one in known.items()}, task, given)

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        stand_on(self.model, None if self.ensemble else self.config[self.subcommand].below)
        if self.ckpt_path:
            self._check_checkpoint()

    def _set_seed(self) -> None:
        self.any_seed = self._get(self.config, "seed_everything") is True
        super()._set_seed()

    def _check_checkpoint(self) -> None:
        """Raise `ValueError` if the checkpoint has other classes, rows or settings. This is before tokenising."""
        check_meaning(self.model, self.checkpoint)
        rows = self.checkpoint.get(type(self.datamodule).__qualname__, {})
        if self.subcommand == "fit":
            check_settings(self.model, self.checkpoint)
        self.datamodule.check_trained_rows(rows, str(self.subcommand))
        if self.subcommand == "fit":
            self._check_seed(rows.get("train", {}).get("seed"))

    def _check_seed(self, theirs: int | None) -> None:
        """Raise `ValueError` if a resumed training has another seed: it would not draw that seed's numbers."""
        config = self.config.fit
        ours = config.seed_everything
        if theirs is None or ours is False or ours % 2**31 == theirs:
            return
        if not self.any_seed:
            raise UserError(
                f"`seed_everything`={ours}: the training in the checkpoint goes on with the random numbers of its own "
                f"seed, {theirs}; give that, or leave out `ckpt_path` for a run with another."
            )
        config.seed_everything = theirs

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand]
        trainer = config.trainer
        if trainer.accumulate_grad_batches < 1:  # Lightning divides by it
            raise UserError(f"`trainer.accumulate_grad_batches`={trainer.accumulate_grad_batches} must be at least 1.")
        plugins = trainer.plugins or []
        trainer.plugins = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpoint()]
        check_strategy(trainer.strategy, trainer.plugins)
        check_precision_name(trainer.precision)
        use_true_bfloat16(trainer)
        self.log_dir = None if trainer.fast_dev_run else self._run_folder(trainer)
        if SLURMEnvironment.detect():
            trainer.plugins.append(SLURMEnvironment(auto_requeue=False))  # StopBetweenBatches does it, after a batch
        trainer.callbacks = [*(trainer.callbacks or []), *self._callbacks(config)]
        with trainer_errors(TypeError):
            made = super().instantiate_trainer(**kwargs)
        if self.subcommand == "fit" and self.log_dir is not None:
            last = str(self.log_dir / "checkpoints" / "last.ckpt")
            stop = StopBetweenBatches(last, self.pause)
            cast(Any, made).callbacks += [stop, EndOfFit(last)]  # last: they save all others' state
        return made

    def _callbacks(self, config: Namespace) -> list[Callback]:
        """What this command does beside training, in its order."""
        callbacks: list[Callback] = [*progress(config.trainer), NeverPredicted()]
        if self.subcommand == "predict":
            path = config.predictions or (self.log_dir or self.run_dir) / "predictions.jsonl"
            callbacks.append(PredictionWriter(Path(path), self.log_dir))
        callbacks += [InitAdapter(config.init_adapter)] if config.init_adapter and self.ckpt_path is None else []
        if self.subcommand != "fit":
            callbacks.append(self.ensemble or MergedPrediction())  # after what is merged is there
            config.trainer.inference_mode &= self.ensemble is None  # emea takes gradients
        callbacks += [*([MovedRun()] if self.goes_on else []), EndTogether()]
        callbacks += [UpdateRatio()] if self.subcommand == "fit" else []
        callbacks += [CompiledLayers()] if config.compile_layers and self.subcommand == "fit" else []
        callbacks += [ScoredRows(self.log_dir)] if config.scored_rows and self.log_dir is not None else []
        return callbacks

    def _run_folder(self, trainer: Any) -> Path:
        """Make or find the run's folder, and add the loggers that write there."""
        if self.goes_on:
            folder = Path(self.goes_on).parents[1]
        elif self.run_alone and not values_of(sys.argv[1:], "--run_dir"):
            folder = new_evaluation(self.run_alone, str(self.subcommand))
        else:
            folder = new_version(self.run_dir)
        trainer.default_root_dir = folder
        if trainer.logger not in (False, []):  # ours come first: Lightning takes the folder of the first logger
            given = [] if trainer.logger in (None, True) else trainer.logger
            given = given if isinstance(given, list) else [given]
            trainer.logger = [*loggers(folder, self.checkpoint.get("global_step", 0) if self.goes_on else 0), *given]
        if self.goes_on:
            number = len(list(folder.glob("config*.yaml")))
            self.save_config_kwargs["config_filename"] = f"config-resumed-{number}.yaml"
        return folder

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return super()._prepare_subcommand_kwargs(subcommand) | {"ckpt_path": self.ckpt_path}

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand == "fit":
            config = self.config_init.fit
            own = {key: [config[key]] for key in ("best_checkpoint", "last_checkpoint")}
            check_monitors(self.model, own | {"trainer.callbacks": config.trainer.callbacks or []})
        check_method(self.model, trains=subcommand == "fit")  # before all rows are tokenised
        with run_lock(self.log_dir if subcommand == "fit" else None), trainer_errors():
            super()._run_subcommand(subcommand)

    def before_fit(self) -> None:
        self.started = time.perf_counter()
        if self.config_init.fit.test_after_fit:
            try:
                self.datamodule.check_labels("test")  # before the training, not after it
            except UserError as error:
                raise UserError(f"`test_after_fit`=True: {error}") from error

    def after_fit(self) -> None:
        if self.config_init.fit.test_after_fit and self.log_dir is not None:
            best = self.config_init.fit.best_checkpoint.best_model_path
            if not best:
                rank_zero_only(print)("no best checkpoint, as no validation was run: testing the last weights.")
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best or None)
        if self.log_dir is not None:
            seconds = time.perf_counter() - self.started
            best = self.config_init.fit.best_checkpoint
            write_summary(self.log_dir, self.model, best, seconds)
            log_outcome(self.trainer, self.config.fit.as_dict(), self.log_dir)
            rank_zero_only(print)(after_fit(self.log_dir, best, self.model.model, self.datamodule))


def trainer_command() -> None:
    """Run the command line in `sys.argv`. A mistake of the user ends in one line and exit code 2."""
    prepare()
    hook, threading.excepthook = threading.excepthook, quiet_on_a_full_disk(threading.excepthook)
    try:
        with one_line():
            check_configs()
            command_line(CLI)
    except SIGTERMException as error:  # from Lightning's handler, which is active for a moment before ours
        raise Terminated(TERMINATED) from error
    finally:
        threading.excepthook = hook


def prepare() -> None:
    """Make the settings that a process needs once."""
    quieten()
    own_defaults_for(Method, StructuredLinear)
    set_parsing_settings(subclasses_enabled=[Task])  # so that a dataclass can be linked into a model


def command_line(kind: type[CLI]) -> None:
    """Run the words in `sys.argv` with a command line of class `kind`."""
    kind(
        FrozenPLM,
        TaskData,
        parser_class=OneLineParser,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        seed_everything_default=42,
        trainer_defaults=TRAINER_DEFAULTS,
        save_config_kwargs={"overwrite": True},
    )
