"""Packed rows: which rows stand together, and that losses and gradients are those of the rows by themselves."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from fixtures.chat import byte_tokenizer, pairs, write_jsonl
from fixtures.models import SMALL
from lightning.pytorch import Trainer, seed_everything
from torch.nn import functional as F
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    modeling_flash_attention_utils,
)

from kronlit.data import InstructionFiles
from kronlit.data.packing import PackedBatches, PackedRows, pack
from kronlit.methods import FullFineTuning
from kronlit.modules import CausalLM
from kronlit.modules.packing import check_packing, packed_batch

HEADS = {"num_key_value_heads": 2, "max_position_embeddings": 512, "head_dim": 12}
FAMILIES = {
    "llama": lambda size: LlamaForCausalLM(LlamaConfig(vocab_size=size, **SMALL, **HEADS)),
    "qwen3": lambda size: Qwen3ForCausalLM(Qwen3Config(vocab_size=size, **SMALL, **HEADS)),
    "mistral": lambda size: MistralForCausalLM(MistralConfig(vocab_size=size, sliding_window=5, **SMALL, **HEADS)),
    "gpt2": lambda size: GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=48, n_layer=2, n_head=4, n_positions=128)),
    "bloom": lambda size: BloomForCausalLM(BloomConfig(vocab_size=size, hidden_size=48, n_layer=2, n_head=4)),
}
ROWS = [*pairs(7), {"prompt": "x", "completion": "long " * 9}, {"prompt": "yes? ", "completion": "!"}]


@pytest.fixture(scope="session")
def family(tmp_path_factory):
    """Makes the folder of a tiny random model of a family, whose attention is sharp."""
    made = {}

    def make(name):
        if name not in made:
            torch.manual_seed(0)
            made[name], words = tmp_path_factory.mktemp(name), byte_tokenizer()
            model = FAMILIES[name](len(words))
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim == 2:
                        parameter.mul_(8)
            words.save_pretrained(made[name])
            model.save_pretrained(made[name])
        return made[name]

    return make


def built(plm, tmp_path, packing=True, method=None, **options):
    path = write_jsonl(tmp_path / "mine.jsonl", ROWS)
    data = InstructionFiles(path, validation=path, packing=packing, batch_size=2)
    seed_everything(0)
    options = {"max_length": 64, "max_new_tokens": 24, "dropout": 0.0} | options
    return CausalLM(str(plm), method or FullFineTuning(), data.task, **options), data


def packed(module, data):
    """All training rows as one batch of packed sequences."""
    rows = data.rows("train")
    encoded = Dataset.from_dict(module.encode(rows[:]) | {"row": list(range(len(rows)))})
    sequences = PackedRows(encoded)
    return module.collate([sequences[tuple(members)] for members in pack(encoded["length"][:], module.max_length)])


def by_hand(model, words):
    """The cross-entropy of each target token, one row at a time in plain Transformers."""
    each = []
    for row in ROWS:
        prompt = words(row["prompt"])["input_ids"]
        target = [*words(row["completion"], add_special_tokens=False)["input_ids"], words.eos_token_id]
        logits = model(input_ids=torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
        each.append(F.cross_entropy(logits, torch.tensor(target), reduction="none"))
    return torch.cat(each)


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, **_):
    """What a variable-length kernel computes: each row's attention by itself; `(tokens, heads, width)`."""
    heads = [x.transpose(0, 1).repeat_interleave(q.shape[1] // x.shape[1], 0) for x in (q, k, v)]
    rows = itertools.pairwise(cu_seqlens_q.tolist())
    parts = [F.scaled_dot_product_attention(*(x[:, a:b] for x in heads), is_causal=True) for a, b in rows]
    return torch.cat(parts, 1).transpose(0, 1)


FLASH = "flash_attention_2"
KINDS = [(name, kind) for name in ("llama", "qwen3", "mistral", "gpt2") for kind in ("sdpa", "eager")]
KINDS += [("llama", FLASH), ("qwen3", FLASH)]  # the stand-in has no sliding window, and GPT-2 needs 16 bits


@pytest.mark.parametrize(("name", "attention"), KINDS)
def test_losses_and_gradients_are_those_of_the_rows_by_themselves(name, attention, family, tmp_path, monkeypatch):
    module, data = built(family(name), tmp_path)
    module.configure_model()
    check_packing(module.model, module.plm)
    expected = by_hand(module.model.eval(), module.tokenizer)
    expected.mean().backward()
    theirs = gradients(module.model)
    module.zero_grad()
    kernels = ((None, varlen, None, None, None), (lambda **given: {}, None))
    monkeypatch.setattr(modeling_flash_attention_utils, "lazy_import_flash_attention", lambda *_, **__: kernels)
    module.model.config._attn_implementation = attention
    batch = packed(module, data)
    assert 1 < len(batch["input_ids"]) < len(ROWS)
    losses, _ = module.training_pass(batch)
    assert len(losses) == len(expected)
    torch.testing.assert_close(losses.sum(), expected.sum(), rtol=1e-5, atol=0)
    module.train_loss(batch).backward()
    assert theirs.keys() == gradients(module.model).keys()
    for key, value in gradients(module.model).items():
        torch.testing.assert_close(value, theirs[key], rtol=0, atol=1e-5, msg=key)


def test_a_model_that_does_not_keep_rows_apart_is_refused(family, tmp_path):
    module, _ = built(family("bloom"), tmp_path)
    module._trainer = SimpleNamespace(datamodule=SimpleNamespace(packing=True))
    with pytest.raises(ValueError, match=r"`data.packing`=True: in BloomForCausalLM, which .* leave it out"):
        module.load()


def test_a_step_over_packed_rows_is_one_over_the_rows(family, tmp_path):
    # Two sequences of unequal numbers of targets each, accumulated: the oracle is one step of SGD by hand
    plm = family("llama")
    module, data = built(plm, tmp_path, optimizer="SGD", schedule="constant", lr=0.1)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "limit_val_batches": 0, "accumulate_grad_batches": 9}
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, use_distributed_sampler=False, **quiet
    )
    trainer.fit(module, data)
    assert trainer.global_step == 1
    assert trainer.num_training_batches == 2
    model = LlamaForCausalLM.from_pretrained(plm)
    by_hand(model, module.tokenizer).mean().backward()
    for (name, value), ours in zip(model.named_parameters(), module.model.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), value.detach() - 0.1 * value.grad, rtol=0, atol=1e-5, msg=name)


def test_what_fills_a_sequence_up_is_a_row_without_targets():
    first = {"row": [3, 1], "input_ids": [5, 6, 7, 8], "labels": [-100, 6, -100, 8], "position_ids": [0, 1, 0, 1]}
    other = {"row": [2], "input_ids": [9], "labels": [-100], "position_ids": [0]}
    batch = packed_batch([first, other], fill=0)
    assert batch["row"].tolist() == [3, 1, 2]
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1], [0, 0, 1, 2]]
    assert batch["target_ids"].tolist() == [[-100, 6, -100, 8], [-100] * 4]


# --- which rows stand together ---


def test_rows_fill_sequences_without_waste():
    assert sorted(map(sorted, pack([6, 5, 4, 3, 2], 10))) == [[0, 2], [1, 3, 4]]
    assert pack([8, 8], 8) == [[0], [1]]
    lengths = torch.randint(1, 100, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    packs = pack(lengths, 256)
    assert sorted(row for rows in packs for row in rows) == list(range(2000))
    assert max(sum(lengths[row] for row in rows) for rows in packs) <= 256
    assert len(packs) <= math.ceil(sum(lengths) / 256) + 1


def test_each_epoch_has_all_rows_once_and_equally_many_batches():
    lengths = [3, 5, 3, 5, 2, 2, 2, 7, 3, 3] * 5
    orders = []
    for epoch in (0, 1):
        share = [PackedBatches(lengths, 10, 2, 7, rank, 2) for rank in (0, 1)]
        for batches in share:
            batches.epoch = epoch
        parts = [list(batches) for batches in share]
        assert len(parts[0]) == len(parts[1]) == len(share[0])
        orders.append([pack for batch in zip(*parts, strict=True) for part in batch for pack in part])
        assert sorted(row for rows in orders[-1] for row in rows) == list(range(50))
        assert max(sum(lengths[row] for row in rows) for rows in orders[-1]) <= 10
    assert orders[0] != orders[1]
    assert {frozenset(rows) for rows in orders[0]} != {frozenset(rows) for rows in orders[1]}


def test_a_checkpoint_within_an_epoch_of_other_sequences_is_told_apart():
    digests = {PackedBatches([3, 4], size, 1).digest for size in (8, 9)}
    assert len(digests | {PackedBatches([3, 5], 8, 1).digest}) == 3


def test_packing_and_a_number_of_tokens_exclude_each_other(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", ROWS)
    with pytest.raises(ValueError, match=r"`data.packing`=True has .* leave out `data.max_tokens`=99"):
        InstructionFiles(path, packing=True, max_tokens=99)
