"""The scenes of the provider by script: replies of OpenAI's protocol as providers send them, and as they should not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MODEL = "scripted-1"
_TOP = {"id": "chatcmpl-scripted", "created": 1_763_553_601, "model": MODEL, "system_fingerprint": "fp_1"}
_CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Seoul"}'}},
    {"id": "call_b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
]
MANY_CALLS = [{**_CALLS[0], "id": f"call_{number}", "note": "x" * 1_000} for number in range(100)]
_BARE_CALLS = [{name: value for name, value in call.items() if name != "type"} for call in _CALLS]
_SIGNED = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 9},
}


@dataclass(frozen=True)
class Scene:
    """A status with a body; or events, and whether the connection is cut after them."""

    body: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[object] = ()
    """Each an object, or a text that is sent as it is."""
    cut: bool = False


def chunk(delta: object = None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk with one choice."""
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {**_TOP, "object": "chat.completion.chunk", "choices": [choice], **more}


def whole(*messages: Mapping[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A whole reply with a choice for each message."""
    choices = [
        {"index": number, "message": {"role": "assistant", "content": None, **each}, "finish_reason": finish}
        for number, each in enumerate(messages)
    ]
    return {**_TOP, "object": "chat.completion", "choices": choices, "usage": USAGE, **more}


def _without(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: held for name, held in value.items() if name not in names}


def _error(status: int, headers: Mapping[str, str] | None = None, **error: object) -> Scene:
    return Scene({"error": error}, status, headers or {})


SAID = {"content": "Hello."}
BEGUN, HEL, LO = chunk({"role": "assistant"}), chunk({"content": "Hel"}), chunk({"content": "lo."})
STOP = chunk(finish="stop")
USED = {**_TOP, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
DONE = "data: [DONE]\n\n"
WEATHER = '{"city":"Seoul","degrees":21}'
_WEATHER_CALL = {"id": "call_w", "type": "function", "function": {"name": "Weather", "arguments": WEATHER}}
REASONED = {"content": "Hello.", "reasoning_content": "They greet me."}
LOGPROBS: Mapping[str, Any] = {
    "content": [{"token": "Hello", "logprob": -0.1, "bytes": None, "top_logprobs": []}],
    "refusal": None,
}
ANNOTATED: Mapping[str, Any] = {"annotations": [{"type": "url_citation"}], "images": [{"type": "image_url"}]}
NOT_FOUND = "The model `scripted-2` does not exist or you do not have access to it."

_EXTRA = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 1}
_TOOL_FAILED = {"error": {"message": "No such tool.", "type": "invalid_request_error", "code": "tool_use_failed"}}
_TOO_LONG = {"error": {"message": "This endpoint's maximum context length is 8192 tokens.", "code": 400}}
_FLAGGED = {"error": {"message": "Your input was flagged by moderation.", "code": 403, "metadata": {"reasons": []}}}

SCENES: dict[str, Scene] = {
    "text": Scene(whole(SAID), events=(BEGUN, HEL, LO, STOP, USED, DONE)),
    "tools": Scene(
        whole({"content": "Let me look.", "tool_calls": _CALLS}, finish="tool_calls"),
        events=(
            chunk({"role": "assistant", "content": "Let me look."}),
            chunk({"tool_calls": [{"index": 0, **_CALLS[0], "function": {"name": "weather", "arguments": ""}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Seoul"}'}}]}),
            chunk({"tool_calls": [{"index": 1, **_CALLS[1]}]}),
            chunk(finish="tool_calls"),
            USED,
            DONE,
        ),
    ),
    "many tools": Scene(whole({"tool_calls": MANY_CALLS}, finish="tool_calls")),
    "tools without index or type": Scene(
        whole({"tool_calls": _BARE_CALLS}, finish="tool_calls"),
        events=(chunk({"role": "assistant", "tool_calls": _BARE_CALLS}), chunk(finish="tool_calls"), DONE),
    ),
    "tools that end with stop": Scene(
        whole({"tool_calls": _CALLS}), events=(chunk({"tool_calls": _BARE_CALLS}), STOP, DONE)
    ),
    "tools without an end": Scene(
        whole({"tool_calls": _CALLS}, finish="tool_calls"),
        events=(chunk({"role": "assistant", "tool_calls": [{"index": 0, **_CALLS[0]}]}),),
    ),
    "tools at once": Scene(
        whole({"tool_calls": _CALLS}, finish="tool_calls"),
        events=(
            chunk(
                {"role": "assistant", "tool_calls": [{"index": n, **call} for n, call in enumerate(_CALLS)]},
                "tool_calls",
                usage=USAGE,
            ),
            DONE,
        ),
    ),
    "signed thought": Scene(
        whole({"tool_calls": [{**_CALLS[0], **_SIGNED}]}, finish="tool_calls"),
        events=(chunk({"role": "assistant", "tool_calls": [{**_BARE_CALLS[0], **_SIGNED}]}, "stop"), DONE),
    ),
    "weather": Scene(
        whole({"content": WEATHER}),
        events=(BEGUN, chunk({"content": WEATHER[:9]}), chunk({"content": WEATHER[9:]}), STOP, USED, DONE),
    ),
    "weather in a fence": Scene(whole({"content": f"```json\n{WEATHER}\n```"})),
    "weather call": Scene(
        whole({"tool_calls": [_WEATHER_CALL]}, finish="tool_calls"),
        events=(
            chunk({"role": "assistant", "tool_calls": [{"index": 0, **_WEATHER_CALL}]}),
            chunk(finish="tool_calls"),
            USED,
            DONE,
        ),
    ),
    "weather function": Scene(
        whole({"function_call": _WEATHER_CALL["function"]}, finish="function_call"),
        events=(
            chunk({"role": "assistant", "content": None, "function_call": {"name": "Weather", "arguments": ""}}),
            chunk({"function_call": {"arguments": WEATHER[:9]}}),
            chunk({"function_call": {"arguments": WEATHER[9:]}}),
            chunk(finish="function_call"),
            USED,
            DONE,
        ),
    ),
    "refusal": Scene(
        whole({"refusal": "I cannot help with that."}),
        events=(BEGUN, chunk({"refusal": "I cannot help with that."}), STOP, DONE),
    ),
    "reasoning": Scene(
        whole(REASONED),
        events=(chunk({"reasoning_content": "They greet "}), chunk({"reasoning_content": "me."}), HEL, LO, STOP, DONE),
    ),
    "reasoning under two names": Scene(
        whole({**REASONED, "reasoning": REASONED["reasoning_content"]}),
        events=(
            chunk({"reasoning_content": "They greet ", "reasoning": "They greet "}),
            chunk({"reasoning_content": "me.", "reasoning": "me."}),
            *(HEL, LO, STOP, DONE),
        ),
    ),
    "reasoning only": Scene(
        whole({"reasoning_content": "Hm."}), events=(chunk({"reasoning_content": "Hm."}), STOP, DONE)
    ),
    "two choices": Scene(
        whole(SAID, {"content": "Hi."}),
        events=(HEL, chunk({"content": "Hi."}, index=1), LO, STOP, chunk(finish="stop", index=1), USED, DONE),
    ),
    "logprobs": Scene(
        {**whole(SAID), "choices": [{**whole(SAID)["choices"][0], "logprobs": LOGPROBS}]},
        events=({**HEL, "choices": [{**HEL["choices"][0], "logprobs": LOGPROBS}]}, LO, STOP, DONE),
    ),
    "annotations and images": Scene(
        whole({**SAID, **ANNOTATED}),
        events=(HEL, LO, chunk(ANNOTATED), STOP, DONE),
    ),
    "blank lines first": Scene(
        "\n\n \n" + json.dumps(whole(SAID)), events=(": wait\n\n", ": wait\n\n", HEL, LO, STOP, DONE)
    ),
    "length": Scene(whole(SAID, finish="length"), events=(HEL, chunk(finish="length"), DONE)),
    "length without text": Scene(whole({"content": ""}, finish="length"), events=(BEGUN, chunk(finish="length"), DONE)),
    "max tokens without text": Scene(
        whole({"content": None}, finish="MAX_TOKENS"), events=(BEGUN, chunk(finish="MAX_TOKENS"), DONE)
    ),
    "no finish when whole": Scene(whole(SAID, finish=""), events=(HEL, LO, STOP, DONE)),
    "safety before text": Scene(
        whole({"content": None}, finish="SAFETY"), events=(BEGUN, chunk(finish="SAFETY"), DONE)
    ),
    "content filter": Scene(
        whole({"content": ""}, finish="content_filter"), events=(BEGUN, chunk(finish="content_filter"), DONE)
    ),
    "safety after text": Scene(whole(SAID, finish="SAFETY"), events=(HEL, chunk(finish="SAFETY"), DONE)),
    "finish error": Scene(whole(SAID, finish="error"), events=(HEL, chunk(finish="error"), DONE)),
    "unknown finish": Scene(whole(SAID, finish="eos"), events=(HEL, chunk(finish="eos"), DONE)),
    "no usage": Scene(_without(whole(SAID), "usage"), events=(HEL, LO, STOP, DONE)),
    "usage in every chunk": Scene(
        whole(SAID), events=({**HEL, "usage": USAGE}, {**LO, "usage": USAGE}, {**STOP, "usage": USAGE}, DONE)
    ),
    "odd chunks": Scene(
        whole(SAID),
        events=(
            ": PROCESSING\n\n",
            "event: ping\ndata: {}\n\n",
            'id: 7\nevent: foreign\ndata: {"type": "ping"}\n\n',
            {**_TOP, "id": "", "model": "", "choices": [], "prompt_filter_results": []},
            {**_TOP, "choices": [{"finish_reason": None, "content_filter_results": {}}]},
            {**HEL, "choices": [{"delta": {"content": "Hel"}}]},
            LO,
            STOP,
            {**USED, "choices": None},
            DONE,
        ),
    ),
    "pings": Scene(
        whole(SAID),
        events=(
            "event: ping\ndata: pong\n\n",
            HEL,
            "event: heartbeat\ndata: 2026-11-25T00:00:00Z\n\n",
            "data: null\n\n",
            "data: []\n\n",
            'data: "processing"\n\n',
            'event: progress\ndata: {"percent": 50}\n\n',
            LO,
            STOP,
            DONE,
        ),
    ),
    "stop on every chunk": Scene(
        whole(SAID), events=(chunk({"content": "Hel"}, "stop"), chunk({"content": "lo."}, "stop"), USED, DONE)
    ),
    "content in parts": Scene(
        whole({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hello."}]}),
        events=(chunk({"content": [{"type": "thinking", "thinking": []}]}), HEL, LO, STOP, DONE),
    ),
    "no done": Scene(whole(SAID), events=(HEL, LO, STOP)),
    "no finish": Scene(_without(whole(SAID), "usage"), events=(HEL, LO, DONE)),
    "empty finish": Scene(whole(SAID, finish=""), events=(HEL, chunk(finish=""), DONE)),
    "one of two unfinished": Scene(
        whole(SAID, {"content": "Hi."}),
        events=(HEL, chunk({"content": "Hi."}, index=1), LO, STOP, DONE),
    ),
    "nothing": Scene(whole(SAID), events=(DONE,)),
    "cut": Scene(whole(SAID), events=(HEL,), cut=True),
    "cut at once": Scene(whole(SAID), events=(BEGUN,), cut=True),
    "error in the stream": Scene(whole(SAID), events=(HEL, {"error": {"message": "Overloaded.", "code": "busy"}})),
    "error beside choices": Scene(
        whole(SAID), events=(HEL, {**chunk(finish="error"), "error": {"message": "Upstream died.", "code": 502}})
    ),
    "named error": Scene(
        whole(SAID), events=(HEL, 'event: error\ndata: {"message": "Overloaded.", "code": "busy"}\n\n')
    ),
    "error in words": Scene(whole(SAID), events=(HEL, "event: error\ndata: Overloaded.\n\n")),
    "error in a list": Scene(
        [{"error": {"code": 400, "message": "Bad turn order.", "status": "INVALID_ARGUMENT"}}],
        events=(HEL, [{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}]),
    ),
    "tool call that failed": Scene(_TOOL_FAILED, events=(HEL, _TOOL_FAILED)),
    "too long in a reply": Scene(_TOO_LONG, events=(_TOO_LONG,)),
    "flagged in a reply": Scene(_FLAGGED, events=(_FLAGGED,)),
    "unsupported": _error(
        400, message="Unsupported parameter: 'seed' is not supported.", param="seed", code="unsupported_parameter"
    ),
    "bad value": _error(400, message="Invalid type for 'temperature'.", param="temperature", code="invalid_type"),
    "too long": _error(
        400, message="This model's maximum context length is 8192 tokens.", code="context_length_exceeded"
    ),
    "mistral": Scene(
        {"object": "error", "message": {"detail": [{"msg": "Input should be larger", "loc": ["body", "max_tokens"]}]}},
        422,
    ),
    "google": Scene([{"error": {"code": 400, "message": "Bad turn order.", "status": "INVALID_ARGUMENT"}}], 400),
    "xai": Scene({"code": "bad-request", "error": "No such image."}, 400),
    "fastapi": Scene({"detail": "No."}, 422),
    "vllm": Scene({"object": "error", "message": "No such lora.", "type": "BadRequestError", "code": 400}, 400),
    "extra forbidden": Scene({"detail": [_EXTRA]}, 422),
    "extra forbidden at mistral": Scene({"object": "error", "message": {"detail": [_EXTRA]}}, 422),
    "unknown name": Scene(
        [{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}}],
        400,
    ),
    "no model": _error(404, message=NOT_FOUND, type="invalid_request_error", code="model_not_found"),
    "moderation": _error(403, message="Your input was flagged by moderation.", code=403),
    "forbidden": _error(401, message="Incorrect API key provided: sk-abcdefgh12345678.", code="invalid_api_key"),
    "throttled for ever": _error(429, {"retry-after": "9999999"}, message="Rate limit reached."),
    "throttled": _error(429, {"retry-after": "7"}, message="Rate limit reached.", code="rate_limit_exceeded"),
    "down": _error(503, message="Down."),
    "html": Scene("<html>502 Bad Gateway</html>", 502),
}
