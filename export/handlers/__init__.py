"""Sources that are packed into a .mar and run inside a TorchServe worker, not here."""
