"""The server under hours of honest clients and abuse at once: `python -m tests.serving.soak` (`make soak`)."""
