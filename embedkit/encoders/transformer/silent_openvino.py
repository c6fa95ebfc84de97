"""OpenVINO without its telemetry: take ``openvino`` from here.

Unasked, it tells its makers over the network of every import and conversion, forks the process
for each message, and writes a client's id into the home directory. Where its telemetry cannot be
imported it does without, which is what happens here; a process that imported it before keeps it.
"""

import sys

_TELEMETRY = "openvino_telemetry"
_modules: dict[str, object] = sys.modules  # type: ignore[assignment]

if _TELEMETRY in _modules:
    import openvino
else:
    _modules[_TELEMETRY] = None
    try:
        import openvino
    finally:
        del _modules[_TELEMETRY]

__all__ = ["openvino"]
