"""What a fit takes in memory, told without weights: its parts by hand, and a step's peak by another count."""

import gc

import pytest
import torch
from fixtures.chat import SITES, pairs, write_jsonl
from torch._subclasses.fake_tensor import FakeTensorMode

from kronlit.cli.memory import card_bytes
from kronlit.data.tasks import Task
from kronlit.methods import AdaMix, FullFineTuning, KronA
from kronlit.modules import CausalLM, SequenceClassification, TextToText
from kronlit.training.live_bytes import LiveBytes
from kronlit.training.made_up_rows import made_up_batch
from kronlit.training.memory import Memory, largest_batch, on_each, step_memory, unloaded, weight_bytes

QV = (r".*\.q_proj", r".*\.v_proj")
ROWS = Task("mine", ("prompt",), (), ("exact_match",), "{prompt}", free_text=True, form="prompt", jobs=("CausalLM",))
FILMS = Task("films", ("sentence",), ("bad", "good"), ("accuracy",), "{sentence}")


def told(module, rows=4, precision="32-true", cuda=False):
    fake = unloaded(module, precision)
    return step_memory(module, fake, made_up_batch(module, rows), precision, cuda)


def causal(plm, method, **options):
    return CausalLM(str(plm), method, ROWS, **{"max_length": 96, "max_new_tokens": 8} | options)


def allocated(module, rows):
    """The most bytes that PyTorch's CPU allocator had more in two real steps than before them, by its profiler."""
    module.configure_model()
    batch = made_up_batch(module, rows)
    batch["attention_mask"][0, -1] = 0  # else Transformers leaves the mask out
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad])
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(2):
            loss = module.train_loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    now = peak = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("kind", ["KronA", "all", "recomputed", "BERT", "T5"])
def test_a_step_is_told_as_the_allocator_counts_it(kind, tiny_llama, tiny_bert, tiny_t5):
    def module():
        if kind == "BERT":
            return SequenceClassification(str(tiny_bert), KronA(a_shape=(8, 6)), FILMS, max_length=64)
        if kind == "T5":
            return TextToText(str(tiny_t5), KronA(a_shape=(8, 6)), FILMS, max_length=64)
        method = FullFineTuning() if kind == "all" else KronA(a_shape=(8, 6), sites=QV)
        return causal(tiny_llama, method, gradient_checkpointing=kind == "recomputed")

    memory = told(module())
    assert memory.total - memory.weights == pytest.approx(allocated(module(), 4), rel=0.05)


def test_parts_are_those_counted_by_hand(tiny_llama):
    module = causal(tiny_llama, KronA(a_shape=(8, 6), sites=QV))
    memory = told(module)
    # q is 48 x 48 and v 24 x 48, in two layers: A is 8 x 6, so B is 6 x 8 and 3 x 8
    trained = 2 * (48 + 48) + 2 * (48 + 24)
    assert memory.gradients == 4 * trained
    assert memory.optimizer == 2 * 4 * trained + 4 * 8  # two moments, and the step of each of eight matrices
    layer = 2 * 48 * 48 + 2 * 24 * 48 + 3 * 48 * 96 + 2 * 48
    assert memory.weights == 4 * (2 * 261 * 48 + 2 * layer + 48 + trained) + 2 * 4 * 6  # and the rotary frequencies


def test_mixed_precision_halves_the_frozen_products(tiny_llama):
    method = KronA(a_shape=(8, 6), sites=QV)
    whole, half = told(causal(tiny_llama, method)), told(causal(tiny_llama, method), precision="bf16-mixed")
    layer = 48 * 48 + 2 * 24 * 48 + 48 * 48 + 3 * 48 * 96
    assert 2 * 2 * layer <= whole.weights - half.weights
    assert half.activations < whole.activations


def test_experts_are_drawn_without_numbers(tiny_bert):
    module = SequenceClassification(str(tiny_bert), AdaMix(), FILMS, max_length=32, consistency=1.0)
    assert told(module).activations > 0


def test_a_weights_bytes_by_its_quantisation():
    shape = torch.Size((256, 128))
    assert weight_bytes(shape, torch.bfloat16) == 65_536
    assert weight_bytes(shape, torch.bfloat16, "nf4") == 16_384 + 2_048  # bitsandbytes: packed, and its absmax
    assert weight_bytes(shape, torch.bfloat16, "int8") == 32_768 + 1_024  # its CB and SCB


def test_tensors_are_alive_until_they_are_dropped():
    with FakeTensorMode():
        weight = torch.empty(100, requires_grad=True)
        with LiveBytes([weight]) as live:
            first = torch.empty(10)
            view = first.view(2, 5)
            square = weight * weight
            assert (live.now, live.peak) == (440, 440)
            del first
            assert live.now == 440
            del view, square
            torch.empty(20)
            assert (live.now, live.peak) == (0, 440)


def test_several_devices_share_the_frozen_layers(tiny_llama):
    module = causal(tiny_llama, KronA(a_shape=(8, 6), sites=QV))
    memory = told(module)
    ddp = on_each(memory, module.model, "ddp", 2)
    assert ddp == Memory(memory.weights, 2 * memory.gradients, memory.optimizer, memory.activations)
    assert on_each(memory, module.model, "auto", 1) == memory
    frozen = sum(p.nbytes for p in module.model.parameters() if not p.requires_grad)
    # of two layers, both are whole at once, so that sharing adds what is at rest
    assert on_each(memory, module.model, "ddp_sharded", 2).weights == memory.weights + frozen // 2


@pytest.mark.parametrize("limit", [5, 20, 25, 57, 400])
def test_the_largest_batch_is_the_last_within_the_limit(limit):
    def memory(rows):
        return max(20 + rows, 5 + 4 * rows)

    found = largest_batch(memory, limit)
    last = max((rows for rows in range(1, 200) if memory(rows) <= limit), default=0)
    assert found == last


def test_a_cards_size_is_read(tiny_llama):
    assert card_bytes("24GB") == card_bytes("24 GiB") == card_bytes("24g") == 24 * 2**30
    for wrong in ("24", "much", "0.5GB", "-3GB"):
        with pytest.raises(ValueError, match=r"`card`="):
            card_bytes(wrong)


def test_the_command_says_it(kronlit, tiny_llama, tmp_path):
    words = ["memory", "--model", "CausalLM", "--model.plm", tiny_llama, "--model.method", "KronA", "--data"]
    words += ["InstructionFiles", "--data.train", write_jsonl(tmp_path / "mine.jsonl", pairs(8)), "--card", "24GB"]
    words += ["--model.method.a_shape", "[8, 6]", "--model.method.sites", SITES, "--model.max_length", "64"]
    code, said, _ = kronlit(*words, "--data.packing", "true")
    assert code == 0
    assert "a step of 8 sequences of 64 tokens, 32-true, AdamW, kernels of a GPU" in said
    assert "largest batch on a card of 24.00 GiB, 1.00 GiB left free: " in said
