"""`vllm serve` in the foreground, for a model of ours, until it is told to stop."""

from __future__ import annotations

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espalier.engines.chat import load_chat_form
from espalier.engines.vllm_lora import weights_for_vllm
from espalier.engines.vllm_options import VLLMOptions
from espalier.engines.vllm_process import VLLMProcess, Waiting, require_vllm
from espalier.engines.vllm_serve import ServeFiles, serve_words
from espalier.engines.vllm_server import free_port
from espalier.progress import say
from espalier.serving import url_of

_LOOK_SECONDS = 0.3


def serve(
    location: str,
    options: Mapping[str, Any],
    *,
    name: str,
    host: str,
    port: int,
    key: str,
    log: str | None,
    ready: Callable[[str], None],
) -> None:
    """Serve a model until Ctrl-C (or SIGTERM); `ready` is told the address once it answers.

    Templates and ends of answers are the model's own; the key goes to vLLM by its environment.
    Raises StageError with the end of vLLM's log when it ends by itself.
    """
    require_vllm("--engine transformers")
    parsed = VLLMOptions.parse(options, "vllm")
    form = load_chat_form(location, parsed.template)
    weights = weights_for_vllm(location)
    port = port or free_port()
    files = ServeFiles(form)
    process = None
    try:
        process = VLLMProcess(
            "serve",
            serve_words(weights, parsed, files, name=name, host=host, port=port),
            environment={
                **parsed.environment(weights.model),
                "VLLM_API_KEY": key or None,
                "ESPALIER_VLLM_TEMPORARY_FOLDER": str(files.folder),
            },
            log=None if log is None else Path(log),
        )
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        health = url_of(local, port).removesuffix("v1") + "health"
        _wait(process, health, parsed.load_seconds, location)
        if files.unended:
            texts = ", ".join(map(repr, files.unended))
            say(f"clients should send these as `stop`: {texts}")
        ready(url_of(host, port))
        while process.alive:
            time.sleep(_LOOK_SECONDS)
        raise process.failure("server ended")
    except KeyboardInterrupt:
        say("stopped")
    finally:
        if process is not None:
            process.close()
        files.remove()


def _wait(process: VLLMProcess, address: str, seconds: float, location: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with Waiting(f"vLLM's server is loading {location}") as waiting:
        while True:
            with contextlib.suppress(OSError), opener.open(address, timeout=5):
                return
            waiting.show()
            if not process.alive:
                raise process.failure("server did not start")
            if waiting.seconds > seconds:
                raise process.failure(
                    f"server was not ready within {seconds:g} s",
                    hint="--option load_seconds=…, or look at the whole log",
                )
            time.sleep(_LOOK_SECONDS)
