"""What a causal language model of one's own rows writes, merged and not, and how rows are shown before."""

import json
import re

import pytest
import torch
from fixtures.chat import SITES, byte_tokenizer, llama, pairs, talks, write_jsonl
from lightning.pytorch import Trainer, seed_everything
from transformers import AutoModelForCausalLM, AutoTokenizer

from kronlit.adapters import placements
from kronlit.data import InstructionFiles
from kronlit.exchange.merged_prediction import merge_for_prediction
from kronlit.methods import AdaMixLoRA, FullFineTuning, Houlsby, KronA, LoRA
from kronlit.modules import CausalLM

QV = (r".*\.q_proj", r".*\.v_proj")


@pytest.fixture
def run(kronlit, tmp_path, tiny_llama):
    """Fits on rows, and gives the words that name model and data, and the run's folder."""

    def fitted(rows, *more):
        path = write_jsonl(tmp_path / "mine.jsonl", rows)
        words = ["--model", "CausalLM", "--model.plm", tiny_llama, "--model.method", "KronA", "--model.method.a_shape"]
        words += ["[8, 6]", "--model.method.sites", SITES, "--model.lr", "0.05", "--model.max_new_tokens", "8"]
        words += ["--data", "InstructionFiles", "--data.train", path, "--data.test", "0.3", *more]
        code, _, err = kronlit("fit", *words, "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu")
        assert code == 0, err
        return words, tmp_path / "runs/unnamed/version_0"

    return fitted


def written_plainly(folder, text, special=True):
    """What a plain Transformers folder writes greedily after a text."""
    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt = words(text, return_tensors="pt", add_special_tokens=special)["input_ids"]
    ends = words.convert_tokens_to_ids(["</s>", "<|im_end|>"])
    tokens = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False, eos_token_id=ends,
        pad_token_id=1,
    )  # fmt: skip
    return words.decode(tokens[0, prompt.shape[1] :], skip_special_tokens=True).strip()


def test_a_run_of_pairs_goes_on_after_a_prompt_as_its_merged_folder_does(run, kronlit, tmp_path):
    _, folder = run(pairs(12))
    assert kronlit("merge", "--ckpt_path", folder, "--output", tmp_path / "merged")[0] == 0
    code, out, _ = kronlit("generate", "--ckpt_path", folder, "--prompt", "3 + 3 = ")
    assert code == 0
    assert out.strip("\n") == written_plainly(tmp_path / "merged", "3 + 3 = ")


def test_a_run_of_conversations_answers_by_its_chat_template(run, kronlit, tmp_path):
    _, folder = run(talks(12))
    assert kronlit("merge", "--ckpt_path", folder, "--output", tmp_path / "merged")[0] == 0
    messages = [{"role": "system", "content": "Count."}, {"role": "user", "content": "after 3"}]
    chat = byte_tokenizer().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    words = ["generate", "--ckpt_path", folder, "--prompt", "after 3", "--system", "Count."]
    assert kronlit(*words)[1].strip("\n") == written_plainly(tmp_path / "merged", chat, special=False)


def test_predict_writes_what_the_unmerged_model_does(run, kronlit, tmp_path, monkeypatch):
    words, folder = run(pairs(12))
    seen = []
    original = CausalLM.texts
    monkeypatch.setattr(
        CausalLM, "texts", lambda self, batch: seen.append(len(list(placements(self.model)))) or original(self, batch)
    )
    always = ["predict", *words, "--ckpt_path", folder / "checkpoints/last.ckpt", "--trainer.accelerator", "cpu"]
    assert kronlit(*always, "--predictions", "merged.jsonl")[0] == 0
    monkeypatch.setattr("kronlit.exchange.merged_prediction.merge_for_prediction", lambda model: False)
    assert kronlit(*always, "--predictions", "unmerged.jsonl")[0] == 0
    merged, unmerged = ([json.loads(line) for line in (tmp_path / f"{n}.jsonl").open()] for n in ("merged", "unmerged"))
    assert seen == [0, 4]
    assert merged == unmerged
    assert len({line["answer"] for line in merged}) > 1


@pytest.mark.parametrize(
    ("method", "merges"),
    [
        (LoRA(rank=2, sites=QV), True),
        (KronA(a_shape=(8, 6), sites=QV), True),
        (AdaMixLoRA(rank=2, num_experts=2, sites=QV), True),
        (AdaMixLoRA(rank=2, num_experts=2, sites=QV, evaluation="random"), False),
        (Houlsby(reduction_factor=8, sites=(r".*\.o_proj", r".*\.down_proj")), False),
    ],
    ids=repr,
)
def test_greedy_texts_are_the_same_merged_and_not_and_take_a_token_a_pass(tiny_llama, tmp_path, method, merges):
    path = write_jsonl(tmp_path / "mine.jsonl", pairs(6))
    data = InstructionFiles(path, validation=path)
    module = CausalLM(str(tiny_llama), method, data.task, max_length=64, max_new_tokens=12)
    module.configure_model()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    module.eval()
    rows = data.rows("train")
    columns = module.encode({"prompt": rows["prompt"][:], "where": rows["where"][:]})
    batch = module.collate([{"row": n, "input_ids": ids} for n, ids in enumerate(columns["input_ids"])])
    before = module.texts(batch)
    assert merge_for_prediction(module.model) == merges
    widths = []
    module.model.register_forward_pre_hook(
        lambda _, __, options: widths.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    module.eval()  # the draws of experts begin again
    assert module.texts(batch) == before
    assert set(widths[1:]) == {1}


def test_weights_of_16_bits_are_not_merged_for_prediction(tiny_llama, tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", pairs(6))
    module = CausalLM(str(tiny_llama), LoRA(rank=2, sites=QV), InstructionFiles(path).task)
    module._frozen_dtype = torch.bfloat16
    module.configure_model()
    assert not merge_for_prediction(module.model)
    assert len(list(placements(module.model))) == 4


def test_what_was_taught_is_written_and_scored(tmp_path):
    plm = llama(tmp_path / "llama", byte_tokenizer(), num_hidden_layers=1)
    rows = talks(2)
    path = write_jsonl(tmp_path / "mine.jsonl", rows)
    seed_everything(0)
    data = InstructionFiles(path, validation=path, test=path)
    module = CausalLM(
        str(plm), FullFineTuning(), data.task, lr=1e-2, max_length=128, max_new_tokens=12, generate=True
    )  # fmt: skip
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    fitted = Trainer(
        accelerator="cpu", devices=1, max_epochs=60, check_val_every_n_epoch=60, use_distributed_sampler=False, **quiet
    )
    fitted.fit(module, data)
    (values,) = fitted.validate(module, data, verbose=False)
    assert values["val/exact_match"] == 1.0
    assert values["val/rouge_l"] == pytest.approx(1.0)
    assert {"val/bleu", "val/loss", "val/perplexity"} <= values.keys()
    assert values["val/score"] == -values["val/loss"]  # `validate_by` says what selects
    (values,) = fitted.test(module, data, verbose=False)
    assert values["test/exact_match"] == 1.0


def test_text_alone_has_nothing_to_be_scored_by(tmp_path):
    task = InstructionFiles(write_jsonl(tmp_path / "mine.jsonl", [{"text": "a"}] * 9)).task
    with pytest.raises(ValueError, match="rows of text alone have no completion"):
        CausalLM("x", KronA(), task, generate=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", " "], "`prompt` is empty: give a text to go on from"),
        (["--prompt", "x", "--system", "y"], "`system`='y' is for a model of conversations, and this one reads a prom"),
        (["--prompt", "x", "--max_new_tokens", "0"], "`model.max_new_tokens`=0 must lie between 1"),
        ([], "`--prompt` must be given"),
    ],
)
def test_a_slip_of_generate_is_told_in_one_line(run_of, tiny_llama, kronlit, tmp_path, words, said):
    path = write_jsonl(tmp_path / "mine.jsonl", pairs(6))
    data = {"class_path": "InstructionFiles", "init_args": {"train": path}}
    folder, _ = run_of(tiny_llama, "LoRA", "CausalLM", data, rank=2, sites=list(QV))
    code, _, err = kronlit("generate", "--ckpt_path", folder, *words)
    assert code == 2
    assert said in err.strip()
    assert len(err.strip().splitlines()) == 1


def test_a_classifier_writes_no_texts(run_of, tiny_bert, kronlit):
    folder, _ = run_of(tiny_bert, "KronA")
    code, _, err = kronlit("generate", "--ckpt_path", folder, "--prompt", "x")
    assert code == 2
    assert "is of a SequenceClassification, and only a CausalLM writes texts" in err


# --- rows as they are read ---


def shown(kronlit, *words):
    code, out, err = kronlit("rows", *words)
    assert code == 0, err
    return out


def test_targets_of_own_rows_stand_in_brackets(kronlit, tmp_path, tiny_llama):
    words = ["--model", "CausalLM", "--model.plm", tiny_llama, "--model.method", "KronA", "--data", "InstructionFiles"]
    out = shown(kronlit, *words, "--data.train", write_jsonl(tmp_path / "a.jsonl", pairs(20)), "--count", "2")
    texts = re.findall(r"<s>.*", out)
    assert texts == ["<s>0 + 0 = [[0</s>]]", "<s>1 + 1 = [[2!</s>]]"]
    assert "row 1: 11 tokens, 2 of them targets\n" in out
    assert out.endswith("# 2 of 18 rows of a/train\n")
    out = shown(kronlit, *words, "--data.train", write_jsonl(tmp_path / "b.jsonl", talks(9)), "--count=1")
    assert re.findall(r"\[\[(.*?)\]\]", out) == ["1<|im_end|>", "2 ab<|im_end|>"]


def test_targets_are_green_on_a_terminal(kronlit, tmp_path, tiny_llama, monkeypatch):
    words = ["--model", "CausalLM", "--model.plm", tiny_llama, "--model.method", "KronA", "--data", "InstructionFiles"]
    words += ["--data.train", write_jsonl(tmp_path / "a.jsonl", pairs(20)), "--count", "1"]
    monkeypatch.setattr("kronlit.cli.rows.on_terminal", lambda: True)
    assert "<s>0 + 0 = \x1b[32m0</s>\x1b[0m" in shown(kronlit, *words)


def test_rows_of_classes_show_their_class(kronlit, config, glue, tmp_path):
    out = shown(kronlit, "--config", config, "--count", "1", "--split", "validation")
    assert re.search(r"# rte/validation, row 1: \d+ tokens\n\[CLS\] .* \[SEP\] .* \[SEP\]\n\[\[(not_)?entail", out)


def test_rows_of_texts_from_data_show_every_reference(kronlit, e2e, tiny_gpt2):
    words = ["--model", "CausalLM", "--model.plm", tiny_gpt2, "--model.method", "LoRA", "--data", "E2E"]
    words += ["--model.max_length", "40", "--model.max_new_tokens", "8", "--data.task", "e2e", "--data.path", e2e]
    out = shown(kronlit, *words, "--split", "validation", "--count", "1")
    assert len(re.findall(r"\[\[.*<\|endoftext\|>\]\]", out)) == 3


def test_rows_of_a_shipped_yaml_are_shown_by_its_name(kronlit, tmp_path, tiny_llama, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = write_jsonl(tmp_path / "a.jsonl", talks(9))
    words = ["--config", "quickstart_llm", "--model.plm", tiny_llama, "--data.train", rows, "--data.validation", "0.2"]
    out = shown(kronlit, *words, "--data.test", "0.2", "--count", "1")
    assert re.findall(r"\[\[\d( ab)?<\|im_end\|>\]\]", out) == ["", " ab"]


@pytest.mark.parametrize(
    ("more", "said"), [(["--count", "0"], "`count`=0 must be at least 1"), (["--split", "dev"], "split")]
)
def test_a_slip_of_rows_is_told_in_one_line(kronlit, config, more, said):
    code, _, err = kronlit("rows", "--config", config, *more)
    assert code == 2
    assert said in err


def test_an_answer_ends_where_the_template_or_the_models_makers_end_it(tiny_llama, tmp_path):
    task = InstructionFiles(write_jsonl(tmp_path / "mine.jsonl", talks(4))).task
    module = CausalLM(str(tiny_llama), LoRA(rank=2, sites=QV), task)
    module.configure_model()
    module.model.generation_config.eos_token_id = [7]
    assert module.ends == sorted([7, *module.tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"])])
