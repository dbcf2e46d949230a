"""What is read far more often than it changes: menus, settings, rankings, watched databases, and several at once.

One function for all these paths, by rewrites in ``vercel.json``, so that they share warm instances and their memory.
The first four are examples over tables of ``supabase/migrations``: a route of your own is a resource and an entry here.
"""

from lib.app.instance import instance
from lib.data.origins.supabase import Table
from lib.data.ranking_routes import ReadStanding, WriteScore
from lib.data.rankings import RANKING
from lib.data.resource import Resource
from lib.data.table import data_routes
from lib.databases.resources import TABLE as DATABASES

MENU = Resource(
    "menu", key="cache:menu:{id}", tier="30m", origin=Table("breakwater_menus", where={"id": "id"}, one=True)
)
MENUS = Resource(
    "menus",
    key="cache:menus:{category}",
    tier="5m",
    origin=Table("breakwater_menus", where={"category": "category"}, order="id.asc"),
    # A dish that changes shows in its list as well: {"tag": "menus"} invalidates all lists.
    tags=("menus",),
)
SETTING = Resource(
    "setting",
    key="cache:setting:{name}",
    tier="1h",
    origin=Table("breakwater_settings", "name,value", {"name": "name"}, one=True),
)
GENERATORS = Resource(
    "generators", key="cache:generators", tier="24h", origin=Table("breakwater_generator_types", order="id.asc")
)

TABLE = {
    "/api/cache/menu/{id}": MENU,
    "/api/cache/menus/{category}": MENUS,
    "/api/cache/setting/{name}": SETTING,
    "/api/cache/generators": GENERATORS,
    "/api/rankings/{board}": RANKING,
    **DATABASES,
}

app = data_routes(
    instance,
    TABLE,
    batch="/api/data",
    more={"/api/rankings/{board}": {"post": WriteScore}, "/api/rankings/{board}/{member}": {"get": ReadStanding}},
)
