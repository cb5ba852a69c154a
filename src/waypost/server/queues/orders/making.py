"""Makes the delivery order that a consumer asks for."""

from __future__ import annotations

from collections.abc import Iterable

from waypost.server.queues.options import Order
from waypost.server.queues.orders.delivery_order import DeliveryOrder
from waypost.server.queues.orders.keyed_order import KeyedOrder
from waypost.server.queues.orders.strict_order import StrictOrder
from waypost.storage.queue_records import MessageRow

__all__ = ["make_order"]


def make_order(order: Order, after: int, out: Iterable[MessageRow] = ()) -> DeliveryOrder:
    """Make the delivery order of a consumer.

    Args:
        order: Its kind.
        after: The position up to which the consumer has settled everything.
        out: Messages behind it that are out already; in strict order at most the first one.
    """
    return StrictOrder(after, out) if order == "strict" else KeyedOrder(after, out, by_key=order == "key")
