from lib import Asked, Breakwater


async def hello(asked: Asked) -> dict[str, str]:
    return {"hello": asked.query.get("name", "world")}


app = Breakwater.from_env().route(hello, limit="100/minute", cache=30, scope="shared")
