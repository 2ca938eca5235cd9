"""Calls a bridge through a client that was generated from its OpenAPI document; prints JSON.

Usage: generated.py FOLDER URL KEY. FOLDER holds the generated package `gangway_client`. Every GET
that needs no parameter is called, then a few with theirs, then an order is placed and read.
"""

import importlib
import inspect
import json
import pkgutil
import sys

sys.path.insert(0, sys.argv[1])
package = importlib.import_module("gangway_client")
url, key = sys.argv[2:]
client = package.AuthenticatedClient(
    base_url=url, token=key, prefix="", auth_header_name="X-API-KEY", timeout=20
)
seen = {}


def note(name, act):
    try:
        answer = act()
    except Exception as error:
        seen[name] = [0, repr(error)]
        return None
    seen[name] = [int(answer.status_code), type(answer.parsed).__name__]
    return answer.parsed


def function(area, name):
    return importlib.import_module(f"gangway_client.api.{area}.{name}").sync_detailed


areas = importlib.import_module("gangway_client.api")
for area in pkgutil.iter_modules(areas.__path__):
    module = importlib.import_module(f"gangway_client.api.{area.name}")
    for each in pkgutil.iter_modules(module.__path__):
        call = function(area.name, each.name)
        parameters = inspect.signature(call).parameters.values()
        needed = [one.name for one in parameters if one.default is one.empty]
        if each.name.startswith("get_") and needed == ["client"]:
            note(each.name, lambda call=call: call(client=client))

note("quote", lambda: function("market", "get_quote_symbol")("AAPL", client=client))
note("contracts", lambda: function("market", "get_contracts")(client=client, symbol="AAPL"))
chain = function("market", "get_options_chain")
note("chain", lambda: chain(client=client, symbol="AAPL"))
post = importlib.import_module("gangway_client.api.orders.post_order")
body = inspect.signature(post.sync_detailed).parameters["body"].annotation
models = importlib.import_module("gangway_client.models")
order_model = body if inspect.isclass(body) else getattr(models, str(body).split("|")[0].strip())
order = order_model.from_dict(
    {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", "limitPrice": 50}
)
placed = note(
    "place", lambda: post.sync_detailed(client=client, body=order, idempotency_key="generated-1")
)
read = function("orders", "get_order_id")
note("read", lambda: read(placed.order_id if hasattr(placed, "order_id") else "0", client=client))
print(json.dumps(seen))
