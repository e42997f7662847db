"""ONNX Runtime, its CPU provider: fp32, operators one after the other, all graph optimisations."""

from .base import Arguments, Availability, Call, Model, as_numpy, installed, onnx_bytes, version_of


def available() -> Availability:
    return installed("onnxruntime", "onnxruntime")


def version() -> str:
    return version_of("onnxruntime")


def prepare(model: Model, arguments: Arguments, threads: int) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A pool that spins after its net is done would take the core from the next net in turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads > 1 else "1")
    options.log_severity_level = 3
    session = ort.InferenceSession(onnx_bytes(model, arguments), options, providers=["CPUExecutionProvider"])
    feed = {node.name: value for node, value in zip(session.get_inputs(), as_numpy(arguments), strict=True)}
    return lambda: session.run(None, feed)
