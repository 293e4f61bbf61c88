"""OpenAI's own client against a node: chat, streaming, stop, cancelling, errors, completions, models, sync and async.

openai_client.py http://127.0.0.1:PORT
"""

import asyncio
import sys
import time

import openai

base = sys.argv[1] + "/v1"
client = openai.OpenAI(base_url=base, api_key="unused", max_retries=0)
messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello there"}]

whole = client.chat.completions.create(model="any", messages=messages, max_tokens=12)
text = whole.choices[0].message.content
assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 12, whole

chunks = list(
    client.chat.completions.create(
        model="any",
        messages=messages,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert streamed == text, (streamed, text)
assert (
    chunks[0].choices[0].delta.role == "assistant"
    and chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
)
assert chunks[-1].usage.prompt_tokens_details.cached_tokens == whole.usage.prompt_tokens - 1, (
    chunks[-1].usage
)

stop = text[2:4]
stopped = client.chat.completions.create(model="any", messages=messages, max_tokens=12, stop=[stop])
assert (
    stopped.choices[0].message.content == text[: text.index(stop)]
    and stopped.choices[0].finish_reason == "stop"
), stopped

parts = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}],
    }
]
assert (
    client.chat.completions.create(model="any", messages=messages[:1] + parts, max_tokens=12)
    .choices[0]
    .message.content
    == text
)

stream = client.chat.completions.create(
    model="any", messages=messages, max_tokens=4000, temperature=1, stream=True
)
for _ in zip(range(3), stream):
    pass
stream.close()
start = time.monotonic()
client.chat.completions.create(model="any", messages=messages, max_tokens=1)
assert time.monotonic() - start < 20, "a cancelled answer went on"

assert (
    client.completions.create(
        model="any", prompt="The state of", max_tokens=4
    ).usage.completion_tokens
    == 4
)
assert len(client.models.list().data) == 1

for wrong, param in [({"n": 2}, "n"), ({"logprobs": True}, "logprobs")]:
    try:
        client.chat.completions.create(model="any", messages=messages, **wrong)
        raise SystemExit(f"{wrong} was accepted")
    except openai.BadRequestError as error:
        assert error.param == param, error


async def both():
    asked = openai.AsyncOpenAI(base_url=base, api_key="unused", max_retries=0)
    answers = await asyncio.gather(
        *(
            asked.chat.completions.create(model="any", messages=messages, max_tokens=12)
            for _ in range(8)
        )
    )
    assert all(answer.choices[0].message.content == text for answer in answers), answers


asyncio.run(both())
