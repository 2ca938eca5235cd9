"""Messages about contracts, field by field and version by version."""

from __future__ import annotations

from simulator.tws.wire import Field, Layout

SIZE_RULES = 164
NO_GROUP = 2147483647
CONTRACT_DETAILS = Layout(
    10,
    Field("version", until=SIZE_RULES, default=8),
    "request_id",
    "symbol",
    "sec_type",
    "last_trade",
    "strike",
    "right",
    "exchange",
    "currency",
    "local_symbol",
    "market_name",
    "trading_class",
    "con_id",
    "min_tick",
    Field("size_multiplier", since=110, until=SIZE_RULES, default=1),
    "multiplier",
    "order_types",
    "valid_exchanges",
    Field("price_magnifier", default=1),
    "under_con_id",
    "long_name",
    "primary_exchange",
    "contract_month",
    "industry",
    "category",
    "subcategory",
    "time_zone",
    "trading_hours",
    "liquid_hours",
    "ev_rule",
    Field("ev_multiplier", default=0),
    Field("security_ids", group=(Field("tag"), Field("value"))),
    Field("aggregated_group", since=121),
    Field("under_symbol", since=122),
    Field("under_sec_type", since=122),
    Field("market_rule_ids", since=126),
    Field("real_expiration", since=134),
    Field("stock_type", since=152),
    Field("suggested_size", since=163, until=SIZE_RULES),
    Field("minimum_size", since=SIZE_RULES),
    Field("size_increment", since=SIZE_RULES, default=1),
    Field("suggested_size", since=SIZE_RULES),
)
SYMBOL_SAMPLES = Layout(
    79,
    "request_id",
    Field(
        "samples",
        group=(
            Field("con_id"),
            Field("symbol"),
            Field("sec_type"),
            Field("primary_exchange"),
            Field("currency"),
            Field("derivatives", group=(Field("sec_type"),)),
            Field("description", since=176),
            Field("issuer_id", since=176),
        ),
    ),
)
CHAIN = Layout(
    75,
    "request_id",
    "exchange",
    "underlying_id",
    "trading_class",
    "multiplier",
    Field("expirations", group=(Field("day"),)),
    Field("strikes", group=(Field("strike"),)),
)
MARKET_RULE = Layout(93, "rule", Field("increments", group=(Field("low_edge"), Field("increment"))))
DEPTH_EXCHANGES = Layout(
    80,
    Field(
        "exchanges",
        group=(
            Field("exchange"),
            Field("sec_type"),
            Field("listing", since=120),
            Field("service", since=120),
            Field("group", since=120, default=NO_GROUP),
            Field("second_level", until=120),
        ),
    ),
)
SMART_COMPONENTS = Layout(
    82, "request_id", Field("components", group=(Field("bit"), Field("exchange"), Field("letter")))
)
