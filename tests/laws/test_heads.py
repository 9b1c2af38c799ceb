"""What is a head and what the body, for classes of Transformers of every shape."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

from kronlit import HeadOnly, KronA, inject
from kronlit.data.tasks import Task
from kronlit.methods.base import body, group
from kronlit.modules import ImageClassification
from kronlit.modules.plm import load_model

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
VISION = SMALL | {"image_size": 16, "patch_size": 4}
TEXT = SMALL | {"vocab_size": 99, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}
TOWERS = {"vision_config": VISION, "text_config": TEXT, "projection_dim": 24}
STAGES = {"stem_channels": [3, 8, 8], "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]}
STAGES |= {"stage_in_channels": [8, 8, 16, 16], "stage_mid_channels": [8] * 4, "stage_out_channels": [8, 16, 16, 16]}
STAGES |= {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4}
PERCEIVER = {"d_latents": 16, "d_model": 16, "num_latents": 4, "num_blocks": 1, "num_self_attends_per_block": 1}
PERCEIVER |= {"num_self_attention_heads": 2, "num_cross_attention_heads": 2, "vocab_size": 99}
PERCEIVER |= {"max_position_embeddings": 16}

IMAGES, SEQUENCES = AutoModelForImageClassification, AutoModelForSequenceClassification
RELEASED = [  # architecture, config, the class that is released, what opens it as a classifier, where its head is
    ("clip", TOWERS, "CLIPModel", IMAGES, "classifier."),
    ("siglip", TOWERS, "SiglipModel", IMAGES, "classifier."),
    (
        "siglip2",
        TOWERS | {"vision_config": SMALL | {"num_patches": 16, "patch_size": 4}},
        "Siglip2Model",
        IMAGES,
        "classifier.",
    ),
    ("metaclip_2", TOWERS, "MetaClip2Model", IMAGES, "classifier."),
    ("hgnet_v2", STAGES, "HGNetV2Backbone", IMAGES, "fc."),
    ("pp_lcnet", {"scale": 0.25}, "PPLCNetForImageClassification", IMAGES, "head."),
    ("vit", VISION, "ViTModel", IMAGES, "classifier."),
    ("perceiver", PERCEIVER, "PerceiverForMaskedLM", SEQUENCES, "perceiver.decoder."),
    ("bert", SMALL | {"vocab_size": 99}, "BertForPreTraining", SEQUENCES, "classifier."),
    ("roberta", SMALL | {"vocab_size": 99}, "RobertaForMaskedLM", SEQUENCES, "classifier."),
    ("gpt2", {"n_embd": 24, "n_layer": 1, "n_head": 2, "vocab_size": 99}, "GPT2LMHeadModel", SEQUENCES, "score."),
]
IDS = [architecture for architecture, *_ in RELEASED]


def released(folder, architecture, config, kind):
    config = transformers.CONFIG_MAPPING[architecture](**config)
    getattr(transformers, kind)(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(("architecture", "config", "kind", "auto", "head"), RELEASED, ids=IDS)
def test_a_released_model_is_a_healthy_classifier_whose_head_is_new(architecture, config, kind, auto, head, tmp_path):
    model, fresh = load_model(auto, released(tmp_path, architecture, config, kind), num_labels=3)
    names = {name for name, parameter in model.named_parameters() if any(parameter is one for one in fresh)}
    expected = {name for name, _ in model.named_parameters() if name.startswith(head)}
    assert names - {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} == expected
    assert {id(parameter) for parameter in group(model, "head")} == {id(model.get_parameter(name)) for name in expected}


@pytest.mark.parametrize(("architecture", "config", "kind", "auto", "head"), RELEASED, ids=IDS)
def test_a_damaged_body_is_refused_by_the_name_of_what_it_lacks(architecture, config, kind, auto, head, tmp_path):
    folder = released(tmp_path, architecture, config, kind)
    model, _ = load_model(auto, folder, num_labels=3)
    inside = body(model)
    files = tmp_path / "model.safetensors"
    state = load_file(files)
    names = [name for name, parameter in model.named_parameters() if id(parameter) in inside and parameter.ndim > 1]
    lost = next(name for name in state for own in names if own.endswith(name))  # a bare body's have no prefix
    save_file({name: tensor for name, tensor in state.items() if name != lost}, files, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"is damaged: its files have no \S*{lost} "):
        load_model(auto, folder, num_labels=3)


def test_siglip_trains_what_its_classes_depend_on(tmp_path):
    torch.manual_seed(0)
    folder = released(tmp_path, "siglip", TOWERS, "SiglipModel")
    transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    method = KronA(sites=(r".*layers.*self_attn\.(q|v)_proj",), trains=("head", "layer_norm"))
    module = ImageClassification(folder, method, Task("mine", ("image",), ("a", "b", "c")))
    module.configure_model()
    batch = {"pixels": torch.arange(2 * 3 * 256).reshape(2, 3, 16, 16).byte(), "label": torch.tensor([0, 2])}
    module.train_loss(batch).backward()
    trained = {name for name, parameter in module.model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in module.model.named_parameters() if parameter.grad is not None}
    # The last norm is on the way to the mean that is classified, and the attention that pools is not.
    assert {"classifier.weight", "classifier.bias", "vision_model.post_layernorm.weight"} < trained
    assert not [name for name in trained if name.startswith("vision_model.head.")]


def test_a_model_without_a_head_of_classes_is_refused(tmp_path):
    vision, text = VISION | {"num_channels": 3}, TEXT | {"head_dim": 6, "num_key_value_heads": 2, "pad_token_id": 0}
    towers = {"vision_config": vision, "text_config": text, "mm_tokens_per_image": 4, "image_token_index": 98}
    folder = released(tmp_path, "shieldgemma2", towers, "ShieldGemma2ForImageClassification")
    module = ImageClassification(folder, HeadOnly(), Task("mine", ("image",), ("a", "b", "c")))
    with pytest.raises(ValueError, match=r"ShieldGemma2ForImageClassification, which has no head of 3 classes"):
        module.configure_model()


def test_a_bare_model_has_no_head():
    model = transformers.ViTModel(transformers.ViTConfig(**VISION))
    inject(model, KronA())
    assert not [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and "matrix" not in name
    ]
