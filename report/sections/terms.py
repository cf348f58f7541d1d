"""The words of the page in a few words each."""

from __future__ import annotations

from report.page import Facts, Section
from report.sections.overview import NOT_TF_SERVING

TORCHSERVE = (
    "PyTorch's model server. Upstream it is in limited maintenance: no new features, no bug fixes, no security patches. "
    "Measuring it is not advice to expose it to a network."
)


def section() -> Section:
    """The glossary."""
    return Section(
        id="terms",
        title="Words used here",
        short="Words used here",
        blocks=[
            Facts(
                title="Words used here",
                facts=(
                    (
                        "VALID, INVALID",
                        "Whether a measurement can be believed, by rules fixed beforehand; an INVALID one always says why.",
                    ),
                    (
                        "Closed loop",
                        "N connections, each waiting for its answer before it sends again. Measures capacity; hides stalls.",
                    ),
                    (
                        "Open loop",
                        "Requests are sent at times fixed beforehand, however slow the answers are. Measures what users feel.",
                    ),
                    (
                        "Scheduled time",
                        "When a request should have been sent. Latency counts from it, waiting for a connection included.",
                    ),
                    ("Window", "One stretch of a measurement, judged on its own and measured again when it is flagged."),
                    ("p99", "99 of 100 requests were at least this fast. One request in a hundred was slower."),
                    (
                        "95% interval",
                        "Where the true percentile lies, given how few requests were measured. Not the spread of the latencies.",
                    ),
                    (
                        "Encoding",
                        "How a tensor is written on the wire: JSON text, raw float32 bytes, or a protobuf tensor. It can cost "
                        "more than the model itself, so two servers are only ever compared on the same one.",
                    ),
                    (
                        "Golden inputs",
                        "Fixed inputs on whose outputs both frameworks agree; every artifact and server must reproduce them.",
                    ),
                    ("tfserving-embedded", NOT_TF_SERVING.replace("`tfserving-embedded` is this", "This", 1)),
                    ("TorchServe", TORCHSERVE),
                ),
            )
        ],
    )
