"""Writes the README.md of an exported folder: what it is, how it was made, what it scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kronlit import __version__
from kronlit.data.tasks import Task
from kronlit.exchange.saved_run import SavedRun
from kronlit.methods import Method
from kronlit.methods.written import describe_method
from kronlit.modules import FrozenPLM, SequenceClassification
from kronlit.modules.plm import at_revision
from kronlit.modules.text import TextModule

KEPT = ("seed_everything", "model", "data", "test_after_fit")
"""The keys of a run's config that the card shows, besides those of the trainer."""
TRAINER = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val")


def model_card(run: SavedRun, module: FrozenPLM, library: str, opening: str, more: str = "") -> str:
    """The card as Markdown, with the front matter that the hub reads.

    Args:
        run: the run that the weights come from.
        module: the module that it trained.
        library: the library that opens the folder: transformers, peft or kronlit.
        opening: Python lines that open it.
        more: a section of its own, before the scores.
    """
    front = front_matter(module.plm, module.method, library)
    config = {key: run.config[key] for key in KEPT if run.config.get(key) is not None}
    trainer = run.config.get("trainer") or {}
    config["trainer"] = {key: trainer[key] for key in TRAINER if trainer.get(key) is not None}
    return f"""{front}
# {Path(module.plm).name}, {module.task.name}, {type(module.method).__name__}

{module.plm}, fine-tuned on {module.task.name} with kronlit {__version__}: `{describe_method(module.method)}`.

```python
{opening}
```

{describe_input(module)}
{more}## Scores

{score_table(run)}

## How it was made

`kronlit fit --config config.yaml`, with this config.yaml:

```yaml
{dump_yaml(without_none(config))}```
"""


def adapter_card(
    plm: str, method: Method | None, labels: Sequence[str], library: str, opening: str, more: str = ""
) -> str:
    """The card of what was made of an adapter, not of a run; the arguments are those of `model_card`."""
    what = "an adapter of PEFT's" if method is None else f"`{describe_method(method)}`"
    classes = f"Classes, from 0: {', '.join(labels)}.\n\n" if labels else ""
    return f"""{front_matter(plm, method, library)}
# {Path(plm).name}, {"PEFT" if method is None else type(method).__name__}

{plm} with {what}, by kronlit {__version__}.

```python
{opening}
```

{classes}{more}"""


def front_matter(plm: str, method: Method | None, library: str) -> str:
    """The lines that the hub reads."""
    tags = ["kronlit"] if method is None else ["kronlit", type(method).__name__.lower()]
    front: dict[str, Any] = {"library_name": library, "tags": tags}
    if not Path(plm).exists():  # a local path means nothing on other machines
        front["base_model"] = at_revision(plm)[0]
    return f"---\n{dump_yaml(front)}---\n"


def dump_yaml(content: dict[str, Any]) -> str:
    """`content` as YAML in its own order."""
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def describe_input(module: FrozenPLM) -> str:
    """A line on the model's input and the names of its classes."""
    task: Task = module.task
    if isinstance(module, SequenceClassification):
        line = f"Input: {' and '.join(f'`{segment}`' for segment in task.classifier_segments())}."
    else:
        line = f"Input: {', '.join(task.columns)}, as kronlit's `{type(module).__name__}` puts them together."
    if isinstance(module, TextModule):
        line += f" Texts were cut at {module.max_length} tokens."
    classes = f"Classes, from 0: {', '.join(task.labels)}." if task.labels else ""
    return f"{line} {classes}".strip() + "\n"


def score_table(run: SavedRun) -> str:
    """A table of the scores of the run, which is one seed."""
    values = run.summary.get("scores")
    if not values:
        return "None are recorded: the run has no summary.json."
    rows = [f"| {name} | {value:.4f} |" for name, value in sorted(values.items())]
    return "\n".join([f"| one run, seed {run.seed} | |", "|---|---|", *rows])


def without_none(content: Any) -> Any:
    """`content` without keys whose value is None."""
    if isinstance(content, dict):
        return {key: without_none(value) for key, value in content.items() if value is not None}
    return content
