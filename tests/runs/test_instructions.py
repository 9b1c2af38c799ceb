"""A causal language model on one's own rows: tokens, targets, losses, what is written, and the command line."""

import csv
import subprocess
import sys

import pytest
import torch
from fixtures.chat import CHATML, FORGETFUL, MARKED, SITES, byte_tokenizer, llama, pairs, talks, write_jsonl
from fixtures.runs import environment
from lightning.pytorch import Trainer, seed_everything
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from kronlit.data import InstructionFiles
from kronlit.methods import FullFineTuning, KronA
from kronlit.modules import CausalLM
from kronlit.modules.chat import Chat
from kronlit.modules.targets import RowReader

WORDS = byte_tokenizer()
S, END, TURN, TURNED = WORDS.convert_tokens_to_ids(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
QV = (r".*\.q_proj", r".*\.v_proj")


def ids(text):
    return WORDS(text, add_special_tokens=False)["input_ids"]


def reader(form="prompt", words=WORDS, max_length=64, too_long="truncate"):
    return RowReader(words, "x", form, END, max_length, max_length // 2, too_long)


def targets(columns, row=0):
    """The targets of a row as text."""
    return WORDS.decode([label for label in columns["labels"][row] if label >= 0])


# --- tokens ---


def test_a_completion_and_its_end_are_the_targets():
    columns = reader().sequences({"prompt": ["2 + 2 ="], "answers": [[" 4"]], "where": ["here"]})
    assert columns["input_ids"] == [[S, *ids("2 + 2 ="), *ids(" 4"), END]]
    assert columns["labels"] == [[-100] * 8 + [*ids(" 4"), END]]
    assert columns["prompt_ids"] == [[S, *ids("2 + 2 =")]]


def test_a_completion_that_would_change_the_prompts_tokens_is_tokenised_apart():
    columns = reader().sequences({"prompt": ["xa"], "answers": [["b"]], "where": ["here"]})
    assert ids("xab") == [*ids("x"), *ids("ab")]
    assert columns["input_ids"] == [[S, *ids("xa"), *ids("b"), END]]


def test_an_end_that_is_written_out_is_not_doubled():
    columns = reader().sequences({"prompt": ["x"], "answers": [["y</s>"]], "where": ["here"]})
    assert columns["input_ids"] == [[S, *ids("x"), *ids("y"), END]]


def test_of_a_text_all_but_the_first_token_is_a_target():
    columns = reader("text").sequences({"text": ["hello"], "answers": [[""]], "where": ["here"]})
    assert columns["input_ids"] == [[S, *ids("hello"), END]]
    assert columns["labels"] == [[-100, *ids("hello"), END]]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_the_assistants_turns_are_the_targets(template):
    # The oracle is Transformers' own mask, of the template that marks what is generated
    messages = talks(1)[0]["messages"]
    marked = byte_tokenizer(MARKED).apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    tokens, said = Chat(byte_tokenizer(template), "x").conversation(messages, "here")
    assert tokens == marked["input_ids"][: len(tokens)]
    assert WORDS.decode(marked["input_ids"][len(tokens) :]).strip() == ""
    assert said == [bool(mark) for mark in marked["assistant_masks"][: len(tokens)]]
    assert WORDS.decode([t for t, mark in zip(tokens, said, strict=True) if mark]) == "1<|im_end|>2 ab<|im_end|>"


def test_the_prompt_of_a_conversation_ends_where_the_last_answer_begins():
    messages = talks(1)[0]["messages"]
    (prompt,) = reader("messages").prompts({"messages": [messages], "where": ["here"]})
    text = WORDS.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    assert prompt == ids(text)[-32:]
    assert reader("messages").prompts({"messages": [messages[:-1]], "where": ["here"]}) == [prompt]


def test_a_template_that_rewrites_earlier_turns_is_refused():
    chat = Chat(byte_tokenizer(FORGETFUL), "x")
    one = talks(1)[0]["messages"][1:3]
    assert any(chat.conversation(one, "here")[1])
    two = [one[0], {"role": "assistant", "content": "<think>so</think>1"}, *one]
    with pytest.raises(
        ValueError, match=r"here: the chat template of .* rewrites the turns before the assistant's mess"
    ):
        chat.conversation(two, "here")


def test_a_chat_ends_with_the_templates_own_token():
    assert Chat(WORDS, "x").end == TURNED


@pytest.mark.parametrize(
    ("too_long", "cuts"), [("truncate", ["", "truncated", "dropped"]), ("drop", ["", "dropped", "dropped"])]
)
def test_rows_that_are_too_long_are_cut_or_dropped(too_long, cuts):
    rows = {"prompt": ["x", "x", "x" * 9], "answers": [["y"], ["y" * 9], ["y"]], "where": ["here"] * 3}
    columns = reader(max_length=8, too_long=too_long).sequences(rows)
    assert columns["cut"] == cuts
    assert columns["length"] == [4, 8, 8]
    assert targets(columns, 0) == "y</s>"
    assert targets(columns, 1) == "y" * 6


# --- losses ---


def built(plm, rows, tmp_path, method=None, data=None, **options):
    path = write_jsonl(tmp_path / "mine.jsonl", rows)
    data = InstructionFiles(path, validation=path, test=path, **(data or {}))
    seed_everything(0)
    options = {"max_length": 96, "max_new_tokens": 24} | options
    module = CausalLM(str(plm), method or KronA(a_shape=(8, 6), sites=QV), data.task, **options)
    return module, data


def trainer(tmp_path, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "use_distributed_sampler": False}
    return Trainer(accelerator="cpu", devices=1, default_root_dir=tmp_path, **quiet | options)


def by_hand(plm, rows):
    """Each pair's tokens and labels, made without kronlit."""
    words = AutoTokenizer.from_pretrained(plm)
    for row in rows:
        prompt = words(row["prompt"])["input_ids"]
        target = [*words(row["completion"], add_special_tokens=False)["input_ids"], words.eos_token_id]
        yield prompt + target, [-100] * len(prompt) + target


def losses_by_hand(model, plm, rows):
    """The cross-entropy of each target token, one row at a time, so that nothing is padded."""
    each = []
    for tokens, labels in by_hand(plm, rows):
        logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1]
        each.append(F.cross_entropy(logits, torch.tensor(labels[1:]), ignore_index=-100, reduction="none"))
        each[-1] = each[-1][torch.tensor(labels[1:]) >= 0]
    return torch.cat(each)


@pytest.fixture(params=["right", "left"])
def sided(request, tmp_path):
    """A Llama whose tokenizer pads on either side."""
    return llama(tmp_path / "sided", byte_tokenizer(padding_side=request.param))


def batch_of(module, data, split="train"):
    rows = data.rows(split)
    columns = module.encode(rows[:]) | {"answers": rows["answers"][:]}
    return module.collate([{k: v[i] for k, v in columns.items()} | {"row": i} for i in range(len(rows))])


def test_padding_is_on_the_tokenizers_side_and_no_part_of_the_loss(sided, tmp_path):
    rows = pairs(12)
    module, data = built(sided, rows, tmp_path)
    module.configure_model()
    batch = batch_of(module, data)
    side = AutoTokenizer.from_pretrained(sided).padding_side
    assert bool((batch["attention_mask"][:, 0] == 0).any()) == (side == "left")
    assert bool((batch["attention_mask"][:, -1] == 0).any()) == (side == "right")
    assert (batch["prompt_mask"][:, -1] == 1).all()
    assert module.tokenizer.pad_token_id == module.end == END  # so padding and real ends are one token
    assert (batch["target_ids"] == END).sum() == len(rows)  # and each row has one end that counts
    theirs = losses_by_hand(AutoModelForCausalLM.from_pretrained(sided), sided, rows)
    torch.testing.assert_close(module.train_loss(batch), theirs.mean(), rtol=1e-5, atol=1e-5)


def test_validation_is_over_all_target_tokens(tiny_llama, tmp_path):
    module, data = built(tiny_llama, pairs(13), tmp_path, data={"eval_batch_size": 4})
    (values,) = trainer(tmp_path).validate(module, data, verbose=False)
    mean = losses_by_hand(AutoModelForCausalLM.from_pretrained(tiny_llama), tiny_llama, pairs(13)).mean()
    assert values["val/loss"] == pytest.approx(mean.item(), rel=1e-5)
    assert values["val/perplexity"] == pytest.approx(mean.exp().item(), rel=1e-4)
    assert values["val/score"] == -values["val/loss"]
    assert "val/bleu" not in values


UNEQUAL = [*pairs(6), {"prompt": "x", "completion": "long " * 12}, {"prompt": "y", "completion": "!"}]


def stepped(plm, tmp_path, batch_size, accumulate, **options):
    """The weights after one step of SGD over all rows."""
    sgd = {"optimizer": "SGD", "schedule": "constant", "lr": 0.5, "dropout": 0.0}
    module, data = built(plm, UNEQUAL, tmp_path, FullFineTuning(), {"batch_size": batch_size}, **sgd | options)
    fitted = trainer(tmp_path, max_epochs=1, accumulate_grad_batches=accumulate, limit_val_batches=0)
    fitted.fit(module, data)
    assert fitted.global_step == 1
    return {name: value.detach() for name, value in module.model.named_parameters()}


def test_accumulated_batches_of_unequal_lengths_are_one_batch(tiny_llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    losses_by_hand(model, tiny_llama, UNEQUAL).mean().backward()
    expected = {name: value - 0.5 * value.grad for name, value in model.named_parameters()}
    one = stepped(tiny_llama, tmp_path, 8, 1)
    for parts in (stepped(tiny_llama, tmp_path, 4, 2), stepped(tiny_llama, tmp_path, 3, 3)):
        for name, value in parts.items():
            torch.testing.assert_close(value, one[name], rtol=0, atol=1e-6)
            torch.testing.assert_close(value, expected[name].detach(), rtol=0, atol=5e-6)
    other = stepped(tiny_llama, tmp_path, 4, 2, loss_over="batch")
    assert max((other[name] - one[name]).abs().max() for name in one) > 1e-3


def test_gradients_are_clipped_after_they_are_divided(tiny_llama, tmp_path):
    module, data = built(tiny_llama, UNEQUAL, tmp_path, data={"batch_size": 4}, lr=0.5, optimizer="SGD")
    norms = []

    def configure_gradient_clipping(optimizer, **_):
        norms.append(torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm().item())

    module.configure_gradient_clipping = configure_gradient_clipping
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2, limit_val_batches=0).fit(module, data)
    plain, data = built(tiny_llama, UNEQUAL, tmp_path)
    plain.configure_model()
    plain.train_loss(batch_of(plain, data)).backward()
    whole = torch.stack([p.grad.norm() for p in plain.parameters() if p.grad is not None]).norm().item()
    assert norms == [pytest.approx(whole, rel=1e-4)]


def command(name, plm, path, *more):
    words = [name, "--model", "CausalLM", "--model.plm", plm, "--model.method", "LoRA", "--model.method.rank", "2"]
    words += ["--model.method.sites", SITES, "--model.max_length", "96", "--model.max_new_tokens", "12"]
    words += ["--data", "InstructionFiles", "--data.train", path, "--trainer.accelerator", "cpu"]
    return [str(word) for word in (*words, *more)]


@pytest.mark.slow
def test_two_processes_step_as_one(tiny_llama, tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", UNEQUAL)

    def fitted(name, *more):
        words = command("fit", tiny_llama, path, "--data.validation", path, "--run_dir", name, "--model.lr", "0.5")
        words += ["--model.optimizer", "SGD", "--model.schedule", "constant", "--trainer.max_epochs", "3"]
        done = subprocess.run(
            [sys.executable, "-m", "kronlit", *words, *more],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        run = tmp_path / name / "version_0"
        (values,) = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["val/loss"]][-1:]
        return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"], float(values["val/loss"])

    one, loss = fitted("one", "--data.batch_size", "8", "--trainer.devices", "1")
    two = ["--data.batch_size", "2", "--trainer.accumulate_grad_batches", "2", "--trainer.devices", "2"]
    both, same = fitted("two", *two, "--trainer.strategy", "ddp")
    for name, value in both.items():
        torch.testing.assert_close(value, one[name], rtol=0, atol=1e-6)
    assert same == pytest.approx(loss, rel=1e-5)


# --- a base in 16 bits ---


@pytest.mark.parametrize("method", [KronA(a_shape=(8, 6), sites=QV), FullFineTuning()], ids=["KronA", "all"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_base_in_bfloat16_is_never_first_in_float32(tmp_path, monkeypatch, method, tied):
    plm = llama(tmp_path / "base", byte_tokenizer(), torch.bfloat16, tie_word_embeddings=tied)
    task = InstructionFiles(write_jsonl(tmp_path / "mine.jsonl", pairs(6))).task
    asked, original = [], AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *_, **kw: asked.append(kw["dtype"]) or original(*_, **kw)
    )

    def configured(stored):
        torch.manual_seed(0)
        module = CausalLM(str(plm), method, task, max_length=64)
        module._frozen_dtype = torch.bfloat16
        monkeypatch.setattr("kronlit.modules.plm.is_stored_in", lambda *_: stored) if not stored else None
        module.configure_model()
        return module.model

    direct, through = configured(True).state_dict(), configured(False).state_dict()
    assert asked == [torch.bfloat16, torch.float32]
    assert direct.keys() == through.keys()
    for name, value in direct.items():
        assert value.dtype == through[name].dtype, name
        assert torch.equal(value, through[name]), name
    kinds = {value.dtype for value in direct.values()}
    assert kinds == ({torch.float32} if isinstance(method, FullFineTuning) else {torch.float32, torch.bfloat16})


def test_a_base_in_float32_is_not_rounded_before_it_is_stored(tiny_llama, tmp_path, monkeypatch):
    task = InstructionFiles(write_jsonl(tmp_path / "mine.jsonl", pairs(6))).task
    module = CausalLM(str(tiny_llama), KronA(a_shape=(8, 6), sites=QV), task, max_length=64)
    module._frozen_dtype = torch.bfloat16
    module.configure_model()
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert torch.equal(module.model.model.embed_tokens.weight, plain.model.embed_tokens.weight)


def test_bf16_mixed_trains_on_a_base_in_bfloat16(tmp_path):
    plm = llama(tmp_path / "base", byte_tokenizer(), torch.bfloat16)
    module, data = built(plm, pairs(12), tmp_path)
    trainer(tmp_path, max_epochs=1, precision="bf16-mixed").fit(module, data)
    assert module.model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert {p.dtype for p in module.parameters() if p.requires_grad} == {torch.float32}
