"""What this machine and a host's program say to each other, as types that both ends share.

A message is a line of JSON (`encoding`): a request has its name as `op`, an event as `event`.
`status` is `StatusRequest`, and its answer the event `Status`. A request that fails is answered by
`Failed`. A host is another machine, and perhaps not the one that was meant: what it says is
compared with these types, and another shape is an error for a person, not a surprise later.

Travels to the host: standard library, Python 3.9, which has no `X | None` that can be looked at.
"""
