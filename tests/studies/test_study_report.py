"""The report of a study: every number against scipy, NumPy or the hand, every text as it was."""

import csv
import html.parser
import re
import shutil
import statistics

import numpy as np
import pytest
import yaml
from scipy import stats
from sklearn import metrics as sk

from kronlit.metrics.rows import ROW_METRICS
from kronlit.studies.plan import plan
from kronlit.studies.report.curves import curve
from kronlit.studies.report.figures import pareto_front
from kronlit.studies.report.page import page
from kronlit.studies.report.render import latex, latex_text, markdown
from kronlit.studies.report.sheets import Sheet, size
from kronlit.studies.report.significance import ScoredSystem, holm, over_examples, over_seeds
from kronlit.studies.report.table import table
from kronlit.studies.report.write import report
from kronlit.studies.result import Result, read_result
from kronlit.studies.study import Published, Study

RNG = np.random.default_rng(0)


def put(root, run, scores, status="done", trained=100, **changes):
    """A run's `run.json`, and the metrics.csv of its fit."""
    summary = {
        "scores": scores,
        "trained_parameters": trained,
        "parameters": 10_000,
        "per_cent": trained / 100,
        "seconds": 60.0,
        "seconds_per_epoch": 20.0 + run.seed,
        "peak_memory_bytes": 1_500_000_000,
        "peak_memory_of": "process",
        "adapter_bytes": 4 * trained,
        "versions": {},
    }
    folder = root / run.folder
    (folder / "version_0").mkdir(parents=True)
    lines = [f"{step},{0.1 * step * run.seed}," for step in (1, 3)]
    (folder / "version_0/metrics.csv").write_text("\n".join(["step,val/score,train/loss", *lines, "4,,0.5"]) + "\n")
    result = Result(
        status, "", run.task, run.method, run.seed, run.point, "kronlit fit", 1, 1, "", None, fit="version_0",
        summary=summary if status == "done" else None, **changes,
    )  # fmt: skip
    result.write(folder)


def filled(root, study, score, skip=(), **more):
    """All runs of a study, `score(run)` each."""
    root.mkdir(exist_ok=True)
    for run in plan(study):
        if (run.task, run.method, run.seed) not in skip:
            value = score(run)
            put(root, run, value if isinstance(value, dict) else {"test/score": value, "val/score": value}, **more)


# --- numbers ---

SCORES = {("A", 1): 0.71, ("A", 2): 0.75, ("A", 3): 0.70, ("B", 1): 0.69, ("B", 2): 0.70, ("B", 3): 0.68}


def of(task, method, seed):
    return SCORES[method, seed] + (0.05 if task == "u" else 0)


@pytest.mark.parametrize(("kind", "ddof"), [("sample", 1), ("population", 0)])
def test_mean_and_std_are_numpys(tmp_path, kind, ddof):
    study = Study(["A", "B"], ["t", "u"])
    filled(tmp_path, study, lambda run: of(run.task, run.method, run.seed))
    for row in table(study, tmp_path):
        for task in ("t", "u"):
            values = [100 * of(task, row.name, seed) for seed in (1, 2, 3)]
            assert row.cells[task].mean == pytest.approx(np.mean(values))
            assert row.cells[task].std(kind) == pytest.approx(np.std(values, ddof=ddof))
        both = [100 * (of("t", row.name, seed) + of("u", row.name, seed)) / 2 for seed in (1, 2, 3)]
        assert row.cells["average"].mean == pytest.approx(np.mean(both))
        assert row.cells["average"].std(kind) == pytest.approx(np.std(both, ddof=ddof))


# By seed and learning rate: validation, test. The best in validation is never the best in test.
GRID = {
    (1, 0.1): (0.9, 0.1),
    (1, 0.2): (0.8, 0.5),
    (2, 0.1): (0.1, 0.6),
    (2, 0.2): (0.7, 0.2),
    (3, 0.1): (0.3, 0.7),
    (3, 0.2): (0.6, 0.3),
}


def graded(run):
    return dict(zip(("val/score", "test/score"), GRID[run.seed, run.point["model.lr"]], strict=True))


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("per_seed", {"A": {1: 10, 2: 20, 3: 30}}),
        ("per_method", {"A": {1: 50, 2: 20, 3: 30}}),  # 0.7 against 0.433 on average
        ("none", {"A (lr=0.1)": {1: 10, 2: 60, 3: 70}, "A (lr=0.2)": {1: 50, 2: 20, 3: 30}}),
    ],
)
def test_validation_selects_and_test_is_reported(tmp_path, select, expected):
    study = Study(["A"], ["t"], grid={"model.lr": [0.1, 0.2]}, select=select)
    filled(tmp_path, study, graded)
    rows = table(study, tmp_path)
    assert {row.name: row.cells["t"].scores for row in rows} == {
        name: pytest.approx(scores) for name, scores in expected.items()
    }


def test_the_least_selects_where_that_is_best(tmp_path):
    study = Study(["A"], ["t"], seeds=[1, 2, 3], grid={"model.lr": [0.1, 0.2]}, select="per_seed", select_mode="min")
    filled(tmp_path, study, graded)
    assert table(study, tmp_path)[0].cells["t"].scores == pytest.approx({1: 50, 2: 60, 3: 70})


def test_a_point_that_lacks_a_seed_is_not_selected_for_all(tmp_path):
    study = Study(["A"], ["t"], grid={"lr": [0.1, 0.2]}, select="per_method")
    filled(tmp_path, study, lambda run: run.point["lr"])
    gone = next(run for run in plan(study) if run.point["lr"] == 0.2)
    (tmp_path / gone.folder / "run.json").unlink()
    cell = table(study, tmp_path)[0].cells["t"]
    assert set(cell.scores.values()) == {10.0}
    assert [(one.run, one.reason) for one in cell.missing] == [(gone, "not run")]


@pytest.mark.parametrize(("select", "mode"), [("per_seed", "max"), ("per_seed", "min"), ("per_method", "max")])
def test_of_points_that_score_the_same_the_one_of_lower_loss_is_selected(tmp_path, select, mode):
    study = Study(["A"], ["t"], seeds=[1, 2], grid={"lr": [1, 2, 3]}, select=select, select_mode=mode)
    losses = {1: 0.4, 2: 0.1, 3: 0.2}
    filled(
        tmp_path, study,
        lambda run: {"val/score": 0.5, "val/loss": losses[run.point["lr"]], "test/score": run.point["lr"] / 100},
    )  # fmt: skip
    assert table(study, tmp_path)[0].cells["t"].scores == pytest.approx({1: 2, 2: 2})


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_over_seeds_it_is_the_paired_t_test(count):
    ours, theirs = RNG.normal(1, 1, count), RNG.normal(0, 1, count)
    differences = ours - theirs
    t = differences.mean() / (differences.std(ddof=1) / np.sqrt(count))
    assert over_seeds(list(ours), list(theirs)) == pytest.approx(2 * stats.t.sf(abs(t), count - 1))


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0]), ([1.0, 2.0], [1.5, 2.5])])
def test_seeds_that_cannot_tell_give_no_p(ours, theirs):
    assert over_seeds(ours, theirs) is None


def test_holms_correction_is_that_of_r():
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") in R: 0.03, 0.06, 0.06, 0.02
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == [
        pytest.approx(p) if p else None for p in (0.03, 0.06, 0, 0.06, 0.02)
    ]
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def draw(classes, rows=200):
    target = RNG.integers(classes, size=rows).astype(float)
    right = RNG.random((3, rows)) < np.array([[0.6], [0.7], [0.8]])
    return np.where(right, target, RNG.integers(classes, size=(3, rows))), target


@pytest.mark.parametrize(
    ("name", "classes", "oracle"),
    [
        ("accuracy", 3, lambda p, t: sk.accuracy_score(t, p)),
        ("f1", 2, lambda p, t: sk.f1_score(t, p)),
        ("macro_f1", 3, lambda p, t: sk.f1_score(t, p, average="macro")),
        ("matthews", 2, lambda p, t: sk.matthews_corrcoef(t, p)),
        ("matthews", 3, lambda p, t: sk.matthews_corrcoef(t, p)),
        ("pearson", 6, lambda p, t: stats.pearsonr(p, t).statistic),
        ("spearman", 6, lambda p, t: stats.spearmanr(p, t).statistic),
        ("answer_f1", 6, lambda p, t: p.mean()),
    ],
)
def test_metrics_of_many_rows_are_scikit_learns(name, classes, oracle):
    prediction, target = draw(classes)
    assert ROW_METRICS[name](prediction, target) == pytest.approx([oracle(one, target) for one in prediction])


def test_a_prediction_that_could_not_be_made_out_is_wrong():
    target, prediction = np.array([1.0, 1, 0, 0, 1, 0]), np.array([1.0, -1, -1, 0, 1, 1])
    opposite = np.array([1.0, 0, 1, 0, 1, 1])
    assert ROW_METRICS["accuracy"](prediction, target) == 0.5
    assert ROW_METRICS["f1"](prediction, target) == pytest.approx(sk.f1_score(target, opposite))
    assert ROW_METRICS["matthews"](prediction, target) == pytest.approx(sk.matthews_corrcoef(target, prediction))


@pytest.mark.parametrize("name", ["f1", "matthews", "pearson", "spearman"])
def test_metrics_that_are_undefined_are_zero(name):
    target = np.array([0.0, 0, 0, 0] if name == "f1" else [0.0, 1, 0, 1])
    assert ROW_METRICS[name](np.zeros((1, 4)), target).tolist() == [0.0]


def rows_file(path, prediction, target):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "prediction", "target"])
        writer.writerows(zip(range(len(target)), prediction, target, strict=True))
    return path


def system(tmp_path, name, predictions, target, metrics=("test/accuracy",)):
    files = [rows_file(tmp_path / f"{name}{i}.csv", one, target) for i, one in enumerate(predictions)]
    scores = [{m: float(ROW_METRICS[m.split("/")[1]](one, target)) for m in metrics} for one in predictions]
    return ScoredSystem(files, scores, metrics)


@pytest.mark.parametrize(("wins", "losses"), [(9, 1), (6, 5), (3, 3), (0, 4)])
def test_over_examples_it_is_mcnemars_exact_test_for_the_accuracy_of_one_seed(tmp_path, wins, losses):
    # Where both are right or wrong an exchange changes nothing: what is left is a fair coin for each row that differs.
    target = np.ones(40)
    ours, theirs = np.ones(40), np.ones(40)
    theirs[:wins] = 0
    ours[wins : wins + losses] = 0
    systems = [system(tmp_path, name, [one], target) for name, one in (("a", ours), ("b", theirs))]
    exact = stats.binomtest(wins, wins + losses, 0.5).pvalue
    assert over_examples(*systems) == pytest.approx(exact, abs=0.015)  # 9,999 draws: 3 standard errors


def test_over_examples_all_seeds_of_a_row_go_together(tmp_path):
    # Three seeds that answer alike know no more than one of them.
    ours, target = np.ones(30), np.ones(30)
    theirs = np.where(np.arange(30) < 4, 0.0, 1.0)
    one = [system(tmp_path, name, [p], target) for name, p in (("a", ours), ("b", theirs))]
    three = [system(tmp_path, name, [p] * 3, target) for name, p in (("c", ours), ("d", theirs))]
    assert over_examples(*three) == pytest.approx(over_examples(*one), abs=0.02)
    assert over_examples(*one) == pytest.approx(2 / 2**4, abs=0.02)


@pytest.mark.parametrize("name", ["f1", "matthews", "pearson", "spearman"])
def test_over_examples_the_score_itself_is_computed_anew(tmp_path, name):
    target = RNG.integers(2 if name in ("f1", "matthews") else 6, size=60).astype(float)
    good, bad = target.copy(), target.copy()
    good[:6], bad[3:15] = 1 - good[:6], 1 - bad[3:15]
    metrics = (f"test/{name}",)
    a, b = (system(tmp_path, label, [one], target, metrics) for label, one in (("a", good), ("b", bad)))
    generator = np.random.default_rng(1)
    observed = abs(a.scores[0][metrics[0]] - b.scores[0][metrics[0]])
    extreme = 0
    for _ in range(399):
        swap = generator.random(60) < 0.5
        pair = np.where(swap, bad, good), np.where(swap, good, bad)
        ours, theirs = (one_by_one(name, p, target) for p in pair)
        extreme += abs(ours - theirs) >= observed - 1e-12
    assert over_examples(a, b) == pytest.approx((extreme + 1) / 400, abs=0.08)
    assert over_examples(a, a) == 1


def one_by_one(name, prediction, target):
    if name == "f1":
        return sk.f1_score(target, prediction)
    if name == "matthews":
        return sk.matthews_corrcoef(target, prediction)
    return getattr(stats, f"{name}r")(prediction, target).statistic


def test_over_examples_there_is_no_p_without_the_same_rows(tmp_path):
    predictions, target = draw(2)
    a, b = (system(tmp_path, name, [p], target) for name, p in (("a", predictions[0]), ("b", predictions[1])))
    assert over_examples(a, b) is not None
    others = system(tmp_path, "c", [predictions[1][:-1]], target[:-1])
    assert over_examples(a, others) is None
    assert over_examples(a, ScoredSystem([tmp_path / "none.csv"], b.scores, b.metrics)) is None
    assert over_examples(a, ScoredSystem(b.files, [{"test/accuracy": 0.5}], b.metrics)) is None  # not what was recorded
    assert over_examples(ScoredSystem(a.files, [{"test/exact_match": 1}], ["test/exact_match"]), b) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_pareto_front_is_what_nothing_beats(seed):
    generator = np.random.default_rng(seed)
    points = [(float(x), float(y)) for x, y in generator.integers(0, 6, size=(12, 2))]

    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    front = [i for i, one in enumerate(points) if not any(beats(other, one) for other in points)]
    assert pareto_front(points) == front


@pytest.mark.parametrize(("count", "text"), [(999, "999 B"), (39_944, "39.9 kB"), (1_327_128_576, "1.33 GB")])
def test_sizes_read_well(count, text):
    assert size(count) == text


# --- what is missing ---


def test_what_is_missing_is_said_and_not_averaged(kronlit, tmp_path):
    study = {"methods": ["A", "B"], "tasks": ["t", "u"], "seeds": [1, 2, 3]}
    (tmp_path / "s").mkdir()
    (tmp_path / "s/study.yaml").write_text(yaml.safe_dump(study))
    runs = {(run.task, run.method, run.seed): run for run in plan(Study(**study))}
    for key, run in runs.items():
        if key == ("t", "A", 2):
            put(tmp_path / "s", run, {}, status="failed", error="out | of memory", exit_code=1)
        elif key == ("u", "A", 3):
            put(tmp_path / "s", run, {}, status="running")
        elif key[:2] != ("u", "B"):
            put(tmp_path / "s", run, {"test/score": 0.1 * run.seed})
    code, out, _ = kronlit("study", "report", "s", "--plots", "false")
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("| ")]
    # seed 1 alone is whole on both tasks
    assert r"| A | **20.00 ± 14.14 (2 of 3) \*** | 15.00 ± 7.07 (2 of 3) \* | 10.00 (1 of 3) \* |" in lines
    assert r"| B | **20.00 ± 10.00** | missing | missing |" in lines
    assert r"| t · A · seed 2 | failed: out \| of memory | s/t/A/seed-2/log.txt |" in lines
    assert "| u · A · seed 3 | not finished | s/u/A/seed-3/log.txt |" in lines
    assert "| u · B · seed 1 | not run |  |" in lines
    with open("s/report/runs.csv", newline="") as file:
        found = {(line["task"], line["method"], line["seed"]): line["status"] for line in csv.DictReader(file)}
    assert {key: status for key, status in found.items() if status != "done"} == {
        ("t", "A", "2"): "failed",
        ("u", "A", "3"): "running",
        ("u", "B", "1"): "not run",
        ("u", "B", "2"): "not run",
        ("u", "B", "3"): "not run",
    }


def test_a_score_that_a_run_does_not_have_is_missing(tmp_path):
    study = Study(["A"], ["t"], seeds=[1], metric="test/f1")
    filled(tmp_path, study, lambda run: 0.5)
    (one,) = table(study, tmp_path)[0].cells["t"].missing
    assert one.reason == "has no test/f1; it has test/score, val/score"


# --- formats ---

STRANGE = r"a_b & 5% <i>{x}</i> $y$ #1 ~ ^ \ | *z* `c` [l](u)"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study with a strange name in it, and its report in all formats."""
    study = {
        "methods": ["A", STRANGE],
        "tasks": ["t", "u"],
        "metric": {"u": "test/f1"},
        "published": {"source": "A & B <2022>, table 1", "scores": {"A": {"t": 71.5, "u": [80.25, 1.5]}}},
    }
    root = tmp_path_factory.mktemp("studies") / "s"
    root.mkdir()
    (root / "study.yaml").write_text(yaml.safe_dump(study))
    made = Study(**(study | {"published": Published(**study["published"])}))
    for run in plan(made):
        value = of(run.task, "A" if run.method == "A" else "B", run.seed)
        score = {"test/accuracy": value, "test/f1": value, "test/score": value}
        put(root, run, score, trained=100 if run.method == "A" else 200)
    return root, report(made, root, baseline="A")


@pytest.fixture
def reported(written, tmp_path):
    """The folder of that report, in a study's folder of the test's own, and its text."""
    shutil.copytree(written[0], tmp_path / "s")
    return tmp_path / "s/report", written[1]


class Text(html.parser.HTMLParser):
    """All cells and attributes of a page."""

    def __init__(self):
        super().__init__()
        self.cells, self.tags, self.sources, self.inside = [], set(), [], False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")
        self.inside = tag in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def test_the_page_shows_names_as_they_are_and_needs_no_other_file(reported):
    text = Text()
    text.feed((reported[0] / "report.html").read_text())
    assert STRANGE in text.cells
    assert "i" not in text.tags
    assert not text.tags & {"link", "img", "iframe", "object", "import"}
    assert all(source.startswith(("#", "../")) for source in text.sources), text.sources


def test_the_table_says_what_its_numbers_are(reported):
    out = reported[1]
    assert "100 times test/score, test/f1 on u: mean ± sample standard deviation (n - 1) over seeds 1, 2, 3." in (
        out.replace("\\", "")
    )
    assert "| A | **72.00 ± 2.65** | **77.00 ± 2.65** | **74.50 ± 2.65** |" in out
    assert "| A, published | 71.50 | 80.25 ± 1.50 | 75.88 |" in out
    assert "Published: A &amp; B &lt;2022&gt;, table 1." in out
    assert "| A | 100 | 1.0000 | 22.0 | 60 | 1.5 GB | 400 B |" in out


def test_the_population_s_deviation_is_said_to_be_it(kronlit, reported):
    _, out, _ = kronlit("study", "report", "s", "--std", "population", "--plots", "false")
    assert "mean ± population standard deviation (n)" in out
    assert f"| A | **72.00 ± {statistics.pstdev([71, 75, 70]):.2f}** |" in out


def test_differences_are_paired_over_seeds_and_corrected(reported):
    lines = list(csv.DictReader((reported[0] / "table.csv").open()))
    there = [line for line in lines if line["method"] == STRANGE]
    ours, theirs = ([SCORES[name, seed] for seed in (1, 2, 3)] for name in "BA")
    p = stats.ttest_rel(ours, theirs).pvalue
    assert [line["task"] for line in there] == ["t", "u", "average"]
    for line in there:
        assert float(line["difference"]) == pytest.approx(100 * (np.mean(ours) - np.mean(theirs)))
        assert float(line["p_seeds"]) == pytest.approx(p)
        assert float(line["p_seeds_holm"]) == pytest.approx(min(1, 3 * p))
        assert line["p_examples"] == ""


def test_the_table_for_papers_holds_the_same_cells(reported):
    text = (reported[0] / "report.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    best = (rf"\textbf{{{mean} $\pm$ 2.65}}" for mean in ("72.00", "77.00", "74.50"))
    assert rf"A & {' & '.join(best)} \\" in text
    for table_text in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        for line in table_text[1].splitlines():
            if line.endswith(r"\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(table_text[0]) - 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b & 5%", r"a\_b \& 5\%"),
        ("{x} $y$ #1", r"\{x\} \$y\$ \#1"),
        (r"~ ^ \ ", r"\textasciitilde{} \textasciicircum{} \textbackslash{}"),
        ("<i> |", r"\textless{}i\textgreater{} \textbar{}"),
        ("two\nlines", "two lines"),
    ],
)
def test_latex_prints_text_as_it_is(text, shown):
    assert latex_text(text) == shown


def test_no_format_takes_a_cell_for_more_than_text():
    sheet = Sheet("T\n<b>", "c | d", ["name", "x"], [[STRANGE + "\n| new", "1 | 2"]])
    (line,) = [line for line in markdown("m", [sheet]).splitlines() if line.startswith("| a")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert "<" not in line
    assert "<b>" not in page("p", [sheet])
    assert "\n| new" not in latex([sheet])


def test_formats_can_be_chosen(kronlit, reported):
    for path in reported[0].iterdir():
        path.unlink()
    assert kronlit("study", "report", "s", "--format", "csv,tex", "--plots", "false")[0] == 0
    assert {path.name for path in reported[0].iterdir()} == {"report.tex", "table.csv", "runs.csv", "facts.csv"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "md,pdf"], "`format`='pdf'"),
        (["--baseline", "a"], "`baseline`='a' is no row; there are A, "),
        (["--metric", "f1"], "`metric`='f1'"),
        (["--std", "none"], "std='none'"),
    ],
)
def test_a_mistake_gets_one_line(kronlit, reported, words, said):
    code, _, err = kronlit("study", "report", "s", *words)
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert said in err


def test_a_folder_without_a_study_is_named(kronlit):
    code, _, err = kronlit("study", "report", "nowhere")
    assert code == 2
    assert "`dir`='nowhere' is no folder of a study" in err


def test_what_is_not_installed_is_named_with_its_cure(kronlit, reported, monkeypatch):
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "scipy" else found(name, *rest))
    code, _, err = kronlit("study", "report", "s", "--baseline", "A")
    assert code == 2
    assert "scipy, which is missing: pip install 'kronlit[study]'" in err
    code, out, _ = kronlit("study", "report", "s")
    assert code == 0
    assert "**72.00 ± 2.65**" in out
    assert "cannot be told: there is no test of these runs" in out


def test_learning_curves_are_over_the_steps_that_all_seeds_have(tmp_path):
    study = Study(["A"], ["t"], seeds=[1, 2])
    filled(tmp_path, study, lambda run: 0.5)
    with (tmp_path / "t/A/seed-1/version_0/metrics.csv").open("a") as file:
        file.write("5,0.9,\n")
    assert curve(study, tmp_path, table(study, tmp_path)[0], "t") == {2: [10.0, 20.0], 4: pytest.approx([30.0, 60.0])}
    assert read_result(tmp_path / "t/A/seed-1").fit == "version_0"
