"""The random numbers of a run: saved with it, and drawn again where a forward pass is computed again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from kronlit.config.user_error import UserError


def random_state() -> dict[str, Any]:
    """State of torch's generators on this process."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def random_states(world_size: int) -> list[dict[str, Any]]:
    """State of torch's generators on every process."""
    states: list[dict[str, Any]] = [random_state()]
    if world_size > 1:
        states = [{} for _ in range(world_size)]
        torch.distributed.all_gather_object(states, random_state())
    return states


def restore_random_state(states: list[dict[str, Any]], rank: int) -> None:
    """Set torch's generators on the process `rank` to what a checkpoint has of it.

    Raises:
        ValueError: if that is no such state.
    """
    try:
        state = states[rank % len(states)]
        torch.set_rng_state(state["cpu"].cpu())
        if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    except Exception as error:  # whatever stands in their place
        raise UserError(f"`ckpt_path`: the checkpoint's `random_states` are none ({error!r}).") from error


def replay_draws(
    generator: torch.Generator,
) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """A `context_fn` for `torch.utils.checkpoint`: what is recomputed draws from `generator` what it drew before.

    Checkpointing does so by itself for torch's own generators alone.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        state = torch.empty(0)

        @contextmanager
        def first() -> Iterator[None]:
            nonlocal state
            state = generator.get_state()
            yield

        @contextmanager
        def again() -> Iterator[None]:
            now = generator.get_state()
            generator.set_state(state)
            try:
                yield
            finally:
                generator.set_state(now)

        return first(), again()

    return contexts
