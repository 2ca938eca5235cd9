"""A simulated Client Portal gateway: the Web API's session calls, over HTTP and HTTPS on one port.

`session` is the two-tier session as a state machine over the simulator's clock, with the request
rates; `routes` answers with the JSON bodies of the public documents, `server` carries them over the
wire.  Nothing but the standard library is used.
"""

from simulator.portal.server import FAULTS, PortalServer, start_portal

__all__ = ["FAULTS", "PortalServer", "start_portal"]
