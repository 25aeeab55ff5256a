"""For unittest: a server for the tests of a class, and a client for each.

class TestOrders(TercetTestCase, unittest.TestCase):
    def test_an_order_is_stored(self) -> None:
        self.client.put("orders/1", "book")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tercet.client import Client
from tercet.embed.settings import Setting
from tercet.testing.cluster import Cluster

if TYPE_CHECKING:
    from unittest import TestCase as _Base
else:
    _Base = object


class TercetTestCase(_Base):
    """A mixin. tercet_size and tercet_config: of the class's cluster, which is reset after each test."""

    tercet_size: ClassVar[int] = 1
    tercet_config: ClassVar[Mapping[str, Setting]] = {}
    cluster: ClassVar[Cluster]
    client: Client

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.cluster = Cluster(cls.tercet_size, config=cls.tercet_config)
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.start()

    def setUp(self) -> None:
        super().setUp()
        self.client = Client(self.cluster.endpoints)
        self.addCleanup(self.cluster.reset)
        self.addCleanup(self.client.close)
