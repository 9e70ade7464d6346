"""The checkpoint of PPO: everything that the next iteration depends on, complete or not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espalier.errors import InputError
from espalier.train import checkpoints

if TYPE_CHECKING:
    from espalier.train.ppo_run import Run


def save(learner: Run) -> None:
    """Write what is trained, the optimizers, the random state and the place in the run.

    Of a policy with adapters only these are written: the rest never changes.
    """
    learner.accelerator.wait_for_everyone()
    if learner.accelerator.is_main_process:
        info = {
            "cursor": learner.cursor,
            "kl_coefficient": learner.kl_coefficient,
            "watch": learner.watch.state(),
            "held_out": learner.held_out.state() if learner.held_out else None,
            "steps": learner.steps,
        }
        with checkpoints.writing(learner.store, learner.iteration, info) as path:
            for name, network in _networks(learner).items():
                _save_network(network, path / f"{name}.safetensors")
            state = {name: getattr(learner, f"{name}_optimizer") for name in _networks(learner)}
            torch.save(
                {
                    **{name: optimizer.state_dict() for name, optimizer in state.items()},
                    "rng": torch.get_rng_state(),
                },
                path / "optimizers.pt",
            )
    learner.accelerator.wait_for_everyone()


def load(learner: Run, checkpoint: checkpoints.Checkpoint) -> None:
    """Put everything back that `save` wrote."""
    state = torch.load(checkpoint.path / "optimizers.pt", weights_only=True)
    for name, network in _networks(learner).items():
        _load_network(network, checkpoint.path / f"{name}.safetensors")
        getattr(learner, f"{name}_optimizer").load_state_dict(state[name])
    torch.set_rng_state(state["rng"])
    learner.iteration = checkpoint.step
    learner.cursor = int(checkpoint.info["cursor"])
    learner.kl_coefficient = float(checkpoint.info["kl_coefficient"])
    learner.watch.restore(checkpoint.info["watch"])
    if learner.held_out is not None:
        learner.held_out.restore(checkpoint.info["held_out"])
    learner.steps = dict(checkpoint.info["steps"])


def save_policy(learner: Run, store: Path) -> None:
    """Write the policy alone, so that it can be taken back at the end."""
    learner.accelerator.wait_for_everyone()
    if learner.accelerator.is_main_process:
        with checkpoints.writing(store, learner.iteration, {}) as path:
            _save_network(_networks(learner)["policy"], path / "policy.safetensors")
    learner.accelerator.wait_for_everyone()


def load_policy(learner: Run, checkpoint: checkpoints.Checkpoint) -> None:
    """Take back the policy alone, of a checkpoint or of `save_policy`."""
    path = checkpoint.path / "policy.safetensors"
    _load_network(_networks(learner)["policy"], path)


def _networks(learner: Run) -> dict[str, Any]:
    """The networks that are trained, by name."""
    found = {"policy": learner.policy, "critic": learner.critic}
    return {
        name: learner.accelerator.unwrap_model(network)
        for name, network in found.items()
        if network is not None
    }


def _save_network(network: torch.nn.Module, path: Any) -> None:
    from safetensors.torch import save_file, save_model

    if all(p.requires_grad for p in network.parameters()):
        save_model(network, str(path))
        return
    trained = {
        name: p.detach().contiguous() for name, p in network.named_parameters() if p.requires_grad
    }
    save_file(trained, str(path))


def _load_network(network: torch.nn.Module, path: Any) -> None:
    from safetensors.torch import load_file, load_model

    if all(p.requires_grad for p in network.parameters()):
        load_model(network, path)
        return
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    found = load_file(path)
    if trained.keys() != found.keys():
        raise InputError(
            "The checkpoint holds other weights than the ones that are trained.",
            where=str(path),
            hint="the recipe's adapters have changed since; remove the stage's folder",
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(found[name])
