"""Firefox: one page with both ends of a call, which must go through the relay.

No WebDriver: the page asks this program what to do, and tells it what it saw. The page's two ends
are the LoopbackCall of assets/js, which the check page uses too.
"""

import contextlib
import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading

from support import Case, Failure, check, check_equal, end, missing, until

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = {"/": ("text/html", os.path.join(HERE, "firefox.html")),
           "/firefox.mjs": ("text/javascript", os.path.join(HERE, "firefox.mjs"))}
MODULES = os.path.join(HERE, "..", "..", "assets", "js")
MESSAGES = 1000
STEP_S = 90  # Firefox's first start on a busy machine

# A page may use loopback addresses and a tone for a microphone; nothing is fetched or reported.
PREFERENCES = {
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.gmp-manager.updateEnabled": False,
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "extensions.getAddons.cache.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "data:,",
}


def program():
    for name in ("firefox-esr", "firefox"):
        if shutil.which(name):
            return name
    return missing("Firefox", "firefox-esr")


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the page and its modules, and passes on what it tells."""

    def do_GET(self):
        if self.path == "/task":
            return self.answer("application/json", json.dumps(self.server.task).encode())
        kind, file = SOURCES.get(self.path) or (
            "text/javascript", os.path.join(MODULES, os.path.basename(self.path)))
        try:
            with open(file, "rb") as f:
                return self.answer(kind, f.read())
        except OSError:
            return self.send_error(404)

    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.put(told)
        self.server.go_on.acquire(timeout=STEP_S)
        self.answer("application/json", b"{}")

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words):
        pass


class Page:
    """Firefox with the page, until the end of the `with`."""

    def __init__(self, task):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.task, self.server.told = task, queue.Queue()
        self.server.go_on = threading.Semaphore(0)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @contextlib.contextmanager
    def open(self, log):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            with open(os.path.join(home, "user.js"), "w") as f:
                f.writelines(f"user_pref({json.dumps(k)}, {json.dumps(v)});\n"
                             for k, v in PREFERENCES.items())
            url = f"http://127.0.0.1:{self.server.server_address[1]}/"
            process = subprocess.Popen(
                [program(), "--headless", "--no-remote", "--profile", home, url],
                env={**os.environ, "HOME": home, "MOZ_CRASHREPORTER_DISABLE": "1"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            try:
                yield self
            finally:
                end(process)
                self.server.shutdown()
                self.server.server_close()

    def hear(self, step):
        """What the page tells of this step."""
        try:
            told = self.server.told.get(timeout=STEP_S)
        except queue.Empty:
            raise Failure(f"Firefox told nothing of {step!r} within {STEP_S} s") from None
        check(told.get("step") == step, f"before {step!r}, Firefox told {told}")
        return told

    def go_on(self):
        self.server.go_on.release()


def check_call(told):
    for end_, other in zip(told["ends"], reversed(told["ends"])):
        check_equal("messages that came, in order and whole", end_["got"], MESSAGES)
        # By address: its type is prflx where its check came before its candidate.
        pair = end_["pair"] or {}
        check(pair.get("local") == "relay" and pair["remote"] in other["relayed"],
              f"selected pair {pair}, with {other['relayed']} relayed for the other end")
        check_equal("candidates gathered", end_["candidates"], ["relay"])
        check(end_["audio"] >= 25, f"{end_['audio']} packets of sound came")


def check_counters(relay, told, before):
    """What Firefox says that it sent, the relay relayed; its checks come on top."""
    counters = relay.stats()["counters"]
    sent = sum(end_["bytesSent"] for end_ in told["ends"])
    check(sent > MESSAGES * 100, f"Firefox counted {sent} bytes sent")
    check(counters["up_bytes"] >= sent, f"{counters['up_bytes']} bytes relayed of {sent} sent")
    check(before["up_bytes"] <= sent * 1.2 + 100_000, f"{before['up_bytes']} bytes from nowhere")
    # It allocates for the second stream too, before it knows that both go one way.
    relayed = {address for end_ in told["ends"] for address in end_["relayed"]}
    unknown = relayed - {allocation["relayed"] for allocation in relay.list()}
    check(len(relayed) >= 2 and not unknown, f"relayed at {relayed}, unknown are {unknown}")


def check_end(relay):
    """The page's allocations are gone: released, or with the connection that Firefox closed."""
    until(20, "no allocation left", lambda: relay.stats()["allocations"] == 0)
    counters = relay.stats()["counters"]
    wanted = dict.fromkeys(("allocations_expired", "unauthenticated", "stale_nonces", "errors",
                            "forbidden", "drop_malformed", "drop_no_channel", "drop_send",
                            "drop_receive"), 0)
    ended = counters["allocations_released"] + counters.get("allocations_closed", 0)
    check_equal("allocations that ended", ended, counters["allocations_created"])
    check_equal("the relay's counters", {key: counters[key] for key in wanted}, wanted)


def call(transport):
    def test(server):
        program()
        with server.running() as relay, open("_build/interop/firefox.log", "ab") as log:
            ip, port = relay.at(4, transport)
            username, credential = relay.credentials("firefox")
            urls = [f"turn:{ip}:{port}?transport={transport}"]
            servers = [{"urls": urls, "username": username, "credential": credential}]
            with Page({"servers": servers, "messages": MESSAGES}).open(log) as page:
                page.hear("connected")
                before = relay.stats()
                page.go_on()
                told = page.hear("called")
                check_call(told)
                if server.counts:
                    check_counters(relay, told, before["counters"])
                page.go_on()
                page.hear("closed")
                if server.counts:
                    check_end(relay)
            relay.check_alive()
    return test


CASES = [Case("Firefox", "two ends, relay to relay: sound and data", call(transport), transport)
         for transport in ("udp", "tcp")]
