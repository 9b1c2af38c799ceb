"""What is merged is the same model, or nothing is written; and a check that can't be made loses nothing."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from fixtures.models import saved, tokenizer
from tokenizers import processors
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BartConfig,
    BartForSequenceClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessorPil,
)

from kronlit.adapters import Delta, Insertion, SequentialAdapter, inject, merge, placements
from kronlit.exchange.saved_run import saved_run
from kronlit.methods import Method
from kronlit.methods.base import Group
from kronlit.structured import Kronecker, Mixture


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


def test_a_model_that_fails_on_made_up_rows_is_written_all_the_same(kronlit, run_of, tiny_bart, tmp_path):
    words = tokenizer("t5")
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")  # no end
    words.save_pretrained(tiny_bart)
    run, _ = run_of(tiny_bart, "LoRA", sites=[r".*\.q_proj"])
    code, out, err = kronlit("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    assert code == 0, err
    assert "not checked: no logits could be compared, as the model failed on made-up rows (" in out
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    row = {"input_ids": torch.tensor([[5, 6, 7, 1]])}
    expected = saved_run(str(run)).module().model(**row).logits
    torch.testing.assert_close(plain(**row).logits, expected, atol=1e-5, rtol=1e-5)


def test_images_are_made_as_large_as_the_processor_makes_them(kronlit, run_of, images, tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_labels=3)
    assert not hasattr(config, "image_size")
    folder = saved(
        tmp_path / "resnet",
        ViTImageProcessorPil(size={"height": 32, "width": 32}),
        ResNetForImageClassification(config),
    )
    data = {"class_path": "Images", "init_args": {"dataset": "mine", "path": str(images)}}
    run, _ = run_of(folder, "HeadOnly", "ImageClassification", data)
    code, out, err = kronlit("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    assert code == 0, err
    assert float(out.split("probe batch: ")[1].split()[0]) < 1e-5
    AutoModelForImageClassification.from_pretrained(tmp_path / "merged")


# --- structures whose dense matrix is another one ---


class Slanted(Kronecker):
    """A Kronecker product whose dense matrix is a thousandth too large."""

    def to_dense(self):
        return 1.001 * super().to_dense()


@pytest.mark.parametrize("placement", [Delta, SequentialAdapter])
def test_what_would_become_another_map_is_not_merged_and_named(tiny_bert, placement):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    body = {"matrix": Slanted} if placement is Delta else {"body": Slanted}
    inject(model, [Insertion(("query",), partial(Delta, matrix=Kronecker))])
    inject(model, [Insertion((r".*1\.attention\.output\.dense",), partial(placement, **body))])
    random_(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"layer\.1\.attention\.output\.dense cannot be merged.* of Slanted are not"):
        merge(model)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def random_(model):
    for _, placement in placements(model):
        for name, parameter in placement.named_parameters():
            if not name.startswith("host."):
                torch.nn.init.normal_(parameter)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("evaluation", ["mean", "random", "first"])
def test_rounding_and_what_mixtures_evaluate_with_are_no_disagreement(tiny_bert, dtype, evaluation):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, dtype=dtype)
    mixture = partial(Mixture, expert=Kronecker, evaluation=evaluation)
    inject(model, [Insertion(("query", "value"), partial(Delta, matrix=mixture, dropout=0.5))])
    random_(model)
    merge(model.train())
    assert not list(placements(model))


def test_a_run_whose_structure_is_another_matrix_is_refused_and_leaves_nothing(kronlit, run_of, tiny_bert, tmp_path):
    run, _ = run_of(tiny_bert, "SlantedKronA")
    code, _, err = kronlit("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    assert code == 2
    assert "bert.encoder.layer.0.attention.self.query cannot be merged" in the_line(err)
    assert "`kronlit export` writes it" in the_line(err)
    assert not [path for path in tmp_path.iterdir() if "merged" in path.name]
    assert kronlit("export", "--ckpt_path", run, "--output", tmp_path / "adapter")[0] == 0


@dataclass(frozen=True)
class SlantedKronA(Method):
    """KronA of a structure that is not what it says.

    Args:
        trains: what is trained beside it.
    """

    trains: tuple[Group, ...] = ("head",)

    def insertions(self):
        return [Insertion(("query",), partial(Delta, matrix=Slanted))]


def test_a_merged_model_with_other_logits_is_refused_and_leaves_nothing(
    kronlit, run_of, tiny_bert, tmp_path, monkeypatch
):
    run, _ = run_of(tiny_bert, "KronA")

    def slip(model):
        merge(model)
        model.classifier.bias.data += 0.01

    monkeypatch.setattr("kronlit.exchange.merge.merge", slip)
    code, _, err = kronlit("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    assert code == 2
    assert "the merged model is another one: a logit on a probe batch differs by 1.00e-02" in the_line(err)
    assert not [path for path in tmp_path.iterdir() if "merged" in path.name]
