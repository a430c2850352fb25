"""Asks an endpoint with the official client: BASE TOKEN SPEECH, the last one what the model says.

The model is the toy of tests/src/toy.rs; token ids from 1000 on ask it for a misfortune.
"""

import asyncio
import sys

import openai

BASE, TOKEN, SPEECH = sys.argv[1:]
BREAKS, SLOW = 1001, 1002


def client(**more):
    return openai.OpenAI(base_url=BASE + "/v1", api_key=TOKEN, timeout=20, **more)


def fails(kind, ask):
    try:
        ask()
    except kind as error:
        return error
    raise SystemExit(f"no {kind.__name__}")


def models(ai):
    assert [model.id for model in ai.models.list()] == ["toy"]
    assert ai.models.retrieve("toy").owned_by == "ssvm"


def completions(ai):
    answer = ai.completions.create(model="toy", prompt="Hark", max_tokens=60, temperature=0)
    assert answer.choices[0].text == SPEECH, answer
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 10
    assert "no third party" in answer.system_fingerprint
    pieces = list(ai.completions.create(model="toy", prompt="Hark", max_tokens=60, temperature=0, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == SPEECH
    assert pieces[-1].choices[0].finish_reason == "stop"
    short = ai.completions.create(model="toy", prompt=[5, 6], max_tokens=60, temperature=0, stop=["cousin"], seed=1)
    assert short.choices[0].text == "Good morrow, "


def chats(ai):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    answer = ai.chat.completions.create(model="toy", messages=messages, temperature=0)
    assert answer.choices[0].message.content == SPEECH
    assert answer.choices[0].message.role == "assistant"
    stream = ai.chat.completions.create(
        model="toy",
        messages=messages,
        temperature=0,
        max_completion_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces = list(stream)
    text = "".join(choice.delta.content or "" for piece in pieces for choice in piece.choices)
    assert text and SPEECH.startswith(text), text
    assert pieces[-2].choices[0].finish_reason == "length"
    assert pieces[-1].choices == [] and pieces[-1].usage.completion_tokens == 5


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def kinds(ai):
    """Kinds of requests that programs send today."""
    ask = ai.chat.completions.create
    hi = [{"role": "user", "content": "Hi"}]
    for more in (
        {"tools": [TOOL], "tool_choice": "none"},
        {"tools": [TOOL], "max_tokens": 5},
        {"n": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False, "user": "me", "store": False},
        {"response_format": {"type": "text"}, "metadata": {"a": "b"}, "parallel_tool_calls": True},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
        {"stop": ["cousin", "<|endoftext|>"]},
    ):
        answer = ask(model="toy", messages=hi, temperature=0, **more)
        assert SPEECH.startswith(answer.choices[0].message.content), more
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    talk = [
        {"role": "user", "content": [{"type": "text", "text": "A"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "dry"},
    ]
    assert ask(model="toy", messages=talk, temperature=0).choices[0].message.content == SPEECH
    for name, value in {
        "n": 2,
        "logprobs": True,
        "top_p": 0.5,
        "logit_bias": {"5": 1},
        "tool_choice": "required",
        "response_format": {"type": "json_object"},
        "presence_penalty": 1,
    }.items():
        error = fails(openai.BadRequestError, lambda: ask(model="toy", messages=hi, **{name: value}))
        assert error.param == name and error.code == "unsupported_parameter", error
    for name in ("echo", "suffix", "best_of"):
        value = {"echo": True, "suffix": "x", "best_of": 2}[name]
        error = fails(openai.BadRequestError, lambda: ai.completions.create(model="toy", prompt="x", **{name: value}))
        assert error.param == name, error
    assert ai.models.retrieve("toy").model_extra["context_length"] == 64


def faults(ai):
    ask = ai.completions.create
    error = fails(openai.BadRequestError, lambda: ask(model="toy", prompt="x", n=2))
    assert (error.param, error.code, error.type) == ("n", "unsupported_parameter", "invalid_request_error"), error
    error = fails(openai.BadRequestError, lambda: ask(model="toy", prompt="x", top_p=0.5))
    assert error.param == "top_p" and "logits" in error.message
    fails(openai.NotFoundError, lambda: ask(model="gpt-4", prompt="x"))
    stranger = openai.OpenAI(base_url=BASE + "/v1", api_key="another-token-0123", timeout=20)
    fails(openai.AuthenticationError, stranger.models.list)
    # The default client tries again, but not what would cost material twice.
    error = fails(openai.InternalServerError, lambda: ask(model="toy", prompt=[BREAKS]))
    assert (error.status_code, error.code) == (502, "session_failed"), error
    error = fails(openai.APIError, lambda: list(ask(model="toy", prompt=[BREAKS], stream=True)))
    assert error.code == "session_failed"
    fails(openai.RateLimitError, lambda: asyncio.run(together(6, client_retries=0)))


async def together(count, client_retries):
    """Slow requests at once; the endpoint answers three at a time."""
    ai = openai.AsyncOpenAI(base_url=BASE + "/v1", api_key=TOKEN, timeout=20, max_retries=client_retries)
    asks = [ai.completions.create(model="toy", prompt=[5, SLOW], max_tokens=8, temperature=0) for _ in range(count)]
    answers = await asyncio.gather(*asks)
    assert len({answer.choices[0].text for answer in answers}) == 1
    await ai.close()


def leaving(ai):
    with ai.completions.create(model="toy", prompt=[5, SLOW], max_tokens=60, stream=True) as stream:
        next(iter(stream))
    # Three slots are free again soon.
    for _ in range(3):
        asyncio.run(together(1, client_retries=2))


if __name__ == "__main__":
    ai = client()
    for part in (models, completions, chats, kinds, faults, leaving):
        part(ai)
    asyncio.run(together(3, client_retries=5))
    print("content")
