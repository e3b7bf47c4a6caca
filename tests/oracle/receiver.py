"""A receiver without code of this project: it verifies with the PyPI package standardwebhooks.

Arguments: the secrets. Each of them must verify each request. The output is the port, then one line
per request: "ok <webhook-id>" or "bad <reason>".
"""
import http.server
import sys

from standardwebhooks import Webhook, WebhookVerificationError

verifiers = [Webhook(secret) for secret in sys.argv[1:]]


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            for verifier in verifiers:
                verifier.verify(body, headers)
            line, status = f"ok {headers['webhook-id']}", 204
        except WebhookVerificationError as error:
            line, status = f"bad {error}", 401
        print(line, flush=True)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
