"""NATS JetStream, a stream of three replicas in files."""

from .system import HERE, NODES, System, free_port, run

SERVER = HERE / "load/target/tools/bin/nats-server"


class Nats(System):
    """With `sync_interval: always`."""

    name, label, load = "nats", "NATS, sync always", "nats"
    streams = True
    sync_interval = "always"

    @staticmethod
    def version():
        return run(SERVER, "--version").split()[-1].lstrip("v")

    def launch(self):
        client = {name: f"127.0.0.1:{free_port()}" for name in NODES}
        route = {name: f"127.0.0.1:{free_port()}" for name in NODES}
        routes = ", ".join(f'"nats://{address}"' for address in route.values())
        sync = f"sync_interval: {self.sync_interval}" if self.sync_interval else ""
        for name in NODES:
            config = self.dir / f"{name}.conf"
            config.write_text(
                f"""server_name: {name}
listen: "{client[name]}"
jetstream {{ store_dir: "{self.dir / name}", {sync} }}
cluster {{ name: bench, listen: "{route[name]}", routes: [{routes}] }}
"""
            )
            self.add(name, [SERVER, "--config", config], client[name])


class NatsUnsynced(Nats):
    """With its default: acknowledged from the page cache, synced every two minutes."""

    name, label = "nats-unsynced", "NATS, not synced"
    synced = False
    sync_interval = None
