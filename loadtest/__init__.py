"""From an endpoint to raw samples to a measurement that is VALID or INVALID."""
