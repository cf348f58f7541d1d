"""From a verified servable to an endpoint that is ready: start, wait until ready, parity on the wire, stop.

`protocols` and the stub modules are also used by loadtest, so that a payload is encoded in one place.
"""
