"""Where a model's arithmetic and bytes are spent, and what a device makes of them."""

# What times a graph (`measured.Measurer`), as a dotted path, by the runtime that it is run by.
MEASURERS = {
    "onnxruntime": "nanocv_cli.analysis.measure_onnx:measure_onnx",
    "openvino": "nanocv_cli.analysis.measure_openvino:measure_openvino",
}
