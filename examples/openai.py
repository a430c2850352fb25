"""Asks an endpoint of `ssvm serve` with the official client, and prints the text as it comes: openai.py [QUESTION]

OPENAI_BASE_URL is where it listens, as in http://127.0.0.1:7700/v1, OPENAI_API_KEY its token; `ssvm serve` says where it keeps that.
"""

import sys

# Python looks for modules beside the script first, and this one is called as the package is.
sys.path.pop(0)

import openai

question = " ".join(sys.argv[1:]) or "What is the capital of France?"
client = openai.OpenAI()
model = client.models.list().data[0].id
answer = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": question}],
    max_completion_tokens=40,
    stream=True,
)
for part in answer:
    for choice in part.choices:
        print(choice.delta.content or "", end="", flush=True)
print()
