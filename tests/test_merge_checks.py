"""What is merged is the same model, or nothing is written; and a check that can't be made loses nothing."""

import json
from functools import partial

import pytest
import torch
from conftest import saved, tokenizer
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BartConfig,
    BartForSequenceClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessorPil,
)

from kronlit.exchange.saved_run import saved_run


def the_line(err):
    (line,) = [line for line in err.splitlines() if line.startswith("kronlit: ")]
    assert "Traceback" not in err
    return line


@pytest.fixture
def tiny_bart(tmp_path):
    """A folder with a random BART classifier, which reads its classes off the end token and needs one in each row."""
    words = tokenizer("t5")
    config = BartConfig(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        bos_token_id=1,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=1,
        forced_eos_token_id=1,
        num_labels=2,
    )
    return saved(tmp_path / "bart", words, BartForSequenceClassification(config))


def test_a_model_that_needs_an_end_token_is_merged_and_compared(kronlit, run_of, tiny_bart, tmp_path):
    run, _ = run_of(tiny_bart, "LoRA", sites=[r".*\.q_proj"])
    code, out, err = kronlit("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    assert code == 0, err
    assert float(out.split("probe batch: ")[1].split()[0]) < 1e-5
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    row = {"input_ids": torch.tensor([[5, 6, 7, 1]])}
    expected = saved_run(str(run)).module().model(**row).logits
    torch.testing.assert_close(plain(**row).logits, expected, atol=1e-5, rtol=1e-5)
