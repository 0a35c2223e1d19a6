"""What has come to a socket and was not read yet."""

import sys


def unread_bytes(descriptor: int) -> int:
    """How many bytes a socket holds for whoever reads it; 0 also where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import array
    import fcntl
    import termios

    found = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, found)
    except OSError:  # it is closed
        return 0
    return found[0]
