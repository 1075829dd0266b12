"""Images of the firmware in QEMU: started with arguments, watched line by line, ended by the test.

Nothing here needs root: networks are QEMU's user network, and frames over UDP sockets of loopback
or Unix sockets.
Every wait has an end, and a guest that a test leaves behind is killed when the test ends.
"""
import collections
import os
import queue
import re
import socket
import struct
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def image(variant, name):
    return os.path.join(ROOT, "build", "firmware", variant, name + ".elf")


IMAGES = {"speaker": image("m4", "speaker"),
          "without_ed25519": image("m4", "speaker-without-ed25519"),
          "measure": image("m4", "measure"),
          "streamer": image("m4", "streamer"),
          "m3": image("m3", "speaker"),
          "checked": image("checked", "speaker")}
MACHINES = {"m3": "mps2-an385"}


class Wrong(Exception):
    """A test that failed; its text says what was expected."""


def free_port():
    """A UDP port of loopback that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A program whose lines are read by a thread, with time limits on every wait."""
    living = []

    def __init__(self, command, name):
        self.name = name
        self.lines = []
        self.fresh = queue.Queue()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, cwd=ROOT)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        Process.living.append(self)

    def read(self):
        for raw in self.process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\r\n").replace("(qemu) ", "")
            self.lines.append(line)
            self.fresh.put(line)
        self.fresh.put(None)

    def told(self):
        return "\n".join("    %s: %s" % (self.name, line) for line in self.lines[-25:])

    def wait_for(self, pattern, seconds):
        """The match of the next line that has the pattern."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.fresh.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise Wrong("%s did not say '%s' in %d s\n%s" %
                            (self.name, pattern, seconds, self.told())) from None
            if line is None:
                raise Wrong("%s ended before it said '%s'\n%s" % (self.name, pattern, self.told()))
            found = re.search(pattern, line)
            if found:
                return found

    def finish(self, seconds):
        """Waits for the end; returns the exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Wrong("%s did not end in %d s\n%s" %
                        (self.name, seconds, self.told())) from None
        self.reader.join(5)
        return code

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self in Process.living:
            Process.living.remove(self)

    @classmethod
    def stop_all(cls):
        for process in list(cls.living):
            process.stop()


class Guest(Process):
    """One image. Its monitor is standard input."""

    def __init__(self, elf, arguments, options=(), machine="mps2-an386", name="guest"):
        words = ",".join("arg=%s=%s" % item for item in arguments.items())
        super().__init__(["qemu-system-arm", "-M", machine, "-display", "none", "-serial", "none",
                          "-monitor", "stdio", "-kernel", elf, "-semihosting-config",
                          "enable=on,target=native,arg=firmware," + words, *options], name)

    def monitor(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def pairs(self):
        """Lines of a name and a number."""
        return re.findall(r"^([a-z_0-9]+) (\d+)$", "\n".join(self.lines), re.M)

    def number(self, name):
        found = dict(self.pairs())
        if name not in found:
            raise Wrong("%s did not print %s\n%s" % (self.name, name, self.told()))
        return int(found[name])

    def finish(self, seconds):
        """Waits for the end that the program chose: exit code 0 and a line PASS."""
        code = super().finish(seconds)
        if code != 0 or "PASS" not in self.lines:
            raise Wrong("%s ended with code %d%s\n%s" % (
                self.name, code, "" if "PASS" in self.lines else " and without PASS", self.told()))
        return code

    def alive(self):
        if self.process.poll() is not None:
            raise Wrong("%s ended with code %d\n%s" %
                        (self.name, self.process.returncode, self.told()))


def user_network(host_port=None, guest_port=8800):
    """The host is 10.0.2.2; host_port of loopback leads to the guest."""
    forward = ",hostfwd=udp:127.0.0.1:%d-:%d" % (host_port, guest_port) if host_port else ""
    return ["-nic", "user,id=net" + forward]


def cable(own_port, other_port):
    """Frames in UDP datagrams of loopback: to another guest, or to a program of the host."""
    return ["-net", "nic,netdev=net", "-netdev",
            "dgram,id=net,local.type=inet,local.host=127.0.0.1,local.port=%d,"
            "remote.type=inet,remote.host=127.0.0.1,remote.port=%d" %
            (own_port, other_port)]


class Tap:
    """A hand on the wire between the user network and the guest: hears the frames that go to the
    guest, and puts others in between. The network itself never sees those: QEMU's router would open
    a socket of the host for every source address that junk claims, until it is all it does."""

    def __init__(self, folder):
        self.listeners = []
        self.paths = [self.listen(os.path.join(folder, name)) for name in ("heard", "said")]
        self.heard = collections.deque(maxlen=50)

    def listen(self, path):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(20)
        self.listeners.append(listener)
        return path

    def options(self):
        """For a guest on the user network."""
        heard, said = self.paths
        return ["-chardev", "socket,id=heard,path=" + heard, "-chardev", "socket,id=said,path=" + said,
                "-object", "filter-mirror,id=mirror,netdev=net,queue=tx,outdev=heard",
                "-object", "filter-redirector,id=into,netdev=net,queue=tx,indev=said"]

    def attach(self):
        """Once the guest runs."""
        self.hears, self.says = (listener.accept()[0] for listener in self.listeners)
        self.says.settimeout(20)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        """Frames come after their sizes in four bytes."""
        with self.hears.makefile("rb") as stream:
            while len(size := stream.read(4)) == 4:
                self.heard.append(stream.read(*struct.unpack(">I", size)))

    def say(self, frame):
        self.says.sendall(struct.pack(">I", len(frame)) + frame)
