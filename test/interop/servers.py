"""The server under test: relays of this project, or coturn's to know that the cases are right."""

import base64
import contextlib
import fcntl
import functools
import hmac
import json
import os
import re
import subprocess
import tempfile
import threading
import time

from support import Failure, binding, check, end, free_ports, readline, run, under, until

SECRET = "interop-secret"
REALM = "interop"
PORTS = (20000, 31999)  # below the ports that Linux gives to clients
START_TIMEOUT_S = 120  # mix may have to compile
TRANSPORTS = ("udp", "tcp", "tls", "dtls")
SECURE = {"tls", "dtls"}


class Relay:
    """One server: where it listens, and what it has counted."""

    def __init__(self, host, name, listen):
        self.host, self.name, self.listen = host, name, listen

    def at(self, version=4, transport="udp"):
        """(ip, port) of the first listener like this."""
        return self.listen[transport, version]

    def stats(self):
        return self.host.stats(self.name)

    def list(self):
        """The allocations, as Cromulent.Turn tells them."""
        return self.host.list(self.name)

    def credentials(self, user):
        """(username, password) as users of the library get them."""
        return self.host.credentials(self.name, user)

    def kill_all(self):
        return self.host.kill_all(self.name)

    def check_alive(self):
        self.host.check_alive(self.name, self.listen)


def locked(number):
    """A file that nobody else has locked, until it is closed; None when somebody has."""
    file = open(os.path.join(tempfile.gettempdir(), f"cromulent_turn_interop_{number}"), "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    except OSError:
        file.close()
        return None


@contextlib.contextmanager
def relay_ports(wish):
    """A thousand ports that no relay beside it uses, of this run or of another one.

    A port that EVEN-PORT reserves is not bound: two relays that reserve ports must not meet.
    """
    for number in ((wish + n) % 12 for n in range(12)):
        file = locked(number)
        if file:
            break
    first = PORTS[0] + number * 1000  # when all are taken, one of them
    with file or contextlib.nullcontext():
        yield f"{first}-{first + 999}"


class Ours:
    """A BEAM with test/interop/server.exs, which runs as many relays as cases ask for."""

    name = "cromulent_turn"
    # The transports that it listens on, and what more there is of the family: cases that need
    # another are not run. The one place to add to when the relay learns.
    speaks = {"udp", "tcp", "tls", "dtls", "tcp-relay", "mobility", "dual", "discovery", "tokens"}
    counts = True
    binds_more_channels = True

    def __init__(self, out, namespace=None):
        self.out = out
        if self.speaks & SECURE:
            self.certificate, self.key = certificate(out)
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
                alternate=None, token_keys=None):
        """A relay with all listeners on ports of its own, or of UDP alone on a given one.

        `alternate` is a second address, which turns RFC 5780 on; `token_keys` are those of an
        authorization server (RFC 7635), {kid: key}.
        """
        with self.lock:
            self.started += 1
            name, wish = f"r{self.started}", os.getpid() + self.started
        transports = ("udp",) if port else [t for t in TRANSPORTS if t in self.speaks]
        listen = [written(transport, ip, port) for transport in transports for ip in ips]
        options = [f"listen={','.join(listen)}", f"relay_ip={','.join(ips)}", f"secret={SECRET}",
                   f"realm={REALM}", "workers=2", "mobility=true"]
        if allow:
            options.append(f"allow_peers={','.join(allow)}")
        if alternate:
            options.append(f"alternate={alternate}:0")
        if token_keys:
            options.append(f"oauth_keys={self.write_keys(name, token_keys)}")
        if self.speaks & SECURE:
            options += [f"cert={self.certificate}", f"key={self.key}"]
        with relay_ports(wish) as ports:
            info = self.start(name, f"relay_ports={ports}", *options)
            self.pids[name] = info["os_pid"]
            try:
                yield Relay(self, name, addresses(info["listen"]))
            finally:
                self.command("stop", name)

    def start(self, name, *options):
        """Tried again where a free port of one address is taken of another that has to have it too."""
        for left in (3, 2, 1, 0):
            try:
                return self.command("start", name, *options)
            except Failure as failure:
                if "eaddrinuse" not in str(failure) or not left:
                    raise

    def write_keys(self, name, token_keys):
        """The file of a JWK set."""
        def jwk(kid, key):
            k = base64.urlsafe_b64encode(key).decode().rstrip("=")
            return {"kty": "oct", "kid": kid, "k": k, "alg": f"A{8 * len(key)}GCM"}
        file = os.path.abspath(os.path.join(self.out, f"{name}.jwks"))
        with open(file, "w", encoding="utf-8") as f:
            json.dump({"keys": [jwk(*pair) for pair in token_keys.items()]}, f)
        return file

    def stats(self, name):
        return self.command("stats", name)

    def list(self, name):
        return self.command("list", name)

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
    speaks = {"udp", "tcp", "tls", "dtls", "tcp-relay", "mobility", "dual", "discovery"}
    counts = False
    binds_more_channels = False  # 4.6.1 answers aioice's second ChannelBind with 400

    def __init__(self, out, namespace=None):
        self.out, self.namespace = out, namespace
        self.certificate, self.key = certificate(out)

    @contextlib.contextmanager
    def running(self, ips=("127.0.0.1", "::1"), allow=("127.0.0.0/8", "::1/128"), port=0,
                alternate=None):
        port = port or free_ports(4)  # it takes the next one too, of each
        argv = ["turnserver", "-n", f"--listening-port={port}", f"--realm={REALM}",
                "--use-auth-secret", f"--static-auth-secret={SECRET}", "--mobility",
                f"--tls-listening-port={port + 2}", f"--cert={self.certificate}",
                f"--pkey={self.key}", "--no-cli", f"--min-port={PORTS[0]}",
                f"--max-port={PORTS[1]}", "--log-file=stdout",
                f"--pidfile={os.path.abspath(self.out)}/coturn-{port}.pid"]
        argv += [f"--listening-ip={ip}" for ip in ips] + [f"--relay-ip={ip}" for ip in ips]
        argv += ["--allow-loopback-peers"] if allow else []
        argv += [f"--listening-ip={alternate}"] if alternate else []
        with open(os.path.join(self.out, "coturn.log"), "ab") as log:
            process = subprocess.Popen(under(self.namespace, argv), stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True)
            try:
                listen = addresses(written(t, ip, port) for t in TRANSPORTS for ip in ips)
                if not self.namespace:
                    until(10, "coturn", lambda: answers(listen))
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
        check(self.namespace or answers(listen), "the server does not answer any more")

    def close(self):
        pass


def rest_credentials(user, secret=SECRET, lifetime=3600):
    """(username, password) of the REST scheme, made here."""
    username = f"{int(time.time()) + lifetime}:{user}"
    mac = hmac.digest(secret.encode(), username.encode(), "sha1")
    return username, base64.b64encode(mac).decode()


def written(transport, ip, port):
    """A listener as the option `listen` takes it."""
    return f"{transport}:[{ip}]:{port}" if ":" in ip else f"{transport}:{ip}:{port}"


def addresses(listen):
    """{(transport, 4 or 6): (ip, port)} of listeners as they are written; the first of each."""
    found = {}
    for text in listen:
        transport, ip, port = re.fullmatch(r"(\w+):\[?([^\]]*)\]?:(\d+)", text).groups()
        found.setdefault((transport, 6 if ":" in ip else 4), (ip, int(port)))
    return found


def answers(listen):
    return all(binding(at) for (transport, _version), at in listen.items() if transport == "udp")


@functools.lru_cache(None)
def certificate(out):
    """(file, file of the key) of a certificate of this host's, made for the occasion."""
    cert, key = (os.path.join(os.path.abspath(out), f"{name}.pem") for name in ("cert", "key"))
    status, text = run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost"], 30)
    check(status == 0, f"openssl made no certificate: {text.strip()[-200:]}")
    return cert, key
