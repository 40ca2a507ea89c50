# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs commands inside the guest of tests/system/guest.py: a line of JSON on the serial port asks for one, lines of JSON
answer with what it wrote and, last, with its status. It is all that the guest runs beside the commands."""

import json
import os
import select
import signal
import subprocess
import time


def find_port(name):
    """The device of the port that the machine calls by this name."""
    top = "/sys/class/virtio-ports"
    for port in os.listdir(top):
        with open(f"{top}/{port}/name", encoding="ascii") as file:
            if file.read().strip() == name:
                return f"/dev/{port}"
    raise SystemExit(f"agent: no port {name}")


def say(port, console, **what):
    if "text" in what:
        os.write(console, what["text"].encode())
    data = json.dumps(what).encode() + b"\n"
    while data:
        data = data[os.write(port, data):]


def work(port, console, asked):
    """One command: its output as it comes, then its status."""
    if abs(asked["now"] - time.time()) > 1:  # the machine was kept asleep in a file
        time.clock_settime(time.CLOCK_REALTIME, asked["now"])
    try:
        process = subprocess.Popen(["sh", "-c", asked["command"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:  # too long
        say(port, console, text=f"agent: {error}\n")
        say(port, console, status=126)
        return
    output, end = process.stdout.fileno(), time.monotonic() + asked["seconds"]
    while True:
        ended = process.poll() is not None  # asked first: what it wrote at last is read below
        if select.select([output], [], [], 0 if ended else 0.2)[0]:
            data = os.read(output, 65536)
            if data:
                say(port, console, text=data.decode(errors="replace"))
                continue
            process.wait()
            break
        if ended:  # something that it left behind holds the pipe
            break
        if time.monotonic() > end:
            say(port, console, text=f"agent: still running after {asked['seconds']} s\n")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            break
    process.stdout.close()
    say(port, console, status=process.returncode)


def main():
    port, console = os.open(find_port("sluice"), os.O_RDWR), os.open("/dev/console", os.O_WRONLY)
    data = b""
    while True:
        part = os.read(port, 65536)
        if not part:  # nobody is connected
            time.sleep(0.05)
            continue
        data += part
        while b"\n" in data:
            line, data = data.split(b"\n", 1)
            work(port, console, json.loads(line))


main()
