"""Each YAML of a method of 2023 to 2026 is told, trained, merged and exported from the command line."""

import math
import re

import pytest
import yaml
from fixtures.chat import byte_tokenizer, llama, pairs, write_jsonl
from fixtures.runs import ROOT


def divisors(n):
    return [each for each in range(1, n + 1) if n % each == 0]


def cheapest_kroneckers(p, q):
    sizes = sorted(a1 * a2 + q // a1 * (p // a2) for a1 in divisors(q) for a2 in divisors(p))
    return sum(sizes[:4])


def cheapest_circuit(n):
    fours = [(a, b, c, n // (a * b * c)) for a in divisors(n) for b in divisors(n // a) for c in divisors(n // (a * b))]
    return min(sum((d[i] * d[j]) ** 2 for i in range(4) for j in range(i)) for d in fours)


def khatri_rao(p, q):
    u = math.isqrt(min(p, q))
    return (u + math.ceil(max(p, q) / u)) * min(p, q)


COUNTS = {  # trained for a weight of p inputs and q outputs: the formulas of the papers, with the values of the YAMLs
    "cdka": lambda p, q: 8 * (p + q),
    "moka": lambda p, q: cheapest_kroneckers(p, q) + 4,
    "c3a": lambda p, q: p * q // math.gcd(p, q),
    "more": lambda p, q: 4 * (p + q),
    "kradapter": khatri_rao,
    "abba": lambda p, q: 2 * 16 * (p + q),
    "quanta": lambda p, q: cheapest_circuit(max(p, q)),
    "hira": lambda p, q: 32 * (p + q),
    "dora": lambda p, q: 8 * (p + q) + q,
    "oft": lambda p, q: p * 31 // 2,
    "rslora": lambda p, q: 64 * (p + q),
    "lora_plus": lambda p, q: 8 * (p + q),
}
NOT_PEFT = {"moka", "kradapter", "quanta"}
"""Those that PEFT has no form for."""


def test_every_yaml_of_those_years_is_here():
    years = {
        path.stem
        for path in (ROOT / "configs/methods").glob("*.yaml")
        if re.search(r"\b(2023|2024|2025|2026)\b", path.read_text().splitlines()[0])
    }
    assert years - {"surm", "surm_adapter"} <= COUNTS.keys()


@pytest.fixture(scope="module")
def small_llama(tmp_path_factory):
    """Two layers of 128, whose values are 64 wide."""
    return llama(tmp_path_factory.mktemp("llama128"), byte_tokenizer(), hidden_size=128)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("stem", COUNTS)
def test_a_yaml_trains_merges_and_exports_what_its_paper_counts(stem, kind, kronlit, wide_bert, small_llama, tmp_path):
    if kind == "bert":
        rows = [{"text": f"row {n}", "label": "even" if n % 2 == 0 else "odd"} for n in range(8)]
        model, shapes, options = wide_bert, [(768, 768)] * 2, {"class_path": "SequenceClassification"}
        data = {"class_path": "TextFiles"}
    else:
        rows = pairs(8)
        model, shapes, options = small_llama, [(128, 128), (128, 64)] * 2, {"class_path": "CausalLM"}
        data = {"class_path": "InstructionFiles"}
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    written = yaml.safe_load((ROOT / f"configs/methods/{stem}.yaml").read_text())["model"]["init_args"]
    if kind == "llama":
        written.pop("head_lr", None)  # there is no head
    config = {
        "model": options | {"init_args": {"plm": str(model), "max_length": 32} | written},
        "data": data | {"init_args": {"train": path, "validation": path, "batch_size": 4}},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    code, out, err = kronlit("info", tmp_path / "run.yaml")
    assert code == 0, err
    added = [line.split() for line in out.splitlines() if re.search(r"\.(matrix\.\w+|magnitude)\s", line)]
    counted = sum(int(words[-2].replace(",", "")) for words in added)
    assert counted == sum(COUNTS[stem](p, q) for p, q in shapes)
    code, _, err = kronlit("fit", "--config", tmp_path / "run.yaml", "--run_dir", tmp_path / "run")
    assert code == 0, err
    run = tmp_path / "run/version_0"
    code, out, err = kronlit("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    assert code == 0, err
    code, out, err = kronlit("export", "--ckpt_path", run, "--output", tmp_path / "adapter")
    assert code == 0, err
    code, out, err = kronlit("export", "--ckpt_path", run, "--output", tmp_path / "peft", "--format", "peft")
    if stem in NOT_PEFT:
        assert (code, "PEFT has no form" in err) == (2, True)
    elif code:  # a thin product of so small a weight may have more numbers than it
        assert "more numbers than its weight" in err
    else:
        assert (tmp_path / "peft/adapter_config.json").is_file()
