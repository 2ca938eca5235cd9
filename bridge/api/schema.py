"""The base structs of what comes in and what goes out.

Names are camelCase on the wire; unknown members are refused, so that a misspelt field is never
ignored.
"""

from __future__ import annotations

from msgspec import Struct

IDEMPOTENCY_KEY = "Idempotency-Key"
"""The header that names an order, so that it is never sent twice."""


class Params(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Path, query and header parameters of a route, in one struct.

    A field whose wire name is in the path template comes from the path; one named in the route's
    ``headers`` mapping comes from that header; the rest is the query. Fields of a tuple or list
    type take ``a,b,c`` and repeated parameters alike.
    """


class Body(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON request body."""


class Answer(Struct, rename="camel", kw_only=True):
    """A JSON answer."""
