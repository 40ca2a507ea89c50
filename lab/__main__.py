# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m lab shell [TOPOLOGY]: a prompt in the lab. python3 -m lab list: the topologies."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys

from lab import drawing, sandbox, topologies

HELP = """\
on NAME COMMAND...   run a command in a machine           expose QUBE [FIELD=VALUE...]   write its record (allow=tcp/80)
in NAME              a shell in it, `exit` comes back     withdraw QUBE                  remove it
stop|start|restart QUBE                                   status                         the router's own account
down|up NETQUBE IFACE  an uplink                          log                            the router's messages
db NETQUBE           its QubesDB                          map, help, exit
"""


class Shell:
    def __init__(self, lab, routers):
        self.lab, self.routers = lab, routers

    def do_on(self, name, *command):
        with self.lab[name].ns:
            subprocess.run(list(command), check=False)

    def do_in(self, name):
        with self.lab[name].ns:
            subprocess.run([os.environ.get("SHELL", "/bin/sh")], env=os.environ | {"PS1": f"{name}$ "}, check=False)

    def do_map(self):
        print(drawing.draw(self.lab.topology))

    def do_help(self):
        print(HELP, end="")

    def do_start(self, name):
        self.lab[name].start()

    def do_stop(self, name):
        self.lab[name].stop()

    def do_restart(self, name):
        self.lab[name].restart()
        print(f"{name} has {self.lab[name].vif} now")

    def do_down(self, name, iface):
        self.lab[name].uplink_down(iface)

    def do_up(self, name, iface):
        self.lab[name].uplink_up(iface)

    def _records(self, name):
        node = self.lab[name]
        return self.lab[self.lab.netvm_of[name]], [4, 6] if node.spec.ip6 else [4]

    def do_expose(self, name, *fields):
        netqube, families = self._records(name)
        for family in families:
            print("{} = {}".format(*netqube.expose(name, family, **dict(field.split("=", 1) for field in fields))))

    def do_withdraw(self, name):
        netqube, families = self._records(name)
        for family in families:
            print("removed", netqube.withdraw(name, family))

    def do_db(self, name):
        for key, value in sorted(self.lab[name].qdb.multiread("/").items()):
            print(f"{key} = {value.decode(errors='replace')}")

    def do_status(self):
        for router in self.routers:
            print(f"{router.node.name}:")
            with router.node.ns:
                subprocess.run(router.command("--status", "--control", router.control), check=False)

    def do_log(self):
        for router in self.routers:
            print(f"{router.node.name}:\n{router.log}", end="")

    def run(self, line):
        """One line; False at the end."""
        words = shlex.split(line, comments=True)
        if not words:
            return True
        if words[0] in ("exit", "quit"):
            return False
        action = getattr(self, f"do_{words[0]}", None)
        if action is None:
            print(f"{words[0]}: not known, try help")
            return True
        try:
            action(*words[1:])
        except KeyError as error:
            print(f"no machine {error}")
        except TypeError:
            print("try help: wrong number of words")
        except (OSError, subprocess.CalledProcessError, ValueError, RuntimeError) as error:
            print(error)
        return True


def shell(name):
    from lab.lab import Lab
    from lab.router import available
    with contextlib.suppress(ImportError):
        import readline  # line editing
        del readline
    with Lab(topologies.ALL[name]) as lab:
        routers = []
        if available("src/router/qubes-routing-manager"):
            routers = [netqube.router() for netqube in lab.netqubes]
        else:
            print("the router is not built: the network is there without it")
        prompt = Shell(lab, routers)
        prompt.do_map()
        print("`help` lists the commands. Everything ends with this shell.")
        interactive = sys.stdin.isatty()
        while True:
            try:
                if not prompt.run(input("lab> " if interactive else "")):
                    return
            except EOFError:
                return
            except KeyboardInterrupt:
                print()


def main(arguments):
    if arguments[:1] == ["list"]:
        for name, topology in topologies.ALL.items():
            print(f"{name}: {', '.join(m.name for m in topology.hosts + topology.netqubes + topology.qubes)}")
        return 0
    if arguments[:1] != ["shell"] or len(arguments) > 2 or (arguments[1:] and arguments[1] not in topologies.ALL):
        print(f"usage: python3 -m lab shell [{'|'.join(topologies.ALL)}] | list", file=sys.stderr)
        return 2
    sandbox.enter()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shell(arguments[1] if arguments[1:] else "basic")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
