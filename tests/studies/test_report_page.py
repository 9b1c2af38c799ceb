"""The report's page and figures: what is drawn where, what is said of a search, and that nothing outside is needed."""

import csv
import html.parser
import json
import math
import re
import xml.etree.ElementTree as ET
from urllib.parse import unquote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_study_report import STRANGE, filled, put

from kronlit.studies.plan import plan
from kronlit.studies.report.facts import facts, read_settings
from kronlit.studies.report.figures import figures
from kronlit.studies.report.page import page, picture
from kronlit.studies.report.search import grid_cells
from kronlit.studies.report.sheets import settings_sheet
from kronlit.studies.report.svg import Axis, axis, number, spread
from kronlit.studies.report.table import table
from kronlit.studies.report.write import report
from kronlit.studies.study import Study
from kronlit.studies.tuned import Trial, TunedCell, write_tuned

SVG = "{http://www.w3.org/2000/svg}"
GRID = [1e-4, 1e-3, 1e-2]


def cell(task, method, best, scores=(0.5, 0.6, 0.7), status="done"):
    trials = [
        Trial({"model.lr": rate}, {11: score, 12: score}, 2, 2, status)
        for rate, score in zip(GRID, scores, strict=True)
    ]
    edge = ["model.lr"] if best in (GRID[0], GRID[-1]) else []
    chosen = {"model.lr": best}
    return TunedCell(task, method, {"model.lr": GRID}, "val/score", "max", [11, 12], trials, chosen, edge)


def circumstances(root):
    """Add to each run what a fit of today records, and its config."""
    for path in root.glob("*/*/seed-*/run.json"):
        content = json.loads(path.read_text())
        content["summary"] |= {
            "versions": {"kronlit": "9.8.7", "torch": "6.5.4"},
            "date": "2030-01-02T03:04:05+00:00",
            "machine": {"device": "cpu", "processor": "Abacus 3", "cores": 2, "threads": 1, "system": "Linux x86_64"},
            "rows": {"train": 8000, "validation": 500, "test": 1000},
            "chance": {"test/score": 0.525},
        }
        path.write_text(json.dumps(content))
        method = {"class_path": f"kronlit.{content['method']}", "init_args": {"rank": 8}}
        model = {"class_path": "kronlit.modules.Classifier", "init_args": {"plm": "tiny", "lr": 0.01, "method": method}}
        config = {"model": model, "data": {"class_path": "kronlit.data.Reviews", "init_args": {"batch_size": 16}}}
        (path.parent / "version_0/config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A tuned study of two tasks, of which a method's name is strange, and its report."""
    root = tmp_path_factory.mktemp("tuned") / "s"
    study = Study(["A", STRANGE], ["t", "u"])
    filled(root, study, lambda run: 0.7 - 0.1 * (run.method != "A") + 0.01 * run.seed)
    circumstances(root)
    cells = [cell("t", "A", 1e-3), cell("u", "A", 1e-2), cell("t", STRANGE, 1e-3), cell("u", STRANGE, 1e-3)]
    write_tuned(cells, root)
    return study, root, report(study, root)


class Page(html.parser.HTMLParser):
    """Tags, texts and attributes of a page; fails if an element is not closed where it should be."""

    VOID = {"meta", "br", "hr", "img", "input", "link"}
    SELF = {"path", "polyline", "polygon", "circle", "rect"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        assert tag in self.SELF
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, name):
        return [value for key, value in self.attributes if key == name]


def test_the_page_is_one_file_that_asks_no_network(tuned):
    text = (tuned[1] / "report/report.html").read_text()
    found = Page(text)
    assert not re.search(r"https?://", text.replace("http://www.w3.org/2000/svg", ""))
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert found.of("src") == []
    assert not set(found.tags) & {"link", "img", "iframe", "object"}
    assert found.tags.count("script") == 1
    assert {"viewport"} <= set(found.of("name"))
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_each_number_leads_to_its_command_and_its_config(tuned):
    study, root, _ = tuned
    found = Page((root / "report/report.html").read_text())
    inside = [link for link in found.of("href") if link.startswith("#")]
    assert len(inside) == 4
    assert {link[1:] for link in inside} <= set(found.of("id"))
    files = [link for link in found.of("href") if not link.startswith("#")]
    assert len(files) == len(plan(study))
    assert all((root / "report" / unquote(link)).resolve().is_file() for link in files)
    markdown = (root / "report/report.md").read_text()
    assert all(f"]({link})" in markdown for link in files)
    with (root / "report/runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert all((root / line["config"]).is_file() and line["command"] == "kronlit fit" for line in lines)


def test_a_name_is_text_everywhere(tuned):
    _, root, _ = tuned
    found = Page((root / "report/report.html").read_text())
    assert STRANGE in found.texts
    for path in (root / "report").glob("*.svg"):
        assert any(STRANGE in "".join(one.itertext()) for one in ET.parse(path).iter()) or path.stem == "costs"


def test_all_formats_say_the_same(tuned):
    _, root, printed = tuned
    said = "A is best on average over 2 tasks with a mean of 72.00, 10.00 ahead of a_b"
    shown = {path.name: path.read_text() for path in (root / "report").iterdir() if path.suffix != ".svg"}
    latex = re.sub(r"\\(.)", r"\1", shown["report.tex"])
    for text in (shown["report.md"].replace("\\", ""), printed.replace("\\", ""), latex, shown["facts.csv"]):
        assert said in text
    box = ["9.8.7", "6.5.4", "Abacus 3", "2030-01-02", "8,000 train, 500 validation, 1,000 test", "52.50", "Classifier"]
    search = ["lr=0.01", "lr at the edge", "lr: 0.0001, 0.001, 0.01", "60.00"]
    plain = " ".join(Page(shown["report.html"]).texts)
    for text in (
        plain,
        shown["report.md"].replace("\\", ""),
        latex,
        "".join(shown[f"{n}.csv"] for n in ("facts", "search")),
    ):
        assert [one for one in box + search if one not in text] == []
    assert "**72.00 ± 1.00**" in shown["report.md"]
    assert r"\textbf{72.00 $\pm$ 1.00}" in shown["report.tex"]
    assert re.search(r'<td class="best"><a href="#runs-0-0">72.00 ± 1.00</a>', shown["report.html"])
    with (root / "report/table.csv").open(newline="") as file:
        assert [line["standing"] for line in csv.DictReader(file)] == ["best"] * 3 + ["unknown"] * 3


def test_a_report_without_searches_and_of_old_runs_has_what_there_is(tmp_path):
    study = Study(["A", "B"], ["t"], seeds=[1])
    filled(tmp_path, study, lambda run: 0.5)
    text = report(study, tmp_path)
    assert "Chance level" not in text
    assert "## Search" not in text
    assert "one rate" not in text
    assert "All methods train at one default rate" in text
    assert not (tmp_path / "report/search.svg").exists()
    assert not (tmp_path / "report/search.csv").exists()


def test_a_report_of_nothing_is_one(tmp_path):
    study = Study(["A", "B"], ["t"])
    text = report(study, tmp_path)
    assert "No run has a score yet" in text
    Page((tmp_path / "report/report.html").read_text())


def test_the_box_has_what_all_runs_share_and_a_table_what_they_do_not(tmp_path):
    study = Study(["A", "B"], ["t"], seeds=[1])
    filled(tmp_path, study, lambda run: 0.5)
    circumstances(tmp_path)
    rows = table(study, tmp_path)
    box = dict(facts(study, rows, read_settings(tmp_path, rows), [], None))
    assert box["Model"] == "tiny, Classifier"
    assert box["Data"] == "Reviews (batch_size 16)"
    assert box["Shared settings"] == "lr 0.01, method.rank 8"
    assert box["Tuning"] == "nothing was searched for"
    sheet = settings_sheet(tmp_path, rows)
    assert (sheet.header, sheet.rows) == (["method", "method"], [["A", "A"], ["B", "B"]])


def drawn(study, root, cells=(), chance=None):
    rows = table(study, root)
    return {one.name: one for one in figures(study, root, rows, list(cells), chance or {}, "sample")}


def places(svg, kind="mark"):
    """The places of markers, by what they say."""
    found = {}
    for one in ET.fromstring(svg).iter(f"{SVG}path"):
        if one.get("class").split()[0] == kind:
            x, y = map(float, re.findall(r"-?[\d.]+", one.get("transform")))
            found[one.find(f"{SVG}title").text] = x, y
    return found


def test_each_seed_is_a_dot_in_its_place(tmp_path):
    study = Study(["A"], ["t"])
    filled(tmp_path, study, lambda run: {1: 0.50, 2: 0.60, 3: 0.75}[run.seed])
    (panel,) = drawn(study, tmp_path, chance={"t": 40.0})["seeds"].panels
    at = places(panel.svg())
    assert list(at) == ["A, seed 1: 50.00", "A, seed 2: 60.00", "A, seed 3: 75.00"]
    (one, _), (two, _), (three, _) = at.values()
    assert (three - two) / (two - one) == pytest.approx(1.5, abs=0.02)
    (chance,) = [line for line in ET.fromstring(panel.svg()).iter(f"{SVG}polyline") if line.get("class") == "chance"]
    x = float(chance.get("points").split(",")[0])
    assert one - x == pytest.approx(two - one, abs=0.2)
    assert len({y for _, y in at.values()}) == 3


def test_trials_are_on_a_log_axis_with_a_ring_around_the_choice(tmp_path):
    study = Study(["A", "B"], ["t"], seeds=[1])
    filled(tmp_path, study, lambda run: 0.5)
    cells = [cell("t", "A", 1e-3), cell("t", "B", 1e-2, status="stopped")]
    figure = drawn(study, tmp_path, cells)["search"]
    svg = figure.panels[0].svg()
    at = places(svg)
    low, middle, high = (
        at[f"A, lr {rate:g}: {score:.2f} (done)"] for rate, score in zip(GRID, (50, 60, 70), strict=True)
    )
    assert middle[0] - low[0] == pytest.approx(high[0] - middle[0], abs=0.2)
    assert middle[1] - low[1] == pytest.approx(high[1] - middle[1], abs=0.2)
    rings = [one for one in ET.fromstring(svg).iter(f"{SVG}circle") if "ring" in one.get("class")]
    assert [one.get("class") for one in rings] == ["ring", "ring edge"]
    assert (float(rings[0].get("cx")), float(rings[0].get("cy"))) == middle
    assert "at the edge of what was tried for B on t." in figure.caption
    assert svg.count("stopped") == 2 * len(GRID)  # class and title
    assert figure.title == "Score over learning rate"


def test_a_grid_of_which_points_are_selected_is_a_search_too(tmp_path):
    study = Study(["A"], ["t"], seeds=[1, 2], grid={"model.lr": GRID}, select="per_method")
    filled(tmp_path, study, lambda run: run.point["model.lr"] * 10)
    (one,) = grid_cells(study, tmp_path, table(study, tmp_path))
    assert (one.chosen, one.edge) == ({"model.lr": 1e-2}, ["model.lr"])
    assert [trial.score for trial in one.trials] == pytest.approx([1e-3, 1e-2, 1e-1])
    inside = Study(["A"], ["t"], seeds=[1, 2], grid={"model.lr": [*GRID, 0.1]}, select="per_method")
    for run in plan(inside):
        if run.point["model.lr"] == 0.1:
            put(tmp_path, run, {"test/score": 0.0, "val/score": 0.0})
    (one,) = grid_cells(inside, tmp_path, table(inside, tmp_path))
    assert one.edge == []
    assert grid_cells(Study(["A"], ["t"], grid={"model.lr": GRID}), tmp_path, []) == []


def test_methods_of_the_same_size_do_not_hide_one_another(tmp_path):
    study = Study([f"M{i}" for i in range(12)], ["t"], seeds=[1])
    filled(tmp_path, study, lambda run: 0.5)
    svg = drawn(study, tmp_path)["parameters"].panels[0].svg()
    at = list(places(svg).values())
    assert len(at) == 12
    assert min(math.dist(a, b) for i, a in enumerate(at) for b in at[:i]) >= 10
    lines = [one for one in ET.fromstring(svg).iter(f"{SVG}polyline") if one.get("class") == "leader"]
    assert len(lines) == 11
    looks = {(one.get("class").split()[1], one.get("d")) for one in ET.fromstring(svg).iter(f"{SVG}path")}
    assert len(looks) == 12  # no two have colour and shape in common


points = st.lists(st.tuples(st.floats(60, 340), st.floats(20, 200)), min_size=1, max_size=12)


@given(points)
def test_markers_are_moved_no_further_than_they_must(there):
    moved = spread(there, 50, 350)
    assert [y for _, y in moved] == [y for _, y in there]
    assert all(math.dist(a, b) >= 10 for i, a in enumerate(moved) for b in moved[:i])
    if all(math.dist(a, b) >= 10 for i, a in enumerate(there) for b in there[:i]):
        assert moved == there


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_ticks_are_few_round_and_within(values):
    made = axis(values, 0, 100)
    ticks = made.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(made.low - 1e-6 <= tick <= made.high + 1e-6 for tick in ticks)
    assert all(0 <= made.at(value) <= 100 for value in values)


@given(st.lists(st.floats(1e-8, 1e10), min_size=1, max_size=5))
def test_ticks_of_a_log_axis_are_few_and_within(values):
    made = axis(values, 0, 100, log=True)
    ticks = made.ticks()
    assert 1 <= len(ticks) <= 7
    assert all(made.low * 0.99 <= tick <= made.high * 1.01 for tick in ticks)
    assert Axis(1, 100, 0, 10, log=True).at(10) == pytest.approx(5)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.001, "0.001"),
        (3e-4, "3e-4"),
        (1.5e-4, "1.5e-4"),
        (10_000, "10k"),
        (2.5e6, "2.5M"),
        (72.5, "72.5"),
    ],
)
def test_numbers_at_ticks_read_well(value, shown):
    assert number(value) == shown


def test_pictures_are_whole_xml_with_all_panels(tuned):
    _, root, _ = tuned
    for name, panels in {"seeds": 3, "search": 2, "parameters": 3, "costs": 2, "learning_curves": 2}.items():
        tree = ET.parse(root / f"report/{name}.svg").getroot()
        assert len([one for one in tree.findall(f"{SVG}svg") if one.get("role") == "img"]) == panels
        assert f"![{name}]({name}.svg)" in (root / "report/report.md").read_text()


def test_a_page_of_strange_names_stays_whole(tmp_path):
    study = Study([STRANGE, "x" * 200], [STRANGE, "u"])
    filled(tmp_path, study, lambda run: 0.5 + 0.01 * run.seed)
    rows = table(study, tmp_path)
    made = figures(study, tmp_path, rows, [], {}, "sample")
    for one in made:
        ET.fromstring(picture(one))
    from kronlit.studies.report.sheets import scores_sheet

    Page(page(STRANGE, [scores_sheet(study, rows, "sample", None)], made))
