"""The pages of documentation: links lead somewhere, Python runs, commands and YAMLs are taken, the site is built.

A comment right before a block of code leaves it to the slow tests, `<!-- slow -->`, or out, `<!-- not run: why -->`.
"""

import inspect
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fixtures.pages import PAGES, blocks, name
from fixtures.runs import ROOT, environment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import kronlit as package
from kronlit.__main__ import COMMANDS
from kronlit.config.explain import subclasses
from kronlit.config.shipped import config_path
from kronlit.config.signatures import parameters
from kronlit.data import TaskData
from kronlit.exchange.ensemble import Ensemble
from kronlit.methods import Method
from kronlit.modules import FrozenPLM
from kronlit.structured import StructuredLinear

every_page = pytest.mark.parametrize("page", PAGES, ids=name)
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")


# Links


def slugs(page):
    """The anchors of a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", head).lower() for head in heads)
    return {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head.encode("ascii", "ignore").decode()).strip())
        for head in plain
    }


@every_page
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.is_file(), f"{name(page)}: {target}"
        if anchor:
            assert anchor in slugs(found), f"{name(page)}: {target}; there are {sorted(slugs(found))}"


@every_page
def test_files_of_the_project_that_a_page_names_are_there(page):
    named = re.findall(r"(?<![\w/.(])((?:kronlit|tests|configs|benchmarks|docs)/[\w/.]+\.\w+)\b", page.read_text())
    assert [path for path in sorted(set(named)) if not (ROOT / path).is_file()] == []


def test_every_page_is_in_the_navigation_once():
    text = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"[\w/]+\.md", text.split("\nnav:\n")[1])
    assert sorted(listed) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES[2:])


def test_every_method_has_its_page_and_its_row():
    methods = {kind.__name__ for kind in subclasses(Method) if kind.__module__.startswith("kronlit.")}
    index = (ROOT / "docs/methods/index.md").read_text()
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\((\w+\.md)\)", index, re.MULTILINE))
    assert rows.keys() == methods - {"Method"}
    for method, page in rows.items():
        assert re.match(rf"# {method}\b", (ROOT / "docs/methods" / page).read_text())
    assert set(re.findall(r"\[`(\w+)`\]\(docs/methods/", (ROOT / "README.md").read_text())) == rows.keys()


def test_every_structure_method_job_and_kind_of_data_is_in_the_reference():
    for room in ("structured", "methods", "modules", "data", "adapters"):
        listed = set(re.findall(r"^::: ([\w.]+)$", (ROOT / f"docs/reference/{room}.md").read_text(), re.MULTILINE))
        module = __import__(f"kronlit.{room}", fromlist=["x"])
        elsewhere = {"collapse", "merge", "trainable_report", "inject", "Method"}
        assert {f"kronlit.{room}.{one}" for one in module.__all__ if one not in elsewhere} <= listed


# Python


@pytest.fixture
def at_hand(tiny_bert, tmp_path):
    """Makes what a page takes for granted in the current folder, and its code with a tiny model in place of theirs."""

    def make(page):
        text = page.read_text()
        if 'from_pretrained("merged")' in text:
            AutoModelForSequenceClassification.from_pretrained(tiny_bert).save_pretrained("merged")
            AutoTokenizer.from_pretrained(tiny_bert).save_pretrained("merged")
        if 'kronlit.load("adapter")' in text:
            model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
            package.save(package.inject(model, package.KronA()), "adapter")

    return make


PYTHON = [(page, slow) for page in PAGES for slow in (False, True) if any(
    one.language == "python" and (one.comment == "slow") == slow for one in blocks(page)
)]  # fmt: skip


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if slow else [], id=name(page)) for page, slow in PYTHON],
)
def test_python_runs_from_the_top_of_the_page(page, at_hand, tiny_bert, request):
    at_hand(page)
    names = {"__name__": "page"}
    slow = request.node.get_closest_marker("slow") is not None
    for one in blocks(page):
        if one.language == "python":
            code = compile(one.code.replace("FacebookAI/roberta-base", str(tiny_bert)), one.where, "exec")
            if not one.comment.startswith("not run: ") and (slow or one.comment != "slow"):
                exec(code, names)


# Commands


def commands(page):
    """The commands of a page, each with its block."""
    for one in blocks(page):
        if one.language == "sh":
            for line in one.code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words:
                    end = words.index("&&") if "&&" in words else len(words)
                    yield one, words[:end]
                    words = words[end + 1 :]


def of_kronlit(page):
    return [words[1:] for _, words in commands(page) if Path(words[0]).name == "kronlit"]


def last_parts(base, room):
    """The names of all arguments that kronlit's classes of a base take."""
    return {
        argument for kind in subclasses(base) if kind.__module__.startswith(room) for argument in parameters(kind)
    } | set(parameters(base))


@pytest.fixture(scope="module")
def options():
    """For each prefix of an option the names that may stand behind it."""
    return {
        "model.method.matrix": last_parts(StructuredLinear, "kronlit.structured"),
        "model.method": last_parts(Method, "kronlit.methods"),
        "model": last_parts(FrozenPLM, "kronlit.modules") | {"help", "method"},
        "data": last_parts(TaskData, "kronlit.data") | {"help"},
        "trainer": set(inspect.signature(Trainer).parameters),
        "best_checkpoint": set(inspect.signature(ModelCheckpoint).parameters),
        "last_checkpoint": set(inspect.signature(ModelCheckpoint).parameters),
    }


OF_FIT = {
    "config",
    "help",
    "help_all",
    "model",
    "data",
    "seed_everything",
    "run_dir",
    "test_after_fit",
    "stop_after_epochs",
}
OF_FIT |= {
    "compile_layers",
    "init_adapter",
    "below",
    "scored_rows",
    "predictions",
    "ckpt_path",
    "slurm",
    "print_config",
}
OF_ENSEMBLES = set(inspect.signature(Ensemble).parameters)  # of the other commands of the trainer


def names_of_options(words):
    return [word.split("=")[0][2:].replace("init_args.", "") for word in words if word.startswith("--")]


def is_of_fit(option, options):
    prefix = next((one for one in options if option.startswith(f"{one}.")), None)
    return option in OF_FIT if prefix is None else option[len(prefix) + 1 :] in options[prefix]


def own_options(command, kronlit):
    """The options that the help of a command lists."""
    code, out, _ = kronlit(*command, "--help")
    assert code == 0
    return set(re.findall(r"--([\w.]+)", out))


@pytest.mark.parametrize("page", [page for page in PAGES if of_kronlit(page)], ids=name)
def test_commands_and_their_options_are_there(page, options, kronlit):
    for words in of_kronlit(page):
        assert words[0] in COMMANDS, words
        command = (
            words[:2] if words[:2] in (["study", "report"], ["configs", "copy"], ["configs", "check"]) else words[:1]
        )
        own = set() if words[0] in TRAINER_COMMANDS else own_options(command, kronlit)
        for option in names_of_options(words):
            known = option.replace("-", "_") in own if words[0] not in TRAINER_COMMANDS else is_of_fit(option, options)
            if words[0] in TRAINER_COMMANDS[1:]:
                known = known or option in OF_ENSEMBLES
            if words[0] in ("tune", "submit", "rows", "memory"):  # they take a fit's, too
                known = known or is_of_fit(option.removeprefix("search."), options)
            if words[0] == "study":
                known = known or is_of_fit(option.removeprefix("options."), options)
            assert known, f"--{option} in: kronlit {shlex.join(words)}"


@every_page
def test_the_configs_of_commands_are_there(page):
    for words in of_kronlit(page):
        for before, path in itertools.pairwise(words):
            if before == "--config" and not path.startswith("runs/"):
                assert (ROOT / path).is_file() or Path(config_path(path)).is_file(), shlex.join(words)


@every_page
def test_other_commands_are_there(page):
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for one, words in commands(page):
        program = Path(words[0]).name
        if program in ("python", "python3") and words[1].startswith("benchmarks/"):
            text = (ROOT / words[1]).read_text()
            assert all(f"--{option}" in text for option in names_of_options(words)), one.where
        elif program == "pip":
            for names in re.findall(r"\[(.*?)\]", shlex.join(words)):
                assert set(names.split(",")) <= set(extras), one.where
        else:
            assert program in ("kronlit", "python3", "python", "pytest", "coverage", "mkdocs", "ruff", "mypy"), (
                one.where
            )


DRY = [
    words for page in PAGES for words in of_kronlit(page) if words[0] in ("study", "submit") and words[1] != "report"
]


@pytest.mark.parametrize("words", [list(words) for words in dict.fromkeys(map(tuple, DRY))], ids=shlex.join)
def test_studies_and_jobs_are_planned(words, kronlit, monkeypatch):
    if "--help" not in words:
        monkeypatch.chdir(ROOT)
        flags = [word for word in words if word != "--dry_run"]
        flags = flags[:-1] if flags[-1] == "true" and "--dry_run" in words else flags
        code, out, err = kronlit(*flags, "--dry_run", "true")
        assert code == 0, err
        assert out


FITS = {
    shlex.join(words): page
    for page in reversed(PAGES)  # of a command on several pages, the first is named
    for words in of_kronlit(page)
    if words[0] in TRAINER_COMMANDS and "--config" in words
}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(shlex.split(line), id=line, marks=[] if page.name == "README.md" else [pytest.mark.slow])
        for line, page in FITS.items()
    ],
)
def test_a_fits_command_is_taken(words, kronlit, monkeypatch):
    if "mine." in shlex.join(words) and "matrix" in shlex.join(words):
        pytest.skip("it names a class of the reader's own file")
    if any(word.startswith("runs/") and word.endswith(".yaml") for word in words):
        pytest.skip("it names what an earlier command wrote")
    monkeypatch.chdir(ROOT)
    code, out, err = kronlit(*words, "--print_config")
    assert code == 0, err
    assert yaml.safe_load(out)["model"]


YAMLS = [one for page in PAGES for one in blocks(page) if one.language == "yaml"]


@pytest.mark.parametrize("one", YAMLS, ids=lambda one: one.where)
def test_yaml_names_what_is_there(one, options):
    content = yaml.safe_load(one.code)
    method = content.get("model", {}).get("init_args", {}).get("method", {})
    if isinstance(method, dict) and method:
        assert method.get("init_args", {}).keys() <= parameters(getattr(package, method["class_path"])).keys()
    assert content.get("model", {}).get("init_args", {}).keys() <= options["model"]
    assert content.get("data", {}).get("init_args", {}).keys() <= options["data"]


@pytest.mark.slow
@pytest.mark.parametrize("one", YAMLS, ids=lambda one: one.where)
def test_yaml_is_taken(one, kronlit, monkeypatch, tmp_path):
    path = tmp_path / "block.yaml"
    path.write_text(one.code)
    monkeypatch.chdir(ROOT)
    words = ["study", "--config", path, "--dry_run", "true"]
    if "methods" not in yaml.safe_load(one.code):
        words = ["fit", "--config", "quickstart", "--config", path, "--print_config"]
    code, out, err = kronlit(*words)
    assert code == 0, err
    assert out


# The site


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    words = ["mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(NO_MKDOCS_2_WARNING="1"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (tmp_path / "site").rglob("*.html"):  # it fetches nothing, and no mathematics is left as LaTeX
        text = page.read_text()
        assert re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="https?://', text) == [], page
        assert "arithmatex" not in text, page
    assert "<svg" in (tmp_path / "site/house/index.html").read_text()
    assert "<math" in (tmp_path / "site/methods/krona/index.html").read_text()
    assert "--trainer.max_epochs" in (tmp_path / "site/reference/cli/index.html").read_text()
