"""Receive webhooks with the standard library alone: `receive.py <port>`; WEBHOOK_SECRET, or else it asks for it."""

import base64
import hmac
import json
import os
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def is_genuine(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Verify the signature as standardwebhooks.com says, and that it is not five minutes old."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and any(
        hmac.compare_digest(expected, one) for one in headers["webhook-signature"].split(" ")
    )


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is genuine; an event may come twice, with the same webhook-id."""

    def do_POST(self) -> None:
        """Take one event."""
        body = self.rfile.read(int(self.headers["content-length"]))
        genuine = is_genuine(self.headers, body, os.environ["WEBHOOK_SECRET"])
        if genuine:
            print(json.loads(body)["type"], self.headers["webhook-id"], flush=True)  # noqa: T201
        self.send_response(204 if genuine else 401)
        self.end_headers()


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver) as server:
        print("listening", flush=True)  # noqa: T201
        if "WEBHOOK_SECRET" not in os.environ:
            os.environ["WEBHOOK_SECRET"] = input("The secret that was told with the subscription: ").strip()
        server.serve_forever()
