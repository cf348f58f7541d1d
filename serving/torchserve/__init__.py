"""TorchServe: its configuration, its life as a process, and the stubs of its gRPC API."""
