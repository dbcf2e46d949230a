"""A provider of OpenAI's protocol that answers by script: to see what a client makes of each kind of reply and failure.

The last message names the scene (`dev.scenes`): ``scene: cut``. Any other text is answered with the list of them.
``python -m dev`` puts it behind the functions with ``PROVIDER=scripted``. It takes every request as it is;
``/_control/stats`` shows the last ones (`dev.faults`).
"""

import json
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from dev.faults import CLOSE, Faults, read_body, with_faults
from dev.scenes import DONE, SCENES, STOP, USED, Scene, chunk, whole


def scripted_app() -> ASGIApp:
    """The provider with the control routes of every stand-in."""
    app = Scripted()
    return with_faults(
        app,
        Faults(),
        lambda status: {"error": {"message": "A fault.", "type": "server_error", "code": status}},
        stats=lambda: {"requests": list(app.seen)},
        reset_stats=app.seen.clear,
    )


class Scripted:
    """The ASGI application. ``seen``: the bodies of the last requests."""

    def __init__(self) -> None:
        self.seen: deque[dict[str, Any]] = deque(maxlen=100)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        sent = await read_body(receive)
        body = json.loads(sent or b"{}")
        self.seen.append(body)
        scene = scene_of(body)
        if body.get("stream") and scene.events:
            await _stream(scope, send, scene)
        else:
            await reply_with(send, scene)


def scene_of(body: Mapping[str, Any]) -> Scene:
    """The scene that the last message names, else the list of all."""
    named = re.search(r"scene: ?([a-z ]+)", json.dumps(body.get("messages", [""])[-1]))
    if named and named[1].strip() in SCENES:
        return SCENES[named[1].strip()]
    text = "Write 'scene: ' and one of: " + ", ".join(SCENES)
    return Scene(whole({"content": text}), events=(chunk({"content": text}), STOP, USED, DONE))


async def reply_with(send: Send, scene: Scene) -> None:
    """A scene as a whole reply."""
    body = scene.body if isinstance(scene.body, str) else json.dumps(scene.body)
    media = "text/html" if isinstance(scene.body, str) else "application/json"
    headers = [(name.encode(), value.encode()) for name, value in {"content-type": media, **scene.headers}.items()]
    await send({"type": "http.response.start", "status": scene.status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


async def _stream(scope: Scope, send: Send, scene: Scene) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for event in _events(scene):
        await send({"type": "http.response.body", "body": event, "more_body": True})
    if scene.cut:
        scope["extensions"][CLOSE]()
        return
    await send({"type": "http.response.body", "body": b""})


async def _events(scene: Scene) -> AsyncIterator[bytes]:
    for each in scene.events:
        yield (each if isinstance(each, str) else f"data: {json.dumps(each)}\n\n").encode()
