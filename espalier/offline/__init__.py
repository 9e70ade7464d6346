"""The embedded teacher and judge: procedural, seeded, English and Chinese.

`families` holds the tasks with verifiable answers, `source` draws prompts from them,
`instructions` composes and answers open tasks, `teacher` and `judge` answer prompts as text,
`corpus` writes what the tiny base model is trained on. The text of an answer is all that the
rest of the project sees of them.
"""
