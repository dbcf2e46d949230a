"""The AI SDK, versions 6 and 7: its two providers over ``/api/v1``, and useChat's transport.

It runs on a Node.js of its own, because version 7 needs a newer one than many systems have. npm has it for Linux;
elsewhere it is the one on the PATH.
"""

import json
import platform
import shutil
import subprocess
from typing import Any

import pytest

from tests.clients.libraries.conftest import ROOT, Gateway

_SOURCES = ROOT / "tests" / "clients" / "libraries" / "js"
_INSTALLED = ROOT / "build" / "clients" / "js"
_BUNDLED = f"node-linux-{'arm64' if platform.machine() == 'aarch64' else 'x64'}/bin/node"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALLS = [["call_a", "weather", {"city": "Seoul"}], ["call_b", "time", {}]]
SEOUL = {"city": "Seoul", "degrees": 21}


def javascript(script: str, *arguments: str) -> Any:
    """What a script of ``js/`` prints, as JSON."""
    shutil.copy(_SOURCES / script, _INSTALLED)
    bundled = _INSTALLED / "node_modules" / _BUNDLED
    node = bundled if bundled.exists() else "node"
    ran = subprocess.run(
        [node, script, *arguments], cwd=_INSTALLED, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


@pytest.mark.parametrize("kind", ["openai", "openai-compatible"])
@pytest.mark.parametrize("version", ["6", "7"])
def test_over_v1(gateway: Gateway, version: str, kind: str) -> None:
    """Texts, streams, tools, objects and images, from the provider and from the cache; then what goes wrong."""
    found = javascript("ai.mjs", version, gateway.url, gateway.key, kind)
    plain = {"text": "Hello.", "finishReason": "stop", "usage": [11, 7, 9]}
    looped = {
        "run": [{"city": "Seoul"}, {}],
        "text": "Hello.",
        "calls": CALLS,
        "reasons": ["tool-calls", "stop"],
    }
    for when in ("first", "again"):
        assert found[when] == {
            "text": plain,
            "stream": {**plain, "error": None},
            "tools": looped,
            "streamedTools": looped,
            "object": SEOUL,
            "streamedObject": {"whole": SEOUL, "last": SEOUL},
            "output": SEOUL,
            "streamedOutput": {"whole": SEOUL, "last": SEOUL},
            "image": "Hello.",
        }
    assert found["cut"]["text"] == "Hel"
    assert "broke off" in found["cut"]["error"]
    assert found["filtered"] == "content-filter"
    assert found["refused"] == {"status": 400, "message": "Invalid type for 'temperature'."}
    assert found["responses"]["status"] == 404
    assert "chat" in found["responses"]["message"]
    sent = gateway.sent()
    # What was asked both whole and as a stream is one question: a text, two steps with tools, an object, an image.
    text, tools, results, thing, image, *others = sent
    assert [each["messages"][-1]["content"] for each in others] == [
        "scene: cut",
        "scene: content filter",
        "scene: bad value",
    ]
    assert text["messages"][0]["content"] == "scene: text"
    assert [each["function"]["name"] for each in tools["tools"]] == ["weather", "time"]
    assert [each["tool_call_id"] for each in results["messages"][2:]] == ["call_a", "call_b"]
    assert thing["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]
    assert image["messages"][0]["content"][1] == IMAGE


def test_openai_for_javascript(gateway: Gateway) -> None:
    """``parse``, ``stream``, ``runTools``, from the provider and from the cache; images, refusals, models, errors."""
    found = javascript("openai.mjs", gateway.url, gateway.key)
    called = [
        [name, "function", *rest]
        for name, *rest in (("call_a", "weather", '{"city":"Seoul"}'), ("call_b", "time", "{}"))
    ]
    for when in ("first", "again"):
        tools = found[when]["tools"]
        assert found[when]["parsed"] == {"object": SEOUL, "usage": 18}
        assert found[when]["streamed"]["object"] == SEOUL
        assert (tools["text"], tools["finish_reason"], tools["calls"]) == ("Let me look.", "tool_calls", called)
        assert (found[when]["atOnce"]["finish_reason"], found[when]["atOnce"]["calls"]) == ("tool_calls", called)
        assert tools["system_fingerprint"] == "fp_1"
        assert found[when]["run"] == {"text": "Hello.", "seen": [{"city": "Seoul"}, {}]}
    assert (found["image"], found["refusal"]) == ("Hello.", "I cannot help with that.")
    assert found["models"][0] == "supervisor"
    errors = {name: (each["name"], each["code"], each["param"]) for name, each in found["errors"].items()}
    assert errors == {
        "value": ("BadRequestError", "invalid_type", "temperature"),
        "failure": ("InternalServerError", "backend_failed", None),
        "cut": ("APIError", "backend_failed", None),
        "responses": ("NotFoundError", "unsupported_endpoint", None),
    }
    assert "chat.completions.create" in found["errors"]["responses"]["message"]
    # One call for each question, whole or streamed, first or again, and for each error.
    assert len(gateway.sent()) == 10


@pytest.mark.parametrize("version", ["6", "7"])
def test_use_chat(gateway: Gateway, version: str) -> None:
    """Attachments reach the provider, regenerate asks anew, resume finds nothing, a broken stream is an error."""
    found = javascript("chat.mjs", version, gateway.url)
    for name, cached in {"first": False, "again": True, "regenerated": False, "attached": False}.items():
        assert (found[name]["text"], found[name]["cached"], found[name].get("error")) == ("Hello.", cached, None)
    assert found["history"]["text"] == "Hello."
    assert found["cut"]["text"] == "Hel"
    assert "broke off" in found["cut"]["error"]
    assert found["resumed"] is None
    asked = [each["messages"] for each in gateway.sent()]
    assert len(asked) == 5
    assert asked[2][0]["content"] == [{"type": "text", "text": "scene: text"}, IMAGE]
    assert [each["role"] for each in asked[4]] == ["user", "assistant", "user"]
