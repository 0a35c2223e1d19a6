"""One target under atheris, which counts the edges of every module that is imported below."""

import sys

import atheris

# What of other packages decides, in Python, which way such bytes go.
with atheris.instrument_imports(include=["nanocv_cli", "PIL", "google.protobuf.text_format", "json"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, next(target.act for target in TARGETS if target.name == name))
    atheris.Fuzz()
