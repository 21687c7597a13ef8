"""The fault proxy (tests/faultproxy) as a process, ordered about by lines."""

import subprocess


class Proxies:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def order(self, line):
        self.process.stdin.write(line + "\n")
        answer = self.process.stdout.readline().strip()
        if answer.startswith("error") or not answer:
            raise RuntimeError(f"{line}: {answer}")
        return answer

    def listen(self, name, port):
        return int(self.order(f"listen {name} 127.0.0.1:{port}"))

    def set(self, name, fault):
        self.order(f"set {name} {fault}")

    def seen(self, name):
        """Connections, faults that struck, bytes up, bytes down."""
        return tuple(int(word) for word in self.order(f"seen {name}").split())

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
