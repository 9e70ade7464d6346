"""The project's prompt templates in the form that a server reads (a Jinja chat template)."""

from __future__ import annotations

from espalier.templates import ESPALIER_JINJA, Template, get_template

_LOOP = "{% for m in messages %}"
_SYSTEM = (
    "{% set found = messages | selectattr('role', 'equalto', 'system')"
    " | map(attribute='content') | list %}{% set system = found | join('\\n\\n') %}"
)
_CHATML = (
    _LOOP + "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_QA = (
    _LOOP + "{% if m.role == 'system' %}{{ m.content + '\\n\\n' }}"
    "{% elif m.role == 'user' %}{{ 'Question: ' + m.content + '\\n' }}"
    "{% else %}{{ 'Answer: ' + m.content + '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)
_VICUNA = (
    _SYSTEM + "{{ (system or DEFAULT) + ' ' }}" + _LOOP + "{% if m.role == 'user' %}"
    "{{ 'USER: ' + m.content + ' ' }}{% elif m.role == 'assistant' %}"
    "{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_ALPACA = (
    _SYSTEM + "{% if system %}{{ system + '\\n\\n' }}{% else %}{{ DEFAULT }}{% endif %}"
    "{% set turn = namespace(first=true) %}" + _LOOP + "{% if m.role == 'user' %}"
    "{{ '' if turn.first else '\\n\\n' }}{{ '### Instruction:\\n' + m.content + '\\n\\n' }}"
    "{% set turn.first = false %}{% elif m.role == 'assistant' %}"
    "{{ '### Response:\\n' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)


def jinja_of(template: Template, *, bos: bool = False) -> str | None:
    """The Jinja text that renders what `template` renders for a conversation that a user opens;
    None for "model" (the tokenizer has its own). `bos` puts the tokenizer's BOS first, where the
    template does not see to that itself.
    """
    if template.jinja is not None:
        return None if template.name == "model" else template.jinja
    forms = {
        "espalier": ESPALIER_JINJA,
        "chatml": _CHATML,
        "qa": _QA,
        "vicuna": _VICUNA.replace("DEFAULT", repr(_default("vicuna", "USER:").rstrip(" "))),
        "alpaca": _ALPACA.replace("DEFAULT", repr(_default("alpaca", "### Instruction:"))),
        "alpaca-short": _ALPACA.replace("DEFAULT", "''"),
    }
    text = forms.get(template.name)
    if text is None:
        return None
    return ("{{ bos_token }}" if bos else "") + text


def _default(name: str, until: str) -> str:
    """What a template writes before the first turn of a conversation without a system turn."""
    from espalier.records import Message

    rendered = get_template(name).prompt((Message("user", "x"),))
    return rendered[: rendered.index(until)]
