"""Saves and restores random states, and replays draws when a forward pass is recomputed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from kronlit.config.user_error import UserError


def random_state() -> dict[str, Any]:
    """The state of torch's generators on this process."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def random_states(world_size: int) -> list[dict[str, Any]]:
    """The states of torch's generators on all processes."""
    states: list[dict[str, Any]] = [random_state()]
    if world_size > 1:
        states = [{} for _ in range(world_size)]
        torch.distributed.all_gather_object(states, random_state())
    return states


def restore_random_state(states: list[dict[str, Any]], rank: int) -> None:
    """Set torch's generators to the state that a checkpoint has of the process `rank`.

    Raises:
        ValueError: if it is not a state of generators.
    """
    try:
        state = states[rank % len(states)]
        torch.set_rng_state(state["cpu"].cpu())
        if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    except Exception as error:  # a damaged checkpoint may hold anything here
        raise UserError(f"`ckpt_path`: the checkpoint's `random_states` are none ({error!r}).") from error


def replay_draws(
    generator: torch.Generator,
) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """A `context_fn` for `torch.utils.checkpoint`, with which recomputation draws the same from `generator` again.

    By itself, checkpointing does so only for torch's own generators.
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
