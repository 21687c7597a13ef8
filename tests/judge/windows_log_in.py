"""Takes one log-in to SQL Server with an account of Windows, with OpenSSL for TLS and pyspnego for NTLM, and says in the
error it refuses the session with what it found: what the proof is bound to, meant for and sealed by."""
import datetime
import hashlib
import os
import socket
import ssl
import struct
import sys
import tempfile

import spnego
from spnego._ntlm_raw.messages import Authenticate, AvFlags, AvId, NTClientChallengeV2
from spnego.channel_bindings import GssChannelBindings

MODE, VERSION, CIPHER, ACCOUNT, PASSWORD = sys.argv[1:6]
PRELOGIN, LOGIN, SSPI, ANSWER = 0x12, 0x10, 0x11, 0x04


def certificate(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
    path = os.path.join(folder, "server.pem")
    with open(path, "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        file.write(made.public_bytes(serialization.Encoding.PEM))
    return path, made.public_bytes(serialization.Encoding.PEM).decode()


class Line:
    """The connection: in clear, or in TLS whose handshake travels in packets."""

    def __init__(self, tcp):
        self.tcp, self.tls, self.incoming, self.outgoing = tcp, None, ssl.MemoryBIO(), ssl.MemoryBIO()

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.tcp.recv(count - len(data))
            if not part:
                raise EOFError("the client went away")
            data += part
        return data

    def start(self, context, wrapped):
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        while True:
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            out = self.outgoing.read()
            if out:
                self.tcp.sendall(struct.pack(">BBHHBB", PRELOGIN, 1, len(out) + 8, 0, 0, 0) + out if wrapped else out)
            if done:
                return
            if wrapped:
                kind, _, length = struct.unpack(">BBH", self.exactly(8)[:4])
                assert kind == PRELOGIN, f"a handshake in a packet of kind {kind}"
                self.incoming.write(self.exactly(length - 8))
            else:
                self.incoming.write(self.tcp.recv(65536))

    def read(self, count):
        if not self.tls:
            return self.exactly(count)
        data = b""
        while len(data) < count:
            try:
                data += self.tls.read(count - len(data))
            except ssl.SSLWantReadError:
                part = self.tcp.recv(65536)
                if not part:
                    raise EOFError("the client went away")
                self.incoming.write(part)
        return data

    def write(self, data):
        if not self.tls:
            return self.tcp.sendall(data)
        self.tls.write(data)
        self.tcp.sendall(self.outgoing.read())

    def message(self, kind):
        content = b""
        while True:
            found, status, length = struct.unpack(">BBH", self.read(8)[:4])
            assert found == kind, f"a message of kind {found}"
            content += self.read(length - 8)
            if status & 1:
                return content

    def answer(self, content):
        self.write(struct.pack(">BBHHBB", ANSWER, 1, len(content) + 8, 51, 1, 0) + content)


def field(login, at, scale=2):
    offset, length = struct.unpack_from("<HH", login, at)
    return login[offset:offset + length * scale]


def refuse(line, text):
    words = text.encode("utf-16-le")
    body = struct.pack("<iBBH", 18456, 1, 14, len(text)) + words + b"\0\0" + struct.pack("<I", 1)
    line.answer(b"\xaa" + struct.pack("<H", len(body)) + body + b"\xfd" + struct.pack("<HHQ", 2, 0, 0))


def conduct(line, context):
    strict = MODE == "strict"
    if strict:
        line.start(context, False)
        assert line.tls.selected_alpn_protocol() == "tds/8.0", "another protocol inside TLS"
    line.message(PRELOGIN)
    level = 2 if MODE == "none" else 1
    line.answer(bytes([0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 16, 0, 3, 0xE8, 0, 0, level]))
    if MODE == "wrapped":
        line.start(context, True)
    unique = line.tls.get_channel_binding("tls-unique") if line.tls and VERSION == "1.2" else None
    login = line.message(LOGIN)
    assert login[25] & 0x80 and not field(login, 40) and not field(login, 44), "a log-in that is not by Windows alone"
    bindings = GssChannelBindings(application_data=b"tls-unique:" + unique) if unique else None
    server = spnego.server(protocol="ntlm", channel_bindings=bindings)
    challenge = server.step(field(login, 78, 1))
    line.answer(b"\xed" + struct.pack("<H", len(challenge)) + challenge)
    proof = line.message(SSPI)
    assert PASSWORD.encode("utf-16-le") not in login + proof, "the password itself"
    try:
        server.step(proof)
    except Exception as error:
        return refuse(line, f"not taken: {error}")
    pairs = NTClientChallengeV2.unpack(Authenticate.unpack(proof).nt_challenge_response[16:]).av_pairs
    said = pairs[AvId.channel_bindings]
    bound = "nothing" if said == bytes(16) else "tls-unique" if bindings and said == hashlib.md5(bindings.pack()).digest() else "something else"
    sealed = bool(pairs.get(AvId.flags, 0) & AvFlags.mic)
    refuse(line, f"taken as {server.client_principal}, bound to {bound}, sealed {sealed}, meant for {pairs[AvId.target_name]}")


with tempfile.TemporaryDirectory() as folder:
    domain, user = ACCOUNT.split("\\")
    users = os.path.join(folder, "users")
    with open(users, "w", encoding="utf-8") as file:
        file.write(f"{domain}:{user}:{PASSWORD}\n")
    os.environ["NTLM_USER_FILE"] = users
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path, pem = certificate(folder)
    context.load_cert_chain(path)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2 if VERSION == "1.2" else ssl.TLSVersion.TLSv1_3
    if VERSION == "1.2":
        context.set_ciphers(CIPHER)
    context.set_alpn_protocols(["tds/8.0"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1])
        print(pem, end="", flush=True)
        # Who reads this reads to its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        listener.settimeout(60)
        tcp, _ = listener.accept()
        tcp.settimeout(60)
        with tcp:
            try:
                conduct(Line(tcp), context)
            except (EOFError, ssl.SSLError, ConnectionError) as error:
                sys.exit(f"the client went away: {error}")
