"""Rollouts by vLLM: equal log-probabilities after an update, with the process that was there."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rl_models
import tiny
from vllm_models import VLLM, all_gone, environment, group_of

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from espalier import launch  # noqa: E402
from espalier.errors import StageError  # noqa: E402
from espalier.records import Example  # noqa: E402
from espalier.run import Shared, StageContext  # noqa: E402
from espalier.train import ppo  # noqa: E402
from espalier.train.actors import Episode  # noqa: E402
from espalier.train.config_rl import PPOConfig  # noqa: E402
from espalier.train.config_rollout import RolloutOptions  # noqa: E402
from espalier.train.monitor import read_metrics  # noqa: E402
from espalier.train.ppo_loop import PPO, TIMINGS  # noqa: E402
from espalier.train.rollout import Prompt, SamplingRules  # noqa: E402
from espalier.train.rollout_vllm import VLLMRollouts  # noqa: E402

pytestmark = VLLM
TEMPERATURE = 0.7
STOPS = (3, *range(40, 60))
NEW_TOKENS = 12


def make_policy(seed: int = 0, *, tied: bool = True) -> Any:
    """A Llama that vLLM can run (heads of at least 32 dimensions)."""
    return tiny.model(
        seed=seed,
        hidden_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=96,
        tie_word_embeddings=tied,
    )


def perturbed(model: Any, seed: int) -> Any:
    """The policy after an update: every weight has moved."""
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return changed


def rules(**changes: Any) -> SamplingRules:
    values: dict[str, Any] = {
        "stop_ids": STOPS, "pad_id": 0, "max_new_tokens": NEW_TOKENS, "temperature": TEMPERATURE,
        "seed": 5, "autocast": None, "token_budget": 4096, "longest": 60,
    }  # fmt: skip
    return SamplingRules(**{**values, **changes})


def prompts() -> list[Prompt]:
    """Of differing lengths, among them one of a single token and two that are equal."""
    lengths = (1, 2, 17, 17, 60, 33)
    return [Prompt(Example.single("x"), tuple(5 + i * 7 % 200 for i in range(n))) for n in lengths]


def plain_logprobs(model: Any, episode: Episode, temperature: float = TEMPERATURE) -> Any:
    """One unpadded sequence, one full forward pass, log-softmax of the tempered logits."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([episode.ids])).logits[0].double() / temperature
    start = len(episode.prompt) - 1
    rows = torch.log_softmax(logits[start : start + len(episode.response)], dim=-1)
    return rows.gather(1, torch.tensor(episode.response)[:, None])[:, 0]


def gap(model: Any, episodes: list[Episode]) -> float:
    """The largest difference between what vLLM reported and a plain forward pass says."""
    return max(
        float((plain_logprobs(model, e) - torch.tensor(e.rollout_logprobs)).abs().max())
        for e in episodes
    )


def mean_gap(model: Any, episodes: list[Episode]) -> float:
    """The mean difference, over tokens."""
    gaps = [plain_logprobs(model, e) - torch.tensor(e.rollout_logprobs) for e in episodes]
    return float(torch.cat(gaps).abs().mean())


@pytest.fixture(scope="module")
def engine() -> Iterator[VLLMRollouts]:
    engine = VLLMRollouts(RolloutOptions(), rules(), torch.device("cpu"))
    yield engine
    engine.close()


def pid(engine: VLLMRollouts) -> int:
    assert engine.session is not None
    return engine.session.pid


def test_after_an_update_log_probabilities_are_the_new_policys(engine: VLLMRollouts) -> None:
    first = make_policy()
    engine.sync(first, version=0)
    process, session = pid(engine), engine.session
    before = engine.sample(prompts(), range(6))
    assert gap(first, before) < 1e-4
    for version in (1, 2, 3):
        updated = perturbed(first, version)
        seconds = engine.sync(updated, version=version)
        episodes = engine.sample(prompts(), range(6))
        assert gap(updated, episodes) < 1e-4
        assert gap(first, episodes) > 0.05
        assert mean_gap(updated, episodes) < 1e-5 < 0.05 < mean_gap(first, episodes)
        print(f"sync {version}: {seconds:.3f} s, gap {gap(updated, episodes):.1e}")
        first = updated
    # In place: the same process, the same session, one group of processes.
    assert (pid(engine), engine.session) == (process, session)


def test_the_same_version_is_not_handed_over_again(engine: VLLMRollouts) -> None:
    policy = make_policy()
    assert engine.sync(policy, version=10) > 0
    assert engine.sync(policy, version=10) == 0.0


def test_episodes_are_cut_at_the_first_stop_token_and_in_order(engine: VLLMRollouts) -> None:
    engine.sync(make_policy(), version=11)
    asked = prompts() * 6
    episodes = engine.sample(asked, range(len(asked)))
    assert [e.prompt for e in episodes] == [p.ids for p in asked]
    assert {e.ended for e in episodes} == {True, False}
    for e in episodes:
        assert not set(e.response[:-1]) & set(STOPS)
        assert e.ended == (e.response[-1] in STOPS)
        assert e.ended or len(e.response) == NEW_TOKENS
        assert len(e.rollout_logprobs) == len(e.response)


def test_draws_depend_on_seed_prompt_and_number_alone(engine: VLLMRollouts) -> None:
    engine.sync(make_policy(), version=12)
    asked = prompts()
    all_of_them = engine.sample(asked, range(6))
    assert [e.response for e in engine.sample(asked, range(6))] == [e.response for e in all_of_them]
    some = engine.sample([asked[4], asked[1]], [4, 1])
    assert [e.response for e in some] == [all_of_them[4].response, all_of_them[1].response]
    other = engine.sample(asked, range(6, 12))
    assert [e.response for e in other] != [e.response for e in all_of_them]


def test_samples_follow_the_tempered_distribution(engine: VLLMRollouts) -> None:
    policy = make_policy()
    engine.sync(policy, version=13)
    prompt = prompts()[2]
    count = 3000
    drawn = [e.response[0] for e in engine.sample([prompt] * count, range(count))]
    with torch.no_grad():
        logits = policy(input_ids=torch.tensor([prompt.ids])).logits[0, -1].double()
    expected = torch.softmax(logits / TEMPERATURE, dim=-1)
    found = torch.bincount(torch.tensor(drawn), minlength=len(expected)) / count
    # Total variation of `count` draws from the distribution itself, by its variance.
    bound = 0.5 * float((expected * (1 - expected) / count).sqrt().sum())
    assert 0.5 * float((found - expected).abs().sum()) < 1.5 * bound


@pytest.mark.parametrize("config", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_a_policy_with_adapters_is_sampled_with_them(
    engine: VLLMRollouts, config: dict[str, Any]
) -> None:
    plain = make_policy()
    policy = peft.get_peft_model(
        copy.deepcopy(plain),
        peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "up_proj"], **config),
    )
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)
    engine.sync(policy, version=20 + len(config))
    episodes = engine.sample(prompts(), range(6))
    assert gap(policy, episodes) < 1e-4
    assert gap(plain, episodes) > 0.05


def test_a_process_that_dies_is_one_message_and_nothing_stays(tmp_path: Path) -> None:
    options = RolloutOptions(weights_folder=str(tmp_path))
    engine = VLLMRollouts(options, rules(), torch.device("cpu"))
    policy = make_policy()
    engine.sync(policy, version=0)
    process = pid(engine)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(StageError, match="vLLM ended") as caught:
        engine.sample(prompts(), range(6))
    assert "last checkpoint" in str(caught.value.hint)
    Path(str(caught.value.where)).unlink()
    assert not group_of(process)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_shape_are_one_message(tmp_path: Path) -> None:
    engine = VLLMRollouts(RolloutOptions(), rules(), torch.device("cpu"))
    engine.sync(make_policy(), version=0)
    process = pid(engine)
    other = tiny.model(hidden_size=32, num_attention_heads=1, num_key_value_heads=1)
    with pytest.raises(StageError, match="can't take new weights in place") as caught:
        engine.sync(other, version=1)
    Path(str(caught.value.where)).unlink()
    assert engine.session is None
    assert not group_of(process)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_the_weights_follow_in_place(tmp_path: Path) -> None:
    device = torch.device("cuda", 0)
    bf16 = rules(autocast=torch.bfloat16)
    engine = VLLMRollouts(RolloutOptions(gpu_memory_utilization=0.2), bf16, device)
    try:
        first, updated = make_policy(), perturbed(make_policy(), 1)
        engine.sync(copy.deepcopy(first).to(device), version=0)
        process = pid(engine)
        before = engine.sample(prompts(), range(6))
        seconds = engine.sync(copy.deepcopy(updated).to(device), version=1)
        after = engine.sample(prompts(), range(6))
        print(f"sync: {seconds:.3f} s")
        # bf16 has three digits; another policy's numbers are far off.
        assert mean_gap(first, before) < 0.05 < mean_gap(updated, before)
        assert mean_gap(updated, after) < 0.05 < mean_gap(first, after)
        assert pid(engine) == process
    finally:
        engine.close()


# The whole loop -----------------------------------------------------------------------------


def stage(folder: Path, **values: Any) -> StageContext:
    """PPO of the policy in `folder`/run by a rule, with samples by vLLM."""
    run = folder / "run"
    if not run.exists():
        rl_models.save(rl_models.make_model(hidden=64), run / "sft" / "model")
        rl_models.write_rows(run / "curate" / "prompts.jsonl", rl_models.prompts(20))
        (run / "ppo").mkdir()
    options = {
        "rollouts": "vllm", "reward": None, "rules": {f"{rl_models.__file__}:rule_letter": 1.0},
        "precision": "fp32", "rollout_batch": 12, "minibatch": 4, "iterations": 3,
        "max_new_tokens": 8, "critic_only_iterations": 0, "samples": 0, "checkpoint_every": 1,
        "learning_rate": 3e-3, "temperature": 0.9,
    }  # fmt: skip
    chosen = PPOConfig.model_validate({**options, **values})
    return StageContext("ppo", run, run / "ppo", chosen, Shared(seed=3))


def prepared(folder: Path, **values: Any) -> PPO:
    return ppo.prepare(stage(folder, **values))


def lines(learner: PPO) -> list[dict[str, Any]]:
    found = read_metrics(learner.folder / "metrics.jsonl")
    return [{name: line[name] for name in line if name not in (*TIMINGS, "time")} for line in found]


def test_ppo_through_vllm_and_a_run_that_goes_on(tmp_path: Path) -> None:
    whole = prepared(tmp_path / "whole")
    counts = whole.run()
    assert counts["rollouts"] == "vllm"
    metrics = list(read_metrics(whole.folder / "metrics.jsonl"))
    assert len(metrics) == 3
    for line in metrics:
        assert line["rollout_gap"] < 1e-5  # a mean over tokens, in nats
        assert line["first_ratio_gap"] < 1e-6
    assert all(0 < line["seconds_syncing"] < 5 for line in metrics[1:])
    print("syncs:", [f"{line['seconds_syncing']:.3f} s" for line in metrics])
    # The same run in two parts: another vLLM, started from the checkpoint, samples the same.
    first = prepared(tmp_path / "part")
    first.run(until=2)
    second = prepared(tmp_path / "part")
    second.run()
    assert lines(second) == lines(whole)
    one, two = (learner.accelerator.unwrap_model(learner.policy) for learner in (whole, second))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_ppo_with_adapters_through_vllm(tmp_path: Path) -> None:
    learner = prepared(tmp_path, lora={"r": 4}, critic="shared")
    learner.run()
    found = list(read_metrics(learner.folder / "metrics.jsonl"))
    assert all(line["rollout_gap"] < 1e-5 for line in found)
    assert found[-1]["kl_k3"] > 1e-4  # it has learnt, and vLLM with it


@pytest.mark.timeout(600)
def test_two_processes_have_a_vllm_each(tmp_path: Path) -> None:
    options = {"rollout_options": {"weights_folder": str(tmp_path / "weights")}}
    alone = prepared(tmp_path / "alone", minibatch=6, iterations=2)
    alone.run()
    context = stage(tmp_path / "two", minibatch=6, iterations=2, **options)
    counts = launch.run("espalier.train.ppo", context, 2)
    assert counts["processes"] == 2
    expected, found = lines(alone), list(read_metrics(context.folder / "metrics.jsonl"))
    assert len(found) == 2
    for line in found:
        assert line["rollout_gap"] < 1e-5
        assert line["seconds_syncing"] > 0
    # Both sampled what one process samples: draws belong to episodes, not to engines.
    for name in ("score", "length", "entropy", "no_end_rate"):
        assert found[0][name] == pytest.approx(expected[0][name], abs=1e-5)
    assert list((tmp_path / "weights").iterdir()) == []


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_train_rollout_vllm as tests
learner = tests.prepared(Path(sys.argv[1]), rollout_options={"weights_folder": sys.argv[3]})
learner.sample()
print("pid", learner.rollouts.session.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_no_process_and_no_weights(tmp_path: Path) -> None:
    words = [str(tmp_path), str(Path(__file__).parent), str(tmp_path / "weights")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=200,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert all_gone(int(done.stdout.split("pid")[-1]))
    assert list((tmp_path / "weights").iterdir()) == []
