"""Where each adapter stands, against the block computed by hand from the model's own parts and `torch.kron`."""

import re
from functools import partial

import pytest
import scipy.linalg
import torch
from test_adapters import added, build, disturb, run
from torch import nn
from torch.nn import functional as F

import kronlit
from kronlit import (
    PA,
    SURM,
    AdapterDrop,
    Compacter,
    Houlsby,
    KronAB,
    KronABRes,
    LiST,
    Pfeiffer,
    PHMAdapter,
    PromptTuning,
    SURMAdapter,
)
from kronlit.adapters import Delta, Insertion, ParallelAdapter, SequentialAdapter, placements
from kronlit.structured import LDR, LowRank

FFN = {  # a block, and the module whose output is the feed-forward network's before dropout, residual and norm
    "t5": "encoder.block.1.layer.1.DenseReluDense",
    "distilbert": "distilbert.transformer.layer.1.ffn",
    "bert": "bert.encoder.layer.1.output",
    "deberta-v2": "deberta.encoder.layer.1.output",
    "mpnet": "mpnet.encoder.layer.1.output",
}


def called(model, name):
    """Inputs and output of the module `name` in one run of `model`."""
    seen = []
    hook = model.get_submodule(name).register_forward_hook(lambda _, inputs, output: seen.append((inputs, output)))
    run(model)
    hook.remove()
    return seen[0]


def kronecker_sum(placement, x):
    """The sum of `x (A ⊗ B)ᵀ` and all biases, from the definition."""
    body = placement.body
    return sum(x @ torch.kron(k.a, k.b).T for k in body.branches) + sum(body.output_bias)


@pytest.mark.parametrize("architecture", FFN)
@pytest.mark.parametrize("method", [KronAB(scale=4), KronABRes(scale=0.5, modules_per_block=1)], ids=repr)
def test_krona_b_is_parallel_to_the_feed_forward_block(architecture, method):
    # Y = FFN(X) + s X (A ⊗ B) (equation 5), and + s_res X (equation 6)
    model = disturb(kronlit.inject(build(architecture), method))
    placement = model.get_submodule(FFN[architecture])
    assert isinstance(placement, ParallelAdapter)
    inputs, output = called(model, FFN[architecture])
    x = inputs[-1]
    beside = method.scale * kronecker_sum(placement, x)
    if isinstance(method, KronABRes):
        beside = beside + placement.residual_scale * x
    host = placement.host
    if len(inputs) == 1:
        expected = host(x) + beside
    else:
        expected = host.LayerNorm(host.dense(inputs[0]) + beside + x)
    torch.testing.assert_close(output, expected)


def test_krona_b_before_the_norm_reads_the_residual_stream():
    model = disturb(kronlit.inject(build("t5"), KronAB(sites=("ffn_before_norm",)))).double()
    (x,), output = called(model, "decoder.block.1.layer.2")
    layer = model.get_submodule("decoder.block.1.layer.2").host
    ffn = layer.DenseReluDense(layer.layer_norm(x))
    expected = x + ffn + 16 * kronecker_sum(model.get_submodule("decoder.block.1.layer.2"), x)
    torch.testing.assert_close(output, expected)
    assert len(list(placements(model))) == 4


def test_an_inner_bias_lies_between_the_two_small_products():
    method = KronAB(modules_per_block=1, num_biases=2, bias_per="module", scale=1)
    model = disturb(kronlit.inject(build("t5"), method))
    body = model.get_submodule(FFN["t5"]).body
    (branch,), (inner,), (output,) = body.branches, body.inner_bias, body.output_bias
    x = torch.randn(24)
    by_hand = (branch.a @ x.view(branch.a.shape[1], branch.b.shape[1]) + inner) @ branch.b.T
    torch.testing.assert_close(body(x), by_hand.flatten() + output)


@pytest.mark.parametrize(
    ("method", "activation"),
    [
        (Houlsby(reduction_factor=4), lambda x: F.gelu(x, approximate="tanh")),
        (Houlsby(reduction_factor=4, activation="relu"), torch.relu),
        (Compacter(phm_dim=2, reduction_factor=4), lambda x: F.gelu(x, approximate="tanh")),
        (PHMAdapter(phm_dim=3, reduction_factor=4, activation="silu"), F.silu),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize(
    "name", ["encoder.block.1.layer.0.SelfAttention.o", "decoder.block.0.layer.2.DenseReluDense.wo"]
)
def test_an_adapter_stands_behind_a_sublayer_with_its_own_residual(method, activation, name):
    model = disturb(kronlit.inject(build("t5"), method))
    (x,), output = called(model, name)
    placement = model.get_submodule(name)
    assert isinstance(placement, SequentialAdapter)
    h, body = placement.host(x), placement.body
    down, up = (dense(matrix) for matrix in (body.down, body.up))
    expected = h + activation(h @ down.T + body.down_bias) @ up.T + body.up_bias
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("name", ["bert.encoder.layer.0.attention.output.dense", "bert.encoder.layer.1.output.dense"])
def test_lists_adapter_is_linear_without_bias_behind_a_dense_layer(name):
    # model_adapter.py of microsoft/LiST: x + (x W1ᵀ) W2ᵀ
    model = disturb(kronlit.inject(build("bert"), LiST(bottleneck_width=5)))
    (x, *_), output = called(model, name)
    placement = model.get_submodule(name)
    h = x @ placement.host.weight.T + placement.host.bias
    torch.testing.assert_close(output, h + (h @ placement.body.a.T) @ placement.body.b.T)


def test_a_linear_adapter_merges_into_weight_and_bias():
    model = build("bert")
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    before = run(disturb(kronlit.inject(model, LiST(bottleneck_width=5))))
    kronlit.merge(model)
    torch.testing.assert_close(run(model), before)


def test_lists_adapter_is_no_wider_than_its_model():
    with pytest.raises(ValueError, match="`bottleneck_width`=128 must lie between 1 and the model's width, 24"):
        kronlit.inject(build("bert"), LiST())


def dense(matrix):
    """The matrix of a projection, from its parameters alone."""
    if hasattr(matrix, "weight"):
        return matrix.weight
    b = matrix.b if hasattr(matrix, "b") else [s @ t for s, t in zip(matrix.s, matrix.t, strict=True)]
    return sum(torch.kron(a_i, b_i) for a_i, b_i in zip(matrix.rule, b, strict=True))


def test_the_scaled_parallel_adapter_is_that_of_its_paper():
    # He et al., table 1: h + s f(x W_down) W_up
    model = disturb(kronlit.inject(build("distilbert"), PA(bottleneck_width=3, scale=4)))
    (x,), output = called(model, FFN["distilbert"])
    placement = model.get_submodule(FFN["distilbert"])
    body = placement.body
    added_ = torch.relu(x @ body.down.weight.T + body.down_bias) @ body.up.weight.T + body.up_bias
    torch.testing.assert_close(output, placement.host(x) + 4 * added_)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (SURM(), {"self.query": 2, "self.value": 2}),
        (SURM(sites=("key", "attention_output")), {"self.key": 2, "attention.output.dense": 2}),
        (SURMAdapter(), {"attention.output.dense": 2, r"\d.output.dense": 2}),
    ],
    ids=repr,
)
def test_surm_is_beside_the_projections_or_behind_both_sublayers(method, names):
    found = [name for name, _ in placements(kronlit.inject(build("bert"), method))]
    assert {end: sum(bool(re.search(rf"\.{end}$", name)) for name in found) for end in names} == names
    assert len(found) == sum(names.values())


def by_scipy(matrix):
    """What SciPy makes of the generators of a circulant matrix or of a product of two symmetric Toeplitz ones."""
    a, b = matrix.a.detach().numpy(), matrix.b.detach().numpy()
    if type(matrix).__name__ == "Circulant":
        return torch.from_numpy(scipy.linalg.circulant(a * b))
    return torch.from_numpy(scipy.linalg.toeplitz(b) @ scipy.linalg.toeplitz(a))


@pytest.mark.parametrize("name", ["bert.encoder.layer.1.attention.output.dense", "bert.encoder.layer.0.output.dense"])
@pytest.mark.parametrize(
    ("method", "activation"),
    [
        (SURMAdapter(dropout=0.3), F.gelu),
        (SURMAdapter(structure="toeplitz", activation="silu"), F.silu),
    ],
    ids=["circulant", "toeplitz"],
)
def test_surms_adapter_has_its_bias_after_the_activation_and_no_bottleneck(method, activation, name):
    model = disturb(kronlit.inject(build("bert"), method))
    (x,), output = called(model, name)
    placement = model.get_submodule(name)
    assert isinstance(placement, SequentialAdapter)
    h = placement.host(x)
    expected = h + (activation(h @ by_scipy(placement.body.matrix).T) + placement.body.bias)
    torch.testing.assert_close(output, expected)
    torch.manual_seed(5)
    trained = placement.train()(x)
    torch.manual_seed(5)
    dropped = F.dropout(h, method.dropout)
    torch.testing.assert_close(
        trained, h + (activation(dropped @ by_scipy(placement.body.matrix).T) + placement.body.bias)
    )


@pytest.mark.parametrize("scale", [2.5, "trained"])
@pytest.mark.parametrize("structure", ["circulant", "toeplitz"])
def test_surm_adds_the_scaled_matrix_of_the_dropped_input(structure, scale):
    method = SURM(structure=structure, scale=scale, dropout=0.4, sites=("query", "key", "value", "attention_output"))
    model = disturb(kronlit.inject(build("bert"), method)).train()
    names = ("self.query", "self.key", "self.value", "output.dense")
    assert [name.split("attention.")[1] for name, _ in placements(model)] == [*names, *names]
    for _, placement in placements(model):
        assert isinstance(placement, Delta)
        x = torch.randn(24)
        torch.manual_seed(5)
        y = placement(x)
        torch.manual_seed(5)
        dropped = F.dropout(x, 0.4)
        factor = placement.scale if scale == "trained" else scale
        torch.testing.assert_close(y, placement.host(x) + factor * dropped @ by_scipy(placement.matrix).T)


def test_surms_kronecker_is_b_times_a_over_the_rows_of_a():
    model = disturb(kronlit.inject(build("bert"), SURM(structure="kronecker", a_shape=(4, 8), scale=3.0)))
    _, placement = next(placements(model))
    b, a = placement.matrix.a, placement.matrix.b  # B ⊗ A, of the code's (out/r, r) and (r, in/r), but for their shapes
    assert (tuple(b.shape), tuple(a.shape)) == ((6, 3), (4, 8))
    x = torch.randn(5, 24)
    torch.testing.assert_close(placement(x), placement.host(x) + 3.0 / 4 * x @ torch.kron(b, a).T)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "silu", "mish", "tanh"])
@pytest.mark.parametrize("structure", ["circulant", "toeplitz", "kronecker", "ldr"])
def test_an_adapter_that_starts_as_the_identity_moves_all_the_same(structure, activation):
    model, plain = build("bert"), build("bert")
    plain.load_state_dict(model.state_dict())
    kronlit.inject(model, SURMAdapter(structure=structure, activation=activation))
    output = run(model)
    assert torch.equal(output, run(plain))
    output.square().sum().backward()
    for _, placement in placements(model):
        assert any(p.grad.abs().max() > 0 for p in placement.body.matrix.parameters())


@pytest.mark.parametrize("structure", ["circulant", "toeplitz", "kronecker", "ldr"])
def test_a_trained_scale_starts_at_zero_and_moves(structure):
    model, plain = build("bert"), build("bert")
    plain.load_state_dict(model.state_dict())
    kronlit.inject(model, SURM(structure=structure, scale="trained"))
    output = run(model)
    assert torch.equal(output, run(plain))
    output.square().sum().backward()
    assert all(placement.scale.grad.abs() > 0 for _, placement in placements(model))


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (Houlsby(reduction_factor=4), {"SelfAttention.o": 4, "DenseReluDense.wo": 4}),
        (Pfeiffer(reduction_factor=4), {"SelfAttention.o": 4}),
        (Pfeiffer(reduction_factor=4, sites=("ffn_output",)), {"DenseReluDense.wo": 4}),
        (AdapterDrop(reduction_factor=4, first_layer=1), {"SelfAttention.o": 2, "DenseReluDense.wo": 2}),
        (kronlit.Compacter(phm_dim=2, reduction_factor=4), {"SelfAttention.o": 4, "DenseReluDense.wo": 4}),
        (kronlit.CompacterPP(phm_dim=2, reduction_factor=4), {"DenseReluDense.wo": 4}),
        (KronAB(), {"DenseReluDense": 4}),
        (LiST(bottleneck_width=4), {"SelfAttention.o": 4, "DenseReluDense.wo": 4}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_adapters_are_where_the_paper_has_them_and_never_at_cross_attention(method, names):
    # Two layers of encoder and of decoder
    found = [name for name, _ in placements(kronlit.inject(build("t5"), method))]
    assert {end: sum(name.endswith(f".{end}") for name in found) for end in names} == names
    assert len(found) == sum(names.values())


def test_adapter_drop_keeps_the_upper_layers():
    model = kronlit.inject(build("bert"), AdapterDrop(reduction_factor=4, first_layer=1))
    assert {name.split(".")[3] for name, _ in placements(model)} == {"1"}
    with pytest.raises(ValueError, match="`first_layer`=2 leaves no layer: the last one is 1"):
        kronlit.inject(build("bert"), AdapterDrop(reduction_factor=4, first_layer=2))


def rules(model):
    return [module.rule for module in model.modules() if hasattr(module, "rule")]


def test_one_rule_serves_all_of_compacter_and_learns_from_all():
    model = disturb(kronlit.inject(build("t5"), Compacter(phm_dim=2, reduction_factor=4)))
    shared = rules(model)
    assert len(shared) == 16
    assert all(rule is shared[0] for rule in shared)
    assert len(added(model)) == len([n for n in added(model) if "rule" not in n]) + 1
    run(model).square().sum().backward()
    together = shared[0].grad
    # The same gradient, when each matrix has a copy of its own: the sum over the copies
    for module in [module for module in model.modules() if hasattr(module, "rule")]:
        module.rule = nn.Parameter(module.rule.detach().clone())
    run(model).square().sum().backward()
    torch.testing.assert_close(together, torch.stack([rule.grad for rule in rules(model)]).sum(0))


def test_each_matrix_of_the_phm_adapter_has_its_own_rule():
    own = rules(kronlit.inject(build("t5"), PHMAdapter(phm_dim=2, reduction_factor=4)))
    assert len({id(rule) for rule in own}) == 16


@pytest.mark.parametrize("init", ["random", "vocabulary"])
def test_a_prompt_is_a_longer_input_that_the_decoder_attends_to(init):
    model, plain = build("t5"), build("t5")
    plain.load_state_dict(model.state_dict())
    kronlit.inject(model, PromptTuning(num_tokens=4, init=init))
    ids, mask = torch.arange(3, 17).reshape(2, 7), torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    embeds = torch.cat((model.encoder.prompt.expand(2, -1, -1), plain.get_input_embeddings()(ids)), 1)
    longer = torch.cat((torch.ones(2, 4, dtype=torch.long), mask), 1)
    expected = plain(inputs_embeds=embeds, attention_mask=longer, decoder_input_ids=ids[:, :3]).logits
    ours = model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids[:, :3]).logits
    torch.testing.assert_close(ours, expected)
    encoded = model.get_encoder()(input_ids=ids, attention_mask=mask)
    again = model(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=ids[:, :3]).logits
    torch.testing.assert_close(again, expected)
    answers = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5)
    theirs = plain.generate(inputs_embeds=embeds, attention_mask=longer, max_new_tokens=5)
    assert torch.equal(answers, theirs)
    ours.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["encoder.prompt"]


def test_a_prompt_is_refused_where_it_has_no_place():
    with pytest.raises(ValueError, match="for sequence-to-sequence models such as T5, not for BertForSeq"):
        kronlit.inject(build("bert"), PromptTuning())
    with pytest.raises(ValueError, match="`num_tokens`=100 must lie between 1 and the size of the vocabulary, 99"):
        kronlit.inject(build("t5"), PromptTuning())
    with pytest.raises(TypeError, match="a soft prompt is a longer input"):
        kronlit.merge(kronlit.inject(build("t5"), PromptTuning(num_tokens=3)))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (lambda: KronAB(modules_per_block=0), "`modules_per_block`=0 must be at least 1"),
        (lambda: KronAB(num_biases=3), r"`num_biases`=3 must lie between 0 and 2 for `modules_per_block`=2"),
        (lambda: KronAB(modules_per_block=1, num_biases=2), "between 0 and 1"),
        (lambda: KronABRes(num_biases=-1), "`num_biases`=-1"),
        (lambda: PA(bottleneck_width=0), "`bottleneck_width`=0 must be at least 1"),
        (
            lambda: SURMAdapter(activation="relu"),
            "`activation`='relu' would leave .* where the derivative of relu is 0",
        ),
        (lambda: SURM(structure="hankel"), "`structure`='hankel' must be one of circulant, toeplitz, kronecker, ldr"),
        (lambda: SURM(variant="general"), "`variant`='general' is none of .*'circulant', which has hadamard, single"),
        (lambda: SURM(rank=2), "`rank`=2 is for `structure`='ldr', not for 'circulant'"),
        (lambda: SURMAdapter(structure="ldr", a_shape=(2, 2)), r"`a_shape`=\(2, 2\) is for `structure`='kronecker'"),
        (lambda: SURM(dropout=1.0), "`dropout`=1.0 must be a number from 0 up and below 1"),
        (lambda: SURMAdapter(dropout=-0.1), "`dropout`=-0.1"),
        (
            lambda: kronlit.inject(build("bert"), SURM(structure="kronecker", a_shape=(7, 8))),
            r"self.query: `a_shape`=\(7, 8\) must divide the map's shape \(24, 24\)",
        ),
        (
            lambda: kronlit.inject(build("bert"), SURM(structure="ldr", rank=0)),
            "self.query: `rank`=0 must be at least 1",
        ),
        (lambda: kronlit.inject(build("t5"), Houlsby(reduction_factor=25)), r"SelfAttention.o: `reduction_factor`=25"),
        (
            lambda: kronlit.inject(build("t5"), Houlsby(reduction_factor=0)),
            "`reduction_factor`=0 must lie between",
        ),
        (lambda: kronlit.inject(build("t5"), Compacter(reduction_factor=4)), r"`phm_dim`=4 must divide .*\(6, 24\)"),
        (lambda: kronlit.inject(build("t5"), kronlit.KronA(sites=("ffn",))), "Delta goes on linear modules, not on a"),
        (
            lambda: kronlit.inject(build("t5"), kronlit.IntrinsicSAID(intrinsic_dimension=40)),
            r"`intrinsic_dimension`=40 must exceed the number of tensors, \d+",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_line(method, words):
    with pytest.raises(ValueError, match=words):
        method()


def test_weights_in_a_subspace_move_as_equation_3_says_and_stay_tied():
    model, plain = build("t5"), build("t5")
    plain.load_state_dict(model.state_dict())
    disturb(kronlit.inject(model, kronlit.IntrinsicSAID(intrinsic_dimension=300)))
    theta = model.get_parameter("shared.parametrizations.weight.0.theta")
    tensors = dict(plain.named_parameters())
    assert len(theta) == 300 - len(tensors)
    for name, start in tensors.items():
        holder, _, leaf = name.rpartition(".")
        moves = model.get_submodule(f"{holder}.parametrizations.{leaf}.0")
        assert moves.theta is theta
        with torch.no_grad():
            start += (moves.scale * moves.projection(theta)).view_as(start)
    torch.testing.assert_close(run(model), run(plain))
    assert model.lm_head.weight is model.shared.weight
    kronlit.merge(model)
    assert model.lm_head.weight is model.shared.weight
    torch.testing.assert_close(run(model), run(plain))


def test_weights_in_a_subspace_learn_over_accumulated_steps():
    model = kronlit.inject(build("bert"), kronlit.IntrinsicSAID(intrinsic_dimension=200)).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for step in range(6):
        loss = run(model.eval()).square().sum()
        loss.backward()
        losses.append(loss.item())
        if step % 2:
            optimizer.step()
            optimizer.zero_grad()
    assert losses[0] == losses[1] > losses[2] == losses[3] > losses[4]


class Unmergeable(Delta):
    @property
    def obstacle(self):
        return "it says so"


def test_a_placement_that_forbids_merging_by_the_earlier_name_is_not_merged():
    model = build("bert")
    kronlit.adapters.inject(model, [Insertion(("query",), partial(Unmergeable, matrix=LowRank))])
    with pytest.raises(TypeError, match="cannot be merged: it says so"):
        kronlit.merge(model)


def test_a_trained_scale_of_a_matrix_that_starts_as_zero_is_refused():
    for method in (kronlit.Structured(scale="trained"), kronlit.Structured(matrix=LDR, scale="trained")):
        with pytest.raises(ValueError, match="`scale`='trained' starts at 0, and so does the matrix"):
            kronlit.inject(build("bert"), method)
    kronlit.inject(build("bert"), kronlit.Structured(matrix=partial(LDR, zero_start=False), scale="trained"))
