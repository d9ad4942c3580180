# SPDX-License-Identifier: MIT OR Apache-2.0
"""What Triton's ONNX Runtime backend does with a model of `nemostt triton-repository`, for its Python backend.

The tests' tritonserver has no ONNX Runtime backend. Inputs, outputs and sequences are those of the generated model; the
batches are Triton's own, and so are the states at START: the server makes them of `initial_state`. The Python backend cannot
give it the next states, so these are kept here: the outputs of a step are the inputs of the next one. A batch is one run of
the graph.
"""

import collections
import json
import os
import sys
import time

# The interpreter in the server is isolated, so it does not read it.
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

ELEMENTS = {"TYPE_FP32": np.float32, "TYPE_INT64": np.int64}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        directory = os.path.join(args["model_repository"], args["model_version"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.path.join(directory, "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = {tensor["name"]: ELEMENTS[tensor["data_type"]] for tensor in config["output"]}
        batching = config["sequence_batching"]
        self.specs = [(state["input_name"], state["output_name"]) for state in batching["state"]]
        # Triton has no more sequences than this; others have ended without an END.
        self.most = int(batching["oldest"]["max_candidate_sequences"])
        self.states = collections.OrderedDict()
        # A slower server, for tests: a file that they write while it runs, with seconds.
        self.delay = os.path.join(directory, "delay")

    def execute(self, requests):
        if os.path.exists(self.delay):
            with open(self.delay) as file:
                time.sleep(float(file.read() or 0))
        feeds = {
            name: np.concatenate([pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests])
            for name in self.inputs
        }
        held = [self.state_of(request) for request in requests]
        for number, (name, _) in enumerate(self.specs):
            feeds[name] = np.concatenate([state[number] for state in held])
        names = list(self.outputs) + [name for _, name in self.specs]
        results = dict(zip(names, self.session.run(names, feeds)))
        responses = []
        for row, request in enumerate(requests):
            if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END:
                self.states.pop(request.correlation_id(), None)
            else:
                self.states[request.correlation_id()] = [results[name][row : row + 1].copy() for _, name in self.specs]
            tensors = [
                pb_utils.Tensor(name, np.ascontiguousarray(results[name][row : row + 1], element))
                for name, element in self.outputs.items()
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
        while len(self.states) > self.most:
            self.states.popitem(last=False)
        return responses

    def state_of(self, request):
        """The states of a request's sequence."""
        state = self.states.pop(request.correlation_id(), None)
        if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START or state is None:
            # Those that the server has for it, which it never changes.
            return [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name, _ in self.specs]
        return state
