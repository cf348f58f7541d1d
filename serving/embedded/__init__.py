"""The embedded server, `tfserving-embedded`: TensorFlow Serving's API answered by a Python process.

It is not TensorFlow Serving. It takes that server's flags and speaks its two protocols:

    python -m serving.embedded --port=8500 --rest_api_port=8501 --model_name=cnn --model_base_path=/abs/dir

How a request travels (each arrow is one module):

    REST  http (framing) -> rest (routes, errors) -> rest_codec (JSON <-> tensors) ┐
                                                                                  ├-> api -> batcher -> model (TensorFlow;
    gRPC  grpc_service (raw bytes, codes) -> tensors (TensorProto <-> numpy)      ┘               model_onnx: ONNX Runtime)

The bytes of gRPC come by `transport_core` (grpcio's C core, driven directly) or `transport_aio` (grpcio's public interface).

`manager` owns which versions are loaded, polls the base paths and loads in a thread of its own, so that the
event loop never waits for a load. Everything but `model` runs, and is tested, without TensorFlow.
What the real server answers is recorded in tests/contract.
"""

NAME = "tfserving-embedded"
