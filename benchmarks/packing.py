r"""An epoch over packed rows beside one over batches of rows of similar length.

    python benchmarks/packing.py --plm SMOLLM2_FOLDER --data examples/appointments/train.jsonl --rows 60 --length 512

Both see the same rows, and about as many tokens a step: `--sequences` packed ones of `--length` tokens, or rows of
similar length of which so many fit. What is timed is forward and backward with KronA; on a CPU it is the time of the
process, which other work on the machine does not lengthen much.
"""

import argparse
import time

import torch
from datasets import Dataset

import kronlit
from kronlit.data import InstructionFiles
from kronlit.data.batches import LengthGroupedBatches
from kronlit.data.packing import PackedBatches, PackedRows
from kronlit.modules import CausalLM
from kronlit.modules.backbone import AUTOCAST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", required=True, help="folder or hub id")
    parser.add_argument("--data", required=True, help="rows as `InstructionFiles` reads them")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--sequences", type=int, default=1, help="packed sequences a step")
    parser.add_argument("--attn_implementation", help="such as flash_attention_2")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()

    cuda = torch.cuda.is_available()
    device, clock = ("cuda", time.perf_counter) if cuda else ("cpu", time.process_time)
    data = InstructionFiles(options.data)
    given = {"max_length": options.length, "attn_implementation": options.attn_implementation, "dropout": 0.0}
    module = CausalLM(options.plm, kronlit.KronA(), data.task, **given)
    if options.bf16:
        module._frozen_dtype = AUTOCAST["bf16-mixed"]
    module.configure_model()
    module.to(device)
    rows = data.rows("train").select(range(options.rows))
    columns = module.encode(rows[:]) | {"row": list(range(options.rows)), "answers": rows["answers"][:]}
    encoded = Dataset.from_dict(columns)
    lengths = list(encoded["length"])
    packed = PackedBatches(lengths, options.length, options.sequences)
    fit = max(options.sequences * options.length * options.rows // sum(lengths), 1)
    ways = {
        f"rows of similar length, {fit} a step": (encoded, LengthGroupedBatches(lengths, fit, True)),
        f"packed, {options.sequences} x {options.length} a step": (PackedRows(encoded), packed),
    }
    print(f"{options.rows} rows of {min(lengths)} to {max(lengths)} tokens, {sum(lengths):,} together, {device}")
    print("| batches | steps | tokens with padding | seconds an epoch | loss a token |\n|---|---|---|---|---|")
    for name, (served, batches) in ways.items():
        made = [module.collate([served[part] for part in batch]) for batch in batches]
        step(module, made[0], options.bf16)
        start = clock()
        losses = [step(module, batch, options.bf16) for batch in made]
        if cuda:
            torch.cuda.synchronize()
        seconds = clock() - start
        tokens = sum(batch["input_ids"].numel() for batch in made)
        mean = torch.cat(losses).mean().item()
        print(f"| {name} | {len(made)} | {tokens:,} | {seconds:.1f} | {mean:.6f} |", flush=True)


def step(module: CausalLM, batch: dict, bf16: bool) -> torch.Tensor:
    """Forward and backward; returns the loss of each token."""
    device = module.device.type
    batch = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        losses, _ = module.training_pass(batch)
    losses.mean().backward()
    module.zero_grad()
    return losses.detach()


if __name__ == "__main__":
    main()
