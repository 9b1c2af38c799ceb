"""Mixtures of structured matrices, routed at random: Wang et al., AdaMix, 2022, arXiv:2205.12410, section 3."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from kronlit.structured.base import StructuredLinear

Evaluation = Literal["mean", "random", "first"]


class Mixture(StructuredLinear):
    r"""Several matrices of one kind, the experts. Each training forward draws one of them for the whole batch.

    There is no router to train. Evaluation uses the mean of the experts' parameters, which is one ordinary expert. If
    an expert is a product, such as a low-rank or a Kronecker one, each factor is drawn and averaged separately, as the
    paper does with project-down and project-up. A `shared` factor exists only once.

    All experts of a factor are one parameter, `(num_experts, *shape)`. So every expert has a gradient in every step
    (zero if it was not drawn), and plain DDP works. In training, draws come from `generator` on the CPU, or from
    torch's own if there is none. In evaluation they come from `evaluation_generator`, which `eval()` resets, so that
    evaluations repeat and do not disturb training.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        expert: makes one expert from `(in_features, out_features)`.
        num_experts: number of experts; 1 is the expert itself.
        shared: names of the factors that all experts share, such as `b` of `LowRank`.
        bias: give each expert a bias that starts as zero. It is drawn together with the expert's first factor that is
            not shared. If all factors are shared, so is the bias.
        same_start: start all experts from the same values, as the paper's code does for LoRA.
        evaluation: what is used in evaluation: the mean of the experts, an expert drawn at random for each row, or the
            first expert. The latter two are the paper's ablations.
        idle: what an optimiser step does to experts that were not drawn since the last step. `update`: weight decay
            and momentum, as in the paper's code, where their gradients are zero. `rest`: nothing; this is done by
            `kronlit.modules`, so without Lightning it is `update`.

    Shape:
        `(..., in_features)` to `(..., out_features)`. Random evaluation takes the first dimension as its rows.

    Raises:
        ValueError: if there is no expert, no such factor to share, or the experts' parameters are tied.
    """

    generator: torch.Generator | None = None
    """The source of draws in training."""
    evaluation_generator: torch.Generator = torch.Generator()
    """The source of draws in evaluation; the mixtures of a model share it."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        expert: Callable[[int, int], StructuredLinear],
        num_experts: int = 4,
        shared: tuple[str, ...] = (),
        bias: bool = False,
        same_start: bool = False,
        evaluation: Evaluation = "mean",
        idle: Literal["update", "rest"] = "update",
    ) -> None:
        super().__init__(in_features, out_features)
        if num_experts < 1:
            raise ValueError(f"`num_experts`={num_experts} must be at least 1.")
        self._expert = expert
        self.num_experts = num_experts
        self.shared = shared
        self.same_start = same_start
        self.evaluation = evaluation
        self.idle = idle
        experts = self._start()
        if experts[0].tied:
            raise ValueError(f"experts whose {', '.join(experts[0].tied)} is tied cannot be mixed.")
        if experts[0].starts_from_weight:
            raise ValueError(f"experts that start from a weight, {type(experts[0]).__name__}, cannot be mixed.")
        if kept := [name for name, _ in experts[0].named_buffers()]:
            raise ValueError(f"experts that keep {kept[0]} beside their parameters cannot be mixed.")
        self.factors = tuple(name for name, _ in experts[0].named_parameters())
        for name in shared:
            if name not in self.factors:
                raise ValueError(f"`shared` has {name!r}; an expert has {', '.join(self.factors)}.")
        for name in self.factors:
            self.register_parameter(name, nn.Parameter(self._stack(experts, name)))
        biases = 1 if set(shared) == set(self.factors) else num_experts
        self.bias = nn.Parameter(torch.zeros(biases, out_features)) if bias else None
        self.drawn: dict[str, set[int]] = {name: set() for name, _ in self.named_parameters()}
        # In a list, so that torch does not register it: it has no values, and is called with those of an expert.
        self._skeleton = [experts[0].to("meta")]

    def _start(self) -> list[StructuredLinear]:
        """Newly initialised experts."""
        first = self._expert(self.in_features, self.out_features)
        others = range(self.num_experts - 1)
        return [
            first,
            *(first if self.same_start else self._expert(self.in_features, self.out_features) for _ in others),
        ]

    def _stack(self, experts: list[StructuredLinear], name: str) -> Tensor:
        kept = experts[:1] if name in self.shared else experts
        return torch.stack([expert.get_parameter(name).detach() for expert in kept])

    def train(self, mode: bool = True) -> "Mixture":
        if not mode:
            seed = torch.initial_seed() if self.generator is None else self.generator.initial_seed()
            self.evaluation_generator.manual_seed(seed)
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self._apply_factors(x, self._choose(self._draw()))
        if self.evaluation == "random" and self.num_experts > 1:
            routes = [self._draw() for _ in range(len(x))]
            return torch.stack(
                [self._apply_factors(row, self._choose(route)) for row, route in zip(x, routes, strict=True)]
            )
        return self._apply_factors(x, self.mean() if self.evaluation == "mean" else self._choose({}))

    def _draw(self) -> dict[str, int]:
        """Draw the expert of each factor for one pass."""
        route = {}
        generator = self.generator if self.training else self.evaluation_generator
        for name in self.factors:
            if len(self.get_parameter(name)) > 1:
                route[name] = int(torch.randint(self.num_experts, (1,), generator=generator, device="cpu"))
        if self.bias is not None and route:
            route["bias"] = next(iter(route.values()))
        if self.training:
            for name, index in route.items():
                self.drawn[name].add(index)
        return route

    def _choose(self, route: dict[str, int]) -> dict[str, Tensor]:
        return {name: experts[route.get(name, 0)] for name, experts in self.named_parameters()}

    def _apply_factors(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        bias = parameters.pop("bias", None)
        y: Tensor = torch.func.functional_call(self._skeleton[0], parameters, (x,))
        return y if bias is None else y + bias.to(y.dtype)

    def mean(self) -> dict[str, Tensor]:
        """The mean of the experts' parameters, by name."""
        return {name: experts.mean(0) for name, experts in self.named_parameters()}

    @torch.no_grad()
    def collapse(self) -> None:
        """Become a mixture of one expert, the mean of all. This cannot be undone."""
        for experts in self.parameters():
            experts.data = experts.mean(0, keepdim=True)
            experts.grad = None
        self.num_experts = 1

    def idle_experts(self) -> Iterator[tuple[nn.Parameter, list[int]]]:
        """Each factor, with the experts that no training forward has drawn since the last call.

        A factor that exists once is never idle.
        """
        for name, experts in self.named_parameters():
            several = range(len(experts) if len(experts) > 1 else 0)
            yield experts, [index for index in several if index not in self.drawn[name]]
            self.drawn[name].clear()

    def mean_expert(self) -> StructuredLinear:
        """An expert whose parameters are the mean of all experts', without the bias."""
        expert = self._expert(self.in_features, self.out_features)
        mean = self.mean()
        for name in self.factors:
            delattr(expert, name)
            setattr(expert, name, mean[name])
        return expert

    def to_dense(self) -> Tensor:
        return self.mean_expert().to_dense()

    def thin_factors(self) -> tuple[Tensor, Tensor] | None:
        return self.mean_expert().thin_factors()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        experts = self._start()
        for name in self.factors:
            self.get_parameter(name).copy_(self._stack(experts, name))
        if self.bias is not None:
            self.bias.zero_()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_experts={self.num_experts}, expert={self._skeleton[0]}"
