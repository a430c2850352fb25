"""Bytes that really cross the loopback interface, the same measure for every peer: what both parties send, with TCP and IP
headers (a few in ten thousand at loopback's 64 KB packets).

The measured processes get a network namespace of their own where the system allows it, so that nothing else is counted.
"""

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def isolate():
    """Moves this process and its later children to a namespace with a loopback of its own. Gives what the count covers."""
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET):
        if libc.unshare(flags) == 0:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
            return "loopback of a network namespace"
    return "loopback of the whole machine: other traffic counts, too"


def sent_bytes():
    """Bytes that the loopback has carried so far."""
    with open("/proc/net/dev") as file:
        for line in file:
            name, _, counters = line.partition(":")
            if name.strip() == "lo":
                return int(counters.split()[8])
    raise OSError(f"process {os.getpid()} has no loopback")
