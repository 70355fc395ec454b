"""etcd with its defaults: every entry is fdatasynced in the WAL of a quorum."""

from .system import NODES, System, free_port, run


class Etcd(System):
    name, label, load = "etcd", "etcd", "etcd"

    @staticmethod
    def version():
        return run("etcd", "--version").splitlines()[0].split()[-1]

    def launch(self):
        client = {name: f"127.0.0.1:{free_port()}" for name in NODES}
        peer = {name: f"http://127.0.0.1:{free_port()}" for name in NODES}
        for name in NODES:
            self.add(name, [
                "etcd", "--name", name, "--data-dir", self.dir / name,
                "--listen-client-urls", f"http://{client[name]}", "--advertise-client-urls", f"http://{client[name]}",
                "--listen-peer-urls", peer[name], "--initial-advertise-peer-urls", peer[name],
                "--initial-cluster", ",".join(f"{other}={peer[other]}" for other in NODES),
                "--initial-cluster-state", "new", "--initial-cluster-token", str(self.dir),
                "--logger", "zap", "--log-outputs", "stderr", "--log-level", "warn",
            ], client[name])
