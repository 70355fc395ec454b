"""The four systems: how each is started, and who leads it."""

from .etcd import Etcd
from .nats import Nats, NatsUnsynced
from .postgres import Postgres
from .sillok import Sillok

PEERS = {system.name: system for system in (Etcd, Postgres, Nats, NatsUnsynced)}
