"""Refusals are told from answers that only sound like them, in both languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espalier.refusals import is_refusal

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "Sorry, I cannot answer this question.",
    "I cannot fulfill your request.",
    "I am unable to provide medical advice.",
    "I'm not able to browse the internet.",
    "Unfortunately, I am not able to access real-time data.",
    "As an AI language model, I don't have personal opinions.",
    "I'm sorry, but as an AI language model I can't help with that.",
    "I apologize, but I won't be able to complete this task.",
    "I'm afraid I can't do that.",
    "I must decline to answer.",
    "I am just an AI language model and cannot see images.",
    "抱歉，我无法回答这个问题。",
    "很抱歉，作为一个人工智能语言模型，我无法回答这个问题。",
    "对不起，我不能帮助您完成这个请求。",
    "作为AI语言模型，我没有个人情感。",
    "我无法提供医疗建议。",
    "非常抱歉，我暂时无法为您提供该服务。",
    "我是一个人工智能助手，不能访问互联网。",
]
ANSWERS = [
    "Sorry for the late reply! I'll be there at eight.",
    "I'm sorry for your loss. She was a wonderful person.",
    "I can't find my keys anywhere, so I will be late.",
    "Dear team, I am sorry that I cannot attend the meeting on Friday.",
    "You can't divide by zero, because no number times zero gives one.",
    "The model can't help overfitting when there is too little data.",
    "Plants cannot produce food without light.",
    "No.",
    "Unfortunately, the train left ten minutes ago.",
    "An AI language model predicts the next token.",
    "Translation: “I cannot help you,” said the innkeeper.",
    "对不起，我迟到了，路上堵车。",
    "很抱歉给您带来不便，我们会在三天内退款。",
    "植物没有光就无法进行光合作用。",
    "人工智能语言模型根据上文预测下一个词。",
    "不能，因为零不能作除数。",
    "这道题无法用加法完成，要用乘法。",
    "",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text: str) -> None:
    assert is_refusal(text)
    assert is_refusal(f"  {text}\n")


@pytest.mark.parametrize("text", ANSWERS)
def test_answers(text: str) -> None:
    assert not is_refusal(text)


def test_a_refusal_far_into_an_answer_does_not_count() -> None:
    story = "The old knight sat by the fire and told his tale to anyone who would listen. " * 5
    assert not is_refusal(story + "I cannot help you, said the king.")


def test_published_answers_are_mostly_no_refusals(shared_data: Path) -> None:
    folder = shared_data / "self_instruct" / "predictions"
    lines = (folder / "text-davinci-003_predictions.jsonl").read_text(encoding="utf-8")
    answers = [json.loads(line)["response"] for line in lines.splitlines()]
    refused = [text for text in answers if is_refusal(str(text))]
    assert len(refused) <= len(answers) // 20, refused
