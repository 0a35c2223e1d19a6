"""Whether the server of this container is ready, in plain HTTP or by TLS: ends with status 0 or 1.

The certificate is held against no name: it is asked for on the container's own loopback. A server that wants to see
certificates of its clients (--tls-ca) is shown the PEM file that NANOCV_CERT names.
"""

import http.client
import os
import ssl
import sys

SECONDS = 2.0  # for each of both
PORT = 8000


def is_ready(connection: http.client.HTTPConnection) -> bool:
    """Whether the server behind a connection says so."""
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(port: int) -> bool:
    """Whether the server at this port of the loopback is ready."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if own := os.environ.get("NANOCV_CERT"):
        context.load_cert_chain(own)
    return is_ready(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) or is_ready(
        http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)
    )


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else PORT))
