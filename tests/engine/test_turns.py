"""How much of the network a deploy needs: one connection, few client turns."""

from tests.engine.parts.relay import Relay
from tests.engine.parts.stack import Stack


def test_a_noop_up_takes_one_connection_and_few_turns(stack: Stack) -> None:
    with Relay(stack.server.port, delay=0.025) as relay:
        known = stack.known_hosts.read_text()
        stack.known_hosts.write_text(stack.server.known_hosts_line(relay.port))
        stack.settings["host"]["port"] = relay.port
        try:
            done = stack.up("--json")
        finally:
            stack.known_hosts.write_text(known)
            stack.settings["host"]["port"] = stack.server.port
    assert done.document["changed"] is False
    assert relay.connections == 1
    assert relay.turns <= 12
