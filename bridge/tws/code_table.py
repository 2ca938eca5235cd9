"""The rows of ``bridge.tws.codes``.

Code, class, what it says, what the bridge does, what a person should do.
"""
# ruff: noqa: E501 - one row a line, so that it reads as a table

from __future__ import annotations

from enum import StrEnum


class CodeClass(StrEnum):
    """What a code means to the session."""

    FARM = "farm"  # a data farm came or went; the session is whole
    NOTICE = "notice"  # information; the request it names goes on
    UPSTREAM_LOST = "upstream-lost"
    UPSTREAM_RESTORED = "upstream-restored"
    DATA_LOST = "data-lost"  # restored, but every subscription is gone
    CLIENT_ID = "client-id"
    COMPETING = "competing"
    RATE = "rate"
    CONTRACT = "contract"
    PERMISSION = "permission"
    HISTORY = "history"
    READ_ONLY = "read-only"
    ORDER = "order"
    REQUEST = "request"
    CLIENT_SIDE = "client-side"  # made by client libraries, never by the gateway


_C = CodeClass
# fmt: off
ROWS: tuple[tuple[int, CodeClass, str, str, str], ...] = (
    (100, _C.RATE, "More than 50 messages a second", "halves its pace for 10 s", "Nothing; report it if it repeats"),
    (101, _C.REQUEST, "No free market-data line", "refuses the line", "Unsubscribe some, or buy lines"),
    (102, _C.REQUEST, "Request id used twice", "refuses the request", "Report it"),
    (103, _C.ORDER, "Order id used twice", "marks the order rejected", "See the order's page in TWS"),
    (104, _C.ORDER, "A filled order cannot be changed", "refuses the change", "Read the order again"),
    (105, _C.ORDER, "The change does not fit the order", "refuses the change", "Change price, quantity or time in force only"),
    (106, _C.ORDER, "The order cannot be sent", "marks the order rejected", "Read brokerText"),
    (107, _C.ORDER, "The order is incomplete", "marks the order rejected", "Read brokerText"),
    (109, _C.ORDER, "Price out of the allowed range", "marks the order rejected", "Use a price nearer the market"),
    (110, _C.ORDER, "Price is off the tick", "marks the order rejected", "Use the market rule's tick"),
    (116, _C.ORDER, "The order is gone already", "refuses the change", "Read the order again"),
    (135, _C.ORDER, "The broker does not know this order id", "refuses the change", "Read the order again"),
    (136, _C.ORDER, "The order cannot be cancelled", "refuses the cancel", "Read the order again"),
    (161, _C.ORDER, "Cancel came when the order could not be cancelled", "refuses the cancel", "Read the order again"),
    (162, _C.HISTORY, "The history service refuses", "refuses the request; waits if it is pacing", "Check the dates and the data subscription"),
    (165, _C.NOTICE, "History service notice", "records it", "Nothing"),
    (166, _C.HISTORY, "Expired contract has no history", "refuses the request", "Ask for a contract that lives"),
    (200, _C.CONTRACT, "No such contract, or more than one", "refuses the request", "Look it up with GET /contracts"),
    (201, _C.ORDER, "Order rejected", "marks the order rejected", "Read brokerText: margin, permissions, halts"),
    (202, _C.NOTICE, "Order cancelled", "follows the order's status", "Nothing, if it was wanted"),
    (203, _C.ORDER, "Not allowed for this account", "marks the order rejected", "Ask the broker for the permission"),
    (300, _C.NOTICE, "No such ticker id", "records it", "Nothing"),
    (309, _C.REQUEST, "Too many depth requests", "refuses the request", "Give some back"),
    (320, _C.REQUEST, "The gateway could not read the request", "refuses the request", "Report it"),
    (321, _C.REQUEST, "The gateway's own check failed", "refuses; when it is read-only it says so", "Read brokerText; READ_ONLY_API=no to trade"),
    (322, _C.REQUEST, "The gateway failed on the request", "refuses the request", "Read brokerText"),
    (326, _C.CLIENT_ID, "The client id is taken", "waits and asks again with the same id", "Close the other program, or change BRIDGE_CLIENT_ID"),
    (354, _C.PERMISSION, "No live data for this", "falls back to delayed data", "Subscribe in the Client Portal"),
    (366, _C.NOTICE, "That history request has ended already", "records it", "Nothing"),
    (382, _C.ORDER, "Price is off the tick of this rule", "marks the order rejected", "Use the market rule's tick"),
    (383, _C.ORDER, "Above the gateway's size limit", "marks the order rejected", "Raise the limit in the gateway's presets"),
    (387, _C.ORDER, "Order type not known to this exchange", "marks the order rejected", "Use another order type"),
    (388, _C.ORDER, "Below the smallest size", "marks the order rejected", "Raise the quantity"),
    (391, _C.ORDER, "Time in force is wrong", "marks the order rejected", "Mend tif or goodTillDate"),
    (399, _C.NOTICE, "A warning about an order", "shows it with the order", "Read it"),
    (404, _C.NOTICE, "Shares are being located", "shows it with the order", "Wait"),
    (420, _C.RATE, "Too many of this request", "waits", "Ask for less"),
    (434, _C.ORDER, "Order size is zero", "marks the order rejected", "Give a quantity"),
    (435, _C.ORDER, "The account is missing or wrong", "marks the order rejected", "Give the account"),
    (436, _C.ORDER, "An allocation is needed", "marks the order rejected", "Give the account"),
    (461, _C.ORDER, "The size does not fit the contract", "marks the order rejected", "Use the contract's size increment"),
    (463, _C.ORDER, "The stop price is missing", "marks the order rejected", "Give stopPrice"),
    (481, _C.NOTICE, "The order's size was reduced", "follows the order's status", "Read it"),
    (501, _C.CLIENT_SIDE, "Already connected", "never seen", "Nothing"),
    (502, _C.CLIENT_SIDE, "No connection could be made", "keeps trying; /health says why", "Is the gateway up, logged in, its API on?"),
    (503, _C.CLIENT_SIDE, "The gateway is too old", "keeps trying", "Update the gateway's image"),
    (504, _C.CLIENT_SIDE, "Not connected", "answers 503 at once", "Wait for /ready"),
    (507, _C.CLIENT_SIDE, "Bad message length; most often a taken client id", "reconnects", "Close the other program"),
    (1100, _C.UPSTREAM_LOST, "The gateway has lost the broker", "fails what is pending, waits for 1101 or 1102; asks the broker itself every 60 s", "Wait; check the broker's system status"),
    (1101, _C.DATA_LOST, "Back, but subscriptions are lost", "subscribes everything again, reconciles", "Nothing"),
    (1102, _C.UPSTREAM_RESTORED, "Back, subscriptions kept", "reconciles", "Nothing"),
    (1300, _C.NOTICE, "The API port was changed", "reconnects to the configured port", "Check BRIDGE_TWS_PORT"),
    (2100, _C.NOTICE, "Account updates went to another client", "records it", "Nothing"),
    (2103, _C.FARM, "A market- data farm is broken", "records it", "Wait; it mends itself"),
    (2104, _C.FARM, "A market-data farm is well", "records it", "Nothing"),
    (2105, _C.FARM, "A history farm is broken", "records it", "Wait; it mends itself"),
    (2106, _C.FARM, "A history farm is well", "records it", "Nothing"),
    (2107, _C.FARM, "A history farm sleeps until asked", "records it", "Nothing"),
    (2108, _C.FARM, "A market-data farm sleeps until asked", "records it", "Nothing"),
    (2109, _C.NOTICE, "outsideRth is ignored for this order", "shows it with the order", "Nothing"),
    (2110, _C.UPSTREAM_LOST, "The gateway has lost the broker; it mends itself", "as 1100", "Wait"),
    (2119, _C.FARM, "A market-data farm is connecting", "records it", "Nothing"),
    (2137, _C.NOTICE, "A cross-side warning", "shows it with the order", "Read it"),
    (2148, _C.NOTICE, "A warning about the order", "shows it with the order", "Read it"),
    (2157, _C.FARM, "The contract farm is broken", "records it", "Wait; it mends itself"),
    (2158, _C.FARM, "The contract farm is well", "records it", "Nothing"),
    (10089, _C.PERMISSION, "Live data needs another subscription", "falls back to delayed data", "Subscribe in the Client Portal"),
    (10090, _C.NOTICE, "A part of the data is not subscribed", "goes on with the rest", "Subscribe in the Client Portal"),
    (10147, _C.ORDER, "The order to cancel is not known", "refuses the cancel", "Read the order again"),
    (10148, _C.ORDER, "The order cannot be cancelled now", "refuses the cancel", "Read the order again"),
    (10149, _C.ORDER, "The order cannot be changed now", "refuses the change", "Read the order again"),
    (10167, _C.NOTICE, "Delayed data is shown", "tags the values delayed", "Subscribe for live data"),
    (10168, _C.PERMISSION, "No data, and delayed data is not on", "asks for delayed data", "Subscribe in the Client Portal"),
    (10182, _C.REQUEST, "Live updates of this failed", "refuses the request", "Retry"),
    (10186, _C.PERMISSION, "No data, not even delayed", "refuses the line", "Subscribe in the Client Portal"),
    (10187, _C.HISTORY, "Too much historical data asked", "refuses the request", "Ask for less"),
    (10189, _C.PERMISSION, "Tick-by-tick needs a subscription", "refuses the line", "Subscribe in the Client Portal"),
    (10197, _C.COMPETING, "Another session of this user gets the live data", "says session-conflict, falls back to delayed data", "Log the other session out"),
    (10230, _C.ORDER, "The order was replaced too often", "refuses the change", "Wait for the pending change"),
    (10318, _C.ORDER, "The order's id is out of order", "marks the order rejected", "Report it"),
)
# fmt: on
