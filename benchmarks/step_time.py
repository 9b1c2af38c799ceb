r"""A training step of every method, in time and in saved activations, over the frozen floor and beside PEFT.

    python benchmarks/step_time.py --plm T5_FOLDER --rounds 9
    python benchmarks/step_time.py --plm T5_FOLDER --methods KronA LoRA --batch_size 16 --length 128 --bf16
    python benchmarks/step_time.py --plm DECODER_FOLDER --methods KronA LoRA 'PEFT LoRA r1' 'PEFT LoKr' \
        --batch_size 8 --length 256 --rounds 15
    python benchmarks/step_time.py --plm BERT_FOLDER --over 'one expert' \
        --methods 'one expert' 'one expert, a doubled batch' AdaMix 'AdaMix, two passes'

A step is forward, backward and AdamW on one made-up batch. An encoder has a classifier, a decoder has its own head and
a loss on every token. The floor trains nothing but back-propagates through all layers. Rounds are interleaved: each
takes one step of every method, in turn from another one on, and a ratio is taken within its round. Weights that no
method changes are shared, so all methods fit in memory together. On one thread the time is that of the processor, so
that what else runs there is not counted.

For a classifier, a method's name may be followed by the passes of its consistency: `, two passes`, as `kronlit.modules`
has them where experts are drawn, or `, a doubled batch`, one pass of twice the rows, as elsewhere.
"""

import argparse
import copy
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping

import peft
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
)

import kronlit
from kronlit.methods.base import Group, is_norm
from kronlit.modules.consistency import symmetric_divergence
from kronlit.modules.plm import resolve_path

FLOOR = "frozen floor"
IF_NAMED = ("IntrinsicSAID", "one expert", "AdaMix")
"""Methods that are measured only where they are named."""
PROJECTIONS = ["q", "v", "query", "value", "q_proj", "v_proj"]


def methods(width: int, decoder: bool) -> dict[str, kronlit.Method]:
    """The methods as the papers set them on T5, layer norms trained where they are; on a decoder they are not."""
    norms: tuple[Group, ...] = () if decoder else ("layer_norm",)
    return {
        "KronA": kronlit.KronA(trains=norms),
        "KronAB": kronlit.KronAB(trains=norms),
        "KronABRes": kronlit.KronABRes(trains=norms),
        "LoRA": kronlit.LoRA(rank=1, trains=norms),
        "PA": kronlit.PA(trains=norms),
        "Houlsby": kronlit.Houlsby(trains=norms),
        "Pfeiffer": kronlit.Pfeiffer(trains=norms),
        "AdapterDrop": kronlit.AdapterDrop(trains=norms),
        "LowRankAdapter": kronlit.LowRankAdapter(trains=norms),
        "PHMAdapter": kronlit.PHMAdapter(phm_dim=4 if width % 12 else 12, trains=norms),
        "Compacter": kronlit.Compacter(trains=norms),
        "CompacterPP": kronlit.CompacterPP(trains=norms),
        "SURM": kronlit.SURM(trains=norms),
        "SURMAdapter": kronlit.SURMAdapter(trains=norms),
        "PromptTuning": kronlit.PromptTuning(),
        "BitFit": kronlit.BitFit(),
        "FullFineTuning": kronlit.FullFineTuning(),
        "IntrinsicSAID": kronlit.IntrinsicSAID(),
        "one expert": kronlit.AdaMix(num_experts=1),
        "AdaMix": kronlit.AdaMix(),
    }


def rivals() -> dict[str, peft.PeftConfig]:
    """PEFT on the same projections."""
    return {
        "PEFT LoRA r1": peft.LoraConfig(r=1, target_modules=PROJECTIONS),
        "PEFT LoRA r8": peft.LoraConfig(r=8, target_modules=PROJECTIONS),
        "PEFT LoKr": peft.LoKrConfig(r=16, alpha=16, target_modules=PROJECTIONS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", required=True, help="folder or hub id")
    parser.add_argument("--methods", nargs="+", help=f"some of them; by default all but {', '.join(IF_NAMED)}")
    parser.add_argument("--over", default=FLOOR, help="the method over which ratios are")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    plm = resolve_path(options.plm)
    config = AutoConfig.from_pretrained(plm)
    plain = auto_class(config).from_pretrained(plm, dtype=torch.float32).to(device)
    known = methods(config.hidden_size, is_decoder(config))
    others = rivals()
    names = options.methods or [name for name in (*known, *others) if name not in IF_NAMED]
    if options.over not in (FLOOR, *names):
        parser.error(f"--over must be the {FLOOR} or one of --methods, not {options.over!r}")
    steps = {FLOOR: Step(floor(shared(plain)), options)}
    for name in names:
        method, _, passes = name.partition(", ")
        model = copy.deepcopy(plain) if method in ("FullFineTuning", "IntrinsicSAID") else shared(plain)
        if method in known:
            model = kronlit.inject(model, known[method])
        else:
            model = peft.get_peft_model(model, others[method])
        steps[name] = Step(model, options, PASSES[passes])

    seconds = interleaved(steps, options.rounds)
    precision = "bfloat16 autocast" if options.bf16 else "float32"
    print(f"{options.batch_size} x {options.length} tokens, {device}, {precision}")
    print(
        f"| method | ms a step, median | over {options.over} | saved activations, MB | trained |\n|---|---|---|---|---|"
    )
    for name, values in seconds.items():
        over = statistics.median(v / f for v, f in zip(values, seconds[options.over], strict=True))
        saved = steps[name].saved_activations() / 2**20
        trained = sum(p.numel() for p in steps[name].model.parameters() if p.requires_grad)
        print(f"| {name} | {1000 * statistics.median(values):.0f} | {over:.3f} x | {saved:.1f} | {trained:,} |")


def is_decoder(config: PretrainedConfig) -> bool:
    """Whether the folder holds a causal language model."""
    return any("CausalLM" in name or "LMHead" in name for name in config.architectures or ())


def auto_class(config: PretrainedConfig) -> type:
    """What loads the model for its job."""
    if config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    return AutoModelForCausalLM if is_decoder(config) else AutoModelForSequenceClassification


def shared(plain: nn.Module) -> nn.Module:
    """A copy of `plain` with its own modules and layer norms, and with the other weights of `plain` itself."""
    norms = {id(p) for module in plain.modules() if is_norm(module) for p in module.parameters(recurse=False)}
    return copy.deepcopy(plain, {id(p): p for p in plain.parameters() if id(p) not in norms})


def floor(model: nn.Module) -> nn.Module:
    """`model`, all frozen, whose backward pass goes through all layers."""
    model.requires_grad_(False)
    model.enable_input_require_grads()
    return model


def interleaved(steps: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each step in each round, after a first one that warms up; each round begins one step later."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order = deque(steps)
    for number in range(rounds + 1):
        for name in order:
            taken = steps[name]()
            if number:
                seconds[name].append(taken)
        order.rotate(-1)
    return seconds


def one_pass(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**batch).loss


def two_passes(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    first, second = model(**batch), model(**batch)
    return first.loss + symmetric_divergence(first.logits.log_softmax(-1), second.logits.log_softmax(-1))


def a_doubled_batch(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Its dropout differs between the halves."""
    inputs = {name: value.repeat(2, 1) for name, value in batch.items() if name != "labels"}
    first, second = model(**inputs).logits.log_softmax(-1).chunk(2)
    return F.nll_loss(first, batch["labels"]) + symmetric_divergence(first, second)


PASSES = {"": one_pass, "two passes": two_passes, "a doubled batch": a_doubled_batch}


class Step:
    """A training step of `model` on a made-up batch."""

    def __init__(self, model: nn.Module, options: argparse.Namespace, passes: Callable[..., torch.Tensor] = one_pass):
        self.model = model.train()
        self.passes = passes
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(3, 1000, (options.batch_size, options.length), generator=generator).to(device)
        labels = torch.full((options.batch_size, 2), 1, device=device)
        if is_decoder(model.config):
            labels = ids
        elif not model.config.is_encoder_decoder:
            labels = labels[:, 0]
        self.batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        if is_decoder(model.config):
            self.batch["use_cache"] = False
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-6) if trained else None
        self.bf16 = options.bf16

    def loss(self) -> torch.Tensor:
        device = self.batch["input_ids"].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            return self.passes(self.model, self.batch)

    def __call__(self) -> float:
        """Seconds of one step."""
        start = now()
        self.loss().backward()
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return now() - start

    def saved_activations(self) -> int:
        """Bytes that forward keeps for backward, parameters not counted."""
        own = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self.loss()
        total = sum(kept.values())
        del loss
        return total


def now() -> float:
    """Seconds: of the processor where that alone computes, on one thread; else of the clock."""
    synchronise()
    one_thread = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if one_thread else time.perf_counter()


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
