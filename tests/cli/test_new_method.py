"""A method that is named in place of another has its own defaults, whatever was there before."""

import pytest
import yaml


@pytest.fixture
def printed(kronlit):
    """The arguments of model and method that a command line comes to."""

    def run(*words):
        code, out, err = kronlit("fit", *words, "--print_config")
        assert code == 0, err
        model = yaml.safe_load(out)["model"]["init_args"]
        return model, model["method"]["init_args"]

    return run


@pytest.fixture
def complete(kronlit, config, tmp_path):
    """A run's own config, in which all arguments of KronA stand."""
    path = tmp_path / "complete.yaml"
    words = ["--model.method.scale", "16", "--model.method.sites", "[key]", "--model.lr", "0.5"]
    path.write_text(kronlit("fit", "--config", config, *words, "--print_config")[1])
    return path


# From the papers: what BitFit trains, where Houlsby et al. put adapters, and LoRA's two projections
DEFAULTS = {
    "BitFit": {"trains": ["bias", "head"]},
    "Houlsby": {"sites": ["self_attention_output", "ffn_output"]},
    "LoRA": {"sites": ["query", "value"]},
    "AdaMixKronA": {"scale": 1.0, "sites": ["query", "value"]},
}


WRITTEN = [(method, "option") for method in DEFAULTS]
WRITTEN += [("BitFit", way) for way in ("option's class_path", "yaml", "option over a later yaml")]


@pytest.mark.parametrize(("method", "written"), WRITTEN)
def test_a_new_method_over_a_complete_config_has_its_own_defaults(printed, complete, tmp_path, method, written):
    later = tmp_path / "later.yaml"
    content = {"method": {"class_path": method}} if written == "yaml" else {}
    later.write_text(yaml.safe_dump({"model": {"init_args": content}}))
    words = {"option": ["--model.method", method], "option's class_path": ["--model.method.class_path", method]}
    words = words.get(written, ["--config", later, *(["--model.method", method] if "option" in written else [])])
    model, arguments = printed("--config", complete, *words)
    assert {name: arguments[name] for name in DEFAULTS[method]} == DEFAULTS[method]
    assert model["lr"] == 0.5  # the model's own stay


def test_what_is_given_beside_a_new_method_counts(printed, complete, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text("model: {init_args: {method: {class_path: PA, init_args: {scale: 4}}}}")
    assert printed("--config", complete, "--config", later)[1]["scale"] == 4
    words = ["--config", complete, "--model.method", "PA", "--model.method.scale", "2"]
    assert printed(*words)[1]["scale"] == 2
    assert printed(*words)[1]["sites"] == ["ffn"]


def test_the_same_method_keeps_what_it_had(printed, complete, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text("model: {init_args: {method: {class_path: kronlit.methods.krona.KronA}}}")
    for words in (["--model.method", "KronA"], ["--config", later], ["--model.method.sites", "[query]"]):
        assert printed("--config", complete, *words)[1]["scale"] == 16
    words = ["--config", complete, "--model", "PromptClassification"]
    assert printed(*words)[1] | {"sites": None} == printed("--config", complete)[1] | {"sites": None}
    assert printed(*words)[0]["lr"] == 0.5


def test_a_structure_that_replaces_another_has_its_own_defaults(printed, config):
    words = ["--config", config, "--model.method", "Structured", "--model.method.matrix", "Circulant"]
    words += ["--model.method.matrix.std", "7", "--model.method.matrix", "LDR"]
    assert printed(*words)[1]["matrix"]["init_args"] == {"rank": 1, "std": 0.02, "zero_start": True}
