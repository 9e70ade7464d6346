"""The verbs `espalier serve` and `espalier chat`: a model put to use, in its own template."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import UsageError
from espalier.verbs import add_verb

if TYPE_CHECKING:
    from espalier.safety import SafetyFilter

ENGINES = ("auto", "transformers", "vllm")
KEY = "ESPALIER_SERVE_KEY"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `serve` and `chat`."""
    serve = add_verb(
        subparsers,
        "serve",
        _serve,
        summary="serve a model over HTTP, as OpenAI's API does",
        example="espalier serve runs/demo/ppo --port 8000 --safety rules.yaml",
    )
    _add_model_options(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    serve.add_argument("--name", help="name that clients ask for (default: the folder's)")
    serve.add_argument(
        "--key-env",
        default=KEY,
        metavar="NAME",
        help=f"environment variable with the key that clients send (default: {KEY}; "
        "none is asked for where it is not set)",
    )
    serve.add_argument("--log", metavar="FILE", help="keep vLLM's log here")
    chat = add_verb(
        subparsers,
        "chat",
        _chat,
        summary="talk to a model on the terminal",
        example="espalier chat runs/demo/ppo",
    )
    _add_model_options(chat)
    chat.add_argument("--system", metavar="TEXT", help="system message")
    chat.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (0.7)")
    chat.add_argument("--top-p", type=float, default=1.0, help="nucleus sampling (1)")
    chat.add_argument("--max-tokens", type=int, default=512, help="longest answer (512)")
    chat.add_argument("--seed", type=int, default=0, help="of the draws (0)")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model folder, RUN/STAGE, or a hub name")
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto", help="what runs it (auto says why)"
    )
    parser.add_argument("--template", help="prompt template (default: the model's own)")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="number type (default: as the weights are stored)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the engine, e.g. max_model_len=4096 (repeatable)",
    )
    add_own_code_option(parser)
    parser.add_argument(
        "--safety", metavar="FILE", help="rules for what is not asked and not answered (YAML)"
    )


def add_own_code_option(parser: argparse.ArgumentParser) -> None:
    """`--trust-remote-code`, for verbs that load a model outside of a recipe."""
    parser.add_argument(
        "--trust-remote-code",
        metavar="MODEL",
        action="append",
        default=[],
        help="run the code that comes with this model (a folder or hub name; repeatable)",
    )


def _serve(args: argparse.Namespace) -> int:
    from espalier.own_code import allowing

    with allowing(args.trust_remote_code):
        return _serve_model(args)


def _serve_model(args: argparse.Namespace) -> int:
    from espalier.engines.vllm_process import has_vllm
    from espalier.models import model_location
    from espalier.progress import say
    from espalier.serving import check_address

    if not 0 <= args.port < 65536:
        raise UsageError(f"--port is {args.port}.", expected="0 to 65535; 0 takes a free one")
    check_address(args.host, args.port)
    location = model_location(args.model)
    why = "vLLM is installed" if has_vllm() else "vLLM is not installed here (make setup-vllm)"
    engine = _engine(args, location, why, prefers_vllm=has_vllm())
    if args.log and engine != "vllm":
        raise UsageError(
            "--log keeps vLLM's log, and transformers runs this model.",
            expected="--engine vllm, or no --log",
        )
    safety = _safety(args)
    name = args.name or _name(location)
    key = os.environ.get(args.key_env, "").strip()
    if engine == "vllm" and safety is None:
        from espalier.engines.vllm_standalone import serve

        serve(
            location,
            _options(args),
            name=name,
            host=args.host,
            port=args.port,
            key=key,
            log=args.log,
            ready=lambda url: _say_ready(say, name, url, key),
        )
        return 0
    return _serve_here(args, location, engine, safety, name, key)


def _serve_here(
    args: argparse.Namespace,
    location: str,
    engine: str,
    safety: SafetyFilter | None,
    name: str,
    key: str,
) -> int:
    """Through a server of ours; behind it transformers, or a server of vLLM."""
    from espalier.engines.base import Request, Sampling
    from espalier.progress import say
    from espalier.serving import Answering, AtOnce, Guarded, ModelServer, Together, url_of

    kind = "vllm-server" if engine == "vllm" else "transformers"
    options = _options(args) | ({"log": args.log} if args.log else {})
    opened = _open(kind, location, options)
    try:
        # What is wrong with a model is said now, and not to the first client.
        list(opened.generate([Request.of("hello")], Sampling(max_tokens=1)))
    except BaseException:
        opened.close()
        raise
    answering: Answering = AtOnce(opened) if engine == "vllm" else Together(opened)
    try:
        if safety is not None:
            safety.load()
        server = ModelServer((args.host, args.port), Guarded(answering, safety), name=name, key=key)
        with server:
            host, port = server.server_address[:2]
            _say_ready(say, name, url_of(str(host), port), key)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say("stopped")
    finally:
        answering.close()
    return 0


def _say_ready(say: Any, name: str, url: str, key: str) -> None:
    asked = "with the key" if key else "without a key"
    say(f"serving '{name}' at {url} ({asked}); Ctrl-C stops it")


def _chat(args: argparse.Namespace) -> int:
    from espalier.own_code import allowing

    with allowing(args.trust_remote_code):
        return _chat_with_model(args)


def _chat_with_model(args: argparse.Namespace) -> int:
    from espalier.chatting import Chat, talk
    from espalier.engines.base import Sampling
    from espalier.engines.vllm_process import has_gpu, has_vllm
    from espalier.models import model_location
    from espalier.serving import AtOnce, Guarded

    if args.max_tokens < 1 or args.temperature < 0 or not 0 < args.top_p <= 1:
        raise UsageError(
            "The sampling options are not right.",
            expected="--max-tokens from 1, --temperature from 0, --top-p over 0 and up to 1",
        )
    location = model_location(args.model)
    safety = _safety(args)
    on_gpu = has_vllm() and has_gpu()
    why = "there are a GPU and vLLM" if on_gpu else "it starts sooner, and one person asks"
    engine = _engine(args, location, why, prefers_vllm=on_gpu)
    answering = AtOnce(_open(engine, location, _options(args)))
    sampling = Sampling(
        temperature=args.temperature,
        top_p=args.top_p,
        max_tokens=args.max_tokens,
        seed=args.seed,
    )
    try:
        if safety is not None:
            safety.load()
        talk(Chat(Guarded(answering, safety), sampling, args.system), sys.stdin, sys.stdout)
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the way out of a conversation
    finally:
        answering.close()
    return 0


def _engine(args: argparse.Namespace, location: str, why: str, *, prefers_vllm: bool) -> str:
    """What runs the model; said where `auto` decides."""
    if args.engine != "auto":
        return str(args.engine)
    from espalier.adapted import is_adapter
    from espalier.engines.vllm_lora import lora_refusal

    refusal = lora_refusal(location) if is_adapter(location) else None
    engine = "vllm" if prefers_vllm and refusal is None else "transformers"
    if prefers_vllm and refusal is not None:
        why = f"vLLM can't serve these adapters: {refusal}"
    print(f"{engine} runs the model: {why}", file=sys.stderr, flush=True)
    return engine


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"dtype": args.dtype}
    if args.template:
        options["template"] = args.template
    for text in args.option:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"'{text}' is no option.", expected="KEY=VALUE, e.g. kv_cache_gib=2")
        options[name] = _value(value)
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _open(engine: str, location: str, options: dict[str, Any]) -> Any:
    from espalier.engines import open_engine
    from espalier.engines.base import EngineSpec

    return open_engine(EngineSpec(engine=engine, model=location, options=options))


def _safety(args: argparse.Namespace) -> SafetyFilter | None:
    if not args.safety:
        return None
    from espalier.safety import read_safety

    return read_safety(args.safety)


def _name(location: str) -> str:
    """The folder's name; of RUN/STAGE/model the stage's, of a hub name all of it."""
    folder = Path(location)
    if not folder.is_dir():
        return location
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" else folder.name
