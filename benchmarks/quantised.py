"""What the frozen weights of a language model take in memory, quantised or not, and what a step of training takes.

Every figure is of a process of its own:

    python benchmarks/quantised.py MODEL [--length 256] [--batch_size 2] [--steps 4]

`weights` counts the bytes of all parameters and buffers that are not trained; `peak` is the largest resident memory of
the process, Python and its libraries included; and a step is a forward and a backward pass and one of AdamW, with KronA
in queries and values under `bf16-true`.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("none", "nf4", "nf4 double", "int8", "int8_torchao")


def measure(plm: str, kind: str, length: int, batch_size: int, steps: int) -> None:
    from lightning import Callback, Trainer, seed_everything

    from kronlit import KronA
    from kronlit.cli.quiet import quieten
    from kronlit.data import InstructionFiles
    from kronlit.modules import CausalLM
    from kronlit.training.true_bfloat16 import TrueBFloat16

    quieten()
    times: list[float] = []
    losses: list[float] = []

    class Times(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            self.start = time.perf_counter()

        def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
            times.append(time.perf_counter() - self.start)
            losses.append(float(trainer.callback_metrics["train/loss"]))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text('{"text": "' + "A model that does not fit. " * length + '"}\n' * (batch_size * steps))
        data = InstructionFiles(str(path), batch_size=batch_size)
        seed_everything(0)
        quantization, _, double = kind.partition(" ")
        own = {"max_length": length, "quantization": quantization, "double_quantization": bool(double)}
        module = CausalLM(plm, KronA(scale="auto"), data.task, **own)
        quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
        quiet |= {"use_distributed_sampler": False, "accelerator": "cpu", "devices": 1, "callbacks": Times()}
        Trainer(plugins=TrueBFloat16("cpu"), max_steps=steps, default_root_dir=folder, **quiet).fit(module, data)
    frozen = [t for t in (*module.model.parameters(), *module.model.buffers()) if not t.requires_grad]
    weights = sum(t.nbytes for t in frozen) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    step = sorted(times[1:])[len(times[1:]) // 2]
    print(f"RESULT\t{weights:.1f}\t{peak:.0f}\t{step:.2f}\t{losses[0]:.4f}\t{losses[-1]:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--kind")
    asked = parser.parse_args()
    if asked.kind:
        measure(asked.model, asked.kind, asked.length, asked.batch_size, asked.steps)
        return
    print("| quantization | weights, MB | share | peak, MB | step, s | first loss | last loss |")
    print("|---|---|---|---|---|---|---|")
    whole = None
    for kind in KINDS:
        words = [sys.executable, __file__, *sys.argv[1:], "--kind", kind]
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        _, weights, *others = next(line for line in out.splitlines() if line.startswith("RESULT")).split("\t")
        whole = whole or float(weights)
        print(f"| {kind} | {weights} | {float(weights) / whole:.3f} | {' | '.join(others)} |", flush=True)


if __name__ == "__main__":
    main()
