"""The server under test: relays of this project, or coturn's to know that the cases are right."""

import base64
import contextlib
import hmac
import json
import os
import re
import subprocess
import threading
import time

from support import Failure, binding, check, end, free_ports, readline, under, until

SECRET = "interop-secret"
REALM = "interop"
PORTS = (20000, 31999)  # below the ports that Linux gives to clients
START_TIMEOUT_S = 120  # mix may have to compile

# What a server does when it is told to: our option, and coturn's.
FEATURES = {"mobility": ("mobility=true", "--mobility"),
            "discovery": ("alternate=127.0.0.2:0", "--listening-ip=127.0.0.2")}


class Relay:
    """One server: where it listens, and what it has counted."""

    def __init__(self, host, name, listen):
        self.host, self.name, self.listen = host, name, listen

    def port(self, version, transport="udp"):
        return self.listen[transport, version][1]

    def stats(self):
        return self.host.stats(self.name)

    def credentials(self, user):
        """(username, password) as users of the library get them."""
        return self.host.credentials(self.name, user)

    def kill_all(self):
        return self.host.kill_all(self.name)

    def check_alive(self):
        self.host.check_alive(self.name, self.listen)


class Ours:
    """A BEAM with test/interop/server.exs, which runs as many relays as cases ask for."""

    name = "cromulent_turn"
    counts = True
    binds_more_channels = True

    def __init__(self, out, namespace=None):
        self.out = out
        env = {k: v for k, v in os.environ.items() if not k.startswith("TURN_")}
        self.log = open(os.path.join(out, "beam.log"), "ab")
        self.process = subprocess.Popen(
            under(namespace, ["mix", "run", "test/interop/server.exs"]), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, env=env, start_new_session=True)
        self.buffered, self.lock, self.pids = bytearray(), threading.Lock(), {}
        self.started = 0
        line = ""
        while line != '{"ok":"ready"}':  # mix may speak first
            line = readline(self.process, self.buffered, START_TIMEOUT_S, "mix run")

    def command(self, *words):
        with self.lock:
            self.process.stdin.write((" ".join(words) + "\n").encode())
            self.process.stdin.flush()
            while True:
                line = readline(self.process, self.buffered, 30, words[0])
                if line.startswith("{"):
                    break
                self.log.write(line.encode() + b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(f"{words[0]}: {answer['error']}")
        return answer["ok"]

    @contextlib.contextmanager
    def running(self, ips=("127.0.0.1", "::1"), allow=("127.0.0.0/8", "::1/128"), port=0,
                transports=("udp",), features=()):
        with self.lock:
            self.started += 1
            name = f"r{self.started}"
        listen = ",".join(listeners(ips, port, transports))
        options = [f"listen={listen}", f"relay_ip={','.join(ips)}", f"secret={SECRET}",
                   f"realm={REALM}", "workers=2", f"relay_ports={self.ports()}"]
        if allow:
            options.append(f"allow_peers={','.join(allow)}")
        if {"tls", "dtls"} & set(transports):
            options += [f"{what}={path}" for what, path in certificate(self.out).items()]
        options += [FEATURES[feature][0] for feature in features]
        info = self.command("start", name, *options)
        self.pids[name] = info["os_pid"]
        try:
            yield Relay(self, name, addresses(info["listen"]))
        finally:
            self.command("stop", name)

    def ports(self):
        """A thousand ports that no relay beside it uses: two that reserve ports must not meet."""
        first = PORTS[0] + (os.getpid() + self.started) % 12 * 1000
        return f"{first}-{first + 999}"

    def stats(self, name):
        return self.command("stats", name)

    def credentials(self, name, user):
        server = self.command("credentials", name, user)[0]
        return server["username"], server["credential"]

    def kill_all(self, name):
        return self.command("kill", name)

    def check_alive(self, name, _listen):
        info = self.command("info", name)
        check(info["os_pid"] == self.pids[name] and info["restarts"] == 0,
              f"the relay ended and was started again ({info['restarts']} times)")

    def close(self):
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        end(self.process)
        self.log.close()


class Coturn:
    """Debian's coturn. It does not tell its counters: only what clients see is checked."""

    name = "coturn"
    counts = False
    binds_more_channels = False  # 4.6.1 answers aioice's second ChannelBind with 400

    def __init__(self, out, namespace=None):
        self.out, self.namespace = out, namespace

    @contextlib.contextmanager
    def running(self, ips=("127.0.0.1", "::1"), allow=("127.0.0.0/8", "::1/128"), port=0,
                transports=("udp",), features=()):
        port = port or free_ports(2)
        tls = ["--no-tls", "--no-dtls"]
        if {"tls", "dtls"} & set(transports):
            paths = certificate(self.out)
            tls = [f"--tls-listening-port={port}", f"--cert={paths['cert']}",
                   f"--pkey={paths['key']}"]
        argv = ["turnserver", "-n", f"--listening-port={port}", f"--realm={REALM}",
                "--use-auth-secret", f"--static-auth-secret={SECRET}", *tls,
                "--no-cli", f"--min-port={PORTS[0]}", f"--max-port={PORTS[1]}", "--log-file=stdout",
                f"--pidfile={os.path.abspath(self.out)}/coturn-{port}.pid"]
        argv += [f"--listening-ip={ip}" for ip in ips] + [f"--relay-ip={ip}" for ip in ips]
        argv += ["--allow-loopback-peers"] if allow else []
        argv += [FEATURES[feature][1] for feature in features]
        with open(os.path.join(self.out, "coturn.log"), "ab") as log:
            process = subprocess.Popen(under(self.namespace, argv), stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True)
            try:
                listen = addresses(listeners(ips, port, {"udp", *transports}))
                if not self.namespace:
                    until(10, "coturn", lambda: all(map(binding, datagram(listen))))
                yield Relay(self, "coturn", listen)
            finally:
                end(process)

    def stats(self, _name):
        return None

    def credentials(self, _name, user):
        return rest_credentials(user)

    def kill_all(self, _name):
        return None

    def check_alive(self, _name, listen):
        # from here, nobody in another namespace can be asked
        check(self.namespace or all(map(binding, datagram(listen))),
              "the server does not answer any more")

    def close(self):
        pass


def rest_credentials(user, secret=SECRET, lifetime=3600):
    """(username, password) of the REST scheme, made here."""
    username = f"{int(time.time()) + lifetime}:{user}"
    mac = hmac.digest(secret.encode(), username.encode(), "sha1")
    return username, base64.b64encode(mac).decode()


def listeners(ips, port, transports):
    """One for each address and transport, as they are written."""
    return [f"{transport}:[{ip}]:{port}" if ":" in ip else f"{transport}:{ip}:{port}"
            for transport in transports for ip in ips]


def addresses(listen):
    """{("udp", 4): (ip, port), ...} of listeners as they are written; the first of each."""
    found = {}
    for text in listen:
        transport, ip, port = re.fullmatch(r"(\w+):\[?([^\]]*)\]?:(\d+)", text).groups()
        found.setdefault((transport, 6 if ":" in ip else 4), (ip, int(port)))
    return found


def datagram(listen):
    return [address for (transport, _), address in listen.items() if transport == "udp"]


CERTIFICATE_LOCK = threading.Lock()


def certificate(out):
    """Paths of a certificate that signs itself, and of its key; made once per run."""
    paths = {what: os.path.join(os.path.abspath(out), f"{what}.pem") for what in ("cert", "key")}
    with CERTIFICATE_LOCK:
        if not os.path.exists(paths["cert"]):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj",
                            "/CN=localhost", "-keyout", paths["key"], "-out", paths["cert"]],
                           check=True, capture_output=True)
    return paths
