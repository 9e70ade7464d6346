"""`espalier serve` with vLLM's own server in the foreground: it answers, and it goes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_models import VLLM, all_gone, children_of, environment, save_tiny

from espalier.engines.base import Request, Sampling
from espalier.engines.hf import TransformersEngine
from espalier.engines.vllm_server import free_port

pytestmark = VLLM

# A shell that starts a job in the background lets it ignore Ctrl-C; a terminal does not.
SERVE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from espalier.cli import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_with_its_key_alone_and_leaves_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    import openai

    folder = save_tiny(tmp_path / "tiny")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder), "--engine", "vllm", "--port", str(port)],
        env={**environment(), "ESPALIER_SERVE_KEY": "sesame"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        address = f"http://127.0.0.1:{port}/v1"
        assert f"serving 'tiny' at {address} (with the key)" in ready
        [vllm] = children_of(process.pid)
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=address, api_key="other", max_retries=0).models.list()
        client = openai.OpenAI(base_url=address, api_key="sesame", max_retries=0)
        answer = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "你好，世界"}],
            temperature=0,
            max_tokens=8,
        )
        asked = [Request.of("你好，世界")]
        greedy = Sampling(temperature=0, max_tokens=8)
        [expected] = TransformersEngine(str(folder), device="cpu").generate(asked, greedy)
        said = str(answer.choices[0].message.content)
        # A server keeps back what is no whole character yet.
        assert said.rstrip("\ufffd").strip() == expected.text.rstrip("\ufffd").strip()
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert all_gone(vllm)
