"""Sillok: three nodes with the settings of `sillok dev`."""

from .system import NODES, System, free_port, run


class Sillok(System):
    name, label, load = "sillok", "Sillok", "sillok"
    streams = True
    alone = True
    # Set by the command line.
    binary = None

    @classmethod
    def version(cls):
        return run(cls.binary, "--version").split()[-1]

    def launch(self):
        ports = {name: {kind: f"127.0.0.1:{free_port()}" for kind in ("client", "peer", "http")} for name in NODES}
        initial = "".join(
            f"""
[[cluster.initial]]
id = {number}
site = "{name}"
peer = "{ports[name]["peer"]}"
client = "{ports[name]["client"]}"
"""
            for number, name in enumerate(NODES, 1)
        )
        for number, name in enumerate(NODES, 1):
            data = self.dir / name
            data.mkdir()
            config = data / "node.toml"
            config.write_text(
                f"""data_dir = "{data}"
node = {{ id = {number}, site = "{name}" }}
listen = {{ client = "{ports[name]["client"]}", peer = "{ports[name]["peer"]}", http = "{ports[name]["http"]}" }}
{initial}"""
            )
            self.add(name, [self.binary, "serve", "--config", config], ports[name]["client"])
