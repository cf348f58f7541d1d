"""The two ports of a process, and how they are closed."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from serving.embedded import config
from serving.embedded.api import Api
from serving.embedded.flags import Flags
from serving.embedded.http import Connection, Connections
from serving.embedded.rest import RestApi

if TYPE_CHECKING:
    from serving.embedded import transport_aio, transport_core

log = logging.getLogger(__name__)

CORE_GRPCIO = "1.85.1"  # whose private interface transport_core uses; requirements/constraints.txt pins it
STOP_GRACE_S = 8.0  # below the 10 s after which faceoff.processes.stop_tree kills


class StartError(Exception):
    """The server cannot start; the message is one line."""


def check_ports(flags: Flags) -> None:
    """Raises StartError for a port that something else listens on."""
    for name, port in (("--port", flags.port), ("--rest_api_port", flags.rest_api_port)):
        if not port:
            continue
        family = socket.AF_INET6 if ":" in flags.bind else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((flags.bind, port))
            except OSError as error:
                raise StartError(f"cannot listen on {flags.bind}:{port} ({name}): {os.strerror(error.errno or 0)}") from error


class Listening:
    """The open ports. Several processes share them (SO_REUSEPORT): the kernel gives each connection to one."""

    def __init__(self) -> None:
        self._connections = Connections()
        self._rest: asyncio.Server | None = None
        self._grpc: transport_core.Server | transport_aio.Server | None = None

    async def open(self, flags: Flags, api: Api) -> None:
        """Open those that the flags ask for. Raises StartError, and ServingError for a bad configuration file."""
        if flags.port:
            self._grpc = await _start_grpc(flags, api)
        if flags.rest_api_port:
            try:
                self._rest = await _start_rest(flags, api, self._connections)
            except BaseException:
                if self._grpc is not None:
                    await self._grpc.stop(0)
                raise

    async def stop(self) -> None:
        """Accept nothing more, finish what was accepted."""
        if self._rest is not None:
            self._rest.close()
        stops = [self._connections.stop(STOP_GRACE_S)]
        if self._grpc is not None:
            stops.append(self._grpc.stop(STOP_GRACE_S))
        await asyncio.gather(*stops)


def grpc_transport(flags: Flags) -> str:
    """Which carries gRPC: "core" where it is asked for and grpcio is the version it was written for, else "aio"."""
    import grpc

    return "core" if flags.grpc_transport == "core" and grpc.__version__ == CORE_GRPCIO else "aio"


async def _start_grpc(flags: Flags, api: Api) -> transport_core.Server | transport_aio.Server:
    import grpc

    from serving.embedded import transport_aio, transport_core
    from serving.embedded.grpc_service import GrpcApi

    options: list[tuple[str, Any]] = [
        ("grpc.so_reuseport", int(flags.processes > 1)),  # else a second server shares the port silently
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    for pair in filter(None, flags.grpc_channel_arguments.split(",")):
        name, _, value = pair.partition("=")
        options.append((name, int(value) if value.lstrip("-").isdigit() else value))
    transport = grpc_transport(flags)
    if transport != flags.grpc_transport:
        log.warning("--grpc_transport=core is for grpcio %s, found %s: using aio, which is slower", CORE_GRPCIO, grpc.__version__)
    address = f"[{flags.bind}]:{flags.port}" if ":" in flags.bind else f"{flags.bind}:{flags.port}"
    methods = GrpcApi(api, health=flags.enable_grpc_healthcheck_service).methods
    credentials = _credentials(config.read_ssl(flags.ssl_config_file)) if flags.ssl_config_file else None
    start = transport_core.start if transport == "core" else transport_aio.start
    try:
        server: transport_core.Server | transport_aio.Server = await start(methods, address, options, credentials)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {address} (--port)") from error
    log.info("Running gRPC ModelServer at %s ...", address)
    return server


def _credentials(tls: config.SslConfig) -> Any:
    import grpc

    return grpc.ssl_server_credentials(
        [(tls.server_key.encode(), tls.server_cert.encode())],
        root_certificates=tls.custom_ca.encode() or None,
        require_client_auth=tls.client_verify,
    )


async def _start_rest(flags: Flags, api: Api, connections: Connections) -> asyncio.Server:
    rest = RestApi(
        api,
        timeout_s=flags.rest_api_timeout_in_ms / 1000,
        cors=flags.rest_api_enable_cors_support,
        metrics_path=config.read_monitoring(flags.monitoring_config_file) if flags.monitoring_config_file else None,
    )
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(rest.handle, connections),
            flags.bind,
            flags.rest_api_port,
            backlog=1024,
            reuse_port=flags.processes > 1,
        )
    except OSError as error:
        raise StartError(
            f"cannot listen on {flags.bind}:{flags.rest_api_port} (--rest_api_port): {os.strerror(error.errno or 0)}"
        ) from error
    host = "localhost" if flags.bind in ("127.0.0.1", "0.0.0.0", "::1", "::") else flags.bind  # noqa: S104  compared, not bound
    log.info("Exporting HTTP/REST API at:%s:%d ...", host, flags.rest_api_port)
    return server
